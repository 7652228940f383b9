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


def write(path: str, port: int) -> None:
    """Writes a port to a file in one step."""
    partial = f"{path}.partial"
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
    with open(partial, "w", encoding="utf-8") as file:
        file.write(f"{port}\n")
    os.replace(partial, path)  # a reader sees no file or the whole of it
