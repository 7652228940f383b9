"""HTTP itself: where a request ends, how long it may take, what all of them may hold. In one process."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from serving.model_server.core.errors import Code, StatusError
from serving.model_server.http_api import bodies, rest
from serving.model_server.http_api.http_server import Limits, RestServer

_SECONDS = 60.0  # of a client that waits; no test takes them
_MOST = 200_000


class Echo:
    """Answers with what it was asked; `/late` only once it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()

    def answer(self, method: str, path: str, body: bytes, deadline: float) -> tuple[int, str, bytes]:
        if path == "/late":
            self.let.wait(_SECONDS)
        asked = {"method": method, "path": path, "body": body[:100].decode(), "bytes": len(body)}
        return 200, "application/json", json.dumps(asked).encode()


def serve(seconds: float = _SECONDS, workers: int = 4, connections: int = 50) -> RestServer:
    api = Echo()
    server = RestServer(api, "localhost", 0, Limits(workers, seconds, _MOST, connections))
    server.api = api
    server.start()
    return server


@pytest.fixture(scope="module")
def patient() -> Iterator[RestServer]:
    server = serve()
    yield server
    server.stop(0)


class Client:
    """One connection."""

    def __init__(self, server: RestServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=_SECONDS)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, text: str | bytes) -> Client:
        self.socket.sendall(text.encode() if isinstance(text, str) else text)
        return self

    def answer(self, content: bool = True) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, content)."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers, self.file.read(int(headers["content-length"])) if content else b""

    def ended(self) -> bool:
        """Waits until the server closes; whether nothing more came."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True


def post(body: bytes, *headers: str) -> bytes:
    head = "\r\n".join(["POST /a HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers])
    return head.encode() + b"\r\n\r\n" + body


SECOND = "GET /second HTTP/1.1\r\nHost: a\r\n\r\n"  # what a body may hide
CHUNKED = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: {len(SECOND)}\r\n\r\n", 400),
        (f"HEAD /a HTTP/1.1\r\nHost: a\r\nContent-Length: {len(SECOND)}\r\n\r\n", 400),
        (f"OPTIONS /a HTTP/1.1\r\nHost: a\r\nContent-Length: {len(SECOND)}\r\n\r\n", 400),
        (f"DELETE /a HTTP/1.1\r\nHost: a\r\nContent-Length: {len(SECOND)}\r\n\r\n", 501),
        ("GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 50\r\n\r\nx", 400),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 501),
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\nx", 400),
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n 0\r\n\r\nx", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nno header\r\nContent-Length: 50\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length : 50\r\n\r\n", 400),
        ("POST /a HTTP/1.1\r\nHost: a\r\n\r\n", 411),
        (CHUNKED + "0x1\r\nx\r\n0\r\n\r\n", 400),
        (CHUNKED + "+1\r\nx\r\n0\r\n\r\n", 400),
        (CHUNKED + "-1\r\nx\r\n0\r\n\r\n", 400),
        (CHUNKED + " 1\r\nx\r\n0\r\n\r\n", 400),
        (CHUNKED + "1_0\r\nx\r\n0\r\n\r\n", 400),
        (CHUNKED + "\r\n0\r\n\r\n", 400),
        (CHUNKED + "1\r\nxyz\r\n0\r\n\r\n", 400),
        (CHUNKED + "1;" + "x" * 300, 400),
        (CHUNKED + "0\r\n" + "a: b\r\n" * 5000, 400),
        (CHUNKED + f"{_MOST + 1:x}\r\n", 413),
        (f"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {_MOST + 1}\r\n\r\n", 413),
        (f"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {'9' * 18}\r\nExpect: 100-continue\r\n\r\n", 413),
    ],
)
def test_an_ambiguous_or_long_body_is_refused_and_ends_the_connection(
    patient: RestServer, request_: str, status: int
) -> None:
    with Client(patient) as client:
        client.send(request_ + SECOND)
        found, headers, _ = client.answer(content=not request_.startswith("HEAD"))
        assert (found, headers["connection"]) == (status, "close")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.ended()  # what follows is not answered


def test_bodies_and_what_follows_them(patient: RestServer) -> None:
    with Client(patient) as client:
        client.send(post(b"abc") + CHUNKED.encode() + b"2;a=b\r\nab\r\n01 \r\nc\r\n0\r\na: b\r\n\r\n")
        client.send("GET /b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        asked = [json.loads(client.answer()[2]) for _ in range(3)]
        assert [one["body"] for one in asked] == ["abc", "abc", ""]
        assert [one["path"] for one in asked] == ["/a", "/a", "/b"]
        client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        assert client.file.readline().split()[1] == b"100"
        assert client.file.readline() == b"\r\n"
        assert client.send("x").answer()[0] == 200


def test_gzip(patient: RestServer) -> None:
    text = b'{"a": "' + b"x" * 100_000 + b'"}'
    packed = gzip.compress(text)
    with Client(patient) as client:
        for coding in ("gzip", "x-gzip", "GZIP"):
            answered = client.send(post(packed, f"Content-Encoding: {coding}")).answer()
            assert json.loads(answered[2])["bytes"] == len(text)
    for body, coding, status, message in (
        (gzip.compress(b" " * (_MOST + 1)), "gzip", 413, f"unpacks to more than {_MOST}"),
        (gzip.compress(b" " * 100_000_000), "gzip", 413, "unpacks to more than"),
        (packed[:-4], "gzip", 400, "cut off"),
        (b"", "gzip", 400, "cut off"),
        (text, "gzip", 400, "is not gzip"),
        (gzip.compress(b"") * 5000, "gzip", 400, "more than one part"),
        (text, "br", 415, "Content-Encoding br"),
    ):
        with Client(patient) as client:
            found, _, content = client.send(post(body, f"Content-Encoding: {coding}")).answer()
            assert (found, message in json.loads(content)["error"]) == (status, True), content


def test_a_client_that_drips_is_cut_off_whatever_it_drips() -> None:
    server = serve(seconds=0.5)
    for head in (
        b"GET /a HTTP/1.1\r\nx: ",
        post(b"").replace(b"Content-Length: 0", b"Content-Length: 10000"),
    ):
        with Client(server) as client:
            client.send(head)
            end = time.monotonic() + _SECONDS
            client.socket.settimeout(0.05)  # each byte comes long before the connection is silent
            while time.monotonic() < end:
                try:
                    client.send("x")
                    if client.socket.recv(1000) == b"":
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            else:
                pytest.fail("it is still listened to")
    server.stop(0)


def test_a_client_that_takes_no_answer_is_cut_off() -> None:
    server = serve(seconds=0.5)
    server._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # full after few answers
    ask = SECOND.encode() * 10  # few: on a busy machine many answers would take longer than a send may
    with Client(server) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def ask_for_ever() -> None:  # ends only when the server closes: else this send would time out
            while True:
                client.send(ask)

        with pytest.raises(OSError, match="reset|pipe"):
            ask_for_ever()
    server.stop(0)


def test_a_late_answer_is_not_waited_for() -> None:
    server = serve(seconds=0.5, workers=1)
    late = b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n"
    with Client(server) as client:
        status, _, content = client.send(late).answer()
        assert (status, json.loads(content)) == (504, {"error": "the request took longer than 0.5 s"})
        # The only worker still has it; who comes meanwhile is told, and so is in nobody's way.
        assert client.send(SECOND).answer()[0] == 503
        server.api.let.set()
        while client.send(SECOND).answer()[0] != 200:
            pass
    server.stop(0)


def test_bodies_that_do_not_end_hold_no_more_than_their_budget() -> None:
    server = serve(workers=1)
    begun = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % _MOST + b"x" * (_MOST - 1)
    with Client(server) as first, Client(server) as second, Client(server) as small:
        first.send(begun)
        second.send(begun)
        third = Client(server).send(begun)  # two of them may fit, with what each has free
        waiting = [first, second, third]
        assert small.send(post(b"y" * 60_000)).answer()[0] == 200  # nobody keeps small ones out
        statuses = [client.send("x").answer()[0] for client in waiting]
        assert set(statuses) == {200, 503}, statuses
        third.__exit__()
    while True:  # all is given back, a moment after the answers
        with Client(server) as large:
            if large.send(post(b"y" * _MOST)).answer()[0] == 200:
                break
    server.stop(0)


def test_budget_counts_what_is_beyond_the_free_part() -> None:
    budget = bodies.Budget(100)
    with budget.body() as take, budget.body() as other:
        take(1 << 16)
        take(60)
        other(1 << 16)
        with pytest.raises(bodies.Refusal) as refused:
            other(41)
        assert refused.value.status == 503
        other(40)
    with budget.body() as take:
        take((1 << 16) + 100)


def test_connections_beyond_the_limit_are_turned_away() -> None:
    server = serve(connections=3)
    held = [Client(server) for _ in range(3)]
    for client in held:
        assert client.send(SECOND).answer()[0] == 200
    with Client(server) as more:
        assert more.answer()[0] == 503
        assert more.ended()
    held.pop().__exit__()
    while True:
        with Client(server) as more:
            if more.send(SECOND).answer()[0] == 200:
                break
    for client in held:
        client.__exit__()
    server.stop(0)


def test_http_1_0_keeps_a_connection_only_if_asked(patient: RestServer) -> None:
    with Client(patient) as client:
        for _ in range(2):
            status, headers, _ = client.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").answer()
            assert (status, headers["connection"]) == (200, "keep-alive")
        assert client.send("GET /a HTTP/1.0\r\n\r\n").answer()[1]["connection"] == "close"
        assert client.ended()


def test_head_and_absolute_form(patient: RestServer) -> None:
    with Client(patient) as client:
        status, headers, _ = client.send("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n").answer(content=False)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert int(headers["content-length"]) > 0
        for target, path in (
            ("http://h:1/v1/a?b", "/v1/a?b"),
            ("HTTPS://h/", "/"),
            ("/http://h/a", "/http://h/a"),
        ):
            asked = json.loads(client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").answer()[2])
            assert (asked["method"], asked["path"]) == ("GET", path)


def test_draining_says_close_and_answers_what_is_on_its_way() -> None:
    server = serve()
    with Client(server) as busy, Client(server) as idle, Client(server) as half:
        for client in (busy, idle):
            assert "connection" not in client.send(SECOND).answer()[1]
        half.send(SECOND[:10])
        server.drain()
        assert busy.send(SECOND).answer()[:2:1][1]["connection"] == "close"
        assert busy.ended()
        pending = Client(server)
        stopping = threading.Thread(target=server.stop, args=(time.monotonic() + _SECONDS,))
        stopping.start()
        for client, text in ((half, SECOND[10:]), (idle, SECOND), (pending, SECOND)):
            status, headers, _ = client.send(text).answer()
            assert (status, headers["connection"]) == (200, "close")
        pending.__exit__()
        stopping.join()
        with pytest.raises(OSError, match="refused"):
            Client(server)


def test_a_host_that_is_not_here() -> None:
    with pytest.raises(OSError, match=re.compile("assign|address|known", re.IGNORECASE)):
        RestServer(Echo(), "192.0.2.1", 0, Limits(1, 1, 1, 1))


def test_large_documents_are_read_one_at_a_time() -> None:
    api = rest.RestApi(None, None, None)  # nothing is asked of them
    large, small = b"{}" + b" " * (1 << 20), b"{}"
    with api._document(large, time.monotonic() + _SECONDS) as document:
        assert document == {}
        with api._document(small, time.monotonic()):
            pass
        with pytest.raises(StatusError) as late, api._document(large, time.monotonic()):
            pass
        assert late.value.code == Code.DEADLINE_EXCEEDED
    with api._document(large, time.monotonic()):
        pass
