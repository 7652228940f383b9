"""What the user viewed, clicked or put in the cart and did not buy: of the candidate, its categories, at all.

A shop whose every event is a purchase has none of these features.
"""

from __future__ import annotations

import tensorflow as tf

from models.ranking.features.block import ACTIVITY, OWN_VIEWS, Column, FeatureBlock
from models.ranking.features.category import CategoryCodes
from models.ranking.features.context import NEVER_DAYS, PairContext, for_each_candidate, once
from models.retrieval.sources.candidate_sources import CandidateSources
from models.retrieval.sources.own_events import LOOKED, OPEN
from models.retrieval.sources.segments import segment_extreme
from schema import names as F

_FAR = 1e9


def interest(sources: CandidateSources, codes: CategoryCodes) -> list[FeatureBlock]:
    """Of each type of event that is no purchase: how many of them are *open* (the item was not bought since)
    and how long ago the last one was, of the candidate; how long ago the last one was, open or not, of each
    of its categories; how many there are and how long ago the last one was, of the user.

    An open event of a type that puts something in the cart says that it is there now. Counts are log1p, ages
    log1p of days, `NEVER_DAYS` where there is none.

    Args:
      sources: the candidate sources, which know the types.
      codes: the items' categories.
    """
    types = sources.types
    if not types.others:
        return []
    names = types.others

    @once
    def of_type(pairs: PairContext) -> list[tf.Tensor]:
        """bool [B, L] each: which events are of the type."""
        code, real = pairs.request[F.HISTORY_EVENT_TYPE], pairs.history_row > 0
        return [real & tf.gather(types.codes(name), code) for name in names]

    def of_candidate(pairs: PairContext) -> tf.Tensor:
        assert pairs.found.looked is not None
        values = tf.unstack(pairs.found.looked.of(pairs.position), axis=-1)
        counts, ages = values[len(LOOKED) :: 2], values[len(LOOKED) + 1 :: 2]
        ages = [tf.where(count > 0, age, NEVER_DAYS) for count, age in zip(counts, ages, strict=True)]
        return tf.math.log1p(tf.stack([values[LOOKED.index(OPEN)], *counts, *ages], -1))

    def of_categories(pairs: PairContext) -> tf.Tensor:
        size, kinds = sum(codes.sizes.values()), len(codes.sizes)
        mine = codes.of(pairs.history_row)
        mine = tf.where(mine > 0, mine + codes.first, size)  # [B, L, categories]
        batch, entries = tf.shape(mine)[0], tf.shape(mine)[1] * kinds
        place = tf.reshape(mine, [batch, entries])
        known = codes.of_candidates(pairs) > 0
        columns = []
        for chosen in of_type(pairs):
            age = tf.where(chosen, pairs.request[F.HISTORY_AGE_DAYS], _FAR)
            spread = tf.reshape(tf.tile(age[:, :, None], [1, 1, kinds]), [batch, entries])
            last = codes.look_up(segment_extreme(spread, place, size + 1, largest=False), pairs)
            columns.append(tf.where(known, tf.minimum(last, NEVER_DAYS), NEVER_DAYS))
        return tf.math.log1p(tf.concat(columns, -1))

    def of_user(pairs: PairContext) -> tf.Tensor:
        age = pairs.request[F.HISTORY_AGE_DAYS]
        counts = [tf.reduce_sum(tf.cast(chosen, tf.float32), 1) for chosen in of_type(pairs)]
        ages = [tf.reduce_min(tf.where(chosen, age, NEVER_DAYS), 1) for chosen in of_type(pairs)]
        values = tf.stack([*counts, *(tf.minimum(last, NEVER_DAYS) for last in ages)], -1)
        return for_each_candidate(tf.math.log1p(values)[:, None], pairs)

    blocks = [
        FeatureBlock(
            [
                Column("own_open_decay_14", OWN_VIEWS),
                *(Column(f"own_log_open_{name}", OWN_VIEWS) for name in names),
                *(Column(f"own_log_last_age_{name}", OWN_VIEWS) for name in names),
            ],
            of_candidate,
        )
    ]
    if codes.sizes:
        columns = [Column(f"{kind}_log_last_age_{name}", OWN_VIEWS) for name in names for kind in codes.sizes]
        blocks.append(FeatureBlock(columns, of_categories))
    user = [Column(f"user_log_events_{name}", ACTIVITY) for name in names]
    user += [Column(f"user_log_last_age_{name}", ACTIVITY) for name in names]
    return [*blocks, FeatureBlock(user, of_user)]
