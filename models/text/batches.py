"""Training batches of the text encoder: what enters its trained layers, computed once for each text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from models.text.encoder import TextEncoder
from models.text.groups import MEMBER, Groups
from models.text.losses import Batch
from models.text.noise import noisy
from schema.errors import ConfigError

_MASKED_SHARE = 0.15  # of the word pieces, after Devlin et al., "BERT" (2019)


class LoweredTexts:
    """Texts with what enters the encoder's trained layers, computed once.

    Training sees a text many times and never changes the layers below, so their output is kept:
    without that, fine-tuning on two cores would take too long.

    Args:
      base: an encoder of its own, not distributed: the lower layers are the same in all.
      texts: object (str) [T].
      used: bool [T], the texts to keep (the others must not be asked for).
      batch_size: texts a step.
    """

    def __init__(self, base: TextEncoder, texts: np.ndarray, used: np.ndarray, batch_size: int) -> None:
        self._base = base
        self._texts = tf.constant(texts.tolist())
        self._batch_size = batch_size
        kept = np.flatnonzero(used)
        self._place = tf.constant(np.cumsum(used) - 1, tf.int32)
        ids = np.zeros((len(kept), base.length), np.int32)
        for start in range(0, len(kept), batch_size):
            part = base.tokenize(tf.gather(self._texts, kept[start : start + batch_size])).numpy()
            ids[start : start + len(part), : part.shape[1]] = part
        lower = tf.function(base.lower, reduce_retracing=True, autograph=False)
        hidden = np.zeros((*ids.shape, base.dim), lower(tf.constant(ids[:1])).numpy().dtype)
        for chosen, length in self._by_length(ids):
            hidden[chosen, :length] = lower(tf.constant(ids[chosen, :length])).numpy()
        self._upper: dict[TextEncoder, tf.types.experimental.GenericFunction] = {}
        with tf.device("/CPU:0"):
            self._ids, self._hidden = tf.constant(ids), tf.constant(hidden)

    def _by_length(self, ids: np.ndarray) -> Iterable[tuple[np.ndarray, int]]:
        # padding costs as much as text, so texts of one length go together
        size = (ids > 0).sum(1)
        order = np.argsort(size, kind="stable")
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            yield chosen, int(size[chosen].max())

    def encode(self, encoder: TextEncoder, texts: np.ndarray) -> np.ndarray:
        """Vectors of some texts (int [N]) by the encoder's weights as they are, float32 [N, dim]."""
        if encoder not in self._upper:
            self._upper[encoder] = tf.function(
                lambda hidden, ids: encoder.pool(encoder.upper(hidden, ids), ids),
                reduce_retracing=True,
                autograph=False,
            )
        place = self._place.numpy()[texts]
        ids = self._ids.numpy()[place]
        out = np.zeros((len(texts), encoder.dim), np.float32)
        for chosen, length in self._by_length(ids):
            hidden = tf.gather(self._hidden, place[chosen])[:, :length]
            out[chosen] = self._upper[encoder](hidden, tf.constant(ids[chosen, :length])).numpy()
        return out

    def group_batches(self, groups: Groups, noise: float, seed: int, fixed_shape: bool) -> tf.data.Dataset:
        """Batches for :class:`GroupContrast`.

        Args:
          groups: which texts.
          noise: share of the members written carelessly (`models.text.noise`).
          seed: of the noise.
          fixed_shape: pad every batch to the longest text there may be: one program for XLA.
        """

        def assemble(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            place = tf.gather(self._place, batch["text"])
            ids, hidden = tf.gather(self._ids, place), tf.gather(self._hidden, place)
            if noise:
                clean = tf.gather(self._texts, batch["text"])
                written = noisy(clean, noise, tf.stack([step, seed]))
                member = tf.where(batch["role"] == MEMBER, batch["place"], tf.size(batch["text"]))
                own = tf.math.unsorted_segment_sum(tf.ones_like(member), member, tf.size(batch["text"]) + 1)
                new = tf.where((written != clean) & (own[:-1] > 0))
                ids, hidden = self._rewritten(ids, hidden, new, tf.gather_nd(written, new))
            return self._trimmed(batch | {"ids": ids, "hidden": hidden}, fixed_shape)

        return self._dataset(dataclasses.asdict(groups), assemble)

    def masked_batches(self, rows: np.ndarray, seed: int, fixed_shape: bool) -> tf.data.Dataset:
        """Batches for :class:`MaskedLanguageModel` of texts (int [S, N])."""

        def assemble(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            ids = tf.gather(self._ids, tf.gather(self._place, batch["text"]))
            ids = self._trimmed({"ids": ids}, fixed_shape)["ids"]
            masked = mask_pieces(ids, self._base.vocabulary, tf.stack([step, seed]))
            return masked | {"hidden": self._base.lower(masked["ids"])}

        return self._dataset({"text": rows.astype(np.int32)}, assemble)

    def _dataset(self, plan: dict[str, np.ndarray], assemble: Callable[..., Batch]) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices(plan)
        numbered = tf.data.Dataset.zip((tf.data.Dataset.range(len(plan["text"]), output_type=tf.int32), rows))
        return numbered.map(assemble, num_parallel_calls=1).prefetch(2)

    def _rewritten(
        self, ids: tf.Tensor, hidden: tf.Tensor, where: tf.Tensor, texts: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        new = self._base.tokenize(texts)
        new = tf.pad(new, [[0, 0], [0, self._base.length - tf.shape(new)[1]]])
        new.set_shape([None, self._base.length])
        return (
            tf.tensor_scatter_nd_update(ids, where, new),
            tf.tensor_scatter_nd_update(hidden, where, self._base.lower(new)),
        )

    def _trimmed(self, batch: dict[str, tf.Tensor], fixed_shape: bool) -> dict[str, tf.Tensor]:
        if fixed_shape:
            return batch
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(batch["ids"] > 0, tf.int32), 1))
        return batch | {name: batch[name][:, :longest] for name in ("ids", "hidden") if name in batch}


def mask_pieces(ids: tf.Tensor, vocabulary: list[str], seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Hides 15 % of the word pieces: 8 of 10 become [MASK], 1 any piece, 1 stays as it is.

    Args:
      ids: int32 [N, L], padded with 0.
      vocabulary: word pieces by id.
      seed: int32 [2].

    Returns:
      `ids`, `position`, `label`, `weight` of :class:`MaskedLanguageModel`; M = 15 % of L, rounded up.

    Raises:
      ConfigError: the vocabulary has no [MASK].
    """
    if "[MASK]" not in vocabulary:
        raise ConfigError("text_encoder.masked_lm_steps: the preset's vocabulary has no [MASK] piece; use 0")
    special = tf.constant([vocabulary.index(word) for word in ("[PAD]", "[CLS]", "[SEP]")])
    shape = tf.shape(ids)
    ordinary = tf.reduce_all(ids[..., None] != special, -1)
    count = tf.cast(tf.math.ceil(_MASKED_SHARE * tf.cast(shape[1], tf.float32)), tf.int32)
    draw = tf.random.stateless_uniform(shape, seed)
    _, position = tf.math.top_k(tf.where(ordinary, draw, -1.0), count)
    label = tf.gather(ids, position, batch_dims=1)
    # a short text hides 15 % of its own pieces, but at least one
    own = tf.math.ceil(_MASKED_SHARE * tf.reduce_sum(tf.cast(ordinary, tf.float32), 1))
    weight = tf.cast(tf.range(count) < tf.cast(own, tf.int32)[:, None], tf.float32)
    kind = tf.random.stateless_uniform(tf.shape(position), seed + 1)
    other = tf.random.stateless_uniform(tf.shape(position), seed + 2, maxval=len(vocabulary), dtype=tf.int32)
    new = tf.where(kind < 0.8, vocabulary.index("[MASK]"), tf.where(kind < 0.9, other, label))
    new = tf.where(weight > 0, new, label)
    rows = tf.broadcast_to(tf.range(shape[0])[:, None], tf.shape(position))
    hidden = tf.tensor_scatter_nd_update(ids, tf.stack([rows, position], -1), new)
    return {"ids": hidden, "position": position, "label": label, "weight": weight}
