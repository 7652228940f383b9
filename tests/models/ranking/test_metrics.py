"""What a sample says of the full list."""

import numpy as np
import pytest
from scipy import special

from models.ranking.metrics import estimated_ndcg


def test_ndcg_of_a_sample_estimates_that_of_the_full_list():
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(600, 60))
    label = (rng.random(logits.shape) < special.expit(2 * logits - 2)).astype(float)
    label[0] = 0
    full = estimated_ndcg(logits, label, np.ones(label.shape), 10)
    assert np.isnan(full[0])
    for row in range(1, 8):
        order = np.argsort(-logits[row])
        gain = sum(1 / np.log2(2 + rank) for rank in range(10) if label[row, order[rank]])
        ideal = sum(1 / np.log2(2 + rank) for rank in range(min(10, int(label[row].sum()))))
        assert full[row] == pytest.approx(gain / ideal)
    kept = (label > 0) | (rng.random(label.shape) < 0.4)
    weight = np.where(label > 0, 1, 2.5) * kept
    sampled = estimated_ndcg(np.where(kept, logits, 99), label, weight, 10)
    assert np.nanmean(sampled) == pytest.approx(np.nanmean(full), abs=0.02)
    assert np.nanmean(estimated_ndcg(logits, label, kept * 1.0, 10)) > np.nanmean(full) + 0.05
