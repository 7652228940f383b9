"""What is on offer when the request is made and after it, and how much the user buys what is on offer.

A shop without planned channels (`exposures.planned`) has none of these features.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.ranking.features.block import OFFER, POPULARITY, Column, FeatureBlock
from models.ranking.features.category import CategoryCodes
from models.ranking.features.context import PairContext, for_each_candidate, is_purchase, once, rows
from models.retrieval.promotions import WEEKS
from models.retrieval.snapshot import Snapshot
from models.retrieval.sources.candidate_sources import CandidateSources
from schema import names as F

_PSEUDO_EVENTS = 5.0  # with which a user's share leans on the shop's, and that of a category on the user's


def promotions(snapshot: Snapshot, sources: CandidateSources, codes: CategoryCodes) -> list[FeatureBlock]:
    """Promotions of candidates by span of weeks, and the user's sensitivity to them.

    Of each span (`PromotionCalendar.names`): in how many of its weeks the candidate is promoted, by
    channel, and how many more that are than for its kind on the average. Of the coming ones, the lines to be
    gained, weeks x (lift - 1), of an item that promotions sell. And the lines that are to be expected of all
    weeks that are known ahead (of the last four, where none is), log1p.

    Args:
      snapshot: item tables.
      sources: the candidate sources, which have the calendar.
      codes: the items' categories.
    """
    known, calendar = snapshot.promotions, sources.calendar
    if not known.channels:
        return []
    table, usual = calendar.promoted, frozen_table(known.usual.ravel(), tf.float32)
    # [V, 3]: lines gained in a promoted week per usual line (or 0), lines of a week without promotion, and
    # lines more in a promoted one
    effect = np.stack([(known.lift - 1).clip(0), known.base, known.base * (known.lift - 1)], 1)
    effects, most = frozen_table(effect, tf.float32), calendar.names.index(calendar.longest)

    @once
    def current(pairs: PairContext) -> tf.Tensor:
        return calendar.week(pairs.request["now"])

    def spans(pairs: PairContext) -> list[tf.Tensor]:
        """float32 tensors [B, N, n]: of the channels, the kind, the gain and what is expected."""
        week, row = current(pairs), rows(pairs)
        shared = tf.gather(table, row)[..., None] & calendar.span_bits(week)[:, None, None]
        weeks = tf.cast(tf.raw_ops.PopulationCount(x=shared), tf.float32)  # [B, N, P, Q]
        general = weeks[:, :, 0]
        out = tf.unstack(weeks, axis=2)
        if known.within:
            code = codes.of_candidates(pairs)[..., list(codes.sizes).index(known.within)]
            place = (code * (WEEKS + 1))[..., None] + calendar.edges(week)[:, None]
            out.append(general - calendar.between(tf.gather(usual, place)))
        gain, base, more = tf.split(tf.gather(effects, row), 3, -1)
        expected = tf.math.log1p(calendar.weeks * base + general[..., most : most + 1] * more)
        return [*out, general[..., len(calendar.past) :] * gain, expected]

    kinds = [*known.channels, *(["above_usual"] if known.within else [])]
    columns = [Column(f"promoted_{kind}_{span}", OFFER) for kind in kinds for span in calendar.names]
    columns += [Column(f"promoted_gain_{span}", OFFER) for span in calendar.coming]
    columns.append(Column(f"log_lines_expected_{calendar.longest}", POPULARITY))

    @once
    def events(pairs: PairContext) -> tf.Tensor:
        """float32 [B, L, 2], of purchases: whether the week is known, whether the item was promoted in it."""
        now, age = pairs.request["now"], pairs.request[F.HISTORY_AGE_DAYS]
        bit = tf.where(is_purchase(pairs), calendar.event_bits(current(pairs), now, age), 0)
        promoted = tf.gather(table, pairs.history_row)[..., 0] & bit
        both = tf.stack([bit, promoted], -1)
        return tf.cast(both != 0, tf.float32)

    @once
    def of_user(pairs: PairContext) -> tf.Tensor:
        """float32 [B, 1, 1], the user's smoothed share of events with a promoted item."""
        count, promoted = tf.split(tf.reduce_sum(events(pairs), 1, keepdims=True), 2, -1)
        return (promoted + _PSEUDO_EVENTS * known.shop_share) / (count + _PSEUDO_EVENTS)

    sums = codes.summed(events) if codes.sizes else None

    def sensitivity(pairs: PairContext) -> tf.Tensor:
        """float32 [B, N, 1 + categories]."""
        share = of_user(pairs)
        if sums is None:
            return for_each_candidate(share, pairs)
        count, promoted = (codes.look_up(table, pairs) for table in sums(pairs))
        of_category = (promoted + _PSEUDO_EVENTS * share) / (count + _PSEUDO_EVENTS)
        return tf.concat([for_each_candidate(share, pairs), of_category], -1)

    names = ["user_promoted_share", *(f"{name}_promoted_share" for name in codes.sizes)]
    return [
        FeatureBlock(columns, spans, [usual, effects]),
        FeatureBlock([Column(name, OFFER) for name in names], sensitivity),
    ]
