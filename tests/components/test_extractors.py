"""Labelled lists as rows for TFMA: which candidates are rows, and of what."""

import numpy as np
import pytest
import tensorflow_model_analysis as tfma

from components.evaluator.extractors import unrolled
from schema import names as F


def lists(*predictions):
    """Two lists of three candidates, the last of them padding, as TFMA extracts them."""
    spoken = [{F.P_PURCHASE: np.array(each, np.float32)} for each in predictions]
    return {
        tfma.FEATURES_KEY: {
            F.CANDIDATE_WEIGHT: np.array([[1, 2, 1], [4, 1, 0]], np.float32),
            F.SLICE_PREFIX + "task": np.array([["all"], ["novel"]]),
            F.SLICE_PREFIX + "department": np.array([["a", "b", "c"], ["d", "e", ""]]),
            "history_item": np.zeros((2, 9)),
        },
        tfma.LABELS_KEY: np.array([[1, 0, 0], [0, 1, 0]], np.float32),
        tfma.PREDICTIONS_KEY: spoken[0] if len(spoken) == 1 else dict(zip("ab", spoken, strict=True)),
        tfma.EXAMPLE_WEIGHTS_KEY: np.array([[1, 2, 1], [4, 1, 0]], np.float32),
    }


def departments(extracts):
    return extracts[tfma.FEATURES_KEY][F.SLICE_PREFIX + "department"][:, 0].tolist()


def test_every_real_candidate_is_a_row_and_takes_its_slices_along():
    rows = unrolled(lists([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
    assert departments(rows) == ["a", "b", "c", "d", "e"]
    np.testing.assert_allclose(
        rows[tfma.PREDICTIONS_KEY][F.P_PURCHASE][:, 0], [0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-6
    )
    assert rows[tfma.LABELS_KEY][:, 0].tolist() == [1, 0, 0, 0, 1]
    assert rows[tfma.EXAMPLE_WEIGHTS_KEY][:, 0].tolist() == [1, 2, 1, 4, 1]
    assert rows[tfma.FEATURES_KEY][F.SLICE_PREFIX + "task"][:, 0].tolist() == ["all"] * 3 + ["novel"] * 2
    assert "history_item" not in rows[tfma.FEATURES_KEY]


@pytest.mark.parametrize("withdrawn_by", [0, 1])
def test_a_withdrawn_item_is_a_row_of_neither_model(withdrawn_by):
    """Log loss of probability 0 has no value, and both models are judged on the same rows."""
    probabilities = [np.full((2, 3), 0.5), np.full((2, 3), 0.5)]
    probabilities[withdrawn_by][0, 1] = 0
    rows = unrolled(lists(*probabilities))
    assert departments(rows) == ["a", "c", "d", "e"]
    assert {len(rows[tfma.PREDICTIONS_KEY][model][F.P_PURCHASE]) for model in "ab"} == {4}


def test_a_probability_that_is_no_number_stays_to_be_refused():
    rows = unrolled(lists([[0.1, np.nan, 0.3], [0.4, 0.5, 0.6]]))
    assert departments(rows) == ["a", "b", "c", "d", "e"]
