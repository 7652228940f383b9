"""Platt scaling and the reliability curve against known truths."""

import numpy as np
import pytest
from scipy import special

from models.ranking import calibration


def drawn(slope, offset, rows=40_000, seed=1):
    rng = np.random.default_rng(seed)
    logit = rng.normal(-2, 1.5, rows)
    return logit, (rng.random(rows) < special.expit(slope * logit + offset)).astype(float)


@pytest.mark.parametrize(("slope", "offset"), [(1, 0), (0.5, -1), (2, 1.5)])
def test_platt_finds_the_truth(slope, offset):
    logit, label = drawn(slope, offset)
    found = calibration.fit_platt(logit, label, np.ones(len(logit)))
    np.testing.assert_allclose(found, (slope, offset), atol=0.08)


def test_weights_undo_the_sampling():
    """Negatives kept with probability 0.1 and weighted by 10 give the fit of everything."""
    logit, label = drawn(0.8, -0.5, rows=200_000)
    kept = (label > 0) | (np.random.default_rng(2).random(len(label)) < 0.1)
    weight = np.where(label > 0, 1.0, 10.0)
    everything = calibration.fit_platt(logit, label, np.ones(len(label)))
    found = calibration.fit_platt(logit[kept], label[kept], weight[kept])
    np.testing.assert_allclose(found, everything, atol=0.05)
    np.testing.assert_allclose(calibration.fit_platt(logit, label, weight * kept), found, atol=1e-3)
    assert abs(calibration.fit_platt(logit[kept], label[kept], np.ones(kept.sum()))[1] - found[1]) > 0.5


def test_the_slope_stays_positive_and_few_labels_stay_near_the_identity():
    logit, label = drawn(-1, 0)
    assert 0 < calibration.fit_platt(logit, label, np.ones(len(logit)))[0] < 0.1
    assert calibration.fit_platt(np.zeros(0), np.zeros(0), np.zeros(0)) == (1, 0)
    slope, offset = calibration.fit_platt(np.asarray([3.0]), np.asarray([0.0]), np.ones(1))
    assert 0.3 < slope < 1
    assert -1 < offset < 0


def test_reliability_and_ece_equal_loops():
    rng = np.random.default_rng(3)
    probability = rng.random(1000).round(2)  # with ties
    label = (rng.random(1000) < probability**2).astype(float)
    weight = rng.choice([0.0, 1.0, 4.0], 1000)
    curve = calibration.reliability(probability, label, weight, 10)
    rows = sorted((p, y, w) for p, y, w in zip(probability, label, weight, strict=True) if w)
    total = sum(w for _, _, w in rows)
    assert sum(row["weight"] for row in curve) == pytest.approx(total)
    assert len(curve) == 10
    assert max(row["weight"] for row in curve) < 1.4 * total / 10
    reached, error = 0.0, 0.0
    start = 0
    for row in curve:
        end = start
        while end < len(rows) and reached < sum(r["weight"] for r in curve[: curve.index(row) + 1]) - 1e-6:
            reached += rows[end][2]
            end += 1
        mine = rows[start:end]
        assert end == len(rows) or rows[end][0] > mine[-1][0]  # ties are not torn apart
        mass = sum(w for _, _, w in mine)
        predicted, observed = (sum(r[2] * r[i] for r in mine) / mass for i in (0, 1))
        assert (row["weight"], row["predicted"], row["observed"]) == pytest.approx(
            (mass, predicted, observed)
        )
        error += mass / total * abs(predicted - observed)
        start = end
    assert calibration.expected_calibration_error(curve) == pytest.approx(error)
    assert error > 0.1  # p^2 is not p


def test_a_perfect_model_is_calibrated_and_nothing_is_nothing():
    logit, label = drawn(1, 0, rows=300_000)
    curve = calibration.reliability(special.expit(logit), label, np.ones(len(logit)), 15)
    assert calibration.expected_calibration_error(curve) < 0.005
    assert [row["predicted"] for row in curve] == sorted(row["predicted"] for row in curve)
    assert calibration.reliability(np.zeros(3), np.zeros(3), np.zeros(3), 5) == []
    assert calibration.expected_calibration_error([]) == 0
