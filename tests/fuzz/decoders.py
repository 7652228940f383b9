"""Fuzzing with Atheris (libFuzzer) of what the model server reads: gRPC messages, REST, HTTP bodies.

    make fuzz SECONDS=600                                  # all three, 200 s each
    python -m tests.fuzz.decoders --target=rest --seconds=60

Any bytes must end in an answer or in a refusal that says it is the client's fault; an exception that is
neither, a hang or memory beyond the limit ends the run with the input in `--artifacts`. The inputs to
begin with lie in `tests/fuzz/corpus`; what a run finds besides is kept in a temporary folder, so that the
corpus stays small: add an input that found something, and a test.

The servable behind the decoders gives its inputs back. It is a real `Servable` without a graph: what
TensorFlow does with tensors is not what is looked at here.
"""

from __future__ import annotations

import argparse
import contextlib
import email.message
import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).resolve().parent / "corpus"
TARGETS = ("grpc", "rest", "http")
_MOST_BYTES = 4096  # of an input: what is wrong with a decoder shows in short ones
_MOST_MIB = 3000  # of the process; TensorFlow itself takes 700
_HANG_SECONDS = 120  # of one input; far above what a busy machine does to microseconds
_MISSING = "atheris is not installed: `pip install 'shelfwise[fuzz]'`, or `uv pip install atheris`"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzzes one decoder, or each in a process of its own; 1 if one of them fails."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.decoders", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--target", choices=TARGETS, help="one of the decoders; all of them if not given")
    parser.add_argument("--seconds", type=int, default=600, help="for all of them together (600)")
    parser.add_argument(
        "--artifacts", type=Path, default=Path("fuzz"), help="folder of inputs that fail (fuzz)"
    )
    args = parser.parse_args(arguments)
    try:
        import atheris
    except ImportError:
        print(_MISSING, file=sys.stderr)
        return 1
    args.artifacts.mkdir(parents=True, exist_ok=True)
    if args.target is None:
        each = max(args.seconds // len(TARGETS), 1)
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.decoders",
            f"--seconds={each}",
            f"--artifacts={args.artifacts}",
        ]
        failed = [
            target
            for target in TARGETS
            if subprocess.run([*command, f"--target={target}"], cwd=ROOT).returncode
        ]
        print(f"fuzz: {', '.join(failed)} failed; see {args.artifacts}" if failed else "fuzz: nothing found")
        return bool(failed)
    one = _ready(atheris, args.target)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as found:
        options = [
            f"-max_total_time={args.seconds}",
            f"-max_len={_MOST_BYTES}",
            f"-rss_limit_mb={_MOST_MIB}",
            f"-timeout={_HANG_SECONDS}",
            f"-artifact_prefix={args.artifacts}/{args.target}-",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *options, found, str(CORPUS / args.target)], one)
        atheris.Fuzz()  # ends the process
    return 0


def _ready(atheris: Any, target: str) -> Callable[[bytes], None]:
    """The function that takes one input; the server's code is instrumented, so that new paths are seen."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow  # noqa: F401  before, so that it is not instrumented

    with atheris.instrument_imports(include=["serving.model_server"]):
        if target == "grpc":
            return _grpc()
        return _rest() if target == "rest" else _http()


def servable() -> Any:
    """A version whose signatures give their inputs back."""
    import numpy as np
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    from serving.model_server.core.servable import Servable, Signature
    from serving.model_server.core.tensors import InputSpec

    types = [tf.string, tf.int64, tf.float32, tf.bool, tf.int8, tf.bfloat16, tf.complex64, tf.uint64]
    specs = {f"in_{dtype.name}": InputSpec(f"in_{dtype.name}", dtype, None) for dtype in types}
    two = {name: specs[name] for name in ("in_string", "in_float32")}
    one = {"inputs": InputSpec("inputs", tf.string, (None,))}

    def same(inputs: Any) -> Any:
        return {name.replace("in_", "out_"): value for name, value in inputs.items()}

    def counted(inputs: Any) -> Any:
        sizes = np.array([len(value) for value in inputs["inputs"]], np.float32)
        return {"outputs": sizes, "scores": sizes[:, None], "classes": inputs["inputs"][:, None]}

    def outputs(inputs: Any) -> dict[str, tf.DType]:
        return {name.replace("in_", "out_"): spec.dtype for name, spec in inputs.items()}

    defaults = {name: np.zeros([1], spec.numpy) for name, spec in specs.items() if name not in two}
    signatures = {
        "serving_default": Signature(two, outputs(two), {}, same),
        "all": Signature(specs, outputs(specs), defaults, same),
        "number": Signature({"in_int64": specs["in_int64"]}, {"out_int64": tf.int64}, {}, same),
        "regress": Signature(one, {"outputs": tf.float32}, {}, counted),
        "classify": Signature(one, {"scores": tf.float32, "classes": tf.string}, {}, counted),
    }
    definitions = {name: meta_graph_pb2.SignatureDef(method_name=name) for name in signatures}
    return Servable(1, "", signatures, definitions, None, "m")


def _core() -> Any:
    """The server's own core, with one model that serves."""
    from tensorflow_serving.config import model_server_config_pb2

    from serving.model_server.core.server_core import ServerCore
    from serving.model_server.core.version_manager import VersionManager

    loaded = servable()
    base = tempfile.mkdtemp(prefix="fuzz-")
    (Path(base) / "1").mkdir()

    def manager(name: str, base_path: str, policy: Any) -> VersionManager:
        return VersionManager(name, base_path, lambda path, version: loaded, 0, policy=policy)

    core = ServerCore(manager, allow_labels_for_unavailable=True)
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name="m", base_path=base, model_platform="tensorflow", version_labels={"stable": 1}
    )
    core.reload(config, time.monotonic() + 60)
    return core


