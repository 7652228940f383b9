"""Reasons' words with facts filled in, inside the graph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import tensorflow as tf

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Templates(tf.Module):
    """Templates of reasons, filled for many items at once.

    Args:
      words: key of a reason -> its template; a {fact} in it is filled in.
      facts: names of what can be filled in.
      fact_of: (key, placeholder) -> name of the fact that the placeholder stands for there, where that
        is not the placeholder itself.

    Attributes:
      number: key -> its number, as `fill` takes it.
    """

    def __init__(
        self, words: Mapping[str, str], facts: Sequence[str], fact_of: Mapping[tuple[str, str], str]
    ) -> None:
        super().__init__(name="templates")
        self.number = {key: number for number, key in enumerate(words)}
        self._names = tuple(facts)
        parts = {key: _PLACEHOLDER.split(template) for key, template in words.items()}
        most = max(len(part) // 2 for part in parts.values())
        self._literals = tf.constant(
            [part[::2] + [""] * (most + 1 - len(part[::2])) for part in parts.values()]
        )
        # 0 stands for nothing
        self._facts = tf.constant(
            [
                [1 + self._names.index(fact_of.get((key, name), name)) for name in part[1::2]]
                + [0] * (most + 1 - len(part) // 2)
                for key, part in parts.items()
            ]
        )

    @tf.Module.with_name_scope
    def fill(self, reason: tf.Tensor, facts: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Texts of reasons, string [B, K].

        Args:
          reason: int32 [B, K], numbers of templates.
          facts: string [B, K] each, by name; one that is not given is "".
        """
        nothing = tf.fill(tf.shape(reason), "")
        known = tf.stack([nothing, *(facts.get(name, nothing) for name in self._names)], -1)
        filled = tf.gather(known, tf.gather(self._facts, reason), batch_dims=2)
        parts = tf.stack([tf.gather(self._literals, reason), filled], -1)
        flat = tf.concat([tf.shape(reason), [2 * self._literals.shape[1]]], 0)
        return tf.strings.reduce_join(tf.reshape(parts, flat), -1)
