"""Watches a model's version folders and decides which versions serve.

A policy says how many: the latest n, all, or named ones. Versions that are incomplete, do not
load or do not pass their warm-up do not count. A new version is loaded and warmed while the
old ones serve, then takes the traffic in one step; an old one is dropped when its last request has
ended. A version that fails is reported, logged once, and tried again only when its files
change, so that a copy in progress needs no restart.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tensorflow_serving.apis import model_pb2

from serving.model_server.core import memory
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.servable import Servable
from serving.model_server.core.version_folders import Fingerprint, Folders, fingerprint
from serving.model_server.core.versions import ONLY_LATEST, Policy, State, VersionStatus

_log = logging.getLogger(__name__)

_SETTLE_SECONDS = 0.2


@dataclasses.dataclass
class _Lease:
    """A loaded version and the requests that are using it."""

    servable: Servable
    in_flight: int = 0


class VersionManager:
    """Serves the good versions of one model from a folder.

    Args:
      model_name: the name that requests use.
      base_path: folder of numbered version folders; it may appear later.
      loader: (path, version) -> a servable ready to answer (loaded and warmed); raises
        `StatusError` when the version cannot serve.
      poll_seconds: pause between two looks at the folder; 0 looks only once.
      on_available: called with the version each time one begins to serve.
      policy: which versions serve.
      concurrency: requests that may be in work at the same time; 0 for any number.
    """

    def __init__(
        self,
        model_name: str,
        base_path: str,
        loader: Callable[[str, int], Servable],
        poll_seconds: float = 1.0,
        on_available: Callable[[int], None] = lambda version: None,
        policy: Policy = ONLY_LATEST,
        concurrency: int = 0,
    ) -> None:
        self._model_name = model_name
        self._base_path = base_path
        self._loader = loader
        self._poll_seconds = poll_seconds
        self._on_available = on_available
        self._policy = policy
        self._concurrency = concurrency
        self._in_flight = 0
        self._labels: dict[str, int] = {}
        self._lock = threading.Lock()
        self._serving: dict[int, _Lease] = {}
        self._draining: list[_Lease] = []
        self._statuses: dict[int, VersionStatus] = {}
        self._seen: dict[int, Fingerprint] = {}  # at the last look
        self._failed: dict[int, Fingerprint] = {}  # do not try again while unchanged
        self._complaints: Sequence[str] = ()  # about the folder, at the last look
        self._logged: set[object] = set()
        self._looks = 0  # that have begun
        self._looked = 0  # the last one that has ended and left nothing half-copied
        self._retired = False
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="version-manager", daemon=True)

    def start(self) -> None:
        """Begins to watch, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stops watching. What serves goes on serving."""
        self._stop.set()
        self._wake.set()

    def retire(self) -> None:
        """Stops watching and refuses further requests; versions go when their requests end."""
        with self._lock:
            self._retired = True
            for version in list(self._serving):
                self._begin_drain(version)
        self.stop()

    def reconfigure(self, base_path: str, policy: Policy) -> None:
        """Changes folder and policy; takes effect at the next look, which comes at once."""
        with self._lock:
            self._base_path, self._policy = base_path, policy
        self._wake.set()

    @property
    def base_path(self) -> str:
        """The folder that is watched."""
        return self._base_path

    @property
    def policy(self) -> Policy:
        """Which versions serve."""
        return self._policy

    @property
    def labels(self) -> Mapping[str, int]:
        """Version of each label; replaced as a whole, never changed."""
        return self._labels

    @labels.setter
    def labels(self, labels: Mapping[str, int]) -> None:
        self._labels = dict(labels)

    def available(self) -> list[int]:
        """The versions that serve, newest first."""
        with self._lock:
            return sorted(self._serving, reverse=True)

    def describe_failures(self) -> str:
        """Why nothing serves, for a person."""
        with self._lock:
            reasons = [
                f"version {version}: {status.message}"
                for version, status in sorted(self._statuses.items())
                if status.code != Code.OK
            ]
            reasons = reasons or [f"no versions found in {self._base_path}", *self._complaints]
        return f"{self._model_name}: " + ", ".join(reasons)

    def looked(self, since: int = 0) -> bool:
        """Whether a look has ended that left nothing half-copied: any, or one asked for by `look_again`."""
        return self._looked > since

    def look_again(self) -> int:
        """Asks for another look at once; `looked(since=the answer)` says whether it has ended."""
        self._wake.set()
        return self._looks

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """The version that a request asks for, kept loaded until the block ends.

        Raises:
          StatusError: NOT_FOUND for another model or a version that does not serve;
            INVALID_ARGUMENT for no name or an unknown version label; UNAVAILABLE while the
            first version is still being loaded; RESOURCE_EXHAUSTED beyond the concurrency.
        """
        with self._lock:
            lease = self._find(spec)
            if self._concurrency and self._in_flight >= self._concurrency:
                raise StatusError(
                    Code.RESOURCE_EXHAUSTED,
                    f"model {self._model_name} works on {self._in_flight} requests, its limit; try later",
                )
            lease.in_flight += 1
            self._in_flight += 1
        try:
            yield lease.servable
        finally:
            with self._lock:
                lease.in_flight -= 1
                self._in_flight -= 1

    def statuses(self, spec: model_pb2.ModelSpec) -> list[VersionStatus]:
        """Status of the version that `spec` names, or of all, newest first.

        Raises:
          StatusError: NOT_FOUND for another model or a version never seen; INVALID_ARGUMENT
            for an unknown version label.
        """
        wanted = self._wanted_version(spec)
        with self._lock:
            known = self._statuses if spec.name == self._model_name else {}
            if wanted is not None:
                if wanted not in known:
                    raise StatusError(Code.NOT_FOUND, f"Could not find version {wanted} of model {spec.name}")
                return [dataclasses.replace(known[wanted])]
            if not known:
                raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
            return [dataclasses.replace(known[version]) for version in sorted(known, reverse=True)]

    def poll(self) -> None:
        """Looks at the folder once and loads what is new. `start` does this repeatedly."""
        self._looks += 1
        policy = self._policy
        versions = self._list()
        if versions is None or (not versions and self._serving):
            # A volume that cannot be read, or is not mounted, does not say that versions are gone.
            self._looked = self._looks
            return
        if not self._serving and any(version not in self._seen for version in versions):
            # At start-up do not wait a whole poll to see whether the files are still changing.
            self._seen = {version: fingerprint(path) for version, path in versions.items()}
            self._stop.wait(_SETTLE_SECONDS)
        seen, self._seen = self._seen, {version: fingerprint(path) for version, path in versions.items()}
        self._forget(versions)
        wanted, limit = set(versions), policy.latest
        if policy.specific is not None:
            wanted, limit = wanted & policy.specific, None
        chosen: list[int] = []
        copying = False
        for version in sorted(wanted, reverse=True):
            if self._stop.is_set():
                return
            if limit is not None and len(chosen) == limit:
                break
            if version in self._serving:
                chosen.append(version)
                continue
            before = self._seen[version]
            settled = seen.get(version) == before or self._poll_seconds == 0
            if self._failed.get(version) == before:
                continue
            if not settled:
                copying = True
            elif self._load(version, versions[version], before):
                chosen.append(version)
                if limit is not None:
                    # Before further ones are loaded: memory holds one version more, not all twice.
                    self._unload_all_but(chosen, limit - len(chosen))
        self._unload_all_but(chosen)
        if not copying:
            self._looked = self._looks

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception:  # the watcher must outlive whatever a file system can do
                self._looked = self._looks  # whoever waits for the look must not wait for ever
                self._log_once("watch", "looking at %s failed", self._base_path, exc_info=True)
            self._drop_drained()
            if self._poll_seconds:
                self._wake.wait(self._poll_seconds)
            else:
                while not self._wake.wait(_SETTLE_SECONDS):  # looks again for another configuration only
                    self._drop_drained()
            self._wake.clear()
        while self._retired and self._draining:
            self._drop_drained()
            time.sleep(_SETTLE_SECONDS)

    def _unload_all_but(self, chosen: list[int], keep: int = 0) -> None:
        """Drains what is not chosen, less the `keep` highest; the last one that serves stays."""
        with self._lock:
            others = sorted((version for version in self._serving if version not in chosen), reverse=True)
            for version in others[keep if chosen else max(keep, 1) :]:
                self._begin_drain(version)
        self._drop_drained()

    def _begin_drain(self, version: int) -> None:
        # With the lock held.
        self._draining.append(self._serving.pop(version))
        self._statuses[version].state = State.UNLOADING

    def _list(self) -> Mapping[int, str] | None:
        """Folder by version; None when they cannot be read."""
        found = Folders.read(self._base_path)
        self._complaints = found.complaints
        for complaint in found.complaints:
            self._log_once(complaint, "%s", complaint)
        if found.versions is not None and not found.versions:
            self._log_once("empty", "no version of %s in %s yet", self._model_name, self._base_path)
        return found.versions

    def _load(self, version: int, path: str, before: Fingerprint) -> bool:
        self._set(version, State.LOADING)
        try:
            servable = self._loader(path, version)
            if fingerprint(path) != before:
                raise StatusError(
                    Code.UNAVAILABLE, f"{path} changed while it was loaded; waiting for it to settle"
                )
        except StatusError as error:
            self._fail(version, before, error)
            return False
        except Exception as error:  # whatever it is, a lower version may be good
            self._log_once((version, repr(error)), "loading version %d failed", version, exc_info=True)
            text = " ".join(f"{type(error).__name__}: {error}".split())[:1000]
            self._fail(version, before, StatusError(Code.INTERNAL, f"cannot load {path}: {text}"))
            return False
        with self._lock:
            if self._retired:
                self._statuses[version].state = State.END
                return False
            self._serving[version] = _Lease(servable)
            self._statuses[version] = VersionStatus(version, State.AVAILABLE)
            self._failed.pop(version, None)
        self._on_available(version)
        return True

    def _drop_drained(self) -> None:
        with self._lock:
            done = [lease for lease in self._draining if not lease.in_flight]
            self._draining = [lease for lease in self._draining if lease.in_flight]
            for lease in done:
                # It may be forgotten by now; and the same version may have been loaded anew.
                status = self._statuses.get(lease.servable.version)
                if status is not None and status.state == State.UNLOADING:
                    status.state = State.END
        if done:
            done.clear()
            del lease  # the last one: what it holds would outlive the collection
            gc.collect()  # a loaded model sits in reference cycles; its tables are large
            memory.give_back_now()

    def _fail(self, version: int, before: Fingerprint, error: StatusError) -> None:
        self._failed[version] = before
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
        version = self._wanted_version(spec)
        if spec.name == self._model_name:
            if self._serving and (version is None or version in self._serving):
                return self._serving[max(self._serving) if version is None else version]
            if not self._looked and not self._retired:
                raise StatusError(Code.UNAVAILABLE, f"model {spec.name} is still being loaded")
        wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
        raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")

    def _wanted_version(self, spec: model_pb2.ModelSpec) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            labels = self._labels if spec.name == self._model_name else {}
            if spec.version_label not in labels:
                raise StatusError(
                    Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}"
                )
            return labels[spec.version_label]
        return spec.version.value if choice == "version" else None

    def _log_once(self, key: object, text: str, *arguments: object, exc_info: bool = False) -> None:
        if key not in self._logged:
            self._logged.add(key)
            _log.warning(text, *arguments, exc_info=exc_info)