def _grpc() -> Callable[[bytes], None]:
    """Messages of the five calls, by the first byte, through what their handlers call."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        predict_pb2,
        regression_pb2,
    )

    from serving.model_server.core import metrics
    from serving.model_server.core.errors import Code
    from serving.model_server.grpc_api.model_service import ModelService
    from serving.model_server.grpc_api.prediction_service import PredictionService

    class Refused(Exception):
        pass

    class Context:
        """What a handler asks of gRPC."""

        def time_remaining(self) -> float:
            return 600.0

        def abort(self, code: Any, details: str) -> None:
            if code.name not in _CLIENT_S or not details:
                raise AssertionError(f"{code.name}: {details!r}")
            details.encode("utf-8")
            raise Refused

    assert set(_CLIENT_S) <= {code.name for code in Code}
    core = _core()
    recorder = metrics.Metrics()
    prediction, model = PredictionService(core, recorder), ModelService(core, recorder)
    calls = [
        (predict_pb2.PredictRequest, prediction.Predict),
        (classification_pb2.ClassificationRequest, prediction.Classify),
        (regression_pb2.RegressionRequest, prediction.Regress),
        (inference_pb2.MultiInferenceRequest, prediction.MultiInference),
        (get_model_metadata_pb2.GetModelMetadataRequest, prediction.GetModelMetadata),
        (get_model_status_pb2.GetModelStatusRequest, model.GetModelStatus),
    ]

    def one(data: bytes) -> None:
        kind, answer = calls[data[0] % len(calls)] if data else calls[0]
        try:
            request = kind.FromString(data[1:])
        except DecodeError:  # gRPC refuses these
            return
        with contextlib.suppress(Refused):
            answer(request, Context()).SerializeToString()

    return one


# Codes that tell the client that its request is at fault.
_CLIENT_S = ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED", "OUT_OF_RANGE")
_PATHS = (
    *(
        "/v1/models/m:predict",
        "/v1/models/m:classify",
        "/v1/models/m:regress",
        "/v1/models/m/labels/stable:predict",
    ),
    *("/v1/models/m/versions/1:predict", "/v1/models/m", "/v1/models/m/metadata", "/metrics"),
)


def _rest() -> Callable[[bytes], None]:
    """A request: the first byte is its path, or the path stands before the first line break."""
    from serving.model_server.core import metrics, predictor
    from serving.model_server.http_api.rest import RestApi

    api = RestApi(_core(), predictor.execute, metrics.Metrics(), "/metrics", lambda: b"", max_rows=64)

    def one(data: bytes) -> None:
        if data and data[0] < 2 * len(_PATHS):
            path, body = _PATHS[data[0] % len(_PATHS)], data[1:]
            method = "POST" if ":" in path else "GET"
        else:
            line, _, body = data.partition(b"\n")
            path, method = line.decode("latin-1"), "POST" if body else "GET"
        status, kind, content = api.answer(method, path, body, time.monotonic() + 600)
        if status not in (200, 400, 404, 501):
            raise AssertionError(f"{status}: {content[:300]!r}")
        if kind == "application/json":
            answered = json.loads(content)
            if status != 200 and not answered["error"]:
                raise AssertionError("an error without a word")

    return one


def _http() -> Callable[[bytes], None]:
    """Headers and body of a request, as they come over a connection."""
    from serving.model_server.http_api import bodies

    most = 1 << 16

    def one(data: bytes) -> None:
        stream = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
        try:
            headers: email.message.Message = http.client.parse_headers(stream)
        except (http.client.HTTPException, ValueError):  # the standard library answers these
            return
        budget = bodies.Budget(most)
        try:
            with budget.body() as take:
                body = bodies.read(headers, stream, most, take)
        except bodies.Refusal as refusal:
            if refusal.status not in (400, 408, 411, 413, 415, 501, 503) or not str(refusal):
                raise AssertionError(f"{refusal.status}: {refusal}") from refusal
        except ConnectionError:
            pass
        else:
            if len(body) > most:
                raise AssertionError(f"{len(body)} bytes were read, at most {most} may be")
        if budget._left != most:
            raise AssertionError("bytes of the budget are lost")

    return one


if __name__ == "__main__":
    sys.exit(main())
