"""The database's versions, by Alembic; `upgrade` brings one to the newest.

To add a version: change `serving.store.tables`, then write the next file of `versions/`, which a test
compares with the tables.
"""

from __future__ import annotations

from pathlib import Path

import alembic.command
import alembic.config
import sqlalchemy as sa
from alembic.util import CommandError

from serving.store.engine import StoreError, writing

_LOCK = 0x5E1F_0001  # of PostgreSQL's advisory locks: one process migrates


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Makes the tables, or changes those of an older version; processes that start together wait.

    Raises:
      StoreError: the database is of a newer release, or cannot be reached.
    """
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    try:
        with writing(engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, revision)
    except CommandError as error:
        raise StoreError(
            f"store: cannot be migrated ({error}); it may be of a newer release: install that, "
            "or give another database"
        ) from error
    except sa.exc.OperationalError as error:
        raise StoreError(
            f"store: {engine.url.render_as_string(hide_password=True)} cannot be opened "
            f"({' '.join(str(error.orig).split())[:200]}); check the URL, and that the server runs"
        ) from error
