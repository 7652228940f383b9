"""What is known of the item alone: the snapshot's statistics, the same for every request."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.ranking.features.block import OFFER, POPULARITY, Column, FeatureBlock
from models.ranking.features.context import PairContext
from models.retrieval.item_statistics import EXPOSURE_DAYS, PRICES, PROMOTION_EFFECTS, exposure_statistic
from models.retrieval.snapshot import Snapshot


def item_statistics(snapshot: Snapshot, channels: Iterable[str]) -> FeatureBlock:
    """The snapshot's statistics of candidates.

    Price and promotions are the shop's offer; every other statistic counts events, and so says how
    popular an item is.

    Args:
      snapshot: item tables.
      channels: exposure channels of the shop.
    """
    offers = {"log_price", *PROMOTION_EFFECTS}
    offers |= {name for name in snapshot.stat_names if name.startswith(PRICES)}
    offers |= {exposure_statistic(name, days) for name in channels for days in EXPOSURE_DAYS}
    stats = snapshot.stats[snapshot.candidate_row]
    # the last row is that of an empty place
    by_position = frozen_table(np.concatenate([stats, np.zeros_like(stats[:1])]), tf.float32)

    def compute(pairs: PairContext) -> tf.Tensor:
        return tf.gather(by_position, pairs.position)

    return FeatureBlock(
        [Column(name, OFFER if name in offers else POPULARITY) for name in snapshot.stat_names],
        compute,
        [by_position],
    )
