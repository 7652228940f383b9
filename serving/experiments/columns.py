"""What the analysis reads: lists that were shown, and what came of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from schema.errors import DataError


@dataclasses.dataclass(frozen=True)
class Exposures:
    """Lists shown by an experiment, one row each, in any order.

    Attributes:
      unit: the user, [E] text.
      arm: the arm, [E] text.
      time: when it was shown, float64 [E], unix seconds.
      values: sums over the list by name, float64 [E]: `shown` and `clicked` and `converted` (items),
        `revenue` (currency of the shop), `fallback` (0 or 1), `latency_ms`; a log may lack some.
      covariate: the user's revenue in the time before the experiment, float64 [E], NaN where nothing is
        known of the user; None if the log has none. It must not depend on the arm.

    Raises:
      DataError: columns of different lengths, or a value or time that is not finite.
    """

    unit: np.ndarray
    arm: np.ndarray
    time: np.ndarray
    values: Mapping[str, np.ndarray]
    covariate: np.ndarray | None = None

    def __post_init__(self) -> None:
        columns = {"arm": self.arm, "time": self.time, **self.values}
        if self.covariate is not None:
            columns["covariate"] = self.covariate
        for name, column in columns.items():
            if np.shape(column) != np.shape(self.unit):
                raise DataError(
                    f"exposures: column '{name}' has shape {np.shape(column)} but 'unit' "
                    f"{np.shape(self.unit)}"
                )
        for name in ("time", *self.values):
            wrong = np.flatnonzero(~np.isfinite(np.asarray(columns[name], np.float64)))
            if len(wrong):
                raise DataError(f"exposures: row {wrong[0]} of '{name}' is not finite; correct the log")

    def __len__(self) -> int:
        return len(self.unit)
