"""What the heads promise, against what happened.

Measured on every candidate of a sample of users who came back in the window, whether or not they
bought one: CandidateSampler's split `full`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from components.common.candidate_lists import padded, request_inputs, tensor
from models.data import example_io
from models.ranking.calibration import curve, equal_mass, expected_calibration_error
from schema import names as F
from schema.config.serving import EVALUATED_ROWS

_BINS = 20  # of the reliability curve
_DRAWS = 16  # of what could have happened
_LEAST = 1e-7  # probability whose logarithm is taken, as in Keras


def measure(model: Any, folder: str, contexts: tuple[str, ...]) -> dict[str, object]:
    """What the heads said of every candidate of some users, and what happened.

    Args:
      model: a loaded SavedModel, asked through its signature `rank`.
      folder: CandidateSampler's split `full`.
      contexts: context names.

    Returns:
      `users`, `candidates`; of the heads `purchase` and `repeat` the means `predicted` and `observed`
      and what :func:`compared` gives; of `value` the means.
    """
    table = example_io.read_table(folder)
    rows: dict[str, list[np.ndarray]] = {}
    for start in range(0, table.num_rows, EVALUATED_ROWS):
        part = table.slice(start, EVALUATED_ROWS)
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
            measured |= compared(predicted, observed, weight)
        out[head] = measured
    return out


def compared(predicted: np.ndarray, observed: np.ndarray, weight: np.ndarray) -> dict[str, object]:
    """How far probabilities are from what happened.

    Args:
      predicted, observed, weight: float64 [R]; probabilities, 0 or 1, weights above 0.

    Returns:
      `curve`, the reliability curve in bins of equal mass; `ece`, its expected calibration error;
      `ece_of_chance`, the error that the same probabilities would show on average if they were
      exactly right: a bin with few purchases is off by chance (after Broecker and Smith, "Increasing
      the reliability of reliability diagrams", 2007); `log_loss` and `log_loss_of_rate`, that of a
      model that says the mean of `observed` of everything.
    """
    bin_of = equal_mass(predicted, weight, _BINS)  # once for all draws: it sorts
    happened = curve(predicted, observed, weight, bin_of)
    rng = np.random.default_rng(0)
    draws = ((rng.random(len(predicted)) < predicted).astype(np.float64) for _ in range(_DRAWS))
    by_chance = [expected_calibration_error(curve(predicted, drawn, weight, bin_of)) for drawn in draws]
    rate = np.full_like(predicted, np.average(observed, weights=weight))
    return {
        "ece": expected_calibration_error(happened),
        "ece_of_chance": float(np.mean(by_chance)),
        "log_loss": _log_loss(predicted, observed, weight),
        "log_loss_of_rate": _log_loss(rate, observed, weight),
        "curve": happened,
    }


def _log_loss(predicted: np.ndarray, observed: np.ndarray, weight: np.ndarray) -> float:
    said = np.clip(predicted, _LEAST, 1 - _LEAST)
    loss = -(observed * np.log(said) + (1 - observed) * np.log1p(-said))
    return float(np.average(loss, weights=weight))
