"""Bodies of HTTP requests: where one ends, read within limits, unpacked.

What is ambiguous is refused, and the connection closed: two readers of one stream (a proxy, and this
server) that disagree on where a body ends take part of it for a request of somebody else's.
"""

from __future__ import annotations

import contextlib
import re
import threading
import zlib
from collections.abc import Generator
from email.message import Message
from io import BufferedReader
from typing import Protocol

_PIECE = 1 << 16  # bytes read at a time; the first ones of each body do not count against the budget
_MAX_CHUNK_LINE = 256
_MAX_TRAILERS = 1 << 14
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_LENGTH = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_GZIP_WINDOW = 31  # of zlib: the largest window, in a gzip frame


class Refusal(Exception):
    """The request is answered with an error, and the connection closed.

    Attributes:
      status: the HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Hold(Protocol):
    """What counts the bytes of a body."""

    def __call__(self, count: int) -> None:
        """Takes bytes; raises `Refusal` (503) when none are left."""


class Budget:
    """Bytes that the bodies of all connections may hold together.

    Args:
      most: that many, and up to 64 KiB for each body, so that large bodies that never end
        keep no small one out.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def body(self) -> Generator[Hold]:
        """What one body may take; all of it is given back at the end of the block."""
        free, taken = _PIECE, 0

        def take(count: int) -> None:
            nonlocal free, taken
            now = max(count - free, 0)
            free = max(free - count, 0)
            with self._lock:
                if now > self._left:
                    raise Refusal(503, "too many bytes of other requests are in work")
                self._left -= now
                taken += now

        try:
            yield take
        finally:
            with self._lock:
                self._left += taken


def length(headers: Message) -> int | None:
    """Bytes of the body that the headers announce; 0 without one, None for chunks.

    Raises:
      Refusal: 400 or 501: nobody can say where this body ends.
    """
    if headers.defects or headers.get_payload():  # a line that is no header hides those after it
        raise Refusal(400, "a header line is malformed")
    lengths, codings = headers.get_all("Content-Length", []), headers.get_all("Transfer-Encoding", [])
    if codings:
        if lengths:
            raise Refusal(400, "both Content-Length and Transfer-Encoding are given")
        if [coding.strip(" \t").lower() for coding in codings] != ["chunked"]:
            raise Refusal(501, "Transfer-Encoding must be chunked")
        return None
    if len(lengths) > 1:
        raise Refusal(400, "Content-Length is given more than once")
    if not lengths:
        return 0
    if not _LENGTH.fullmatch(lengths[0].strip(" \t")):
        raise Refusal(400, "Content-Length is not a number")
    return int(lengths[0])


def read(headers: Message, stream: BufferedReader, most: int, take: Hold) -> bytes:
    """Reads a request's body and unpacks it.

    Args:
      headers: of the request.
      stream: the connection, after the headers.
      most: bytes that the body may have, packed and unpacked.
      take: called for all bytes before they are kept.

    Raises:
      Refusal: 408 when `stream` times out; 411 without a length; 413 too long; 400 malformed; 415
        packed in another way than gzip; 503 from `take`.
      ConnectionError: the client went in the middle of it.
    """
    announced, body = length(headers), bytearray()
    if announced is not None:
        if "Content-Length" not in headers:
            raise Refusal(411, "Content-Length is missing or not a number")
        check_length(announced, most)
    try:
        if announced is None:
            _fill_from_chunks(stream, most, body, take)
        else:
            _fill(stream, announced, body, take)
    except TimeoutError as error:
        raise Refusal(408, "the body took too long to come") from error
    coding = headers.get("Content-Encoding", "identity").strip().lower()
    if coding in ("gzip", "x-gzip"):
        return _unpack(body, most, take)
    if coding not in ("identity", ""):
        raise Refusal(415, f"Content-Encoding {coding[:50]} is not read; send gzip or none")
    return bytes(body)


def check_length(announced: int, most: int) -> None:
    """Raises `Refusal` (413) for a body that is too long."""
    if announced > most:
        raise Refusal(413, f"the body has {announced} bytes; at most {most} are read")


def _fill(stream: BufferedReader, count: int, body: bytearray, take: Hold) -> None:
    while count:
        piece = stream.read1(min(count, _PIECE))
        if not piece:
            raise ConnectionError("the client went in the middle of its request")
        take(len(piece))
        body += piece
        count -= len(piece)


def _fill_from_chunks(stream: BufferedReader, most: int, body: bytearray, take: Hold) -> None:
    while True:
        found = _CHUNK_LENGTH.fullmatch(stream.readline(_MAX_CHUNK_LINE))
        if found is None:
            raise Refusal(400, "a chunk's size is not a number")
        size = int(found[1], 16)
        if len(body) + size > most:
            raise Refusal(413, f"the body is too long; at most {most} bytes are read")
        if size == 0:
            break
        _fill(stream, size, body, take)
        if stream.readline(2) not in (b"\r\n", b"\n"):
            raise Refusal(400, "a chunk is longer than it says")
    trailers = 0
    while (line := stream.readline(_MAX_TRAILERS)) not in (b"\r\n", b"\n"):
        trailers += len(line)
        if not line.endswith(b"\n") or trailers > _MAX_TRAILERS:
            raise Refusal(400, "the lines after the last chunk are too long or cut off")


def _unpack(packed: bytearray, most: int, take: Hold) -> bytes:
    unpacker, body, rest = zlib.decompressobj(_GZIP_WINDOW), bytearray(), bytes(packed)
    try:
        while not unpacker.eof:
            piece = unpacker.decompress(rest, _PIECE)
            rest = unpacker.unconsumed_tail
            if not piece and not rest and not unpacker.eof:
                raise Refusal(400, "the body's gzip data are cut off")
            if len(body) + len(piece) > most:
                raise Refusal(413, f"the body unpacks to more than {most} bytes")
            take(len(piece))
            body += piece
    except zlib.error as error:
        raise Refusal(400, "the body is not gzip, though Content-Encoding says so") from error
    if unpacker.unused_data:  # many empty parts would cost the square of their number
        raise Refusal(400, "the body's gzip data have more than one part")
    return bytes(body)
