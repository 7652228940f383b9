"""What lies with a pushed version and in its run's folder, as far as the gateway needs it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from schema import names as F
from schema.config import Gateway
from schema.errors import DataError
from serving.gateway.catalogue import Catalogue
from serving.gateway.histories import Histories
from serving.gateway.services import Clock

_RECORD = Path("assets.extra", "push_record.json")


@dataclasses.dataclass(frozen=True)
class Release:
    """A pushed version.

    Attributes:
      folder: it.
      version: its number, the unix seconds of the push.
      learned_at: unix seconds at which the data ends that its tables were made of.
    """

    folder: Path
    version: int
    learned_at: float

    @classmethod
    def newest(cls, base: Path) -> Release:
        """The newest complete version below a folder.

        Raises:
          DataError: there is none, or its record cannot be read.
        """
        versions = [
            int(path.parent.name) for path in base.glob("*/saved_model.pb") if path.parent.name.isdigit()
        ]
        if not versions:
            raise DataError(
                f"{base}: no model was pushed here; run the pipeline first, or name another --run"
            )
        version = max(versions)
        path = base / str(version) / _RECORD
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            window = record["window"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: cannot be read; push the version again with this release") from error
        return cls(base / str(version), version, float(window[0]) if window else float(version))

    def catalogue(self) -> Catalogue:
        """The cards that lie with the version.

        Raises:
          DataError: it has none.
        """
        path = self.folder / F.CARDS_FILE
        if not path.exists():
            raise DataError(
                f"{path}: is missing, as the version was made by an earlier release; run the pipeline again, "
                "or give a file by --catalogue"
            )
        return Catalogue.read(path)

    def clock(self, settings: Gateway) -> Clock:
        """The time that the model is told (see `gateway.clock`)."""
        return Clock(offset=self.learned_at - self.version if settings.clock == "data" else 0.0)

    def histories(self, path: Path, settings: Gateway) -> Histories:
        """A run's request histories, whose ages count from the end of its data.

        Raises:
          DataError: the file cannot be read.
        """
        return Histories.read(path, self.learned_at - self.clock(settings).offset)
