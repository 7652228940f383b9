"""What speaks for and against a candidate: a score shared out among groups of features.

Shapley values: Shapley, "A value for n-person games", 1953; for models with a baseline:
Sundararajan and Najmi, "The many Shapley values for model explanation", ICML 2020. The players
are groups of features, few enough that all their coalitions are evaluated: the values are exact,
the same every time, and add up to the score's difference to the baseline.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

_BLOCK = 8  # candidates whose coalitions are scored at once
ITEM = "item"  # the category codes: which item it is
OTHER = "other"  # what no pattern names

Score = Callable[[tf.Tensor, Mapping[str, tf.Tensor]], tf.Tensor]


def groups_of(
    names: Sequence[str], code_names: Sequence[str], channels: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """The groups that explain, and which features each has.

    Args:
      names: the pair features (see `models.ranking.features`).
      code_names: category codes; they are the group `item`.
      channels: exposure channels of the shop.

    Returns:
      (names of the groups that have features, bool [groups, features]; `item` is the last row).
    """
    codes, shown = "|".join(map(re.escape, code_names)), "|".join(map(re.escape, channels))
    patterns = {
        "own_purchases": r"own_.*|buy_again_.*",
        "goes_with": r"co_purchased_.*",
        "taste": (rf"({codes})_(all|decay_\d+|share)|" if codes else "") + "text_similarity",
        "match": r"two_tower_.*|new_items_.*|learned_score|collaborative_score",
        "offer": r".*price.*" + (rf"|log_({shown})_\d+" if shown else ""),
        "activity": r"user_.*",
        "popularity": r"(log_)?(lines|users|trend|share|repeat|last|first|cycle|trending)(_.*)?",
    }
    of_feature = [
        next((group for group, pattern in patterns.items() if re.fullmatch(pattern, name)), OTHER)
        for name in names
    ]
    found = [group for group in (*patterns, OTHER) if group in of_feature]
    member = np.asarray([[group == own for own in of_feature] for group in (*found, ITEM)], bool)
    return (*found, ITEM), member


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
      names, code_names, channels: see :func:`groups_of`.
      baseline: float32 [F], the features that stand for a group outside the coalition; codes
        become 0 there.
    """

    def __init__(
        self,
        score: Score,
        names: Sequence[str],
        code_names: Sequence[str],
        channels: Sequence[str],
        baseline: np.ndarray,
    ) -> None:
        super().__init__(name="explainer")
        self.groups, member = groups_of(names, code_names, channels)
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
