"""Boosted trees whose log-odds are added to the network's: the two err in different places.

Grown by scikit-learn's histogram gradient boosting (after LightGBM: Ke et al., "LightGBM: a highly
efficient gradient boosting decision tree", NeurIPS 2017), computed in the graph by matrix products: all
comparisons of all trees at once, then a product with each tree's paths, which says which leaf is reached
(Nakandala et al., "A tensor compiler for unified machine learning prediction serving", OSDI 2020). No
branch depends on the data, and all ops are stock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from schema.config import Ranking

_ROWS = 600_000  # at most: 8 bytes a feature each while trees grow
_LEAST = 100  # rows of a leaf
_RATE = 0.1
_FEATURES = 0.5  # share that a split may look at
_AT_ONCE = 512  # rows whose comparisons are in memory: a hundred trees of 16 leaves take 20 KB a row
_NEVER = 1e9  # conditions that no path has


def grow(
    features: np.ndarray, bought: np.ndarray, weight: np.ndarray, config: Ranking
) -> TreeEnsemble | None:
    """Trees that tell purchases from other candidates.

    Args:
      features: float32 [rows, F].
      bought: bool [rows].
      weight: float32 [rows], above 0.
      config: `trees`, `tree_leaves` and `seed`.

    Returns:
      The ensemble; None where no tree is wanted, or no tree has anything to tell.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # takes a second, and servers need none

    if not config.trees or bought.all() or not bought.any():
        return None
    booster = HistGradientBoostingClassifier(
        learning_rate=_RATE,
        max_iter=config.trees,
        max_leaf_nodes=config.tree_leaves,
        min_samples_leaf=_LEAST,
        l2_regularization=1.0,
        max_features=_FEATURES,
        early_stopping=False,
        random_state=config.seed,
    )
    booster.fit(features, bought, weight)
    grown = [stage[0].nodes for stage in booster._predictors]
    split = [nodes for nodes in grown if len(nodes) > 1]  # one leaf is a constant, which calibration fits
    return TreeEnsemble(split, config.tree_leaves) if split else None


def chosen_rows(weight: np.ndarray, bought: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Which candidates of labelled lists the trees learn from.

    Args:
      weight: float32 [Q, N], 0 for padding.
      bought: bool [Q, N].
      rng: draws the others.

    Returns:
      bool [Q, N]: all that was bought, and as many others as may be held; the share of those that were
      kept, by which their weight is divided.
    """
    real = weight > 0
    positives = int((bought & real).sum())
    others = int((~bought & real).sum())
    kept = min(max(_ROWS - positives, positives) / max(others, 1), 1.0)
    return real & (bought | (rng.random(weight.shape) < kept)), kept


class TreeEnsemble(tf.Module):
    """The sum of trees' leaves.

    Args:
      trees: nodes of each tree as scikit-learn keeps them: `feature_idx`, `num_threshold` (left if not
        above it), `left`, `right`, `is_leaf` and `value`.
      leaves: L, of a tree at most.
    """

    def __init__(self, trees: list[np.ndarray], leaves: int) -> None:
        super().__init__(name="trees")
        count, splits = len(trees), max(leaves - 1, 1) + 1  # the last is always taken: it adds to each path
        feature = np.zeros((count, splits), np.int32)
        threshold = np.full((count, splits), np.inf, np.float32)
        path = np.zeros((count, leaves, splits), np.float32)
        path[:, :, -1] = -_NEVER
        value = np.zeros((count, leaves), np.float32)
        for tree, nodes in enumerate(trees):
            inner = np.flatnonzero(~nodes["is_leaf"].astype(bool))
            feature[tree, : len(inner)] = nodes["feature_idx"][inner]
            threshold[tree, : len(inner)] = _rounded_down(nodes["num_threshold"][inner])
            for leaf, (node, steps) in enumerate(_leaves(nodes, inner)):
                value[tree, leaf] = nodes["value"][node]
                path[tree, leaf, -1] = 1 - sum(side > 0 for _, side in steps)
                for split, side in steps:
                    path[tree, leaf, split] = side
        self._feature = frozen_table(feature.reshape(-1), tf.int32)
        self._threshold = frozen_table(threshold.reshape(-1, 1))
        self._path = frozen_table(path)
        self._value = frozen_table(value.reshape(1, -1), name="leaves")
        self._shape = count, splits

    def __call__(self, features: tf.Tensor) -> tf.Tensor:
        """Log-odds, float32 [R, 1], of float32 [R, F]."""
        count = tf.shape(features)[0]

        def step(start: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            part = self._sums(features[start : start + _AT_ONCE])
            return start + _AT_ONCE, tf.concat([done, part], 0)

        shapes = tf.TensorShape([]), tf.TensorShape([None, 1])
        first = tf.constant(0), tf.zeros([0, 1])
        return tf.while_loop(lambda start, _: start < count, step, first, shapes, parallel_iterations=1)[1]

    def _sums(self, features: tf.Tensor) -> tf.Tensor:
        # a row a feature: a comparison then reads neighbours in memory
        seen = tf.gather(tf.transpose(features), self._feature)
        below = tf.cast(seen <= self._threshold, tf.float32)
        below = tf.reshape(below, [*self._shape, -1])
        # 1 for each condition "not above" that holds, -1 for each "above" that does not, and the last split's
        # sum: 1 for the leaf that is reached, and at most 0 for each other.
        reached = tf.nn.relu(tf.matmul(self._path, below))
        return tf.transpose(tf.matmul(self._value, tf.reshape(reached, [self._value.shape[1], -1])))


def _leaves(nodes: np.ndarray, inner: np.ndarray) -> list[tuple[int, list[tuple[int, float]]]]:
    """Each leaf with the splits above it (places in `inner`) and the side taken: 1 left, -1 right."""
    place = {int(node): at for at, node in enumerate(inner)}
    found: list[tuple[int, list[tuple[int, float]]]] = []
    waiting: list[tuple[int, list[tuple[int, float]]]] = [(0, [])]
    while waiting:
        node, steps = waiting.pop()
        if node not in place:
            found.append((node, steps))
            continue
        for side, child in ((1.0, "left"), (-1.0, "right")):
            waiting.append((int(nodes[child][node]), [*steps, (place[node], side)]))
    return found


def _rounded_down(threshold: Any) -> np.ndarray:
    """float32 thresholds that compare with float32 numbers as those of float64 do."""
    rounded = threshold.astype(np.float32)
    above = rounded.astype(np.float64) > threshold
    return np.where(above, np.nextafter(rounded, np.float32(-np.inf)), rounded)
