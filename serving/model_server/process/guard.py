"""Ends a process whose starter is gone, however it went: a killed process can tidy nothing up.

A program of its own, run by `child.start_guard` and not imported: `python guard.py PID SECONDS FOLDER...`.
Its standard input is a pipe whose other end only the starter holds, so it ends when the starter does. A
signal asked of the kernel (PR_SET_PDEATHSIG) would come with the end of the starting thread, not process.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys


def main(pid: int, grace_seconds: float, folders: list[str]) -> None:
    """Waits for the end of standard input; then ends a process group and removes folders.

    Args:
      pid: leader of the group. One that has ended is left alone: its number may be another's by now.
      grace_seconds: between SIGTERM and SIGKILL.
      folders: what the starter would have removed.
    """
    group = None
    with contextlib.suppress(ProcessLookupError):  # it has ended, and its starter has seen it
        group = os.pidfd_open(pid)  # stays this process's, whatever becomes of its number
    while sys.stdin.buffer.read(1):
        pass
    for number, wait in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, None)):
        if group is None or select.select([group], [], [], 0)[0]:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
        select.select([group], [], [], wait)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
