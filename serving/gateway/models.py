"""The model behind the gateway: asked within a deadline, and by version label."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from schema.config import Gateway
from schema.errors import RequestError
from serving.client import AsyncClient, ServerError, ServerUnavailable, VersionStatus
from serving.gateway.metrics import Metrics

T = TypeVar("T")
# What says that the request is wrong; everything else says that the model cannot answer it now.
_CLIENT_CODES = ("INVALID_ARGUMENT", "OUT_OF_RANGE")
NO_LABEL = "label_unavailable"


class ModelAway(Exception):
    """No answer of the model; `reason` is one word for the answer and the metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Answered(NamedTuple, Generic[T]):
    """What the model said.

    Attributes:
      value: the result.
      version: the version that answered.
      seconds: how long it took.
      reason: why another version answered than was asked for; None if none did.
    """

    value: T
    version: int
    seconds: float
    reason: str | None = None


def _no_label(error: Exception) -> bool:
    """Whether no version has the label: TensorFlow Serving says so in the words of a wrong argument only."""
    return isinstance(error, KeyError) or "version label" in str(error)


class Models:
    """Clients of one model, one for each version label.

    Args:
      default: asks the newest version, or what the server's own configuration says.
      labels: label -> client.
      metrics: where times are counted.
    """

    def __init__(self, default: Any, labels: Mapping[str, Any], metrics: Metrics) -> None:
        self._clients = {"": default, **labels}
        self._metrics = metrics

    @classmethod
    def of(cls, settings: Gateway, metrics: Metrics) -> Models:
        """Clients as configured."""
        times = settings.timeouts
        longest = max(times.recommend_ms, times.search_ms, times.suggest_ms, times.explain_ms) / 1000

        def client(label: str | None) -> AsyncClient:
            return AsyncClient(
                settings.model_server,
                settings.model_name,
                longest,
                version_label=label,
                max_attempts=2,
                initial_backoff=0.02,
                max_backoff=0.1,
            )

        return cls(client(None), {label: client(label) for label in settings.labels}, metrics)

    @property
    def default(self) -> Any:
        """The client without a label."""
        return self._clients[""]

    @property
    def labels(self) -> dict[str, Any]:
        """Label -> client."""
        return {label: client for label, client in self._clients.items() if label}

    async def warm(self) -> None:
        """Imports the protocol and opens the channels, which the first shopper need not wait for."""
        for client in self._clients.values():
            with contextlib.suppress(ServerError, RequestError):
                await client.metadata()

    async def close(self) -> None:
        """Closes the channels."""
        for client in self._clients.values():
            await client.close()

    async def ask(
        self, signature: str, milliseconds: int, call: Callable[[Any], Awaitable[T]], label: str = ""
    ) -> Answered[T]:
        """Asks the model.

        Args:
          signature: what the metrics call it.
          milliseconds: until when.
          call: asks a client.
          label: version label; "" for none. Where no version has it, the default answers instead.

        Raises:
          RequestError: the model does not take this request.
          ModelAway: it does not answer, or not in time.
        """
        started = time.perf_counter()
        try:
            async with asyncio.timeout(milliseconds / 1000):
                try:
                    return await self._ask(self._clients[label], call, started)
                except (KeyError, ServerError) as error:
                    if not label or not _no_label(error):
                        raise
                substitute = await self._ask(self._clients[""], call, started)
                return substitute._replace(reason=NO_LABEL)
        except TimeoutError as error:
            raise ModelAway("model_late") from error
        except ServerUnavailable as error:
            raise ModelAway("model_unreachable") from error
        except ServerError as error:
            if error.code in _CLIENT_CODES:
                raise RequestError("the model refuses this request") from error
            late = error.code == "DEADLINE_EXCEEDED"
            raise ModelAway("model_late" if late else f"model_{error.code.lower()}") from error
        finally:
            self._metrics.model_seconds.labels(signature).observe(time.perf_counter() - started)

    @staticmethod
    async def _ask(client: Any, call: Callable[[Any], Awaitable[T]], started: float) -> Answered[T]:
        value = await call(client)
        # Nothing else of this process has run since the answer was read.
        return Answered(value, client.served_version, time.perf_counter() - started)

    async def version(self) -> int | None:
        """The newest version that serves; None if the server does not say."""
        try:
            async with asyncio.timeout(2):
                states = await self._clients[""].status()
        except (TimeoutError, ServerError):
            return None
        return next((state.version for state in states if state.state == "AVAILABLE"), None)

    async def states(self) -> tuple[list[VersionStatus], dict[str, int]]:
        """The versions that the server has, the newest first, and label -> the version that has it.

        Raises:
          ModelAway: the server does not say.
        """
        try:
            async with asyncio.timeout(2):
                states = await self._clients[""].status()
        except TimeoutError as error:
            raise ModelAway("model_late") from error
        except ServerUnavailable as error:
            raise ModelAway("model_unreachable") from error
        except ServerError as error:
            raise ModelAway(f"model_{error.code.lower()}") from error
        found = {}
        for label, client in self._clients.items():
            if label:
                with contextlib.suppress(TimeoutError, ServerError):  # no version has it now
                    async with asyncio.timeout(2):
                        found[label] = (await client.metadata()).version
        return states, found
