"""Events, shown lists, their places and the audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.String(200)


def upgrade() -> None:
    """Makes the first four tables."""
    op.create_table(
        "events",
        sa.Column("event_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("item_id", _ID, nullable=False),
        sa.Column("event_type", sa.String(20), nullable=False),
        sa.Column("occurred_at", sa.Double, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.Column("list_id", _ID, nullable=False),
        sa.Column("position", sa.Integer),
        sa.Column("value", sa.Double),
        sa.Column("quantity", sa.Double),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("suspect", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_events"),
    )
    op.create_index("ix_events_user_id_occurred_at", "events", ["user_id", "occurred_at"])
    op.create_index("ix_events_received_at", "events", ["received_at"])
    op.create_table(
        "lists",
        sa.Column("list_id", _ID, nullable=False),
        sa.Column("request_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("surface", _ID, nullable=False),
        sa.Column("arm", _ID, nullable=False),
        sa.Column("experiment", _ID, nullable=False),
        sa.Column("model_version", sa.BigInteger, nullable=False),
        sa.Column("label", _ID, nullable=False),
        sa.Column("fallback", sa.Boolean, nullable=False),
        sa.Column("shown_at", sa.Double, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("list_id", name="pk_lists"),
    )
    op.create_index("ix_lists_user_id_shown_at", "lists", ["user_id", "shown_at"])
    op.create_index("ix_lists_experiment_shown_at", "lists", ["experiment", "shown_at"])
    op.create_table(
        "places",
        sa.Column("list_id", _ID, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("item_id", _ID, nullable=False),
        sa.Column("propensity", sa.Double, nullable=False),
        sa.Column("source", _ID, nullable=False),
        sa.PrimaryKeyConstraint("list_id", "position", name="pk_places"),
        sa.ForeignKeyConstraint(["list_id"], ["lists.list_id"], name="fk_places_list_id", ondelete="CASCADE"),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("caller", _ID, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("lists", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
    )
    op.create_index("ix_audit_subject", "audit", ["subject"])


def downgrade() -> None:
    """Drops them."""
    for table in ("audit", "places", "lists", "events"):
        op.drop_table(table)
