"""Ports: whether one is free, and the files that tell which were taken."""

from __future__ import annotations

import contextlib
import os
import socket

PORT_ERROR = "--{}: {} is in use or not allowed; give another"


def is_free(port: int) -> bool:
    """Whether nobody listens on a port; always for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def is_ours(host: str) -> bool:
    """Whether a host is a name or an address of this machine, at which it can listen."""
    try:
        addresses = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    for family, *_, address in addresses:  # `localhost` may name ::1 where there is no IPv6
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.bind(address)
            return True
    return False


class NotWritable(Exception):
    """A port's file cannot be written; the message is one line."""


def prepare(path: str) -> None:
    """Removes the file of an earlier server, and checks that another can be written.

    Raises:
      NotWritable: it cannot.
    """
    partial = f"{path}.partial"
    try:
        for name in (path, partial):
            with contextlib.suppress(FileNotFoundError):
                os.remove(name)
        with open(partial, "w", encoding="utf-8"):
            pass
        os.remove(partial)
    except OSError as error:
        raise _not_writable(path, error) from error


def write(path: str, port: int) -> None:
    """Writes a port to a file in one step.

    Raises:
      NotWritable: it cannot be written.
    """
    partial = f"{path}.partial"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(f"{port}\n")
        os.replace(partial, path)  # a reader sees no file or the whole of it
    except OSError as error:
        raise _not_writable(path, error) from error


def _not_writable(path: str, error: OSError) -> NotWritable:
    return NotWritable(f"{path}: cannot be written ({error.strerror}); give another path")
