"""Several models, version policies, labels, and changes of the configuration."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.core import servable, version_folders, version_manager
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.server_core import ServerCore
from serving.model_server.core.version_manager import VersionManager
from serving.model_server.core.versions import Policy, State
from serving.model_server.process import config_files
from tests.serving import overlap_model
from tests.serving.process import Server, wait_until
from tests.serving.stubs import Stubs

SIMILAR = {"item_id": ["100"], "k": [1]}


def models_config(*models: str) -> str:
    return "model_config_list {\n" + "".join(f"  config {{ {model} }}\n" for model in models) + "}"


def model(name: str, base: Path, more: str = "") -> str:
    return f'name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more}'


def parsed(*models: str) -> model_server_config_pb2.ModelServerConfig:
    from google.protobuf import text_format

    return text_format.Parse(models_config(*models), model_server_config_pb2.ModelServerConfig())


# ---- policies


def versions(folder: Path, exports: dict[int, Path], *numbers: int) -> None:
    for number in numbers:
        shutil.copytree(exports[1], folder / str(number))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), [4]),
        (Policy(latest=2), [4, 2]),  # 3 is broken and does not count
        (Policy(latest=9), [4, 2, 1]),
        (Policy(latest=None), [4, 2, 1]),
        (Policy(specific=frozenset({1, 2, 3, 77})), [2, 1]),
    ],
)
def test_policy_decides_which_versions_serve(
    policy: Policy, expected: list[int], exports: dict[int, Path], tmp_path: Path
) -> None:
    versions(tmp_path, exports, 1, 2, 4)
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "saved_model.pb").write_bytes(b"\xffbroken")
    manager = VersionManager("shelfwise", str(tmp_path), servable.load, policy=policy)
    manager.poll()
    assert manager.available() == expected
    for version in expected:
        spec = model_pb2.ModelSpec(name="shelfwise")
        spec.version.value = version
        with manager.lease(spec) as leased:
            assert leased.version == version
    with manager.lease(model_pb2.ModelSpec(name="shelfwise")) as leased:
        assert leased.version == expected[0]


def test_policy_changes_never_leave_the_model_without_a_version(
    exports: dict[int, Path], tmp_path: Path
) -> None:
    versions(tmp_path, exports, 1, 2)
    manager = VersionManager("shelfwise", str(tmp_path), servable.load)
    manager.poll()
    manager.reconfigure(str(tmp_path), Policy(specific=frozenset({5})))
    manager.poll()
    assert manager.available() == [2]  # 5 does not exist yet
    manager.reconfigure(str(tmp_path), Policy(specific=frozenset({1})))
    manager.poll()
    assert manager.available() == [1]
    manager.reconfigure(str(tmp_path), Policy(latest=None))
    manager.poll()
    assert manager.available() == [2, 1]
    versions(tmp_path, exports, 3)
    manager.reconfigure(str(tmp_path), Policy(latest=2))
    manager.poll()
    manager.poll()
    assert manager.available() == [3, 2]


def test_concurrency_limit_refuses_and_recovers(exports: dict[int, Path], tmp_path: Path) -> None:
    versions(tmp_path, exports, 1)
    manager = VersionManager("shelfwise", str(tmp_path), servable.load, concurrency=1)
    manager.poll()
    spec = model_pb2.ModelSpec(name="shelfwise")
    with manager.lease(spec), pytest.raises(StatusError, match="its limit") as raised, manager.lease(spec):
        pass
    assert raised.value.code == Code.RESOURCE_EXHAUSTED
    with manager.lease(spec) as leased:
        assert leased.version == 1


# ---- configuration


@pytest.mark.parametrize(
    ("models", "code", "text"),
    [
        ([model("a", Path("/m")), model("a", Path("/n"))], Code.INVALID_ARGUMENT, "model a multiple times"),
        ([model("a", Path("m"))], Code.INVALID_ARGUMENT, "absolute path or URI; got base_path()=m"),
        (['name: "a" base_path: "/m" model_platform: "torch"'], Code.INVALID_ARGUMENT, "platform torch"),
        (['name: "a" base_path: "/m"'], Code.INVALID_ARGUMENT, "platform (none)"),
        (['base_path: "/m" model_platform: "tensorflow"'], Code.INVALID_ARGUMENT, "has no name"),
        ([model("a", Path("/m"), "model_version_policy { specific {} }")], Code.INVALID_ARGUMENT, "specific"),
        (
            [model("a", Path("/m"), 'version_labels { key: "stable" value: 1 }')],
            Code.FAILED_PRECONDITION,
            "Request to assign label to version 1 of model a, which is not currently available for inference",
        ),
    ],
)
def test_wrong_configuration_changes_nothing(models: list[str], code: Code, text: str) -> None:
    made: list[str] = []
    core = ServerCore(lambda name, base, policy: made.append(name))
    with pytest.raises(StatusError) as raised:
        core.reload(parsed(*models))
    assert raised.value.code == code
    assert text in raised.value.message
    assert core.models() == made == []


def test_config_file_errors_name_file_and_place(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    with pytest.raises(StatusError, match="models.config: cannot be read"):
        config_files.read_models(str(path))
    path.write_text("model_config_list {\n  config { nam: 'a' }\n}")
    prefix = "models.config: Error parsing text-format tensorflow.serving.ModelServerConfig: "
    with pytest.raises(StatusError, match=prefix + "2:12: .*nam"):
        config_files.read_models(str(path))
    path.write_text("improper model config")
    with pytest.raises(StatusError, match=prefix + "1:1"):
        config_files.read_models(str(path))


# ---- the server


def status(stubs: Stubs, name: str) -> dict[int, int]:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    found = stubs.model.GetModelStatus(request, timeout=20).model_version_status
    return {entry.version: entry.state for entry in found}


def ask(stubs: Stubs, name: str, **choice: object) -> int:
    request = overlap_model.predict_request("similar", SIMILAR, model=name)
    if "label" in choice:
        request.model_spec.version_label = choice["label"]
    if "version" in choice:
        request.model_spec.version.value = choice["version"]
    return stubs.prediction.Predict(request, timeout=20).model_spec.version.value


def reload(stubs: Stubs, *models: str) -> None:
    request = model_management_pb2.ReloadConfigRequest(config=parsed(*models))
    response = stubs.model.HandleReloadConfigRequest(request, timeout=30)
    assert response.status.error_code == 0


def refused(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code().name, raised.value.details()


@pytest.mark.slow
def test_models_labels_and_reload(
    start: Callable[..., Server], exports: dict[int, Path], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    versions(first, exports, 1, 2, 3)
    versions(second, exports, 5)
    path = tmp_path / "models.config"
    both = "model_version_policy { latest { num_versions: 2 } }"
    path.write_text(models_config(model("first", first, both), model("second", second)))
    server = start(
        tmp_path / "ignored", f"--model_config_file={path}", "--model_config_file_poll_wait_seconds=0.2"
    )
    stubs = Stubs(server.port)
    wait_until(stubs.healthy, server)  # only when every model serves
    wait_until(lambda: status(stubs, "first") == {2: 30, 3: 30}, server)
    assert (ask(stubs, "first"), ask(stubs, "first", version=2), ask(stubs, "second")) == (3, 2, 5)
    assert refused(lambda: ask(stubs, "first", version=1))[0] == "NOT_FOUND"
    assert f"serving first version 3 on port {server.port}" in server.out.read_text()

    # Labels: only to what serves, then move and take away.
    def labelled(**labels: int) -> list[str]:
        text = "".join(f'version_labels {{ key: "{key}" value: {to} }} ' for key, to in labels.items())
        return [model("first", first, both + " " + text), model("second", second)]

    reload(stubs, *labelled(stable=2, canary=3))
    assert (ask(stubs, "first", label="stable"), ask(stubs, "first", label="canary")) == (2, 3)
    code, text = refused(lambda: reload(stubs, *labelled(stable=1)))
    assert code == "FAILED_PRECONDITION"
    assert "version 1 of model first, which is not currently available" in text
    assert ask(stubs, "first", label="stable") == 2
    reload(stubs, *labelled(stable=3))
    assert ask(stubs, "first", label="stable") == 3
    expected = ("INVALID_ARGUMENT", "Unrecognized servable version label: canary")
    assert refused(lambda: ask(stubs, "first", label="canary")) == expected

    # A new model that does not serve is reported; the others go on.
    broken = tmp_path / "broken"
    (broken / "1").mkdir(parents=True)
    code, text = refused(lambda: reload(stubs, *labelled(stable=3), model("broken", broken)))
    assert code == "UNKNOWN"
    assert "1 servable(s) did not become available: broken: version 1: no saved_model.pb" in text
    assert ask(stubs, "first", label="stable") == 3

    # Requests in work keep a removed model loaded until they end.
    reload(stubs, model("second", second))
    assert refused(lambda: ask(stubs, "first"))[0] == "NOT_FOUND"
    assert refused(lambda: status(stubs, "first"))[0] == "NOT_FOUND"
    assert status(stubs, "second") == {5: 30}
    assert refused(
        lambda: stubs.model.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(), timeout=20)
    )[0] == ("INVALID_ARGUMENT")

    # The file: a mistake is logged and changes nothing, a good text is taken over.
    path.write_text("model_config_list { config { name 5 } }")
    server.wait_log("was not taken over")
    assert ask(stubs, "second") == 5
    path.write_text(models_config(model("second", second), model("third", first)))
    wait_until(lambda: f"serving third version 3 on port {server.port}" in server.out.read_text(), server)
    assert ask(stubs, "third") == 3


def test_labels_for_unavailable_versions_where_allowed(exports: dict[int, Path], tmp_path: Path) -> None:
    versions(tmp_path, exports, 1)
    core = ServerCore(
        lambda name, base, policy: VersionManager(name, base, servable.load, 0.05, policy=policy),
        allow_labels_for_unavailable=True,
    )
    labels = 'version_labels { key: "stable" value: %d } version_labels { key: "next" value: 2 }'
    core.reload(parsed(model("m", tmp_path, labels % 1)), wait_until=time.monotonic() + 60)
    spec = model_pb2.ModelSpec(name="m", version_label="stable")
    with core.lease(spec) as leased:
        assert leased.version == 1
    with (
        pytest.raises(StatusError, match=r"Specific\(m, 2\)"),
        core.lease(model_pb2.ModelSpec(name="m", version_label="next")),
    ):
        pass
    # A label that exists does not move to what does not serve, allowed or not.
    with pytest.raises(StatusError, match="version 2 of model m, which is not currently available"):
        core.reload(parsed(model("m", tmp_path, labels % 2)))
    core.stop()


def test_a_model_that_does_not_serve_is_told_each_time(exports: dict[int, Path], tmp_path: Path) -> None:
    good, late = tmp_path / "good", tmp_path / "late"
    versions(good, exports, 1)
    core = ServerCore(
        lambda name, base, policy: VersionManager(name, base, servable.load, 600, policy=policy)
    )
    both = parsed(model("good", good), model("late", late))
    for _ in range(3):
        with pytest.raises(StatusError, match=f"1 servable.* late: no versions found in {late}") as raised:
            core.reload(both, wait_until=time.monotonic() + 60)
        assert raised.value.code == Code.UNKNOWN
    versions(late, exports, 1)
    core.reload(both, wait_until=time.monotonic() + 60)  # looks again although the pause is long
    with core.lease(model_pb2.ModelSpec(name="late")) as leased:
        assert leased.version == 1
    core.stop()


def test_ports_wait_for_the_first_models(
    exports: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a model that is being loaded; not for one that is broken, absent, or fails every look."""
    versions(tmp_path / "slow", exports, 1)
    versions(tmp_path / "unreadable", exports, 1)
    (tmp_path / "broken" / "1").mkdir(parents=True)
    begun, go, stop = threading.Event(), threading.Event(), threading.Event()

    def load(path: str, version: int) -> servable.Servable:
        if "slow" in path:
            begun.set()
            go.wait()
        return servable.load(path, version)

    def fingerprint(path: str) -> version_folders.Fingerprint:
        if "unreadable" in path:
            raise RuntimeError("whatever a file system can do")
        return version_folders.fingerprint(path)

    monkeypatch.setattr(version_manager, "fingerprint", fingerprint)
    core = ServerCore(lambda name, base, policy: VersionManager(name, base, load, 600, policy=policy))
    core.reload(parsed(*(model(name, tmp_path / name) for name in ("broken", "absent", "unreadable"))))
    at_once = threading.Thread(target=core.wait_looked, args=(stop,), daemon=True)
    at_once.start()
    at_once.join(60)
    assert not at_once.is_alive()
    core.reload(parsed(*(model(name, tmp_path / name) for name in ("broken", "slow"))))
    waiting = [
        threading.Thread(target=core.wait_looked, args=(one,), daemon=True)
        for one in (stop, threading.Event())
    ]
    for thread in waiting:
        thread.start()
    assert begun.wait(60)
    assert all(thread.is_alive() for thread in waiting)
    stop.set()  # SIGTERM
    waiting[0].join(60)
    assert [thread.is_alive() for thread in waiting] == [False, True]
    go.set()
    waiting[1].join(60)
    assert not waiting[1].is_alive()
    assert core.states()["slow", 1] == State.AVAILABLE
    core.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (models_config(model("a", Path("relative"))), "Expected model a"),
        ("improper model config", "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:1"),
    ],
)
def test_wrong_config_file_ends_the_start_with_one_line(
    start: Callable[..., Server], tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "models.config"
    path.write_text(text)
    server = start(tmp_path, f"--model_config_file={path}")
    assert server.process.wait(timeout=300) == 1
    assert server.log.read_text().splitlines()[-1].startswith(f"--model_config_file: {path}: {reason}")
