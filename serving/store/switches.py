"""Experiments that were stopped by hand: the kill switch that every gateway reads."""

from __future__ import annotations

import sqlalchemy as sa

from serving.store import tables
from serving.store.engine import insert


def stop(connection: sa.Connection, experiment: str, at: float) -> bool:
    """Stops an experiment; whether it ran until now."""
    statement = insert(connection, tables.stopped).values(experiment=experiment, at=at)
    statement = statement.on_conflict_do_nothing(index_elements=["experiment"])
    return connection.scalar(statement.returning(tables.stopped.c.experiment)) is not None


def resume(connection: sa.Connection, experiment: str) -> bool:
    """Lets it go on, everybody in their arm; whether it was stopped."""
    statement = sa.delete(tables.stopped).where(tables.stopped.c.experiment == experiment)
    return connection.execute(statement).rowcount > 0


def stopped(connection: sa.Connection) -> dict[str, float]:
    """Stopped experiments, and since when (unix seconds)."""
    rows = connection.execute(sa.select(tables.stopped.c.experiment, tables.stopped.c["at"]))
    return {row.experiment: row.at for row in rows}
