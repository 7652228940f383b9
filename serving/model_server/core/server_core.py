"""The models of one server: which there are, their labels, and changes of the configuration."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.servable import Servable
from serving.model_server.core.version_manager import VersionManager
from serving.model_server.core.versions import Policy, VersionStatus

_log = logging.getLogger(__name__)
_PLATFORM = "tensorflow"
_WAIT_STEP_SECONDS = 0.02


class ServerCore:
    """Several models, each with its `VersionManager`.

    Args:
      make_manager: (model name, base path, policy) -> a manager that has not started.
      allow_labels_for_unavailable: a *new* label may name a version that does not serve yet. A
        label that exists is never moved to such a version, as in TensorFlow Serving.
    """

    def __init__(
        self,
        make_manager: Callable[[str, str, Policy], VersionManager],
        allow_labels_for_unavailable: bool = False,
    ) -> None:
        self._make_manager = make_manager
        self._allow_labels_for_unavailable = allow_labels_for_unavailable
        self._managers: dict[str, VersionManager] = {}  # replaced as a whole, never changed
        self._reload_lock = threading.Lock()
        self._stop = threading.Event()

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """The version that a request asks for; errors as in `VersionManager.lease`."""
        with self._manager(spec).lease(spec) as servable:
            yield servable

    def statuses(self, spec: model_pb2.ModelSpec) -> list[VersionStatus]:
        """States of a model's versions; errors as in `VersionManager.statuses`."""
        manager = self._managers.get(spec.name)
        if manager is None:
            raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        return manager.statuses(spec)

    def models(self) -> list[str]:
        """Names of the models in the configuration."""
        return sorted(self._managers)

    def states(self) -> dict[tuple[str, int], int]:
        """State of every known (model, version)."""
        found = {}
        for name, manager in self._managers.items():
            with contextlib.suppress(StatusError):  # no version yet
                for status in manager.statuses(model_pb2.ModelSpec(name=name)):
                    found[name, status.version] = int(status.state)
        return found

    def all_serve(self) -> bool:
        """Whether every model has a version that serves."""
        return all(manager.available() for manager in self._managers.values())

    def wait_looked(self, stop: threading.Event) -> None:
        """Waits until each model has a version that serves, or has been looked for in vain, or for `stop`."""
        while any(not (one.available() or one.looked()) for one in self._managers.values()):
            if stop.wait(_WAIT_STEP_SECONDS):
                return

    def stop(self) -> None:
        """Stops watching files. What serves goes on serving."""
        self._stop.set()
        for manager in self._managers.values():
            manager.stop()

    def reload(
        self, config: model_server_config_pb2.ModelServerConfig, wait_until: float | None = None
    ) -> None:
        """Takes over another configuration: adds, changes and removes models, moves labels.

        Args:
          config: the whole new configuration, not a difference.
          wait_until: `time.monotonic()` second until which to wait for the models that do not
            serve yet; None does not wait.

        Raises:
          StatusError: nothing was changed: INVALID_ARGUMENT (no model list, a model twice, a
            relative base path, another platform) or FAILED_PRECONDITION (a label for a
            version that does not serve). Or all was changed, but a model, new or not, does not
            serve: UNKNOWN with the reasons, DEADLINE_EXCEEDED.
        """
        with self._reload_lock:
            if config.WhichOneof("config") != "model_config_list":
                raise StatusError(
                    Code.INVALID_ARGUMENT,
                    "ServerModelConfig type not supported. Only ModelConfigList is currently supported",
                )
            models = {model.name: model for model in _checked(config.model_config_list)}
            policies = {name: _policy(model) for name, model in models.items()}
            for model in models.values():
                self._check_labels(model)
            managers = {}
            for name, model in models.items():
                manager = self._managers.get(name)
                if manager is None:
                    manager = self._make_manager(name, model.base_path, policies[name])
                managers[name] = manager
            old, self._managers = self._managers, managers
            for name, manager in managers.items():
                manager.labels = models[name].version_labels
                if name not in old:
                    manager.start()
                elif (manager.base_path, manager.policy) != (models[name].base_path, policies[name]):
                    manager.reconfigure(models[name].base_path, policies[name])
            for name in old.keys() - managers.keys():
                _log.info("model %s is no longer configured", name)
                old[name].retire()
        if wait_until is not None:
            self._await(list(managers.values()), wait_until)

    def watch_file(
        self,
        path: str,
        poll_seconds: float,
        read: Callable[[str], model_server_config_pb2.ModelServerConfig],
    ) -> None:
        """Reloads `path` whenever its text changes, in a thread of its own, until `stop`.

        Args:
          path: the file.
          poll_seconds: pause between two looks at it.
          read: path -> the configuration; raises `StatusError` when it is wrong.
        """
        threading.Thread(
            target=self._watch_file, args=(path, poll_seconds, read), name="config-file", daemon=True
        ).start()

    def _watch_file(
        self,
        path: str,
        poll_seconds: float,
        read: Callable[[str], model_server_config_pb2.ModelServerConfig],
    ) -> None:
        last, complaint = _text(path), ""
        while not self._stop.wait(poll_seconds):
            text = _text(path)
            if text == last:
                continue
            try:
                self.reload(read(path))
                _log.info("took over %s", path)
                last, complaint = text, ""
            except Exception as error:  # tried again at each look: a label may become assignable
                message = error.message if isinstance(error, StatusError) else repr(error)
                if message != complaint:
                    _log.error("%s was not taken over: %s", path, message)
                complaint = message

    def _manager(self, spec: model_pb2.ModelSpec) -> VersionManager:
        manager = self._managers.get(spec.name)
        if manager is not None:
            return manager
        if not spec.name:
            raise StatusError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        if spec.WhichOneof("version_choice") == "version_label":
            raise StatusError(
                Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}"
            )
        wanted = f"Latest({spec.name})"
        if spec.HasField("version"):
            wanted = f"Specific({spec.name}, {spec.version.value})"
        raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")

    def _check_labels(self, model: model_server_config_pb2.ModelConfig) -> None:
        manager = self._managers.get(model.name)
        available = manager.available() if manager is not None else []
        existing = manager.labels if manager is not None else {}
        for label, version in sorted(model.version_labels.items()):
            if version in available:
                continue
            if self._allow_labels_for_unavailable and existing.get(label, version) == version:
                continue
            raise StatusError(
                Code.FAILED_PRECONDITION,
                f"Request to assign label to version {version} of model {model.name}, which is not "
                "currently available for inference",
            )

    def _await(self, managers: list[VersionManager], until: float) -> None:
        # What an earlier look found may have been put right since.
        waiting = {manager: manager.look_again() for manager in managers if not manager.available()}
        while waiting and not self._stop.is_set():
            waiting = {manager: since for manager, since in waiting.items() if not manager.available()}
            hopeless = [manager for manager, since in waiting.items() if manager.looked(since)]
            if hopeless:
                raise StatusError(
                    Code.UNKNOWN,
                    f"{len(hopeless)} servable(s) did not become available: "
                    + "; ".join(manager.describe_failures() for manager in hopeless),
                )
            if waiting and time.monotonic() >= until:
                raise StatusError(
                    Code.DEADLINE_EXCEEDED,
                    f"{len(waiting)} model(s) are still being loaded; they go on loading",
                )
            time.sleep(_WAIT_STEP_SECONDS)


