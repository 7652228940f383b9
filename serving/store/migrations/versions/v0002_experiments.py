"""The kill switch of experiments, and how long a list took."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the table and the column."""
    op.create_table(
        "stopped",
        sa.Column("experiment", sa.String(200), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("experiment", name="pk_stopped"),
    )
    op.add_column("lists", sa.Column("latency_ms", sa.Double))


def downgrade() -> None:
    """Drops them."""
    op.drop_column("lists", "latency_ms")
    op.drop_table("stopped")
