"""The ranker's training: what a seed fixes."""

import numpy as np
import pytest
import tensorflow as tf

from models.data.stored_rows import StoredRows
from models.ranking import training
from schema import names as F
from schema.config import Ranking

LISTS, SIZE, FEATURES = 24, 6, 5


@pytest.fixture(scope="module")
def data():
    """Labelled lists of eight users."""
    rng = np.random.default_rng(6)
    features = rng.normal(size=(LISTS, SIZE, FEATURES)).astype(np.float32)
    stored = StoredRows(features.shape, np.float32)
    stored[np.arange(LISTS)] = features
    bought = (features[..., 0] + rng.normal(size=(LISTS, SIZE)) > 0.8).astype(np.float32)
    lists = dict.fromkeys(F.LABELS, bought) | {"weight": np.ones((LISTS, SIZE), np.float32)}
    lists |= {"features": stored, "codes": {"kind": rng.integers(0, 4, (LISTS, SIZE)).astype(np.int32)}}
    return lists | {F.USER_ID: np.asarray([f"u{number % 8}" for number in range(LISTS)], object)}


@pytest.mark.slow  # traces two training steps
def test_the_same_seed_gives_the_same_ranker_whatever_ran_before(data):
    config = Ranking(epochs=2, batch_size=4, hidden=[8], dropout=0.3, holdout_share=0.25)
    logits, curves = [], []
    for before, seed in ((1, 17), (2, 17), (2, 18)):
        tf.keras.utils.set_random_seed(before)
        fitted = training.fit(data, {"kind": 4}, config.model_copy(update={"seed": seed}), 2)
        logits.append(fitted.model.score(data["features"][np.arange(LISTS)], data["codes"]).numpy())
        curves.append(fitted.epochs)
    np.testing.assert_array_equal(logits[0], logits[1])
    assert curves[0] == curves[1]
    assert np.abs(logits[0] - logits[2]).max() > 1e-3  # else nothing is drawn
