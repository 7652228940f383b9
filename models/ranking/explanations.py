"""What speaks for and against a candidate: a score shared out among groups of features.

Shapley values: Shapley, "A value for n-person games", 1953; for models with a baseline:
Sundararajan and Najmi, "The many Shapley values for model explanation", ICML 2020. The players
are groups of features, few enough that all their coalitions are evaluated: the values are exact,
the same every time, and add up to the score's difference to the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from models.ranking.features.block import GROUPS

_BLOCK = 8  # candidates whose coalitions are scored at once
ITEM = "item"  # the category codes: which item it is

Score = Callable[[tf.Tensor, Mapping[str, tf.Tensor]], tf.Tensor]


def groups_of(of_feature: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The groups that explain, and which features each has.

    Args:
      of_feature: the group of each pair feature (`PairFeatures.groups`).

    Returns:
      (names of the groups that have features, those of `GROUPS` first, and `item`, which has the
      category codes, last; bool [groups, features]).
    """
    found = [*(group for group in GROUPS if group in of_feature), *of_feature]
    groups = (*dict.fromkeys(group for group in found if group != ITEM), ITEM)
    return groups, np.asarray([[group == own for own in of_feature] for group in groups], bool)


def shapley_weights(players: int) -> np.ndarray:
    """float64 [2^G, G]: a game's worths, by coalition, times this are its Shapley values.

    Coalition c has player g if bit g of c is set.
    """
    out = np.zeros((2**players, players))
    for coalition in range(2**players):
        size = coalition.bit_count()
        for player in range(players):
            if coalition >> player & 1:
                share = math.factorial(size - 1) * math.factorial(players - size)
                out[coalition, player] = share / math.factorial(players)
            else:
                share = math.factorial(size) * math.factorial(players - size - 1)
                out[coalition, player] = -share / math.factorial(players)
    return out


class Explainer(tf.Module):
    """Shares the ranker's log-odds out among groups of features.

    Args:
      score: the ranker: (features float32 [B, N, F], codes) to log-odds [B, N].
      of_feature: the group of each of the F features, see :func:`groups_of`.
      baseline: float32 [F], the features that stand for a group outside the coalition; codes
        become 0 there.
    """

    def __init__(
        self,
        score: Score,
        of_feature: Sequence[str],
        baseline: np.ndarray,
    ) -> None:
        super().__init__(name="explainer")
        self.groups, member = groups_of(of_feature)
        self._score = score
        coalition = np.arange(2 ** len(self.groups))[:, None] >> np.arange(len(self.groups)) & 1
        self._present = tf.constant((coalition @ member).astype(bool))  # [2^G, F]
        self._with_codes = tf.constant(coalition[:, -1:].astype(np.int32))  # [2^G, 1]
        self._weights = tf.constant(shapley_weights(len(self.groups)), tf.float32)
        self._baseline = tf.constant(baseline, tf.float32)

    @tf.Module.with_name_scope
    def __call__(
        self, features: tf.Tensor, codes: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Attributions.

        Args:
          features: float32 [B, N, F].
          codes: name -> int32 [B, N].

        Returns:
          (log-odds float32 [B, N]; the baseline's log-odds float32 [B, N]; attribution float32
          [B, N, G], whose sum over the groups is the difference of the two).
        """
        shape = tf.shape(features)[:2]
        rows = shape[0] * shape[1]
        blocks = (rows + _BLOCK - 1) // _BLOCK
        pad = [[0, blocks * _BLOCK - rows]]
        flat = tf.pad(tf.reshape(features, [-1, features.shape[-1]]), [*pad, [0, 0]])
        flat_codes = {name: tf.pad(tf.reshape(code, [-1]), pad) for name, code in codes.items()}

        def worths(block: tf.Tensor) -> tf.Tensor:
            """float32 [_BLOCK, 2^G]; a few candidates at a time, as each becomes 2^G rows."""
            start = block * _BLOCK
            own = tf.where(self._present[None], flat[start : start + _BLOCK, None], self._baseline)
            own_codes = {
                name: code[start : start + _BLOCK, None] * self._with_codes[:, 0]
                for name, code in flat_codes.items()
            }
            return self._score(own, own_codes)

        worth = tf.map_fn(worths, tf.range(blocks), fn_output_signature=tf.float32, parallel_iterations=1)
        worth = tf.reshape(worth, [-1, self._present.shape[0]])[:rows]
        attribution = tf.reshape(tf.matmul(worth, self._weights), tf.concat([shape, [len(self.groups)]], 0))
        return tf.reshape(worth[:, -1], shape), tf.reshape(worth[:, 0], shape), attribution
