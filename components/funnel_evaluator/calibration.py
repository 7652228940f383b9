"""What the heads promise, against what happened.

Measured on every candidate of a sample of users who came back in the window, whether or not they
bought one: CandidateSampler's split `full`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from components.common.candidate_lists import padded, request_inputs, tensor
from models.data import example_io
from models.ranking.calibration import expected_calibration_error, reliability
from schema import names as F

_BATCH = 32
_BINS = 20  # of the reliability curve


def measure(model: Any, folder: str, contexts: tuple[str, ...]) -> dict[str, object]:
    """What the heads said of every candidate of some users, and what happened.

    Args:
      model: a loaded SavedModel, asked through its signature `rank`.
      folder: CandidateSampler's split `full`.
      contexts: context names.

    Returns:
      `users`, `candidates`; of the heads `purchase` and `repeat` the `ece`, the means `predicted`
      and `observed` and the reliability `curve` in bins of equal mass; of `value` the means.
    """
    table = example_io.read_table(folder)
    rows: dict[str, list[np.ndarray]] = {}
    for start in range(0, table.num_rows, _BATCH):
        part = table.slice(start, _BATCH)
        inputs = request_inputs(part, contexts)
        inputs |= {name: padded(part, name, "") for name in (F.EXCLUDE_ITEM_ID, F.CANDIDATE_ITEM_ID)}
        answer = model.signatures[F.RANK](**{name: tensor(value) for name, value in inputs.items()})
        weight = padded(part, F.CANDIDATE_WEIGHT, 0.0)
        found = {name: answer[name].numpy() for name in (F.P_PURCHASE, F.P_REPEAT, F.EXPECTED_VALUE)}
        found |= {name: padded(part, name, 0.0) for name in (F.LABEL, F.LABEL_REPEAT, F.LABEL_VALUE)}
        for name, values in (found | {"weight": weight}).items():
            rows.setdefault(name, []).append(values[weight > 0].astype(np.float64))
    column = {name: np.concatenate(values) for name, values in rows.items()}
    out: dict[str, object] = {"users": table.num_rows, "candidates": len(column["weight"])}
    heads = {
        "purchase": (F.P_PURCHASE, F.LABEL),
        "repeat": (F.P_REPEAT, F.LABEL_REPEAT),
        "value": (F.EXPECTED_VALUE, F.LABEL_VALUE),
    }
    for head, (said, happened) in heads.items():
        predicted, observed, weight = column[said], column[happened], column["weight"]
        measured: dict[str, object] = {
            "predicted": float(np.average(predicted, weights=weight)),
            "observed": float(np.average(observed, weights=weight)),
        }
        if head != "value":
            curve = reliability(predicted, observed, weight, _BINS)
            measured |= {"ece": expected_calibration_error(curve), "curve": curve}
        out[head] = measured
    return out
