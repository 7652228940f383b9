"""The numbered folders of a model: which there are, and whether their files still change."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence

from serving.model_server.core.servable import SAVED_MODEL_FILES

# Files as (relative path, size, modification time): two equal looks mean nobody is copying.
Fingerprint = tuple[tuple[str, int, int], ...]
_LAST_NUMBER = 2**63 - 1  # versions are int64 in every message
_DIGITS = len(str(_LAST_NUMBER))


@dataclasses.dataclass(frozen=True)
class Folders:
    """What one look at a base path found.

    Attributes:
      versions: folder by version; None when the base path or an entry of it cannot be read.
      complaints: what is wrong, for a person; the same at each look.
    """

    versions: Mapping[int, str] | None
    complaints: Sequence[str] = ()

    @classmethod
    def read(cls, base_path: str) -> Folders:
        """Looks for folders in `base_path` whose names are numbers."""
        versions: dict[int, str] = {}
        complaints = []
        try:
            with os.scandir(base_path) as entries:
                named = sorted((entry.name, entry) for entry in entries)
            for name, entry in named:
                if not (name.isascii() and name.isdigit() and entry.is_dir()):
                    continue
                # A name may be longer than what int() takes.
                if len(name.lstrip("0")) > _DIGITS or int(name) > _LAST_NUMBER:
                    complaints.append(f"{entry.path} is ignored: no version is above {_LAST_NUMBER}")
                elif int(name) in versions:
                    complaints.append(f"{entry.path}: version {int(name)} exists twice; {name} is ignored")
                else:
                    versions[int(name)] = entry.path
        except OSError as error:
            return cls(None, [f"{base_path} cannot be read ({error.strerror})"])
        for name in SAVED_MODEL_FILES:
            if not versions and os.path.exists(os.path.join(base_path, name)):
                complaints.append(
                    f"{base_path} is itself a version's folder, with {name}; give the folder that holds it, "
                    "and as its name a number"
                )
        return cls(versions, complaints)


def fingerprint(path: str) -> Fingerprint:
    """The files of a version's folder."""
    entries = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            with contextlib.suppress(OSError):  # vanished between the two calls
                status = os.stat(file)
                entries.append((os.path.relpath(file, path), status.st_size, status.st_mtime_ns))
    return tuple(sorted(entries))
