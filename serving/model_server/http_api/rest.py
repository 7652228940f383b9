"""The REST face of the server: what `/v1/models/...` and the Prometheus page mean; no sockets."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Generator
from typing import Any

from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from serving.model_server.core import inference, metrics, predictor
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.predictor import Executor
from serving.model_server.core.server_core import ServerCore, status_response
from serving.model_server.http_api import json_examples, json_tensors, json_values

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
# A document takes some thirty times its size. Those from this many bytes on are read one at a
# time, which costs no throughput: parsing holds the interpreter's lock anyway.
_LARGE = 1 << 20


class RestApi:
    """What the paths mean; knows no sockets.

    Args:
      core: gives the version that answers.
      executor: what runs a signature.
      recorder: counts requests.
      metrics_path: path of the Prometheus page; None has none.
      metrics_page: makes the page.
      max_rows: see `json_tensors.read_inputs`.
    """

    def __init__(
        self,
        core: ServerCore,
        executor: Executor,
        recorder: metrics.Metrics,
        metrics_path: str | None = None,
        metrics_page: Callable[[], bytes] = lambda: b"",
        max_rows: int = 0,
    ) -> None:
        self._core = core
        self._executor = executor
        self._recorder = recorder
        self._metrics_path = metrics_path
        self._metrics_page = metrics_page
        self._max_rows = max_rows
        self._reading = threading.Lock()

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
            return 404, _JSON, json_values.write_error(f"Not found: {method} {path[:200]}")
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
            predictor.check_deadline(deadline)  # it has been answered to the client by then
            code = Code.OK
        except StatusError as error:
            code, content = error.code, json_values.write_error(error.message)
        except Exception as error:
            _log.error("unexpected error", exc_info=error)
            code = Code.INTERNAL
            content = json_values.write_error(f"internal error: {type(error).__name__}")
        if api:
            known = model if model in self._core.models() else ""
            name = api.lower().capitalize()
            self._recorder.request(known, name, "REST", code.name, time.monotonic() - started)
        return _HTTP_CODES.get(code, 500), _JSON, content

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        with self._core.lease(spec) as servable:
            with self._document(body, deadline) as document:
                name = json_values.signature_name(document) or predictor.DEFAULT_SIGNATURE
                signature = servable.signatures.get(name)
                if signature is None:
                    raise StatusError(
                        Code.INVALID_ARGUMENT, f'Serving signature name: "{name}" not found in signature def'
                    )
                inputs, rows = json_tensors.read_inputs(document, signature, self._max_rows)
            del document  # it is larger than all that follows
            inputs = {**signature.defaults, **inputs}
            predictor.check_deadline(deadline)
            outputs = predictor.answer(servable, name, inputs, deadline, self._executor)
            return json_tensors.write_outputs(outputs, rows)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        with self._document(body, deadline) as document:
            request.model_spec.signature_name = json_values.signature_name(document)
            request.input.CopyFrom(json_examples.read_examples(document, "classify"))
        del document
        with self._core.lease(spec) as servable:
            response = inference.classify(servable, request, deadline, self._executor, self._recorder)
        return json_examples.write_classifications(response.result)

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        request = regression_pb2.RegressionRequest(model_spec=spec)
        with self._document(body, deadline) as document:
            request.model_spec.signature_name = json_values.signature_name(document)
            request.input.CopyFrom(json_examples.read_examples(document, "regress"))
        del document
        with self._core.lease(spec) as servable:
            response = inference.regress(servable, request, deadline, self._executor, self._recorder)
        return json_examples.write_regressions(response.result)

    @contextlib.contextmanager
    def _document(self, body: bytes, deadline: float) -> Generator[dict[str, Any]]:
        """The request's JSON, while the block makes something smaller of it."""
        if len(body) < _LARGE:
            yield json_values.parse(body)
            return
        if not self._reading.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise StatusError(Code.DEADLINE_EXCEEDED, "the deadline passed before the work began")
        try:
            yield json_values.parse(body)
        finally:
            self._reading.release()

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
