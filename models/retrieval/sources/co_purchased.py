"""What others bought together with the user's own items.

Item-based nearest neighbours after Sarwar et al., "Item-based collaborative filtering recommendation
algorithms", WWW 2001; `models.retrieval.snapshot` computes them.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.sources.base import Asked, FoundCandidates, Source, SourceTables
from models.retrieval.sources.segments import segment_extreme, segment_sum
from schema import names as F


class CoPurchased(Source):
    """Neighbours of the strongest own candidates; arguments as :class:`Source`.

    The pair features read its scores and the reasons its links, so it is there even where it is off.
    """

    def __init__(self, tables: SourceTables, size: int) -> None:
        super().__init__(tables, size)
        snapshot = tables.snapshot
        # of position C, which is no candidate: no neighbours, of weight 0
        none = np.full((1, snapshot.neighbour.shape[1]), self.count, np.int32)
        self._neighbour = frozen_table(np.concatenate([snapshot.neighbour, none]))
        self._neighbour_weight = frozen_table(
            np.concatenate([snapshot.neighbour_weight, np.zeros_like(none, np.float32)])
        )

    def links(self, seed: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The neighbours of own candidates.

        Args:
          seed: int32 [B, S], positions; C where there is none.
          weight: float32 [B, S], their decayed counts.

        Returns:
          (int32 [B, S, K] positions, C where there are no more; float32 [B, S, K], what each adds to
          its neighbour's score, not negative).
        """
        value = tf.gather(self._neighbour_weight, seed) * tf.math.log1p(weight)[..., None]
        return tf.gather(self._neighbour, seed), value

    def scores(self, neighbour: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """float32 [B, C + 1], the sums of what :meth:`links` gave for each candidate."""
        batch, size = tf.shape(neighbour)[0], self.count + 1
        total = segment_sum(tf.reshape(value, [batch, -1, 1]), tf.reshape(neighbour, [batch, -1]), size)
        return tf.reshape(total, [batch, size])

    def find(self, asked: Asked) -> tf.Tensor:
        """The neighbours with the largest scores; see the base class."""
        score, neighbour = asked.co_purchased * asked.free, asked.neighbour
        batch, entries = tf.shape(neighbour)[0], neighbour.shape[1] * neighbour.shape[2]
        neighbour = tf.reshape(neighbour, [batch, entries])
        # a neighbour of several own items counts where it stands first
        index = tf.repeat(tf.range(entries)[None], batch, 0)
        first = segment_extreme(index, neighbour, self.count + 1, largest=False)
        once = tf.cast(tf.gather(first, neighbour, batch_dims=1) == index, tf.float32)
        value = tf.gather(score, neighbour, batch_dims=1)
        found = self.best(neighbour, once * value, min(self.size, entries))
        return tf.pad(found, [[0, 0], [0, max(self.size - entries, 0)]], constant_values=self.count)

    def dense_scores(self, found: FoundCandidates) -> tf.Tensor:
        """Sums of the links; see the base class."""
        return found.scores[F.CO_PURCHASED][:, : self.count]

    @tf.Module.with_name_scope
    def strongest_link(self, found: FoundCandidates, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The own item that speaks most for each candidate.

        Args:
          found: the requests' candidates.
          position: int32 [B, N].

        Returns:
          (int32 [B, N] position of the own item, bool [B, N] whether there is one).
        """
        neighbour, value = self.links(found.seed, found.seed_weight)
        hit = neighbour[:, None] == position[:, :, None, None]  # [B, N, S, K]
        # values are not negative; a product is several times faster than `where`
        of_seed = tf.reduce_max(tf.cast(hit, tf.float32) * value[:, None], -1)
        best = tf.argmax(of_seed, -1, output_type=tf.int32)
        return tf.gather(found.seed, best, batch_dims=1), tf.reduce_max(of_seed, -1) > 0
