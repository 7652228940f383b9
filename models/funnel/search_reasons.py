"""Why a search shows an item: which words it has, and what the user did with it."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from models.funnel.calendar import MOST_DAYS, Calendar
from models.funnel.own_history import OwnHistory
from models.funnel.templates import Templates
from models.funnel.wording import wording
from models.search.searcher import Found
from schema import names as F
from schema.config import Serving

# Of the item and the query; later ones overrule.
_OF_QUERY = ("search_words", "search_meaning", "search_behaviour", "search_match", "search_exact")
# The same with what the user did with the item before; the first is the words alone.
_OF_USER = ("search_bought", "search_bought_once", "search_looked_at")
#: What the words of a reason may name, besides `when`.
FACTS = ("query", "words", "match", "times")


class SearchReasons(tf.Module):
    """Reasons of found items. Every one holds in the request's own data and in the item's words.

    Args:
      bought: bool [event types], which event type codes mean "bought".
      history_length: the most events that are read.
      config: the configuration's section.
    """

    def __init__(self, bought: tf.Tensor, history_length: int, config: Serving) -> None:
        super().__init__(name="search_reasons")
        self._bought = bought
        phrases, reasons = config.phrases, config.reasons
        self._calendar = Calendar(phrases, config.time_zone)
        self._times = tf.constant(wording(phrases.times, phrases.plural, history_length))
        words = {key: getattr(reasons, key) for key in (*_OF_QUERY, "search_browse")}
        self._of_query = Templates(words, ("query", "words"), {})
        after = {"nothing": "{match}"} | {key: getattr(reasons, key) for key in _OF_USER}
        when = {(key, "when"): "seen" if key == "search_looked_at" else "last" for key in _OF_USER}
        self._of_user = Templates(after, ("match", "times", "last", "seen"), when)

    @tf.Module.with_name_scope
    def __call__(
        self,
        request: Mapping[str, tf.Tensor],
        now: tf.Tensor,
        row: tf.Tensor,
        exact: tf.Tensor,
        matching: tf.Tensor,
        source: tf.Tensor,
        query: tf.Tensor,
        found: Found,
    ) -> tf.Tensor:
        """string [B, K].

        Args:
          request: from `RequestParser`.
          now: int64 [B], unix seconds, 0 = unknown.
          row: int32 [B, K], the listed items; 0 where there is none.
          exact, matching, source: of the listed items, as in `Found`.
          query: string [B], as it was typed, fit to be repeated.
          found: from the searcher.
        """
        understood = tf.where(found.corrected_query != "", found.corrected_query, query)
        # "milk under 5" is about milk: no item has the other words
        priced = tf.reduce_any(found.price_range >= 0, 1)
        words = tf.where(found.relaxed | priced, found.relaxed_query, understood)
        number = self._of_query.number
        reason = tf.fill(tf.shape(row), number["search_words"])
        for key, holds in (
            ("search_meaning", source == F.SEMANTIC),
            ("search_behaviour", source == F.BEHAVIOUR),
            ("search_match", matching),
            ("search_exact", exact),
            ("search_browse", matching & (found.relaxed_query == "")[:, None]),
        ):
            reason = tf.where(holds, number[key], reason)
        match = self._of_query.fill(
            reason,
            {"query": _repeated(understood, row), "words": _repeated(words, row)},
        )
        return self._with_history(request, now, row, match)

    def _with_history(
        self, request: Mapping[str, tf.Tensor], now: tf.Tensor, row: tf.Tensor, match: tf.Tensor
    ) -> tf.Tensor:
        own = OwnHistory(request, self._bought).of(row)
        occasions, number = own["occasions"], self._of_user.number
        seen = own["seen"] <= MOST_DAYS
        reason = tf.where(seen, number["search_looked_at"], number["nothing"])
        reason = tf.where(occasions > 0, number["search_bought_once"], reason)
        reason = tf.where(occasions > 1, number["search_bought"], reason)
        last, looked = tf.unstack(self._calendar.when(tf.stack([own["last"], own["seen"]], -1), now), axis=-1)
        times = tf.gather(self._times, tf.cast(occasions, tf.int32))
        facts = {"match": match, "times": times, "last": last, "seen": looked}
        return self._of_user.fill(reason, facts)


def _repeated(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """`values` [B] once for each element of `like` [B, K]."""
    return tf.broadcast_to(values[:, None], tf.shape(like))