def single_model(name: str, base_path: str) -> model_server_config_pb2.ModelServerConfig:
    """The configuration of one model with the default policy."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=name, base_path=os.path.abspath(base_path), model_platform=_PLATFORM
    )
    return config


def status_response(
    core: ServerCore, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """The answer of GetModelStatus; errors as in `ServerCore.statuses`."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in core.statuses(request.model_spec):
        entry = response.model_version_status.add(version=status.version, state=int(status.state))
        entry.status.error_code = int(status.code)
        entry.status.error_message = status.message
    return response


def _checked(
    models: model_server_config_pb2.ModelConfigList,
) -> list[model_server_config_pb2.ModelConfig]:
    names: set[str] = set()
    for model in models.config:
        if not model.name:
            raise StatusError(Code.INVALID_ARGUMENT, "a model of the config list has no name")
        if model.name in names:
            raise StatusError(
                Code.INVALID_ARGUMENT, f"Illegal to list model {model.name} multiple times in config list"
            )
        names.add(model.name)
        if not os.path.isabs(model.base_path):
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Expected model {model.name} to have an absolute path or URI; "
                f"got base_path()={model.base_path}",
            )
        # model_type TENSORFLOW (1) is the old way to say it.
        if model.model_platform != _PLATFORM and not (not model.model_platform and model.model_type == 1):
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Model {model.name} requests unsupported platform {model.model_platform or '(none)'}; "
                f'write model_platform: "{_PLATFORM}"',
            )
    return list(models.config)


def _policy(model: model_server_config_pb2.ModelConfig) -> Policy:
    proto = model.model_version_policy
    choice = proto.WhichOneof("policy_choice")
    if choice == "all":
        return Policy(latest=None)
    if choice == "specific":
        if not proto.specific.versions:
            raise StatusError(
                Code.INVALID_ARGUMENT, f"model {model.name}: the version policy 'specific' names no version"
            )
        return Policy(specific=frozenset(proto.specific.versions))
    return Policy(latest=max(proto.latest.num_versions, 1))


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None
