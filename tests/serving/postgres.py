"""A PostgreSQL server in a temporary folder, on a unix socket of its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

_NOBODY = ("postgres", "nobody")  # PostgreSQL refuses to run as root
_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


def binaries() -> Path | None:
    """Folder of initdb and postgres; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    folders = [*([Path(found).resolve().parent] if found else []), *reversed(_DEBIAN)]
    return next(
        (path for path in folders if (path / "initdb").exists() and (path / "postgres").exists()), None
    )


class Cluster:
    """A running server; `database()` gives the URL of an empty place in it.

    Args:
      folder: of the programs, from `binaries`.
      durable: whether commits wait for the disk; tests that kill nothing need not.
    """

    def __init__(self, folder: Path, durable: bool = False) -> None:
        self._programs = folder
        self._home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path has 107 letters
        self._as = self._other_user()
        self._numbers = itertools.count()
        self._durable = durable
        self._run("initdb", "-D", self._home / "data", "-U", "shop", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def start(self) -> None:
        """Starts the server on the folder's data, and waits until it answers."""
        settings = ["listen_addresses=", f"unix_socket_directories={self._home}", "max_connections=60"]
        settings += [] if self._durable else ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        options = [part for setting in settings for part in ("-c", setting)]
        with open(self._home / "log", "ab") as log:
            self.process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._home / "data", *options],
                stdout=log,
                stderr=log,
                **self._as,
            )
        end = time.monotonic() + 120
        while True:
            try:
                engine = sa.create_engine(self._url("postgres"))
                with engine.connect():
                    break
            except sa.exc.OperationalError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((self._home / "log").read_text()[-2000:]) from None
                time.sleep(0.05)
            finally:
                engine.dispose()

    def kill(self) -> None:
        """What a power cut does to the server's processes: SIGKILL, at once."""
        children = self._children()
        self.process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ends the server and removes its folder."""
        if self.process.poll() is None:
            self.kill()  # nothing here is kept
        shutil.rmtree(self._home, ignore_errors=True)

    def database(self) -> str:
        """The URL of an empty place of its own: a schema, which is made faster than a database."""
        name = f"shop{next(self._numbers)}"
        engine = sa.create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE SCHEMA {name}"))
        engine.dispose()
        return f"{self._url('postgres')}&options=-csearch_path%3D{name}"

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://shop@/{name}?host={self._home}"

    def _other_user(self) -> dict[str, object]:
        if os.getuid() != 0:
            return {}
        user = next(pwd.getpwnam(name) for name in _NOBODY if _exists(name))
        os.chown(self._home, user.pw_uid, user.pw_gid)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [self._programs / program, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=self._home,
            **self._as,
        )
        assert done.returncode == 0, done.stderr

    def _children(self) -> list[int]:
        import psutil

        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
