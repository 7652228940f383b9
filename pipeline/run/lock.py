"""One run at a time in a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schema.errors import UserError


@contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Keeps other processes from running in `run_dir` at the same time.

    The operating system drops the lock when the process ends, however it ends. It is a POSIX
    record lock, so child processes that outlive a killed run do not keep it.

    Raises:
      UserError: another process has it; the message names its pid.
    """
    path = run_dir / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise UserError(
                f"{run_dir}: another run is using this folder (pid {holder}); "
                "wait for it to end, or choose another --name or --runs-dir"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
