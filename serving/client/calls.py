"""What can be asked, written once for both clients; how to wait is theirs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from schema import names as F
from schema.errors import RequestError
from schema.events import UserState, texts
from schema.events import text as as_text
from serving.client import outputs
from serving.client.types import (
    Explanation,
    Metadata,
    RankedItem,
    Recommendation,
    SearchResult,
    ServerError,
    ServerUnavailable,
    Suggestion,
    VersionStatus,
)
from serving.client.wire import Connection, ModelChoice, Retries, Wire

DEFAULT_ADDRESS = "localhost:8500"
# Codes after which another attempt may help; all calls only read, so repeating them is safe.
RETRIABLE_CODES = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED")
MAX_ATTEMPTS = 5  # gRPC's own limit: it cuts a larger number down to this


class Calls:
    """Every call, written once as a coroutine; how to wait is left to the two clients.

    `AsyncClient` waits in the event loop. `Client` blocks instead, so that its coroutines end at
    the first step (see `clients._blocking`).

    Args:
      address: "host:port", or "dns:///host:port" to spread calls over all its addresses.
      model_name: the model's name on the server.
      timeout: seconds that a call may take: everything that it asks the server, retries included.
        The import of TensorFlow at the first call does not count.
      version: ask this version; None asks the newest.
      version_label: ask the version behind this label, e.g. "stable"; not with `version`.
      max_attempts: how often a request is tried when it ends with one of `retry_codes`, 1 to 5
        (gRPC tries no more often; see `wait_for_ready` for a server that is not up yet).
      retry_codes: gRPC names of such codes, out of `RETRIABLE_CODES`.
      initial_backoff: pause in seconds before the second attempt; it doubles each time. gRPC
        varies each pause by up to 20 %, so that many clients do not come back at the same moment.
      max_backoff: longest pause in seconds.
      hedge_after: seconds after which a request without an answer is sent a second time; the
        first answer counts. None never does.
      wait_for_ready: while no server listens, wait for one as long as `timeout` allows.
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
        max_attempts: int = MAX_ATTEMPTS,
        retry_codes: Sequence[str] = ("UNAVAILABLE",),
        initial_backoff: float = 0.1,
        max_backoff: float = 2.0,
        hedge_after: float | None = None,
        wait_for_ready: bool = False,
        tls: bool = False,
        root_certificates: bytes | None = None,
        client_key: bytes | None = None,
        client_certificate: bytes | None = None,
    ) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise RequestError(f"address: '{address}' is not host:port")
        _seconds("timeout", timeout)
        _seconds("initial_backoff", initial_backoff)
        _seconds("max_backoff", max_backoff)
        if max_attempts < 1:
            raise RequestError(f"max_attempts: {max_attempts} is too few; give 1 or more")
        if max_attempts > MAX_ATTEMPTS:
            raise RequestError(
                f"max_attempts: {max_attempts} is too many, gRPC makes at most {MAX_ATTEMPTS}; "
                "to wait for a server, set wait_for_ready"
            )
        if version is not None and not -(2**63) <= version < 2**63:
            raise RequestError(f"version: {version} is no version; none is above {2**63 - 1}")
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
        self._connection = Connection(
            address,
            Retries(max_attempts, tuple(retry_codes), initial_backoff, max_backoff, wait_for_ready),
            (root_certificates, client_key, client_certificate) if tls else None,
        )
        self._model = ModelChoice(model_name, version, version_label)
        self._timeout = timeout
        self._hedge_after = hedge_after
        self._wire: Wire | None = None
        self._known: Metadata | None = None
        #: The version that gave the newest answer; None before the first. Where several calls run at a time,
        #: read it before anything else is awaited.
        self.served_version: int | None = None

    async def recommend(
        self,
        user: UserState | str = "",
        *,
        exclude_item_id: Sequence[str] = (),
        category: Sequence[str] = (),
        k: int = 10,
        diversity: float | None = None,
        drop_bought_days: float | None = None,
    ) -> list[Recommendation]:
        """The best items for a user.

        Args:
          user: who asks, what they did and where they are; a text is the user's id alone.
          exclude_item_id: items that must not come back.
          category: only items of these categories; empty for all.
          k: how many.
          diversity: 0 (the ranker's order) to 1; None for the shop's own setting.
          drop_bought_days: nothing that was bought within this many days; 0 for everything,
            None for the shop's own setting.

        Returns:
          At most k results, best first.

        Raises:
          RequestError: an argument is wrong or unknown to the model.
          ServerError: the server refused, failed or cannot be reached.
        """
        given = _user(user) | {
            F.K: _count("k", k),
            F.EXCLUDE_ITEM_ID: texts("exclude_item_id", exclude_item_id),
            F.CATEGORY: texts("category", category),
            F.DIVERSITY: _wish("diversity", diversity, 1.0),
            F.DROP_BOUGHT_DAYS: _wish("drop_bought_days", drop_bought_days, math.inf),
        }
        return outputs.recommendations(await self._predict("recommend", given))

    async def search(
        self,
        query: str,
        user: UserState | str = "",
        *,
        category: Sequence[str] = (),
        brand: Sequence[str] = (),
        min_price: float | None = None,
        max_price: float | None = None,
        sort: str = "",
        exclude_item_id: Sequence[str] = (),
        k: int = 10,
        diversity: float | None = None,
        drop_bought_days: float | None = None,
    ) -> SearchResult:
        """What a shopper's words mean for them; other arguments and errors as in `recommend`.

        Args:
          query: what was typed; "" for everything that the filters leave.
          user: who asks.
          category, brand: only items of one of these; empty for all.
          min_price, max_price: only items whose price is known and within; None for no bound.
          sort: one of `schema.names.SORTS`; "" is relevance.
          exclude_item_id, k: as in `recommend`.
          diversity: of a search by relevance.
          drop_bought_days: as in `recommend`.
        """
        if sort and sort not in F.SORTS:
            raise RequestError(f"sort: {sort!r} is none of {', '.join(F.SORTS)}")
        given = _user(user) | {
            F.QUERY: as_text("query", query),
            F.CATEGORY: texts("category", category),
            F.BRAND: texts("brand", brand),
            F.MIN_PRICE: _wish("min_price", min_price, math.inf),
            F.MAX_PRICE: _wish("max_price", max_price, math.inf),
            F.SORT: sort,
            F.EXCLUDE_ITEM_ID: texts("exclude_item_id", exclude_item_id),
            F.K: _count("k", k),
            F.DIVERSITY: _wish("diversity", diversity, 1.0),
            F.DROP_BOUGHT_DAYS: _wish("drop_bought_days", drop_bought_days, math.inf),
        }
        return outputs.found(await self._predict("search", given))

    async def suggest(self, prefix: str, user: UserState | str = "", *, k: int = 8) -> list[Suggestion]:
        """Completions of what a shopper has typed, likeliest first; arguments and errors as in `search`."""
        given = _user(user) | {F.PREFIX: as_text("prefix", prefix), F.K: _count("k", k)}
        return outputs.suggestions(await self._predict("suggest", given))

    async def similar(self, item_id: str, *, k: int = 10) -> list[Recommendation]:
        """Items like `item_id`, best first; arguments and errors as in `recommend`."""
        given = {F.ITEM_ID: as_text("item_id", item_id, empty=False), F.K: _count("k", k)}
        return outputs.recommendations(await self._predict("similar", given))

    async def rank(
        self,
        user: UserState | str = "",
        candidate_item_id: Sequence[str] = (),
        *,
        exclude_item_id: Sequence[str] = (),
    ) -> list[RankedItem]:
        """Scores given items for a user, in the order given; arguments as in `recommend`.

        The scores are those of `recommend` with the same `exclude_item_id`.
        """
        given = _user(user) | _candidates(candidate_item_id)
        given |= {F.EXCLUDE_ITEM_ID: texts("exclude_item_id", exclude_item_id)}
        return outputs.ranked(given[F.CANDIDATE_ITEM_ID], await self._predict("rank", given))

    async def explain(
        self,
        user: UserState | str = "",
        candidate_item_id: Sequence[str] = (),
        *,
        exclude_item_id: Sequence[str] = (),
    ) -> list[Explanation]:
        """Why given items score as they do, in the order given; arguments as in `rank`."""
        given = _user(user) | _candidates(candidate_item_id)
        given |= {F.EXCLUDE_ITEM_ID: texts("exclude_item_id", exclude_item_id)}
        return outputs.explained(given[F.CANDIDATE_ITEM_ID], await self._predict("explain", given))

    async def embed_text(self, text: str) -> list[float]:
        """The text encoder's vector of `text`."""
        return outputs.vector(await self._predict("embed_text", {F.TEXT: as_text("text", text)}))

    async def embed_user(self, user: UserState | str = "") -> list[float]:
        """The query tower's vector of a user; arguments as in `recommend`."""
        return outputs.vector(await self._predict("embed_user", _user(user)))

    async def embed_item(self, item_id: str) -> list[float]:
        """The item tower's vector of an item."""
        given = {F.ITEM_ID: as_text("item_id", item_id, empty=False)}
        return outputs.vector(await self._predict("embed_item", given))

    async def metadata(self) -> Metadata:
        """Asks the server what the model version can be asked."""
        return await self._ask_metadata(await self._connect(), self._end())

    async def status(self) -> list[VersionStatus]:
        """Asks the server for the state of the model's versions, newest first."""
        wire = await self._connect()
        request = wire.status_request(self._model)
        return wire.read_status(await self._call(wire.model.GetModelStatus, request, self._end()))

    # ---- how to wait

    async def _open(self) -> Wire:
        """Imports the protocol and opens a channel."""
        raise NotImplementedError

    async def _attempt(self, method: Any, request: Any, end: float) -> Any:
        """Calls `method`, with hedging if it is on, until the `time.monotonic()` second `end`."""
        raise NotImplementedError

    async def _reachable(self, wire: Wire) -> bool:
        """False while connections to the server fail."""
        raise NotImplementedError

    # ---- what to ask

    def _end(self) -> float:
        """The `time.monotonic()` second at which a public call that begins now has to end."""
        return time.monotonic() + self._timeout

    async def _predict(self, signature: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Calls a signature for a batch of one; gives its outputs as numpy arrays."""
        wire = await self._connect()
        end = self._end()  # of all that follows: metadata, the request, and both again
        known = self._known or await self._ask_metadata(wire, end)
        try:
            return await self._predict_once(wire, known, signature, given, end)
        except (RequestError, ServerError) as error:
            if not _may_be_outdated(error):
                raise
            now = await self._ask_metadata(wire, end)
            if now == known:
                raise
            return await self._predict_once(wire, now, signature, given, end)

    async def _predict_once(
        self, wire: Wire, known: Metadata, signature: str, given: Mapping[str, Any], end: float
    ) -> dict[str, Any]:
        request = wire.predict_request(self._model, known, signature, given)
        response = await self._call(wire.prediction.Predict, request, end)
        self.served_version = response.model_spec.version.value
        return wire.read_outputs(response)

    async def _ask_metadata(self, wire: Wire, end: float) -> Metadata:
        request = wire.metadata_request(self._model)
        response = await self._call(wire.prediction.GetModelMetadata, request, end)
        self._known = known = wire.read_metadata(response)
        return known

    async def _connect(self) -> Wire:
        wire = self._wire
        if wire is None:
            self._wire = wire = await self._open()
        return wire

    async def _call(self, method: Any, request: Any, end: float) -> Any:
        """One request; gRPC retries it until `end`."""
        wire = await self._connect()
        try:
            return await self._attempt(method, request, end)
        except wire.grpc.RpcError as error:
            code = error.code().name
            if code == "DEADLINE_EXCEEDED" and not await self._reachable(wire):
                code = "UNAVAILABLE"  # the time went by in pauses between connections that failed
            raise self._error(code, error.details()) from error

    def _error(self, code: str, details: str | None) -> ServerError:
        address, details = self._connection.address, " ".join((details or "").split())
        if code == "UNAVAILABLE":
            return ServerUnavailable(
                code,
                f"no model server answers at {address} ({details[:200]}); start one with "
                "`python -m serving.model_server --model_base_path=<folder of versions>`, "
                "or give another address",
            )
        if code == "DEADLINE_EXCEEDED":
            return ServerError(
                code,
                f"{address} did not answer within {self._timeout:g} s; allow more time or ask for less",
            )
        return ServerError(code, f"{address}: {code}: {details}")


def _may_be_outdated(error: RequestError | ServerError) -> bool:
    # The model may have been replaced by one with other inputs since they were read.
    return not isinstance(error, ServerError) or error.code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION")


def _user(user: UserState | str) -> dict[str, Any]:
    state = user if isinstance(user, UserState) else UserState(user)
    return state.to_request()


def _candidates(item_ids: Sequence[str]) -> dict[str, list[str]]:
    candidates = texts("candidate_item_id", item_ids)
    if not candidates:
        raise RequestError("candidate_item_id: is empty; give the items to rank")
    return {F.CANDIDATE_ITEM_ID: candidates}


def _seconds(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise RequestError(f"{name}: {value} is not a positive number of seconds")


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RequestError(f"{name}: {value!r} is not a whole number of 1 or more")
    return value


def _wish(name: str, value: Any, most: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise RequestError(f"{name}: {value!r} is not a number from 0 to {most:g}")
    return float(value)
