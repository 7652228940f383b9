"""HTTP/1.1 for the REST face: connections, bodies, limits; what the paths mean is `rest.RestApi`'s."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import io
import logging
import re
import socket
import socketserver
import threading
import time
from concurrent import futures
from typing import Any

from serving.model_server.core.workers import Workers
from serving.model_server.http_api import bodies, json_values
from serving.model_server.http_api.rest import RestApi

_log = logging.getLogger(__name__)

_JSON = "application/json"
_MAX_UNREAD = 1 << 20  # of a refused body: read and thrown away, so that the client reads our answer
_UNREAD_SECONDS = 2.0
_LEAVE_SECONDS = 1.0  # at the end, for requests that were on their way when we stopped
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a client may ask of the server.

    Attributes:
      workers: requests in work at the same time; others wait.
      seconds: that a request may take, from its first byte to its answer; that the answer may take
        to be sent; that a connection may be silent.
      max_body: bytes of a request's body, packed and unpacked; longer ones get 413.
      max_connections: connections at the same time; more get 503.
    """

    workers: int
    seconds: float
    max_body: int
    max_connections: int


class RestServer:
    """The HTTP server: a thread a connection, and a limited number of workers that answer.

    Args:
      api: what answers.
      host: name or address to listen at; "" for every interface.
      port: 0 picks a free one.
      limits: what a client may ask.
      cors: see `--rest_api_enable_cors_support`.

    Raises:
      OSError: the port cannot be had, or the host is none of this machine.
    """

    def __init__(self, api: RestApi, host: str, port: int, limits: Limits, cors: bool = False) -> None:
        self._server = _Server(api, host, port, limits, cors)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)

    @property
    def in_work(self) -> int:
        """Requests that are being answered."""
        return self._server.in_work

    def start(self) -> None:
        """Begins to answer, in threads."""
        self._thread.start()

    def drain(self) -> None:
        """From now on each answer is its connection's last, and says so."""
        self._server.draining = True

    def stop(self, until: float) -> None:
        """Takes no more connections; waits for requests in work until a `time.monotonic()` second.

        Connections that are open have a moment more for a request that is on its way.
        """
        self.drain()
        self._server.shutdown()
        self._server.take_pending()
        self._server.server_close()
        leave = min(time.monotonic() + _LEAVE_SECONDS, until)
        while self._server.connections and time.monotonic() < leave:
            time.sleep(0.01)
        while self.in_work and time.monotonic() < until:
            time.sleep(0.01)


