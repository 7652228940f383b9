"""The asyncio client, hedging, retries, labels and mTLS, against servers in this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from schema.events import Event, UserState
from serving.client import AsyncClient, Client, RequestError, ServerError, ServerUnavailable
from serving.client.command import main
from serving.client.wire import Connection, Retries, Wire
from serving.model_server.core import predictor, servable
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.metrics import Metrics
from serving.model_server.core.version_manager import VersionManager
from serving.model_server.core.versions import Policy
from serving.model_server.grpc_api.model_service import ModelService
from serving.model_server.grpc_api.prediction_service import PredictionService
from tests.serving.certificates import Authority

SIGNATURES = ("similar", "recommend", "rank")


class Executor:
    """Runs signatures after what `before(number of the call)` does."""

    def __init__(self) -> None:
        self.calls = 0
        self.before: Callable[[int], None] = lambda number: None
        self._lock = threading.Lock()

    def __call__(self, *arguments: object) -> predictor.Arrays:
        with self._lock:
            self.calls += 1
            number = self.calls
        self.before(number)
        return predictor.execute(*arguments)

    def reset(self, before: Callable[[int], None]) -> None:
        self.calls, self.before = 0, before


@pytest.fixture(scope="module")
def manager(exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> VersionManager:
    base = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        (base / str(version)).symlink_to(exports[version])
    made = VersionManager("shelfwise", str(base), servable.load, policy=Policy(latest=None))
    made.poll()
    made.labels = {"stable": 1}
    return made


@contextlib.contextmanager
def serve(
    manager: VersionManager,
    executor: Executor,
    credentials: grpc.ServerCredentials | None = None,
    service: type[PredictionService] = PredictionService,
) -> Iterator[str]:
    with futures.ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool)
        servicer = service(manager, Metrics(), executor=executor)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(manager, Metrics()), server)
        if credentials is None:
            port = server.add_insecure_port("localhost:0")
        else:
            port = server.add_secure_port("localhost:0", credentials)
        server.start()
        yield f"localhost:{port}"
        server.stop(None).wait()


@pytest.fixture(scope="module")
def executor() -> Executor:
    return Executor()


@pytest.fixture(scope="module")
def address(manager: VersionManager, executor: Executor) -> Iterator[str]:
    manager.models = lambda: ["shelfwise"]  # of a ServerCore: names for the metrics
    with serve(manager, executor) as found:
        yield found


def fail_until(good: int, code: Code) -> Callable[[int], None]:
    def before(number: int) -> None:
        if number < good:
            raise StatusError(code, f"call {number}")

    return before


def test_async_client_gives_the_same_as_the_other(address: str, executor: Executor) -> None:
    executor.reset(lambda number: None)

    async def ask() -> list[object]:
        async with AsyncClient(address, timeout=20) as client:
            together = await asyncio.gather(
                client.recommend(UserState("1", [Event("103")]), k=3),
                client.similar("103", k=2),
                client.rank("1", ["149", "100"]),
                client.embed_text("milk"),
                client.embed_user("1"),
                client.embed_item("107"),
                client.status(),
                client.metadata(),
            )
            with pytest.raises(RequestError, match="context 'device' is unknown"):
                await client.recommend(UserState("1", context={"device": "phone"}))
        return list(together)

    with Client(address, timeout=20) as client:
        expected = [
            client.recommend(UserState("1", [Event("103")]), k=3),
            client.similar("103", k=2),
            client.rank("1", ["149", "100"]),
            client.embed_text("milk"),
            client.embed_user("1"),
            client.embed_item("107"),
            client.status(),
            client.metadata(),
        ]
    assert asyncio.run(ask()) == expected
    *_, embedded, _, _, status, metadata = expected
    with Client(address, timeout=20) as client:
        assert client.embed_text("text") != embedded
    assert [version.version for version in status] == [2, 1]
    assert metadata.version == 2


def test_label_and_version_choose_the_version(address: str, executor: Executor) -> None:
    executor.reset(lambda number: None)
    scores = {}
    for choice in ({}, {"version": 1}, {"version_label": "stable"}, {"version": 2}):
        with Client(address, timeout=20, **choice) as client:
            scores[tuple(choice.items())] = client.similar("100", k=1)[0].score
    assert [round(score, 3) for score in scores.values()] == [2.04, 1.04, 1.04, 2.04]
    with (
        Client(address, version_label="none") as client,
        pytest.raises(ServerError, match="Unrecognized servable version label: none") as raised,
    ):
        client.similar("100")
    assert raised.value.code == "INVALID_ARGUMENT"


def ask_sync(address: str, timeout: float = 30, **options: object) -> int:
    with Client(address, timeout=timeout, **options) as client:
        return len(client.similar("100", k=2))


def ask_async(address: str, timeout: float = 30, **options: object) -> int:
    async def ask() -> int:
        async with AsyncClient(address, timeout=timeout, **options) as client:
            return len(await client.similar("100", k=2))

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
def test_retries_on_safe_codes_only(address: str, executor: Executor, ask: Callable[..., int]) -> None:
    executor.reset(fail_until(3, Code.UNAVAILABLE))
    assert ask(address, initial_backoff=0.01) == 2
    assert executor.calls == 3
    executor.reset(fail_until(9, Code.UNAVAILABLE))
    with pytest.raises(ServerUnavailable):
        ask(address, initial_backoff=0.01, max_attempts=2)
    assert executor.calls == 2
    executor.reset(fail_until(2, Code.RESOURCE_EXHAUSTED))
    with pytest.raises(ServerError, match="RESOURCE_EXHAUSTED"):
        ask(address, initial_backoff=0.01)
    assert executor.calls == 1
    executor.reset(fail_until(2, Code.RESOURCE_EXHAUSTED))
    assert ask(address, initial_backoff=0.01, retry_codes=["UNAVAILABLE", "RESOURCE_EXHAUSTED"]) == 2
    executor.reset(fail_until(2, Code.INTERNAL))
    with pytest.raises(ServerError, match="INTERNAL: call 1"):
        ask(address)


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
def test_hedging_overtakes_a_late_answer(address: str, executor: Executor, ask: Callable[..., int]) -> None:
    answered = threading.Event()  # the first answer is held back until the call has ended

    def before(number: int) -> None:
        if number == 1:
            answered.wait(60)

    executor.reset(before)
    try:
        assert ask(address, timeout=30, hedge_after=0.1) == 2
        assert executor.calls == 2
    finally:
        answered.set()
    executor.reset(lambda number: None)
    assert ask(address, timeout=60, hedge_after=50.0) == 2
    assert executor.calls == 1  # nobody was late


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
def test_hedging_survives_the_failure_of_one(
    address: str, executor: Executor, ask: Callable[..., int]
) -> None:
    failed = threading.Event()

    def before(number: int) -> None:
        if number == 1:
            failed.wait(60)
            time.sleep(0.2)  # the failure is on its way before this answer
        else:
            failed.set()
            raise StatusError(Code.INTERNAL, "the second is broken")

    executor.reset(before)
    assert ask(address, timeout=60, hedge_after=0.05) == 2


@pytest.mark.parametrize("broken", [1, 2])
def test_hedging_takes_the_good_one_of_two_that_end_together(broken: int) -> None:
    """Their answers are there at the same turn of the event loop."""
    begun, both = 0, asyncio.Event()

    async def method(request: object, timeout: float) -> int:
        nonlocal begun
        begun += 1
        number = begun
        if number == 2:
            both.set()
        await both.wait()
        if number == broken:
            raise ConnectionError(f"number {number}")
        return number

    client = AsyncClient("localhost:1", hedge_after=0.01)
    found = asyncio.run(client._attempt(method, None, time.monotonic() + 60))
    assert (begun, found) == (2, 3 - broken)


def test_close_ends_the_channel_and_the_next_call_opens_another(address: str, executor: Executor) -> None:
    executor.reset(lambda number: None)

    async def ask() -> None:
        client = AsyncClient(address, timeout=60)
        await client.close()  # nothing is open yet
        for _ in range(2):
            assert len(await client.similar("100", k=2)) == 2
            channel = client._wire.channel
            await client.close()
            assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN

    asyncio.run(ask())


class Race(PredictionService):
    """The prediction with number `loser` ends only when its client gives it up."""

    loser = 0
    begun = 0
    both: threading.Event
    given_up: threading.Event

    @classmethod
    def reset(cls, loser: int) -> None:
        cls.loser, cls.begun = loser, 0
        cls.both, cls.given_up = threading.Event(), threading.Event()

    def Predict(self, request, context):
        cls = type(self)
        with self._counting:
            cls.begun += 1
            number = cls.begun
        if number == 2:
            cls.both.set()
        if number == cls.loser:
            context.add_callback(cls.given_up.set)
            cls.given_up.wait(100)
        else:
            cls.both.wait(100)
        return super().Predict(request, context)

    _counting = threading.Lock()


@pytest.mark.parametrize("loser", [1, 2])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_hedging_gives_the_loser_up(
    loser: int, asynchronous: bool, manager: VersionManager, executor: Executor
) -> None:
    """While the client goes on: its end would end every request."""
    executor.reset(lambda number: None)
    Race.reset(loser)
    options = {"timeout": 200, "hedge_after": 0.05}

    async def ask() -> int:
        async with AsyncClient(address, **options) as client:
            found = len(await client.similar("100", k=2))
            assert await asyncio.to_thread(Race.given_up.wait, 60)
            return found

    with serve(manager, executor, service=Race) as address:
        if asynchronous:
            assert asyncio.run(ask()) == 2
        else:
            with Client(address, **options) as client:
                assert len(client.similar("100", k=2)) == 2
                assert Race.given_up.wait(60)


class Slow(PredictionService):
    """Takes `pause` seconds for everything, and says when the call is over for the client."""

    pause = 0.0

    def Predict(self, request, context):
        self.wait(context)
        return super().Predict(request, context)

    def GetModelMetadata(self, request, context):
        self.wait(context)
        return super().GetModelMetadata(request, context)

    def wait(self, context: grpc.ServicerContext) -> None:
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait(self.pause)


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
def test_timeout_is_of_the_whole_call_and_not_of_each_request(
    manager: VersionManager, executor: Executor, ask: Callable[..., int]
) -> None:
    """Each of metadata and prediction takes 0.8 of the time that the call may take."""
    executor.reset(lambda number: None)
    with serve(manager, executor, service=Slow) as address:
        Slow.pause = 0.0
        assert ask(address, timeout=60) == 2  # what takes long once has been done
        Slow.pause = 2.4
        started = time.monotonic()
        with pytest.raises(ServerError, match="did not answer within 3 s") as raised:
            ask(address, timeout=3)
        assert raised.value.code == "DEADLINE_EXCEEDED"
        # Two requests of 3 s each at most would have got both answers, after 4.8 s.
        assert time.monotonic() - started >= 3
        Slow.pause = 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": 1, "version_label": "a"}, "version_label: given together with version"),
        ({"retry_codes": ["INTERNAL"]}, "retry_codes: INTERNAL is not safe"),
        ({"hedge_after": -1}, "hedge_after: -1"),
        ({"version": 2**63}, "version: 9223372036854775808"),
        ({"client_key": b"k"}, "client_key: given without tls"),
        ({"client_key": b"k", "tls": True}, "client_key: goes with client_certificate"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(RequestError, match=message):
            kind(**options)


def test_both_clients_over_tls(manager: VersionManager, executor: Executor) -> None:
    executor.reset(lambda number: None)
    authority = Authority()
    credentials = grpc.ssl_server_credentials([authority.issue("server")])
    with serve(manager, executor, credentials) as address:
        for ask in (ask_sync, ask_async):
            assert ask(address, 60, tls=True, root_certificates=authority.certificate) == 2


@pytest.mark.parametrize("own", [None, "0"])
def test_tensorflow_is_quiet_unless_the_user_wants_to_hear_it(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", own or "")
    if own is None:
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    Wire(Connection("localhost:1", Retries(1, (), 1, 1, wait_for_ready=False), None)).channel.close()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == (own or "3")


def test_command_line_with_mutual_tls_and_label(
    manager: VersionManager, executor: Executor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    executor.reset(lambda number: None)
    authority = Authority()
    pem = {"ca": authority.certificate}
    pem["key"], pem["crt"] = authority.issue("client")
    for name, content in pem.items():
        (tmp_path / name).write_bytes(content)
    credentials = grpc.ssl_server_credentials(
        [authority.issue("server")], root_certificates=authority.certificate, require_client_auth=True
    )
    with serve(manager, executor, credentials) as address:
        common = ["similar", "--item", "100", "--k", "1", "--address", address, "--ca_cert", f"{tmp_path}/ca"]
        own = ["--client_key", f"{tmp_path}/key", "--client_cert", f"{tmp_path}/crt"]
        assert main([*common, *own, "--label", "stable", "--hedge_after", "5"]) == 0
        assert "1.04" in capsys.readouterr().out
        assert main([*common, "--attempts", "1"]) == 1
        assert "no model server answers" in capsys.readouterr().err
    os.environ.pop("GRPC_VERBOSITY", None)  # the command line sets it for its process
