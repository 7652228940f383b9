"""What the encoder of queries learns: to find items whose vectors stay as they are.

The items keep the vectors of the text encoder, so nothing of the catalogue is encoded again. A query is
drawn to the text encoder's own vector of it, which keeps a shorter encoder in the same space (embedding
distillation, as Kim et al., "EmbedDistill: A geometric knowledge distillation for information
retrieval", 2023), also where it is written with a typing error. Where right items are known, one of them
is also told from others: those of the batch's other queries and hard negatives, which words or vectors
rank high (sampled softmax; Xiong et al., "Approximate nearest neighbor negative contrastive learning for
dense text retrieval", ICLR 2021).

Keras 3; see `models.text`.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from models.text.encoder import TextEncoder
from models.text.losses import Batch

_NEVER = -1e9


class QueryAlignment:
    """The loss of a query encoder.

    Args:
      encoder: to be trained.
      temperature: what cosines are divided by.
      contrast: weight of telling right items from others; drawing near has weight 1.
    """

    def __init__(self, encoder: TextEncoder, temperature: float, contrast: float) -> None:
        self._encoder = encoder
        self._temperature, self._contrast = temperature, contrast

    @property
    def trained(self) -> list[keras.Variable]:
        """Weights to train."""
        return self._encoder.trained

    def loss(self, batch: Batch) -> tf.Tensor:
        """The mean loss of a batch (scalar).

        Args:
          batch: `ids` int32 [M, L], word pieces of the queries as they were typed; `target` float32
            [M, E], unit vectors of the queries as they were meant; `item` float32 [M, 1 + H, E], unit
            vectors of a right item and of hard negatives; `row` int32 [M, 1 + H], which items those
            are, negative for none (a query whose right item is none is only drawn near); `right`
            int32 [M, W], all right items of each query, -1 for padding: none of them is a negative.
        """
        ids = batch["ids"]
        encoder = self._encoder
        vectors = encoder.pool(encoder.upper(encoder.lower(ids), ids, training=True), ids)
        near = tf.reduce_sum(tf.square(vectors - batch["target"]), -1)
        row = tf.reshape(batch["row"], [-1])
        items = tf.reshape(batch["item"], [-1, vectors.shape[-1]])
        logits = tf.matmul(vectors, items, transpose_b=True) / self._temperature
        own = tf.range(tf.shape(ids)[0]) * tf.shape(batch["row"])[1]
        itself = tf.range(tf.size(row)) == own[:, None]
        right = tf.reduce_any(row[None, :, None] == batch["right"][:, None], -1)
        logits = tf.where(itself | ((row >= 0) & ~right), logits, _NEVER)
        known = tf.cast(batch["row"][:, 0] >= 0, tf.float32)
        told = tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits) * known
        told = tf.reduce_sum(told) / tf.maximum(tf.reduce_sum(known), 1.0)
        return tf.reduce_mean(near) + self._contrast * told


def tokenized(encoder: TextEncoder, texts: np.ndarray, batch_size: int = 1024) -> np.ndarray:
    """Word pieces of texts, int32 [N, `encoder.length`], padded with 0.

    Args:
      encoder: knows the word pieces.
      texts: object (str) [N].
      batch_size: texts at a time.
    """
    out = np.zeros((len(texts), encoder.length), np.int32)
    for start in range(0, len(texts), batch_size):
        part = encoder.tokenize(tf.constant(texts[start : start + batch_size].tolist(), tf.string)).numpy()
        out[start : start + len(part), : part.shape[1]] = part
    return out
