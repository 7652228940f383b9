"""Watches a model's version folders and decides which version serves.

The highest complete version that loads and passes its warm-up serves. A new version is loaded
and warmed beside the old one, then takes the traffic in one step; the old one is dropped when
its last request has ended. A version that fails is reported, logged once, and tried again only
when its files change, so that a copy in progress needs no restart.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import gc
import logging
import os
import threading
from collections.abc import Callable, Iterator

from tensorflow_serving.apis import model_pb2

from serving.model_server.errors import Code, StatusError
from serving.model_server.servable import Servable

_log = logging.getLogger(__name__)

# Files as (relative path, size, modification time): two equal looks mean nobody is copying.
Fingerprint = tuple[tuple[str, int, int], ...]
_SETTLE_SECONDS = 0.2


class State(enum.IntEnum):
    """Life of a version; numbers are those of GetModelStatus."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass
class VersionStatus:
    """What GetModelStatus says of a version."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


@dataclasses.dataclass
class _Lease:
    """A loaded version and the requests that are using it."""

    servable: Servable
    in_flight: int = 0


class VersionManager:
    """Serves the newest good version of one model from a folder.

    Args:
      model_name: the name that requests use.
      base_path: folder of numbered version folders; it may appear later.
      loader: (path, version) -> a servable ready to answer (loaded and warmed); raises
        `StatusError` when the version cannot serve.
      poll_seconds: pause between two looks at the folder; 0 looks only once.
      on_available: called with the version each time one takes the traffic.
    """

    def __init__(
        self,
        model_name: str,
        base_path: str,
        loader: Callable[[str, int], Servable],
        poll_seconds: float = 1.0,
        on_available: Callable[[int], None] = lambda version: None,
    ) -> None:
        self._model_name = model_name
        self._base_path = base_path
        self._loader = loader
        self._poll_seconds = poll_seconds
        self._on_available = on_available
        self._lock = threading.Lock()
        self._current: _Lease | None = None
        self._draining: list[_Lease] = []
        self._statuses: dict[int, VersionStatus] = {}
        self._seen: dict[int, Fingerprint] = {}  # at the last look
        self._failed: dict[int, Fingerprint] = {}  # do not try again while unchanged
        self._logged: set[object] = set()
        self._first_look_done = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="version-manager", daemon=True)

    def start(self) -> None:
        """Begins to watch, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stops watching. What serves goes on serving."""
        self._stop.set()

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """The version that a request asks for, kept loaded until the block ends.

        Raises:
          StatusError: NOT_FOUND for another model or a version that does not serve;
            INVALID_ARGUMENT for no name or a version label; UNAVAILABLE while the first
            version is still being loaded.
        """
        with self._lock:
            lease = self._find(spec)
            lease.in_flight += 1
        try:
            yield lease.servable
        finally:
            with self._lock:
                lease.in_flight -= 1

    def statuses(self, spec: model_pb2.ModelSpec) -> list[VersionStatus]:
        """Status of the version that `spec` names, or of all, newest first.

        Raises:
          StatusError: NOT_FOUND for another model or a version never seen; INVALID_ARGUMENT
            for a version label.
        """
        self._refuse_label(spec)
        with self._lock:
            known = self._statuses if spec.name == self._model_name else {}
            if spec.HasField("version"):
                version = spec.version.value
                if version not in known:
                    raise StatusError(
                        Code.NOT_FOUND, f"Could not find version {version} of model {spec.name}"
                    )
                return [dataclasses.replace(known[version])]
            if not known:
                raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
            return [dataclasses.replace(known[version]) for version in sorted(known, reverse=True)]

    def poll(self) -> None:
        """Looks at the folder once and loads what is new. `start` does this repeatedly."""
        versions = self._list()
        if self._current is None and any(version not in self._seen for version in versions):
            # At start-up do not wait a whole poll to see whether the files are still changing.
            self._seen = {version: _fingerprint(path) for version, path in versions.items()}
            self._stop.wait(_SETTLE_SECONDS)
        seen, self._seen = self._seen, {version: _fingerprint(path) for version, path in versions.items()}
        self._forget(versions)
        copying = False
        for version in sorted(versions, reverse=True):
            if self._stop.is_set():
                return
            if self._current is not None and version == self._current.servable.version:
                break
            before = self._seen[version]
            settled = seen.get(version) == before or self._poll_seconds == 0
            if self._failed.get(version) == before:
                continue
            if not settled:
                copying = True
            elif self._load(version, versions[version], before):
                break
        self._first_look_done = self._first_look_done or not copying

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception:  # the watcher must outlive whatever a file system can do
                self._log_once("watch", "looking at %s failed", self._base_path, exc_info=True)
            self._drop_drained()
            if self._poll_seconds == 0:
                return
            self._stop.wait(self._poll_seconds)

    def _list(self) -> dict[int, str]:
        try:
            names = os.listdir(self._base_path)
        except OSError as error:
            self._log_once(("list", error.errno), "%s cannot be read (%s)", self._base_path, error.strerror)
            return {}
        versions: dict[int, str] = {}
        for name in sorted(names):
            path = os.path.join(self._base_path, name)
            if name.isascii() and name.isdigit() and os.path.isdir(path):
                if int(name) in versions:
                    self._log_once(
                        ("twice", name), "%s: version %d exists twice; %s is ignored", path, int(name), name
                    )
                else:
                    versions[int(name)] = path
        if not versions:
            self._log_once("empty", "no version of %s in %s yet", self._model_name, self._base_path)
        return versions

    def _load(self, version: int, path: str, before: Fingerprint) -> bool:
        self._set(version, State.LOADING)
        try:
            servable = self._loader(path, version)
            if _fingerprint(path) != before:
                raise StatusError(
                    Code.UNAVAILABLE, f"{path} changed while it was loaded; waiting for it to settle"
                )
        except StatusError as error:
            self._fail(version, before, error)
            return False
        with self._lock:
            old, self._current = self._current, _Lease(servable)
            self._statuses[version] = VersionStatus(version, State.AVAILABLE)
            self._failed.pop(version, None)
            if old is not None:
                self._draining.append(old)
                self._statuses[old.servable.version].state = State.UNLOADING
        self._on_available(version)
        self._drop_drained()
        return True

    def _drop_drained(self) -> None:
        with self._lock:
            done = [lease for lease in self._draining if not lease.in_flight]
            self._draining = [lease for lease in self._draining if lease.in_flight]
            for lease in done:
                status = self._statuses[lease.servable.version]
                if status.state == State.UNLOADING:  # else the same version was loaded anew
                    status.state = State.END
        if done:
            done.clear()
            gc.collect()  # a loaded model sits in reference cycles; its tables are large

    def _fail(self, version: int, fingerprint: Fingerprint, error: StatusError) -> None:
        self._failed[version] = fingerprint
        self._set(version, State.END, error.code, error.message)
        self._log_once((version, error.message), "version %d does not serve: %s", version, error.message)

    def _forget(self, versions: dict[int, str]) -> None:
        with self._lock:
            gone = [
                v for v, status in self._statuses.items() if status.state == State.END and v not in versions
            ]
            for version in gone:
                del self._statuses[version]
                self._failed.pop(version, None)

    def _set(self, version: int, state: State, code: Code = Code.OK, message: str = "") -> None:
        with self._lock:
            self._statuses[version] = VersionStatus(version, state, code, message)

    def _find(self, spec: model_pb2.ModelSpec) -> _Lease:
        if not spec.name:
            raise StatusError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        self._refuse_label(spec)
        version = spec.version.value if spec.HasField("version") else None
        current = self._current
        if (
            spec.name == self._model_name
            and current is not None
            and version in (None, current.servable.version)
        ):
            return current
        if spec.name == self._model_name and not self._first_look_done:
            raise StatusError(Code.UNAVAILABLE, f"model {spec.name} is still being loaded")
        wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
        raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")

    def _refuse_label(self, spec: model_pb2.ModelSpec) -> None:
        if spec.WhichOneof("version_choice") == "version_label":
            raise StatusError(
                Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}"
            )

    def _log_once(self, key: object, text: str, *arguments: object, exc_info: bool = False) -> None:
        if key not in self._logged:
            self._logged.add(key)
            _log.warning(text, *arguments, exc_info=exc_info)


def _fingerprint(path: str) -> Fingerprint:
    entries = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            with contextlib.suppress(OSError):  # vanished between the two calls
                status = os.stat(file)
                entries.append((os.path.relpath(file, path), status.st_size, status.st_mtime_ns))
    return tuple(sorted(entries))
