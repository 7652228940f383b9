"""Files as the containers see them, told from a machine that may not see them itself."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from components.common import fingerprint
from schema.config import Config
from schema.errors import ConfigError, DataError

_ROOT = Path(__file__).resolve().parent.parent
# Without credentials or network, Beam retries for 90 s; with them, it answers within 2.
_REACH_SECONDS = 20.0


def as_in_image(config: Config) -> Config:
    """The configuration with the schema folder's path inside the image.

    Raises:
      ConfigError: the folder is not part of the project, so the image does not hold it, or it
        lacks a schema.
    """
    folder = config.schema_dir
    image = PurePosixPath(config.kubeflow.project_dir)
    if "://" in folder or PurePosixPath(folder).is_relative_to(image):
        return config
    here = Path(folder).resolve()
    if not here.is_relative_to(_ROOT):
        raise ConfigError(
            f"schema_dir: {folder} lies outside of {_ROOT}, which is what the image holds; "
            f"move it there, or give a URL or a path below kubeflow.project_dir ({image})"
        )
    for table in ("items", "events", "users"):
        if getattr(config, table) is not None and not (here / f"{table}.pbtxt").is_file():
            raise ConfigError(f"schema_dir: {folder} has no {table}.pbtxt; add the reviewed schema")
    return config.model_copy(update={"schema_dir": str(image / here.relative_to(_ROOT).as_posix())})


class Fingerprints:
    """`components.common.fingerprint.data_version` that does not insist on reaching the files.

    Files inside a Python package, which the image installs too, must be here. Files behind a
    URL or an absolute path (a volume of the containers) may be out of reach: they then count by
    their path only, and what reads them must not be cached.

    Args:
      config: the shop.
      seconds: how long a URL may take to answer.

    Attributes:
      unreachable: the paths that count by their text only.
    """

    def __init__(self, config: Config, seconds: float = _REACH_SECONDS):
        self._package = config.data.root.startswith("package:")
        self._seconds = seconds
        self._lost: set[str] = set()  # places that did not answer: not asked again
        self.unreachable: list[str] = []

    def __call__(self, paths: Mapping[str, str]) -> str:
        """The fingerprint of files by their configuration key.

        Raises:
          ConfigError: a relative path, which means nothing in a container.
          DataError: the place answers and has no such file.
        """
        reached = {key: path for key, path in paths.items() if self._reach(key, path)}
        lost = {key: path for key, path in paths.items() if key not in reached}
        self.unreachable += sorted(lost.values())
        if not lost:
            return fingerprint.data_version(reached)
        known = f"{fingerprint.data_version(reached)}." if reached else ""
        return f"{known}unversioned:{','.join(sorted(lost.values()))}"

    def _reach(self, key: str, path: str) -> bool:
        if "://" in path:
            return self._answers(key, path)
        if not Path(path).is_absolute():
            raise ConfigError(
                f"{key}: {path} is a path on this machine, which the containers do not see; set data.root to "
                "a URL, to package:<python package>/<folder> or to an absolute path mounted in the containers"
            )
        try:
            fingerprint.data_version({key: path})
        except DataError:
            if self._package:
                raise
            return False
        return True

    def _answers(self, key: str, url: str) -> bool:
        place = "/".join(url.split("/", 3)[:3])
        if place in self._lost:
            return False
        result: list[str | DataError] = []

        def ask() -> None:
            try:
                result.append(fingerprint.data_version({key: url}))
            except DataError as error:
                result.append(error)
            except Exception:  # no network, no credentials, no such kind of file system
                return

        # A thread of its own, that does not keep the process alive: Beam has no time limit.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(self._seconds)
        if not result:
            self._lost.add(place)
            return False
        if isinstance(result[0], DataError):
            raise result[0]
        return True
