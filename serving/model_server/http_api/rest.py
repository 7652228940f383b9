"""The REST face of the server: `/v1/models/...` and the Prometheus page, over HTTP/1.1."""

from __future__ import annotations

import http.server
import logging
import re
import socket
import socketserver
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from serving.model_server.core import inference, metrics, predictor, tensors
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.predictor import Executor
from serving.model_server.core.server_core import ServerCore
from serving.model_server.grpc_api.model_service import status_response
from serving.model_server.http_api import json_tensors

_log = logging.getLogger(__name__)

_CHOICE = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_RUN = re.compile(
    rf"/v1/models/(?P<model>[^/:]+){_CHOICE}:(?P<method>classify|regress|predict)", re.IGNORECASE
)
_LOOK = re.compile(rf"/v1/models(?:/(?P<model>[^/:]+))?{_CHOICE}(?P<metadata>/metadata)?", re.IGNORECASE)

_HTTP_CODES = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
_JSON = "application/json"
_MAX_UNREAD = 1 << 20  # of a refused body: read and thrown away, so that the client reads our answer


class RestApi:
    """What the paths mean; knows no sockets.

    Args:
      core: gives the version that answers.
      executor: what runs a signature.
      recorder: counts requests.
      metrics_path: path of the Prometheus page; None has none.
      metrics_page: makes the page.
    """

    def __init__(
        self,
        core: ServerCore,
        executor: Executor,
        recorder: metrics.Metrics,
        metrics_path: str | None = None,
        metrics_page: Callable[[], bytes] = lambda: b"",
    ) -> None:
        self._core = core
        self._executor = executor
        self._recorder = recorder
        self._metrics_path = metrics_path
        self._metrics_page = metrics_page

    def answer(self, method: str, path: str, body: bytes, deadline: float) -> tuple[int, str, bytes]:
        """Answers one request; never raises.

        Args:
          method: GET or POST.
          path: as sent, with query.
          body: of a POST.
          deadline: `time.monotonic()` second.

        Returns:
          (HTTP status, content type, content).
        """
        path = path.partition("?")[0]
        if path == self._metrics_path and method == "GET":
            return 200, metrics.CONTENT_TYPE, self._metrics_page()
        if not path.lower().startswith("/v1/"):
            return 404, _JSON, json_tensors.write_error(f"Not found: {method} {path[:200]}")
        started = time.monotonic()
        model, api = "", ""
        try:
            found = (_RUN if method == "POST" else _LOOK).fullmatch(path)
            if found is None:
                raise StatusError(Code.INVALID_ARGUMENT, f"Malformed request: {method} {path[:200]}")
            spec = _spec(found)
            model, api = spec.name, found.groupdict().get("method") or ""
            if not spec.name:
                raise StatusError(Code.INVALID_ARGUMENT, "Missing model name in request.")
            if method == "GET":
                content = self._metadata(spec) if found["metadata"] else self._status(spec)
            else:
                content = getattr(self, f"_{api.lower()}")(spec, body, deadline)
            code = Code.OK
        except StatusError as error:
            code, content = error.code, json_tensors.write_error(error.message)
        except Exception as error:
            _log.error("unexpected error", exc_info=error)
            code = Code.INTERNAL
            content = json_tensors.write_error(f"internal error: {type(error).__name__}")
        if api:
            known = model if model in self._core.models() else ""
            name = api.lower().capitalize()
            self._recorder.request(known, name, "REST", code.name, time.monotonic() - started)
        return _HTTP_CODES.get(code, 500), _JSON, content

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        document = json_tensors.parse(body)
        name = json_tensors.signature_name(document) or predictor.DEFAULT_SIGNATURE
        with self._core.lease(spec) as servable:
            signature = servable.signatures.get(name)
            if signature is None:
                raise StatusError(
                    Code.INVALID_ARGUMENT, f'Serving signature name: "{name}" not found in signature def'
                )
            inputs, rows = json_tensors.read_inputs(document, signature)
            for key, spec_of_input in signature.inputs.items():
                if key in inputs:
                    tensors.check_shape(inputs[key].shape, spec_of_input)
                else:
                    inputs[key] = signature.defaults[key]
            predictor.check_deadline(deadline)
            return json_tensors.write_outputs(self._executor(servable, name, inputs, deadline), rows)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        document = json_tensors.parse(body)
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        request.model_spec.signature_name = json_tensors.signature_name(document)
        request.input.CopyFrom(json_tensors.read_examples(document, "classify"))
        with self._core.lease(spec) as servable:
            response = inference.classify(servable, request, deadline, self._executor, self._recorder)
        return json_tensors.write_classifications(response.result)

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        document = json_tensors.parse(body)
        request = regression_pb2.RegressionRequest(model_spec=spec)
        request.model_spec.signature_name = json_tensors.signature_name(document)
        request.input.CopyFrom(json_tensors.read_examples(document, "regress"))
        with self._core.lease(spec) as servable:
            response = inference.regress(servable, request, deadline, self._executor, self._recorder)
        return json_tensors.write_regressions(response.result)

    def _status(self, spec: model_pb2.ModelSpec) -> bytes:
        response = status_response(self._core, get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        return _proto_json(response)

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        with self._core.lease(spec) as servable:
            answered = model_pb2.ModelSpec(name=spec.name)
            answered.version.value = servable.version
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        parts = _proto_json(answered), _proto_json(signatures)
        return b'{\n"model_spec": %s,\n"metadata": {"signature_def": %s}\n}\n' % parts


def _spec(found: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=_unquoted(found["model"] or "", "model name"))
    if found["version"] is not None:
        version = int(found["version"]) if len(found["version"]) < 20 else 2**63
        if version >= 2**63:
            raise StatusError(
                Code.INVALID_ARGUMENT, f"Failed to convert version: {found['version'][:50]} to numeric."
            )
        spec.version.value = version
    elif found["label"] is not None:
        spec.version_label = _unquoted(found["label"], "model version label")
    return spec


def _unquoted(text: str, what: str) -> str:
    try:
        return urllib.parse.unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise StatusError(Code.INVALID_ARGUMENT, f"Failed to decode {what}: {text[:200]}") from error


def _proto_json(message: Any) -> bytes:
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    ).encode("utf-8")


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
        self.in_work = 0
        gate = threading.BoundedSemaphore(workers)
        counting = threading.Lock()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version = "shelfwise-model-server"
            sys_version = ""
            wbufsize = -1  # head and body in one packet
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._respond(b"")

            def do_POST(self) -> None:
                body = self._body()
                if body is not None:
                    self._respond(body)

            def do_OPTIONS(self) -> None:
                if cors and re.match("https?://", self.headers.get("Origin", "")):
                    self._send(200, _JSON, b"")
                else:
                    self._send(
                        400, _JSON, json_tensors.write_error("Origin header is missing in CORS preflight")
                    )

            def _body(self) -> bytes | None:
                if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                    return self._chunks()
                length = self.headers.get("Content-Length", "")
                if not length.isdecimal():
                    return self._refuse(411, "Content-Length is missing or not a number")
                if int(length) > max_body:
                    remaining = min(int(length), _MAX_UNREAD)
                    while remaining > 0 and (read := self.rfile.read1(remaining)):
                        remaining -= len(read)
                    return self._refuse(413, f"the body has {length} bytes; at most {max_body} are read")
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
                    if size < 0 or total + size > max_body:
                        return self._refuse(413, f"the body is too long; at most {max_body} bytes are read")
                    if size == 0:
                        while self.rfile.readline(65537).strip():
                            pass
                        return b"".join(parts)
                    parts.append(self.rfile.read(size))
                    total += size
                    self.rfile.readline(100)

            def _refuse(self, status: int, message: str) -> None:
                self.close_connection = True  # the rest of the body is still to come
                self._send(status, _JSON, json_tensors.write_error(message))

            def _respond(self, body: bytes) -> None:
                deadline = time.monotonic() + timeout
                if not gate.acquire(timeout=timeout):
                    self._send(503, _JSON, json_tensors.write_error("too many requests are in work"))
                    return
                with counting:
                    owner.in_work += 1
                try:
                    answer = api.answer(self.command, self.path, body, deadline)
                finally:
                    gate.release()
                try:
                    self._send(*answer)
                finally:
                    with counting:
                        owner.in_work -= 1

            def _send(self, status: int, kind: str, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                if cors:
                    self.send_header("Access-Control-Allow-Origin", "*")
                    self.send_header("Access-Control-Allow-Methods", "POST, GET")
                    self.send_header("Access-Control-Allow-Headers", "Content-Type")
                if self.close_connection:
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()

            def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
                # The base class's own refusals (bad request line, unknown method): JSON too.
                self.close_connection = True
                self.request_version = self.protocol_version  # what it could not read, it takes for 0.9
                self._send(code, _JSON, json_tensors.write_error(message or http.HTTPStatus(code).phrase))

            def log_message(self, format: str, *arguments: object) -> None:
                pass  # one line a request would cost more than the request

        Handler.timeout = timeout

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128
            # A second server on the port is a mistake; only ports of closed connections are taken over.
            allow_reuse_address = True
            address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

            def server_bind(self) -> None:
                if self.address_family == socket.AF_INET6:
                    self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the DNS for our name
                self.server_name, self.server_port = "localhost", self.server_address[1]

            def handle_error(self, request: object, client_address: object) -> None:
                _log.debug("connection of %s ended", client_address, exc_info=True)

        self._server = Server(("", port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)

    def start(self) -> None:
        """Begins to answer, in threads."""
        self._thread.start()

    def stop(self, until: float) -> None:
        """Takes no more connections; waits for requests in work until a `time.monotonic()` second."""
        self._server.shutdown()
        self._server.server_close()
        while self.in_work and time.monotonic() < until:
            time.sleep(0.01)
