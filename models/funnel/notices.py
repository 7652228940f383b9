"""What an answer says about itself: that a word was corrected, or that words had to be dropped."""

from __future__ import annotations

import tensorflow as tf

from models.funnel.templates import Templates
from models.search.searcher import Found
from schema.config import Serving


class Notices(tf.Module):
    """Notices of searches.

    Args:
      config: the configuration's section.
    """

    def __init__(self, config: Serving) -> None:
        super().__init__(name="notices")
        self._templates = Templates({"none": "", **config.notices.model_dump()}, ("query", "words"), {})

    @tf.Module.with_name_scope
    def __call__(self, query: tf.Tensor, found: Found) -> tf.Tensor:
        """string [B]: "" where the items are what was asked for.

        Args:
          query: string [B], as it was typed, fit to be repeated.
          found: from the searcher.
        """
        number = self._templates.number
        corrected = found.corrected_query != ""
        notice = tf.where(corrected, number["corrected"], number["none"])
        notice = tf.where(found.relaxed, number["relaxed"], notice)
        no_word = (found.total == 0) | (found.relaxed & (found.relaxed_query == ""))
        notice = tf.where(no_word & (query != ""), number["similar"], notice)
        notice = tf.where(tf.reduce_any(found.valid, 1), notice, number["nothing"])
        words = tf.where(found.relaxed, found.relaxed_query, found.corrected_query)
        facts = {"query": query[:, None], "words": words[:, None]}
        return self._templates.fill(notice[:, None], facts)[:, 0]
