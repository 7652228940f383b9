"""Connections to both databases, and what they do differently."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from schema.errors import UserError

_BUSY_SECONDS = 30.0  # a writer of another process is waited for this long
_PAUSE_SECONDS = 0.02  # between two attempts where SQLite itself does not wait
_WRITES = "shelfwise_writes"


class StoreError(UserError):
    """The database cannot be reached, or is not one of ours."""


def connect(url: str, readers: int = 8) -> sa.Engine:
    """An engine for a URL, with what durability and concurrency need.

    Args:
      url: sqlite:///FILE, or postgresql+psycopg://...
      readers: connections kept open.

    Raises:
      StoreError: the URL is none, or of another database; the message shows no password.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise StoreError(
            "store: is no database URL; give sqlite:///FILE or postgresql+psycopg://…"
        ) from error
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise StoreError(f"store: {parsed.drivername} is not supported; give sqlite or postgresql+psycopg")
    if parsed.get_backend_name() == "postgresql":
        return sa.create_engine(
            parsed, pool_size=readers, max_overflow=4, pool_pre_ping=True, connect_args={"connect_timeout": 5}
        )
    if not parsed.database or parsed.database == ":memory:":
        raise StoreError("store: an SQLite store is a file; give sqlite:///FILE")
    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        parsed,
        poolclass=sa.QueuePool,
        pool_size=readers,
        max_overflow=4,
        connect_args={"check_same_thread": False, "timeout": _BUSY_SECONDS},
    )
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    cursor = connection.cursor()
    _write_ahead(cursor)
    # What was acknowledged also survives a power failure: one fsync for each batch.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Turns the write-ahead log on, which a file keeps.

    SQLite does not wait for other connections here, whatever the connection's time-out says: two that
    open a new file at once would fail (https://www.sqlite.org/c3ref/busy_handler.html).
    """
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(_PAUSE_SECONDS)


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that begins as a reader and goes on to write can fail as busy without waiting.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that writes; committed at the end, undone by an exception."""
    with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        yield connection


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that can say ON CONFLICT, of the connection's database."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
