"""HTTP/1.1 for the REST face: connections, bodies, limits; what the paths mean is `rest.RestApi`'s."""

from __future__ import annotations

import http.server
import logging
import re
import socket
import socketserver
import threading
import time

from serving.model_server.http_api import json_values
from serving.model_server.http_api.rest import RestApi

_log = logging.getLogger(__name__)

_JSON = "application/json"
_MAX_UNREAD = 1 << 20  # of a refused body: read and thrown away, so that the client reads our answer


class RestServer:
    """The HTTP server: a thread a connection, a limited number of them in work.

    Args:
      api: what answers.
      port: 0 picks a free one.
      workers: requests in work at the same time; others wait.
      timeout: seconds that a request may take, and that a connection may be silent.
      max_body: bytes of a request's body; longer ones get 413.
      cors: see `--rest_api_enable_cors_support`.

    Raises:
      OSError: the port cannot be had.
    """

    def __init__(
        self, api: RestApi, port: int, workers: int, timeout: float, max_body: int, cors: bool = False
    ) -> None:
        self._server = _Server(api, port, workers, timeout, max_body, cors)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)

    @property
    def in_work(self) -> int:
        """Requests that are being answered."""
        return self._server.in_work

    def start(self) -> None:
        """Begins to answer, in threads."""
        self._thread.start()

    def stop(self, until: float) -> None:
        """Takes no more connections; waits for requests in work until a `time.monotonic()` second."""
        self._server.shutdown()
        self._server.server_close()
        while self.in_work and time.monotonic() < until:
            time.sleep(0.01)


class _Server(http.server.ThreadingHTTPServer):
    """The socket, and what its connections share; arguments as of `RestServer`."""

    daemon_threads = True
    request_queue_size = 128
    # A second server on the port is a mistake; only ports of closed connections are taken over.
    allow_reuse_address = True
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def __init__(
        self, api: RestApi, port: int, workers: int, seconds: float, max_body: int, cors: bool
    ) -> None:
        self.api = api
        self.seconds = seconds
        self.max_body = max_body
        self.cors = cors
        self.gate = threading.BoundedSemaphore(workers)
        self.in_work = 0
        self._counting = threading.Lock()
        super().__init__(("", port), _Handler)

    def count(self, change: int) -> None:
        """Adds to the number of requests in work."""
        with self._counting:
            self.in_work += change

    def server_bind(self) -> None:
        """Binds IPv4 and IPv6."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the DNS for our name
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection broke: nothing to do."""
        _log.debug("connection of %s ended", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection; its requests one after the other."""

    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "shelfwise-model-server"
    sys_version = ""
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Bounds how long the connection may be silent."""
        self.timeout = self.server.seconds
        super().setup()

    def do_GET(self) -> None:
        """Answers."""
        self._respond(b"")

    def do_POST(self) -> None:
        """Answers, once the body has been read."""
        body = self._body()
        if body is not None:
            self._respond(body)

    def do_OPTIONS(self) -> None:
        """Answers a browser's preflight request."""
        if self.server.cors and re.match("https?://", self.headers.get("Origin", "")):
            self._send(200, _JSON, b"")
        else:
            self._send(400, _JSON, json_values.write_error("Origin header is missing in CORS preflight"))

    def _body(self) -> bytes | None:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return self._refuse(411, "Content-Length is missing or not a number")
        if int(length) > self.server.max_body:
            remaining = min(int(length), _MAX_UNREAD)
            while remaining > 0 and (read := self.rfile.read1(remaining)):
                remaining -= len(read)
            return self._refuse(413, f"the body has {length} bytes; at most {self.server.max_body} are read")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return None
        return body

    def _chunks(self) -> bytes | None:
        parts, total = [], 0
        while True:
            line = self.rfile.readline(100)
            try:
                size = int(line.split(b";")[0].strip(), 16)
            except ValueError:
                return self._refuse(400, "a chunk's size is not a number")
            if size < 0 or total + size > self.server.max_body:
                return self._refuse(
                    413, f"the body is too long; at most {self.server.max_body} bytes are read"
                )
            if size == 0:
                while self.rfile.readline(65537).strip():
                    pass
                return b"".join(parts)
            parts.append(self.rfile.read(size))
            total += size
            self.rfile.readline(100)

    def _refuse(self, status: int, message: str) -> None:
        self.close_connection = True  # the rest of the body is still to come
        self._send(status, _JSON, json_values.write_error(message))

    def _respond(self, body: bytes) -> None:
        server = self.server
        deadline = time.monotonic() + server.seconds
        if not server.gate.acquire(timeout=server.seconds):
            self._send(503, _JSON, json_values.write_error("too many requests are in work"))
            return
        server.count(1)
        try:
            answer = server.api.answer(self.command, self.path, body, deadline)
        finally:
            server.gate.release()
        try:
            self._send(*answer)
        finally:
            server.count(-1)

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.server.cors:
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Access-Control-Allow-Methods", "POST, GET")
            self.send_header("Access-Control-Allow-Headers", "Content-Type")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The base class's own refusals (bad request line, unknown method): JSON too."""
        self.close_connection = True
        self.request_version = self.protocol_version  # what it could not read, it takes for 0.9
        self._send(code, _JSON, json_values.write_error(message or http.HTTPStatus(code).phrase))

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: one line a request would cost more than the request."""
