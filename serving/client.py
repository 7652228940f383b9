"""Typed client of a Shelfwise model server (ours or TensorFlow Serving), and its command line.

Example::

    with Client("localhost:8500") as client:
        for item in client.recommend(user_id="1", k=10):
            print(item.rank, item.item_text, item.reason)

    async with AsyncClient("localhost:8500") as client:
        items = await client.recommend(user_id="1", k=10)

    python -m serving.client recommend --user 1 --k 10

TensorFlow is only imported when the first call is made (the protocol's messages need it), so
that the command line's help and its checks are quick.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import json
import math
import os
import queue
import random
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

from schema.errors import UserError

DEFAULT_ADDRESS = "localhost:8500"
CONTEXT_PREFIX = "context_"
# Codes after which another attempt may help; all calls only read, so repeating them is safe.
RETRIABLE_CODES = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED")
P = ParamSpec("P")
T = TypeVar("T")
# What leaves a choice to the shop, where 0 would be a choice.
_UNSET = {"diversity": -1.0, "drop_bought_days": -1.0}
_HISTORY = ("history_item_id", "history_age_days", "history_event_type")


class ClientError(UserError):
    """A call that gave no answer; the message is one line."""


class RequestError(ClientError):
    """The call itself is wrong; the message names the field."""


class ServerError(ClientError):
    """The server refused or failed. `code` is gRPC's name of the status, e.g. NOT_FOUND."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ServerUnavailable(ServerError):
    """No server answered at the address, after all retries."""


@dataclasses.dataclass(frozen=True)
class Event:
    """One past event of a user.

    Attributes:
      item_id: the item.
      days_ago: its age in days, 0 or more.
      event_type: as in the training data.
    """

    item_id: str
    days_ago: float = 0.0
    event_type: str = "purchase"


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """One result of recommend or similar; ranks count from 1."""

    rank: int
    item_id: str
    item_text: str
    score: float
    source: str
    reason: str


@dataclasses.dataclass(frozen=True)
class RankedItem:
    """One candidate with its score; `p_purchase` is a calibrated probability."""

    item_id: str
    score: float
    p_purchase: float


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What speaks for and against one candidate.

    Attributes:
      item_id: the candidate.
      log_odds: of being bought: p_purchase is 1 / (1 + exp(-log_odds)).
      baseline: the log-odds of the average candidate for somebody unknown.
      attribution: group of features -> its share; they sum to log_odds - baseline. All are 0
        for an item that the model does not rank.
      features: name -> value, as the ranker sees them.
    """

    item_id: str
    log_odds: float
    baseline: float
    attribution: Mapping[str, float]
    features: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Type and shape of one input or output; None is any size, a shape of None any rank."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
    """Inputs and outputs of one signature by name."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a model version can be asked."""

    name: str
    version: int
    signatures: Mapping[str, SignatureInfo]


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """State of one version: START, LOADING, AVAILABLE, UNLOADING or END."""

    version: int
    state: str
    error_code: str
    error_message: str


