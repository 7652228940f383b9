"""The database's tables: events, shown lists, their places, and who exported or erased a user.

A column's type is the same on both databases. Times are unix seconds as doubles: microseconds until
the year 2242, one meaning, no time zone.
"""

from __future__ import annotations

import sqlalchemy as sa

ID_LENGTH = 200  # characters of an id at most; the gateway refuses longer ones

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


def _id(name: str, **more: object) -> sa.Column:
    return sa.Column(name, sa.String(ID_LENGTH), nullable=False, **more)  # type: ignore[arg-type]


events = sa.Table(
    "events",
    metadata,
    _id("event_id", primary_key=True),
    _id("user_id"),
    _id("session_id"),
    _id("item_id"),
    sa.Column("event_type", sa.String(20), nullable=False),
    sa.Column("occurred_at", sa.Double, nullable=False),
    sa.Column("received_at", sa.Double, nullable=False),
    sa.Column("query", sa.Text, nullable=False),
    _id("list_id"),
    sa.Column("position", sa.Integer),
    sa.Column("value", sa.Double),
    sa.Column("quantity", sa.Double),
    sa.Column("context", sa.Text, nullable=False),  # a JSON object of texts
    sa.Column("suspect", sa.Boolean, nullable=False),
    sa.Index(None, "user_id", "occurred_at"),
    sa.Index(None, "received_at"),
)

lists = sa.Table(
    "lists",
    metadata,
    _id("list_id", primary_key=True),
    _id("request_id"),
    _id("user_id"),
    _id("surface"),
    _id("arm"),
    _id("experiment"),
    sa.Column("model_version", sa.BigInteger, nullable=False),
    _id("label"),
    sa.Column("fallback", sa.Boolean, nullable=False),
    sa.Column("shown_at", sa.Double, nullable=False),
    sa.Column("query", sa.Text, nullable=False),
    sa.Index(None, "user_id", "shown_at"),
    sa.Index(None, "experiment", "shown_at"),
)

places = sa.Table(
    "places",
    metadata,
    sa.Column(
        "list_id",
        sa.String(ID_LENGTH),
        sa.ForeignKey("lists.list_id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False, nullable=False),
    _id("item_id"),
    sa.Column("propensity", sa.Double, nullable=False),
    _id("source"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("action", sa.String(20), nullable=False),
    # SHA-256 of the user's id: it can be asked whether somebody was erased, and nobody can be listed
    sa.Column("subject", sa.String(64), nullable=False),
    _id("caller"),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("lists", sa.BigInteger, nullable=False),
    sa.Index(None, "subject"),
)