class _Server(http.server.ThreadingHTTPServer):
    """The socket, and what its connections share; arguments as of `RestServer`."""

    daemon_threads = True
    request_queue_size = 128
    # A second server on the port is a mistake; only ports of closed connections are taken over.
    allow_reuse_address = True

    def __init__(self, api: RestApi, host: str, port: int, limits: Limits, cors: bool) -> None:
        self.api = api
        self.limits = limits
        self.cors = cors
        self.budget = bodies.Budget(limits.workers * limits.max_body)
        self.draining = False
        self.in_work = 0
        self.connections = 0
        self._gate = threading.BoundedSemaphore(limits.workers)
        self._pool = Workers(limits.workers, "rest")
        self._counting = threading.Lock()
        self.address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        if host:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            # Clients that are told a name try its IPv6 address, then this one.
            self.address_family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
            host = address[0]
        super().__init__((host, port), _Handler)

    def answer(self, method: str, path: str, body: bytes, deadline: float) -> tuple[int, str, bytes]:
        """As `RestApi.answer`, by a worker; a graph that is late is not waited for.

        It keeps its worker until it has ended.
        """
        if not self._gate.acquire(timeout=_remaining(deadline)):
            return 503, _JSON, json_values.write_error("too many requests are in work")
        work = self._pool.submit(self._work, method, path, body, deadline)
        try:
            return work.result(_remaining(deadline))
        except futures.TimeoutError:
            message = f"the request took longer than {self.limits.seconds:g} s"
            return 504, _JSON, json_values.write_error(message)

    def _work(self, method: str, path: str, body: bytes, deadline: float) -> tuple[int, str, bytes]:
        try:
            return self.api.answer(method, path, body, deadline)
        finally:
            self._gate.release()

    def count(self, change: int) -> None:
        """Adds to the number of requests in work."""
        with self._counting:
            self.in_work += change

    def server_bind(self) -> None:
        """Binds IPv4 and IPv6 where the address is of both."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the DNS for our name
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def process_request(self, request: socket.socket, client_address: object) -> None:
        """Gives the connection a thread, unless there are too many."""
        with self._counting:
            full = self.connections >= self.limits.max_connections
            self.connections += not full
        if full:
            request.setblocking(False)
            with contextlib.suppress(OSError):
                request.send(_FULL)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread to be had
            self._connection_ended()
            raise

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:
        """The connection's thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connection_ended()

    def _connection_ended(self) -> None:
        with self._counting:
            self.connections -= 1

    def take_pending(self) -> None:
        """Takes the connections that the kernel has accepted; once the server has been shut down."""
        self.socket.setblocking(False)
        with contextlib.suppress(OSError):
            while True:
                self.process_request(*self.get_request())

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection broke: nothing to do."""
        _log.debug("connection of %s ended", client_address, exc_info=True)


class _Stream(io.RawIOBase):
    """A connection that is read and written until a moment, however often something comes.

    Attributes:
      until: `time.monotonic()` second; after it TimeoutError.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.until = 0.0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._limit()
        return self._connection.recv_into(buffer)

    def write(self, content: Any, /) -> int:
        self._limit()
        self._connection.sendall(content)  # all within the socket's timeout
        return len(content)

    def _limit(self) -> None:
        self._connection.settimeout(max(self.until - time.monotonic(), 1e-3))


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection; its requests one after the other."""

    server: _Server
    rfile: io.BufferedReader
    protocol_version = "HTTP/1.1"
    server_version = "shelfwise-model-server"
    sys_version = ""
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Bounds how long the connection may be silent, and a request may take."""
        super().setup()
        self.rfile.close()
        self._stream = _Stream(self.connection)
        self.rfile = io.BufferedReader(self._stream)
        self.wfile = io.BufferedWriter(self._stream)  # head and body in one packet
        self._deadline = 0.0

    def handle_one_request(self) -> None:
        """Waits for a request; its time begins with its first byte."""
        self._stream.until = time.monotonic() + self.server.limits.seconds
        try:
            if not self.rfile.peek(1):
                self.close_connection = True
                return
        except OSError:
            self.close_connection = True
            return
        self._deadline = self._stream.until = time.monotonic() + self.server.limits.seconds
        super().handle_one_request()

    def do_GET(self) -> None:
        """Answers."""
        if self._has_no_body():
            self._respond("GET", b"")

    def do_HEAD(self) -> None:
        """Answers as to GET, without the content."""
        self.do_GET()

    def do_POST(self) -> None:
        """Answers, once the body has been read."""
        try:
            with self.server.budget.body() as take:
                body = bodies.read(self.headers, self.rfile, self.server.limits.max_body, take)
                self._respond("POST", body)
        except bodies.Refusal as refusal:
            self._refuse(refusal)
        except ConnectionError:  # the client went
            self.close_connection = True

    def do_OPTIONS(self) -> None:
        """Answers a browser's preflight request."""
        if not self._has_no_body():
            return
        if self.server.cors and re.match("https?://", self.headers.get("Origin", "")):
            self._send(200, _JSON, b"")
        else:
            self._send(400, _JSON, json_values.write_error("Origin header is missing in CORS preflight"))

    def handle_expect_100(self) -> bool:
        """Asks for the body, unless it is known that it would be refused."""
        try:
            bodies.check_length(bodies.length(self.headers) or 0, self.server.limits.max_body)
        except bodies.Refusal as refusal:
            self.close_connection = True
            self._send(refusal.status, _JSON, json_values.write_error(str(refusal)))
            return False
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def _has_no_body(self) -> bool:
        """Refuses a body where there is none to be: it would be taken for the next request."""
        try:
            if bodies.length(self.headers) != 0:
                raise bodies.Refusal(400, f"{self.command} takes no body")
        except bodies.Refusal as refusal:
            self._refuse(refusal)
            return False
        return True

    def _refuse(self, refusal: bodies.Refusal) -> None:
        self.close_connection = True  # where the next request begins is not known
        self._send(refusal.status, _JSON, json_values.write_error(str(refusal)))
        # What comes after a closed socket makes the kernel take the answer back.
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self._stream.until = min(self._deadline, time.monotonic() + _UNREAD_SECONDS)
            remaining = _MAX_UNREAD
            while remaining > 0 and (read := self.rfile.read1(remaining)):
                remaining -= len(read)

    def _respond(self, method: str, body: bytes) -> None:
        self.server.count(1)
        try:
            path = _AUTHORITY.sub("", self.path, count=1) if _AUTHORITY.match(self.path) else self.path
            self._send(*self.server.answer(method, path, body, self._deadline))
        finally:
            self.server.count(-1)

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self._stream.until = time.monotonic() + self.server.limits.seconds
        if self.server.draining:
            self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.server.cors:
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Access-Control-Allow-Methods", "POST, GET")
            self.send_header("Access-Control-Allow-Headers", "Content-Type")
        if self.close_connection:
            self.send_header("Connection", "close")
        elif self.request_version == "HTTP/1.0":
            self.send_header("Connection", "keep-alive")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The base class's own refusals (bad request line, unknown method): JSON too."""
        self.close_connection = True
        self.request_version = self.protocol_version  # what it could not read, it takes for 0.9
        self._send(code, _JSON, json_values.write_error(message or http.HTTPStatus(code).phrase))

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: one line a request would cost more than the request."""


def _remaining(deadline: float) -> float:
    """Seconds until a `time.monotonic()` second; 0 once it has passed."""
    return max(deadline - time.monotonic(), 0)