class _Calls:
    """Every call, written once as a coroutine; how to wait is left to the two clients.

    `AsyncClient` waits in the event loop. `Client` blocks instead, so that its coroutines end at
    the first step (see `_blocking`).

    Args:
      address: "host:port", or "dns:///host:port" to spread calls over all its addresses.
      model_name: the model's name on the server.
      timeout: seconds that a call may take, retries included.
      version: ask this version; None asks the newest.
      version_label: ask the version behind this label, e.g. "stable"; not with `version`.
      max_attempts: how often a call is tried when it ends with one of `retry_codes`.
      retry_codes: gRPC names of such codes, out of `RETRIABLE_CODES`.
      initial_backoff: pause in seconds before the second attempt; it doubles each time.
      max_backoff: longest pause in seconds.
      hedge_after: seconds after which an attempt without an answer gets a second one beside
        it; the first answer counts. None never does.
      tls: encrypt, and check the server's certificate.
      root_certificates: PEM of the authorities to trust; None trusts the system's.
      client_key: PEM of the client's key, for servers that want to know their clients.
      client_certificate: PEM of the client's certificate.

    Raises:
      RequestError: an argument is out of range.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        model_name: str = "shelfwise",
        timeout: float = 5.0,
        *,
        version: int | None = None,
        version_label: str | None = None,
        max_attempts: int = 5,
        retry_codes: Sequence[str] = ("UNAVAILABLE",),
        initial_backoff: float = 0.1,
        max_backoff: float = 2.0,
        hedge_after: float | None = None,
        tls: bool = False,
        root_certificates: bytes | None = None,
        client_key: bytes | None = None,
        client_certificate: bytes | None = None,
    ) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise RequestError(f"address: '{address}' is not host:port")
        if not (timeout > 0 and math.isfinite(timeout)):
            raise RequestError(f"timeout: {timeout} is not a positive number of seconds")
        if max_attempts < 1:
            raise RequestError(f"max_attempts: {max_attempts} is too few; give 1 or more")
        if version is not None and version_label is not None:
            raise RequestError("version_label: given together with version; give one of them")
        if hedge_after is not None and not hedge_after >= 0:
            raise RequestError(f"hedge_after: {hedge_after} is not a number of seconds of 0 or more")
        for code in retry_codes:
            if code not in RETRIABLE_CODES:
                raise RequestError(
                    f"retry_codes: {code} is not safe; choose from {', '.join(RETRIABLE_CODES)}"
                )
        for name, value in (
            ("root_certificates", root_certificates),
            ("client_key", client_key),
            ("client_certificate", client_certificate),
        ):
            if value is not None and not tls:
                raise RequestError(f"{name}: given without tls; set tls=True")
        if (client_key is None) != (client_certificate is None):
            raise RequestError("client_key: goes with client_certificate; give both or none")
        self._address = address
        self._model_name = model_name
        self._timeout = timeout
        self._version = version
        self._version_label = version_label
        self._max_attempts = max_attempts
        self._retry_codes = frozenset(retry_codes)
        self._initial_backoff = initial_backoff
        self._max_backoff = max_backoff
        self._hedge_after = hedge_after
        self._tls = (root_certificates, client_key, client_certificate) if tls else None
        self._wire: _Wire | None = None
        self._known: Metadata | None = None

    async def recommend(
        self,
        user_id: str = "",
        *,
        history_item_id: Sequence[str] = (),
        history_age_days: Sequence[float] | None = None,
        history_event_type: Sequence[str] | None = None,
        context: Mapping[str, Any] | None = None,
        exclude_item_id: Sequence[str] = (),
        category: Sequence[str] = (),
        k: int = 10,
        diversity: float | None = None,
        drop_bought_days: float | None = None,
    ) -> list[Recommendation]:
        """The best items for a user.

        Args:
          user_id: "" for somebody unknown.
          history_item_id: what the user did, oldest first.
          history_age_days: how long ago each was; all 0 if not given.
          history_event_type: what each was; all "purchase" if not given.
          context: values of the model's context inputs, with or without the prefix
            "context_", e.g. {"store_id": "367"}.
          exclude_item_id: items that must not come back.
          category: only items of these categories; empty for all.
          k: how many.
          diversity: 0 (the ranker's order) to 1; None for the shop's own setting.
          drop_bought_days: nothing that was bought within so many days; 0 for everything,
            None for the shop's own setting.

        Returns:
          At most k results, best first.

        Raises:
          RequestError: an argument is wrong or unknown to the model.
          ServerError: the server refused, failed or cannot be reached.
        """
        given = _user(user_id, history_item_id, history_age_days, history_event_type, context)
        given |= {"k": _count("k", k), "exclude_item_id": _texts("exclude_item_id", exclude_item_id)}
        given |= {"category": _texts("category", category)}
        given |= {"diversity": _wish("diversity", diversity, 1.0)}
        given |= {"drop_bought_days": _wish("drop_bought_days", drop_bought_days, math.inf)}
        return _recommendations(await self._predict("recommend", given))

    async def similar(self, item_id: str, *, k: int = 10) -> list[Recommendation]:
        """Items like `item_id`, best first; arguments and errors as in `recommend`."""
        given = {"item_id": _text("item_id", item_id, empty=False), "k": _count("k", k)}
        return _recommendations(await self._predict("similar", given))

    async def rank(
        self,
        user_id: str = "",
        candidate_item_id: Sequence[str] = (),
        *,
        history_item_id: Sequence[str] = (),
        history_age_days: Sequence[float] | None = None,
        history_event_type: Sequence[str] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> list[RankedItem]:
        """Scores given items for a user, in the order given; arguments as in `recommend`."""
        given = _user(user_id, history_item_id, history_age_days, history_event_type, context)
        given["candidate_item_id"] = candidates = _candidates(candidate_item_id)
        return _ranked(candidates, await self._predict("rank", given))

    async def explain(
        self,
        user_id: str = "",
        candidate_item_id: Sequence[str] = (),
        *,
        history_item_id: Sequence[str] = (),
        history_age_days: Sequence[float] | None = None,
        history_event_type: Sequence[str] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> list[Explanation]:
        """Why given items score as they do, in the order given; arguments as in `recommend`."""
        given = _user(user_id, history_item_id, history_age_days, history_event_type, context)
        given["candidate_item_id"] = candidates = _candidates(candidate_item_id)
        return _explained(candidates, await self._predict("explain", given))

    async def embed_text(self, text: str) -> list[float]:
        """The text encoder's vector of `text`."""
        return _vector(await self._predict("embed_text", {"text": _text("text", text)}))

    async def embed_user(
        self,
        user_id: str = "",
        *,
        history_item_id: Sequence[str] = (),
        history_age_days: Sequence[float] | None = None,
        history_event_type: Sequence[str] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> list[float]:
        """The query tower's vector of a user; arguments as in `recommend`."""
        given = _user(user_id, history_item_id, history_age_days, history_event_type, context)
        return _vector(await self._predict("embed_user", given))

    async def embed_item(self, item_id: str) -> list[float]:
        """The item tower's vector of an item."""
        given = {"item_id": _text("item_id", item_id, empty=False)}
        return _vector(await self._predict("embed_item", given))

    async def metadata(self) -> Metadata:
        """Asks the server what the model version can be asked."""
        return await self._ask_metadata()

    async def status(self) -> list[VersionStatus]:
        """Asks the server for the state of the model's versions, newest first."""
        wire = await self._connect()
        request = wire.get_model_status_pb2.GetModelStatusRequest()
        self._address_model(request.model_spec)
        return self._read_status(wire, await self._call(wire.model.GetModelStatus, request))

    # ---- how to wait

    async def _open(self) -> _Wire:
        """Imports the protocol and opens a channel."""
        raise NotImplementedError

    async def _attempt(self, method: Any, request: Any, end: float) -> Any:
        """Calls `method`, with hedging if it is on, until the `time.monotonic()` second `end`."""
        raise NotImplementedError

    async def _sleep(self, seconds: float) -> None:
        raise NotImplementedError

    # ---- what to ask

    async def _predict(self, signature: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Calls a signature for a batch of one; gives its outputs as numpy arrays."""
        known = self._known or await self._ask_metadata()
        try:
            return await self._predict_once(known, signature, given)
        except (RequestError, ServerError) as error:
            if not self._may_be_outdated(error) or await self._ask_metadata() == known:
                raise
            return await self._predict_once(self._known, signature, given)

    async def _predict_once(
        self, known: Metadata, signature: str, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        wire = await self._connect()
        request = self._predict_request(wire, known, signature, given)
        response = await self._call(wire.prediction.Predict, request)
        return {name: wire.make_ndarray(proto) for name, proto in response.outputs.items()}

    async def _ask_metadata(self) -> Metadata:
        wire = await self._connect()
        request = wire.get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._address_model(request.model_spec)
        self._known = self._read_metadata(wire, await self._call(wire.prediction.GetModelMetadata, request))
        return self._known

    async def _connect(self) -> _Wire:
        if self._wire is None:
            self._wire = await self._open()
        return self._wire

    async def _call(self, method: Any, request: Any) -> Any:
        """One call with retries; every attempt gets what is left of the time."""
        grpc = (await self._connect()).grpc
        end = time.monotonic() + self._timeout
        for attempt in range(1, self._max_attempts + 1):
            try:
                return await self._attempt(method, request, end)
            except grpc.RpcError as error:
                pause = self._pause(error, attempt, end)
                if pause is None:
                    raise self._error(error) from error
            await self._sleep(pause)
        raise AssertionError("unreachable")

    def _read_metadata(self, wire: _Wire, response: Any) -> Metadata:
        signatures = wire.get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return Metadata(
            response.model_spec.name,
            response.model_spec.version.value,
            {
                name: SignatureInfo(_tensor_infos(wire, value.inputs), _tensor_infos(wire, value.outputs))
                for name, value in signatures.signature_def.items()
                if not name.startswith("__")  # the SavedModel's own initialisation
            },
        )

    def _read_status(self, wire: _Wire, response: Any) -> list[VersionStatus]:
        states = wire.get_model_status_pb2.ModelVersionStatus.State
        names = {code.value[0]: code.name for code in wire.grpc.StatusCode}
        found = [
            VersionStatus(
                entry.version,
                states.Name(entry.state),
                names.get(entry.status.error_code, str(entry.status.error_code)),
                entry.status.error_message,
            )
            for entry in response.model_version_status
        ]
        return sorted(found, key=lambda entry: -entry.version)

    def _predict_request(self, wire: _Wire, known: Metadata, signature: str, given: Mapping[str, Any]) -> Any:
        info = known.signatures.get(signature)
        if info is None:
            raise RequestError(
                f"model {known.name} version {known.version} has no signature '{signature}'; "
                f"it has {', '.join(sorted(known.signatures))}"
            )
        request = wire.predict_pb2.PredictRequest()
        self._address_model(request.model_spec)
        request.model_spec.signature_name = signature
        for name, values in fill(known, signature, given).items():
            dtype, shape, flat = values
            proto = request.inputs[name]
            proto.dtype = wire.types_pb2.DataType.Value(dtype)
            for size in shape:
                proto.tensor_shape.dim.add(size=size)
            field, convert = _VALUES[dtype]
            getattr(proto, field).extend(convert(value) for value in flat)
        return request

    def _may_be_outdated(self, error: ClientError) -> bool:
        # The model may have been replaced by one with other inputs since they were read.
        return not isinstance(error, ServerError) or error.code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION")

    def _address_model(self, spec: Any) -> None:
        spec.name = self._model_name
        if self._version is not None:
            spec.version.value = self._version
        elif self._version_label is not None:
            spec.version_label = self._version_label

    def _pause(self, error: Any, attempt: int, end: float) -> float | None:
        """Seconds to wait before the next attempt; None when there is none."""
        # Jitter keeps many clients from coming back at the same moment.
        pause = min(self._initial_backoff * 2 ** (attempt - 1), self._max_backoff) * random.uniform(0.8, 1.2)
        retriable = error.code().name in self._retry_codes and attempt < self._max_attempts
        return pause if retriable and time.monotonic() + pause < end else None

    def _error(self, error: Any) -> ServerError:
        code, details = error.code().name, " ".join((error.details() or "").split())
        if code == "UNAVAILABLE":
            return ServerUnavailable(
                code,
                f"no model server answers at {self._address} ({details[:200]}); start one with "
                "`python -m serving.model_server --model_base_path=<folder of versions>`, "
                "or give another address",
            )
        if code == "DEADLINE_EXCEEDED":
            return ServerError(
                code,
                f"{self._address} did not answer within {self._timeout:g} s; allow more time or ask for less",
            )
        return ServerError(code, f"{self._address}: {code}: {details}")


def _blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    """The same call for a client that blocks where the other one awaits."""

    @functools.wraps(method)
    def call(self: Client, *arguments: P.args, **more: P.kwargs) -> T:
        try:
            method(self, *arguments, **more).send(None)
        except StopIteration as ended:
            return ended.value
        raise AssertionError("unreachable: nothing here waits for an event loop")

    return call


class Client(_Calls):
    """A synchronous gRPC client; one channel, made at the first call and reused. Thread-safe.

    Arguments: see `_Calls`.
    """

    recommend = _blocking(_Calls.recommend)
    similar = _blocking(_Calls.similar)
    rank = _blocking(_Calls.rank)
    explain = _blocking(_Calls.explain)
    embed_text = _blocking(_Calls.embed_text)
    embed_user = _blocking(_Calls.embed_user)
    embed_item = _blocking(_Calls.embed_item)
    metadata = _blocking(_Calls.metadata)
    status = _blocking(_Calls.status)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the channel; the next call opens another."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.channel.close()

    async def _open(self) -> _Wire:
        return _Wire(self._address, self._tls)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def _attempt(self, method: Any, request: Any, end: float) -> Any:
        if self._hedge_after is None:
            return method(request, timeout=max(end - time.monotonic(), 0))
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def begin() -> Any:
            call = method.future(request, timeout=max(end - time.monotonic(), 0))
            call.add_done_callback(ended.put)
            return call

        calls = [begin()]
        try:
            first = ended.get(timeout=self._hedge_after)
        except queue.Empty:
            calls.append(begin())
            first = ended.get()
        if first.exception() is not None and len(calls) == 2:
            first = ended.get()  # the other may still succeed
        for call in calls:
            call.cancel()  # does nothing to those that have ended
        return first.result()


class AsyncClient(_Calls):
    """The same for asyncio. Use it within one event loop.

    Arguments: see `_Calls`.
    """

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the channel; the next call opens another."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.channel.close()

    async def _open(self) -> _Wire:
        # The first import takes seconds, in which the loop shall go on.
        await asyncio.get_running_loop().run_in_executor(None, _Wire.load)
        return self._wire or _Wire(self._address, self._tls, asynchronous=True)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _attempt(self, method: Any, request: Any, end: float) -> Any:
        async def begin() -> Any:
            return await method(request, timeout=max(end - time.monotonic(), 0))

        if self._hedge_after is None:
            return await begin()
        tasks = [asyncio.ensure_future(begin())]
        try:
            ended, running = await asyncio.wait(tasks, timeout=self._hedge_after)
            if not ended:
                tasks.append(asyncio.ensure_future(begin()))
                ended, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if running and all(task.exception() is not None for task in ended):
                    ended, _ = await asyncio.wait(running)  # the other may still succeed
            good = [task for task in ended if task.exception() is None]
            return (good or list(ended))[0].result()
        finally:
            for task in tasks:
                task.cancel()  # does nothing to those that have ended


class _Wire:
    """Channel, stubs and the modules of the protocol, which are slow to import."""

    def __init__(
        self,
        address: str,
        tls: tuple[bytes | None, bytes | None, bytes | None] | None,
        asynchronous: bool = False,
    ) -> None:
        self.load()
        import grpc
        from tensorflow import make_ndarray
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import (
            get_model_metadata_pb2,
            get_model_status_pb2,
            model_service_pb2_grpc,
            predict_pb2,
            prediction_service_pb2_grpc,
        )

        self.grpc = grpc
        self.make_ndarray = make_ndarray
        self.types_pb2 = types_pb2
        self.get_model_metadata_pb2 = get_model_metadata_pb2
        self.get_model_status_pb2 = get_model_status_pb2
        self.predict_pb2 = predict_pb2
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", 0),  # ours are bounded by the caller's timeout
            # A server that starts late is found soon after it is up.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        if address.startswith("dns:"):
            spread = {"loadBalancingConfig": [{"round_robin": {}}]}
            options.append(("grpc.service_config", json.dumps(spread)))
        maker = grpc.aio if asynchronous else grpc
        if tls is not None:
            self.channel = maker.secure_channel(address, grpc.ssl_channel_credentials(*tls), options)
        else:
            self.channel = maker.insecure_channel(address, options)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    @staticmethod
    def load() -> None:
        """Imports what takes long."""
        # The messages come with TensorFlow, whose start-up lines are not for our users. Nothing
        # is computed here, so switching oneDNN off (it announces itself) costs nothing.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if "tensorflow" not in sys.modules:
            os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        import tensorflow  # noqa: F401
        from tensorflow_serving.apis import prediction_service_pb2_grpc  # noqa: F401


# Type on the wire -> field of TensorProto, conversion of one value.
_VALUES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "DT_STRING": ("string_val", lambda value: value.encode("utf-8")),
    "DT_FLOAT": ("float_val", float),
    "DT_DOUBLE": ("double_val", float),
    "DT_INT32": ("int_val", int),
    "DT_INT64": ("int64_val", int),
    "DT_BOOL": ("bool_val", bool),
}


def fill(
    known: Metadata, signature: str, given: Mapping[str, Any]
) -> dict[str, tuple[str, list[int], list[Any]]]:
    """Lays out a batch of one for a signature, filling what is not given.

    Args:
      known: the model's metadata.
      signature: a signature that it has.
      given: values by input name: a scalar, or a list for an input of rank 2. Empty lists
        stand for "not given".

    Returns:
      By input name: (DataType name, shape, flat values). What is not given becomes "" or 0
      (-1 where 0 would be a choice), with every size 1.

    Raises:
      RequestError: the model has no such input, or a value does not fit its type.
    """
    inputs = known.signatures[signature].inputs
    laid_out = {}
    for name, info in inputs.items():
        if info.dtype not in _VALUES or info.shape is None:
            raise RequestError(
                f"{name}: the model wants {info.dtype} of {info.shape}, which this client cannot send"
            )
        empty = "" if info.dtype == "DT_STRING" else _UNSET.get(name, 0)
        values = given.get(name)
        if values is None or (isinstance(values, (list, tuple)) and not values):
            values = [empty] if len(info.shape) > 1 else empty
        if isinstance(values, (list, tuple)) != (len(info.shape) == 2):
            raise RequestError(f"{name}: the model wants a tensor of rank {len(info.shape)}, got {values!r}")
        flat = [
            _convert(name, info.dtype, value) for value in (values if isinstance(values, list) else [values])
        ]
        shape = [1, len(flat)] if len(info.shape) == 2 else [1] * len(info.shape)
        laid_out[name] = (info.dtype, shape, flat)
    for name, values in given.items():
        if name not in inputs and values not in ("", [], (), None):
            if name.startswith(CONTEXT_PREFIX):
                contexts = sorted(
                    key.removeprefix(CONTEXT_PREFIX) for key in inputs if key.startswith(CONTEXT_PREFIX)
                )
                raise RequestError(
                    f"context '{name.removeprefix(CONTEXT_PREFIX)}' is unknown to the model; "
                    f"it knows {', '.join(contexts) or 'none'}"
                )
            raise RequestError(
                f"{name}: signature '{signature}' of the model has no such input; leave it out"
            )
    return laid_out


def _convert(name: str, dtype: str, value: Any) -> Any:
    wanted = {"DT_STRING": "text", "DT_BOOL": "true or false"}.get(dtype, "a number")
    try:
        if dtype == "DT_STRING":
            if isinstance(value, (str, int)) and not isinstance(value, bool):
                return str(value)
        elif dtype in ("DT_INT32", "DT_INT64"):
            number = int(value)
            bits = 31 if dtype == "DT_INT32" else 63
            if number == float(value) and -(2**bits) <= number < 2**bits:
                return number
            wanted = f"a whole number of {bits + 1} bits"
        elif dtype == "DT_BOOL":
            if isinstance(value, (bool, int)):
                return bool(value)
        else:
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise RequestError(f"{name}: {value!r} is not {wanted}")


def _text(name: str, value: Any, empty: bool = True) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise RequestError(f"{name}: {value!r} is not text")
    if not empty and not str(value):
        raise RequestError(f"{name}: is empty; give one")
    return str(value)


def _texts(name: str, values: Iterable[Any]) -> list[str]:
    if isinstance(values, (str, bytes)):
        raise RequestError(f"{name}: expected a list, got the single text {values!r}; write [{values!r}]")
    return [_text(f"{name}[{place}]", value, empty=False) for place, value in enumerate(values)]


def _wish(name: str, value: Any, most: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise RequestError(f"{name}: {value!r} is not a number from 0 to {most:g}")
    return float(value)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RequestError(f"{name}: {value!r} is not a whole number of 1 or more")
    return value


def _history(
    item_ids: Sequence[str], ages: Sequence[float] | None, event_types: Sequence[str] | None
) -> dict[str, list[Any]]:
    items = _texts(_HISTORY[0], item_ids)
    ages = [0.0] * len(items) if ages is None else list(ages)
    types = ["purchase"] * len(items) if event_types is None else _texts(_HISTORY[2], event_types)
    for name, values in ((_HISTORY[1], ages), (_HISTORY[2], types)):
        if len(values) != len(items):
            raise RequestError(f"{name}: has {len(values)} values but history_item_id has {len(items)}")
    for place, age in enumerate(ages):
        if (
            isinstance(age, bool)
            or not isinstance(age, (int, float))
            or not (age >= 0 and math.isfinite(age))
        ):
            raise RequestError(f"{_HISTORY[1]}[{place}]: {age!r} is not a number of days of 0 or more")
    return dict(zip(_HISTORY, (items, ages, types), strict=True))


def _context(context: Mapping[str, Any] | None) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, value in (context or {}).items():
        key = CONTEXT_PREFIX + name.removeprefix(CONTEXT_PREFIX)
        if value is None or isinstance(value, (list, tuple, dict)):
            raise RequestError(f"context '{name}': {value!r} is not one value")
        named[key] = value
    return named


def _user(
    user_id: str,
    item_ids: Sequence[str],
    ages: Sequence[float] | None,
    event_types: Sequence[str] | None,
    context: Mapping[str, Any] | None,
) -> dict[str, Any]:
    given = _history(item_ids, ages, event_types)
    return {"user_id": _text("user_id", user_id), **given, **_context(context)}


def _candidates(item_ids: Sequence[str]) -> list[str]:
    candidates = _texts("candidate_item_id", item_ids)
    if not candidates:
        raise RequestError("candidate_item_id: is empty; give the items to rank")
    return candidates


def _ranked(candidates: Sequence[str], outputs: Mapping[str, Any]) -> list[RankedItem]:
    rows = zip(candidates, outputs["score"][0], outputs["p_purchase"][0], strict=True)
    return [RankedItem(item, float(score), float(probability)) for item, score, probability in rows]


def _explained(candidates: Sequence[str], outputs: Mapping[str, Any]) -> list[Explanation]:
    groups, names = ([name.decode() for name in outputs[key][0]] for key in ("group", "feature_name"))
    columns = (outputs[name][0].tolist() for name in ("log_odds", "baseline", "attribution", "feature"))
    return [
        Explanation(
            item,
            log_odds,
            baseline,
            dict(zip(groups, shares, strict=True)),
            dict(zip(names, values, strict=True)),
        )
        for item, log_odds, baseline, shares, values in zip(candidates, *columns, strict=True)
    ]


def _vector(outputs: Mapping[str, Any]) -> list[float]:
    return outputs["embedding"][0].tolist()


def _recommendations(outputs: Mapping[str, Any]) -> list[Recommendation]:
    texts = {name: [cell.decode("utf-8", "replace") for cell in outputs[name][0]] for name in _TEXT_OUTPUTS}
    rows = zip(
        texts["item_id"],
        texts["item_text"],
        outputs["score"][0],
        texts["source"],
        texts["reason"],
        strict=True,
    )
    # Fewer results than k are padded with empty ids.
    return [
        Recommendation(rank, item, text, float(score), source, reason)
        for rank, (item, text, score, source, reason) in enumerate((row for row in rows if row[0]), start=1)
    ]


_TEXT_OUTPUTS = ("item_id", "item_text", "source", "reason")


def _tensor_infos(wire: _Wire, infos: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(
            wire.types_pb2.DataType.Name(info.dtype),
            None
            if info.tensor_shape.unknown_rank
            else tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in sorted(infos.items())
    }


# ---- command line ---------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line and status 1, like every other error of this command.
        self.exit(1, f"{self.prog}: {message}; see --help\n")


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m serving.client") -> int:
    """Runs the command line.

    Args:
      arguments: without the program name; None reads `sys.argv`.
      prog: the program's name in its help.

    Returns:
      The exit status: 0, or 1 after one line on stderr.
    """
    options = _parser(prog).parse_args(arguments)
    # gRPC logs failed connections on its own; our one line says it better.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        certificates = _read("ca_cert", options.ca_cert)
        key, certificate = _read("client_key", options.client_key), _read("client_cert", options.client_cert)
        with Client(
            options.address,
            options.model,
            options.timeout,
            version=options.version,
            version_label=options.label,
            max_attempts=options.attempts,
            hedge_after=options.hedge_after,
            tls=options.tls or certificates is not None or key is not None,
            root_certificates=certificates,
            client_key=key,
            client_certificate=certificate,
        ) as client:
            options.run(client, options)
    except UserError as error:
        print(f"serving.client: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument("--address", default=DEFAULT_ADDRESS, help="host:port of the server (%(default)s)")
    common.add_argument("--model", default="shelfwise", help="model name (%(default)s)")
    which = common.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, help="model version (the newest)")
    which.add_argument("--label", help="version label, e.g. stable")
    common.add_argument(
        "--timeout", type=float, default=10.0, help="seconds to wait, with retries (%(default)s)"
    )
    common.add_argument("--attempts", type=int, default=5, help="tries while no server answers (%(default)s)")
    common.add_argument(
        "--hedge_after", type=float, metavar="SECONDS", help="ask a second time beside a late answer"
    )
    common.add_argument("--tls", action="store_true", help="encrypt the connection")
    common.add_argument("--ca_cert", metavar="PEM", help="authority to trust; implies --tls")
    common.add_argument("--client_key", metavar="PEM", help="key for mTLS, with --client_cert")
    common.add_argument("--client_cert", metavar="PEM", help="certificate for mTLS")
    common.add_argument("--json", action="store_true", help="print JSON")

    user = _Parser(add_help=False)
    user.add_argument("--user", default="", help="user id; the user's recent events come from --histories")
    user.add_argument(
        "--histories", metavar="FILE", help="histories.parquet (the newest runs/*/histories.parquet)"
    )
    user.add_argument(
        "--event",
        action="append",
        default=[],
        metavar="ITEM[:DAYS_AGO[:TYPE]]",
        help="a past event, instead of --histories; repeat for more",
    )
    user.add_argument("--context", action="append", default=[], metavar="NAME=VALUE", help="repeat for more")

    parser = _Parser(prog=prog, description="Asks a Shelfwise model server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(
        name: str, run: Callable[[Client, argparse.Namespace], None], text: str, *more: _Parser
    ) -> _Parser:
        added = commands.add_parser(name, parents=[common, *more], help=text, description=text)
        added.set_defaults(run=run)
        return added

    added = command("recommend", _run_recommend, "The best items for a user.", user)
    added.add_argument("--k", type=int, default=10, help="how many (%(default)s)")
    added.add_argument(
        "--exclude", action="append", default=[], metavar="ITEM", help="never this item; repeat for more"
    )
    added.add_argument("--category", action="append", default=[], help="only this category; repeat for more")
    added.add_argument("--diversity", type=float, help="0 (the ranker's order) to 1 (the shop's setting)")
    added.add_argument(
        "--drop_bought_days", type=float, metavar="DAYS", help="nothing bought so lately (the shop's setting)"
    )
    added = command("similar", _run_similar, "Items like another.")
    added.add_argument("--item", required=True, help="item id")
    added.add_argument("--k", type=int, default=10, help="how many (%(default)s)")
    added = command("rank", _run_rank, "Scores of given items for a user.", user)
    added.add_argument(
        "--candidates", nargs="+", required=True, metavar="ITEM", help="item ids, also comma-separated"
    )
    added = command("explain", _run_explain, "What speaks for and against given items.", user)
    added.add_argument(
        "--candidates", nargs="+", required=True, metavar="ITEM", help="item ids, also comma-separated"
    )
    added = command("embed-text", _run_embed_text, "The text encoder's vector of a text.")
    added.add_argument("text")
    command("status", _run_status, "State of the model's versions.")
    command("metadata", _run_metadata, "Signatures of the model.")
    return parser


def _run_recommend(client: Client, options: argparse.Namespace) -> None:
    results = client.recommend(
        options.user,
        **_user_state(options),
        exclude_item_id=options.exclude,
        category=options.category,
        k=options.k,
        diversity=options.diversity,
        drop_bought_days=options.drop_bought_days,
    )
    _print_recommendations(results, options.json)


def _run_similar(client: Client, options: argparse.Namespace) -> None:
    _print_recommendations(client.similar(options.item, k=options.k), options.json)


def _run_rank(client: Client, options: argparse.Namespace) -> None:
    candidates = [item for group in options.candidates for item in group.split(",") if item]
    results = client.rank(options.user, candidates, **_user_state(options))
    results = sorted(results, key=lambda item: -item.score)
    rows = [
        [place, row.item_id, f"{row.score:.4f}", f"{row.p_purchase:.4f}"]
        for place, row in enumerate(results, 1)
    ]
    _print(results, ["rank", "item", "score", "p_purchase"], rows, options.json)


def _run_explain(client: Client, options: argparse.Namespace) -> None:
    candidates = [item for group in options.candidates for item in group.split(",") if item]
    results = client.explain(options.user, candidates, **_user_state(options))
    rows = [
        [row.item_id, f"{row.log_odds:.3f}", f"{row.baseline:.3f}"]
        + [f"{share:+.3f}" for share in row.attribution.values()]
        for row in results
    ]
    _print(results, ["item", "log_odds", "baseline", *results[0].attribution], rows, options.json)


def _run_embed_text(client: Client, options: argparse.Namespace) -> None:
    vector = client.embed_text(options.text)
    print(json.dumps(vector) if options.json else " ".join(f"{value:.6g}" for value in vector))


def _run_status(client: Client, options: argparse.Namespace) -> None:
    results = client.status()
    rows = [[row.version, row.state, row.error_code, row.error_message] for row in results]
    _print(results, ["version", "state", "status", "error"], rows, options.json)


def _run_metadata(client: Client, options: argparse.Namespace) -> None:
    found = client.metadata()
    rows = [
        [name, kind, key, info.dtype.removeprefix("DT_").lower(), _shape(info.shape)]
        for name, signature in sorted(found.signatures.items())
        for kind, infos in (("in", signature.inputs), ("out", signature.outputs))
        for key, info in infos.items()
    ]
    if not options.json:
        print(f"{found.name} version {found.version}")
    _print(found, ["signature", "", "tensor", "type", "shape"], rows, options.json)


def _shape(shape: tuple[int | None, ...] | None) -> str:
    return (
        "any"
        if shape is None
        else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
    )


def _print_recommendations(results: list[Recommendation], as_json: bool) -> None:
    rows = [
        [row.rank, row.item_id, row.item_text, f"{row.score:.4f}", row.source, row.reason] for row in results
    ]
    _print(results, ["rank", "item", "product", "score", "source", "reason"], rows, as_json)


def _print(results: Any, headers: list[str], rows: list[list[Any]], as_json: bool) -> None:
    if as_json:
        plain = (
            [dataclasses.asdict(row) for row in results]
            if isinstance(results, list)
            else dataclasses.asdict(results)
        )
        print(json.dumps(plain, ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for place, header in enumerate(headers):
        numeric = bool(rows) and all(_is_number(row[place]) for row in rows)
        table.add_column(header, justify="right" if numeric and header != "item" else "left")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))  # Text: a product's "[x]" is no markup
    # Into a file or pipe the lines are as long as they need to be.
    Console(width=None if sys.stdout.isatty() else 240).print(table)
    if not rows:
        print("no results", file=sys.stderr)


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _user_state(options: argparse.Namespace) -> dict[str, Any]:
    """History and context of the request: from --event, else from histories.parquet."""
    context: dict[str, Any] = {}
    events = [_event(text) for text in options.event]
    if not events and options.user:
        events, context = _look_up(options.user, options.histories)
    for text in options.context:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise RequestError(f"--context: '{text}' is not name=value")
        context[CONTEXT_PREFIX + name.removeprefix(CONTEXT_PREFIX)] = value
    events.sort(key=lambda event: -event.days_ago)  # oldest first
    return {
        "history_item_id": [event.item_id for event in events],
        "history_age_days": [event.days_ago for event in events],
        "history_event_type": [event.event_type for event in events],
        "context": context,
    }


def _event(text: str) -> Event:
    item_id, *rest = text.split(":", 2)
    try:
        return Event(item_id, *(kind(value) for kind, value in zip((float, str), rest, strict=False)))
    except ValueError:
        raise RequestError(f"--event: '{rest[0]}' in '{text}' is not a number of days") from None


def _look_up(user_id: str, path: str | None) -> tuple[list[Event], dict[str, Any]]:
    """A user's events and context from histories.parquet; says on stderr if there are none."""
    if path is None:
        found = sorted(Path("runs").glob("*/histories.parquet"), key=lambda file: file.stat().st_mtime)
        if not found:
            print("note: no runs/*/histories.parquet here; the request goes without history", file=sys.stderr)
            return [], {}
        path = str(found[-1])
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path, filters=[("user_id", "==", user_id)]).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise RequestError(f"--histories: {path} cannot be read ({reason})") from error
    if not rows:
        print(f"note: user {user_id} is not in {path}; the request goes without history", file=sys.stderr)
        return [], {}
    row = rows[0]
    missing = [name for name in _HISTORY if name not in row]
    if missing:
        raise RequestError(
            f"--histories: {path} has no column '{missing[0]}'; it is not a run's histories.parquet"
        )
    events = [Event(*values) for values in zip(*(row[name] or [] for name in _HISTORY), strict=True)]
    context = {
        name: value for name, value in row.items() if name.startswith(CONTEXT_PREFIX) and value is not None
    }
    return events, context


def _read(flag: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RequestError(f"--{flag}: {path} cannot be read ({error.strerror})") from error


if __name__ == "__main__":
    sys.exit(main())
