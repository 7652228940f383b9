"""What the text encoder learns from: texts that belong together, and hidden word pieces.

A training batch is a list of texts and of *groups*, in which every text has a role. A text is
encoded once and may be in many groups: training costs what BERT costs.

* `MEMBER`s are partners: two products bought together, a query and the product it led to, a
  text and its misspelt self. Each is a positive of the mean of the other members of its
  group, against the members of the other groups of the *global* batch: the sampled softmax of
  van den Oord et al., "Representation learning with contrastive predictive coding" (2018),
  symmetric and with a learned, clipped temperature as in CLIP (Radford et al., ICML 2021).
* `CONTEXT`s are a sample of what a household buys, and its `TARGET` is another product that it
  bought. The target is a positive of the mean of its contexts, against `NEGATIVE`s drawn
  evenly from the catalogue. Even, because the vectors must tell which of all products will
  be bought, and by whom: negatives drawn by popularity would cancel what makes a product sell.

Keras 3; see `models.text`.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import keras_nlp
import numpy as np
import tensorflow as tf

from models.text.encoder import TextEncoder
from models.text.groups import CONTEXT, MEMBER, NEGATIVE, TARGET

_MAX_LOG_SCALE = float(np.log(100.0))  # CLIP's clip
_NEVER = -1e9

Batch = Mapping[str, tf.Tensor]


class _Temperature(keras.layers.Layer):
    """The logarithm of the factor on cosines, learned and clipped."""

    def __init__(self, temperature: float) -> None:
        super().__init__(name="temperature", dtype="float32")
        self.log_scale = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(float(np.log(1 / temperature))),
            constraint=lambda value: keras.ops.clip(value, 0.0, _MAX_LOG_SCALE),
            name="log_scale",
        )


class GroupContrast:
    """The contrastive loss of an encoder over batches of grouped texts.

    Create it in the scope of the strategy that trains it.

    Args:
      encoder: to be trained.
      temperature: what cosines are divided by at the start.
    """

    def __init__(self, encoder: TextEncoder, temperature: float) -> None:
        self._encoder = encoder
        self._temperature = _Temperature(temperature)

    @property
    def trained(self) -> list[keras.Variable]:
        """Weights to train."""
        return [*self._encoder.trained, *self._temperature.trainable_variables]

    @property
    def temperature(self) -> float:
        """What cosines are divided by now."""
        return float(np.exp(-self._temperature.log_scale.numpy()))

    def loss(self, batch: Batch) -> tf.Tensor:
        """This replica's part of the mean loss of the global batch, in nats (scalar).

        Args:
          batch: `hidden` [M, L, dim] from the encoder's lower part; `ids` int32 [M, L]; `text`
            int32 [M], equal for equal texts; `place` int32 [N], which of the texts of the global
            batch a member of a group is; `group` int32 [N], unique in the global batch (any number
            for negatives); `role` int32 [N].
        """
        ids = batch["ids"]
        replica = tf.distribute.get_replica_context()

        def gather(values: tf.Tensor) -> tf.Tensor:
            return values if replica.num_replicas_in_sync == 1 else replica.all_gather(values, 0)

        vectors = gather(self._encoder.pool(self._encoder.upper(batch["hidden"], ids, training=True), ids))
        texts = gather(batch["text"])
        every = {name: gather(batch[name]) for name in ("place", "group", "role")}
        every["text"] = tf.gather(texts, every["place"])
        mine = {name: batch[name][:, None] for name in ("group", "role")}
        mine["text"] = tf.gather(texts, batch["place"])[:, None]
        # a product and no tf.gather: whose gradient is sparse, which that of all_gather does not take
        candidates = tf.matmul(tf.one_hot(every["place"], tf.shape(vectors)[0]), vectors)
        size = tf.size(batch["place"])
        itself = (
            tf.range(tf.shape(candidates)[0])
            == (size * replica.replica_id_in_sync_group + tf.range(size))[:, None]
        )

        partner = (every["role"] == MEMBER) | (every["role"] == CONTEXT)
        positive = (mine["role"] == MEMBER) | (mine["role"] == TARGET)
        query = positive & partner & (mine["group"] == every["group"]) & ~itself
        queries = tf.math.l2_normalize(tf.matmul(tf.cast(query, tf.float32), candidates), -1)

        member_pair = (mine["role"] == MEMBER) & (every["role"] == MEMBER)
        target_negative = (mine["role"] == TARGET) & (every["role"] == NEGATIVE)
        # an equal text elsewhere is no negative, nor is the rest of the group
        negative = (member_pair | target_negative) & (mine["text"] != every["text"]) & ~query
        scale = tf.exp(tf.convert_to_tensor(self._temperature.log_scale))
        logits = scale * tf.matmul(queries, candidates, transpose_b=True)
        logits = tf.where(negative | itself, logits, _NEVER)
        asks = tf.reduce_any(query, 1)
        own = tf.reduce_sum(tf.where(itself, logits, 0.0), 1)
        each = tf.where(asks, tf.reduce_logsumexp(logits, 1) - own, 0.0)
        total = tf.reduce_sum(gather(tf.cast(asks, tf.float32)))
        return tf.reduce_sum(each) / tf.maximum(total, 1.0)


class MaskedLanguageModel:
    """BERT's pre-training task: say which word pieces were hidden.

    Create it in the scope of the strategy that trains it.

    Args:
      encoder: to be trained.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._head = keras_nlp.layers.MaskedLMHead(
            token_embedding=encoder.backbone.token_embedding, dtype=encoder.backbone.dtype_policy
        )
        self._head.build((None, None, encoder.dim))

    @property
    def trained(self) -> list[keras.Variable]:
        """Weights to train."""
        known = {id(weight) for weight in self._encoder.trained}
        own = [
            weight
            for weight in self._head.trainable_variables
            if id(weight) not in known and "token_embedding" not in weight.path
        ]
        return [*self._encoder.trained, *own]

    def loss(self, batch: Batch) -> tf.Tensor:
        """This replica's part of the mean cross-entropy of the hidden pieces, in nats (scalar).

        Args:
          batch: `hidden` [N, L, dim] from the encoder's lower part and `ids` int32 [N, L], with
            pieces hidden; `position`, `label` int32 [N, M]: where they are and what they
            were; `weight` float32 [N, M], 0 for padding.
        """
        last = self._encoder.upper(batch["hidden"], batch["ids"], training=True)
        logits = tf.cast(self._head(last, mask_positions=batch["position"]), tf.float32)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], logits)
        replica = tf.distribute.get_replica_context()
        total = tf.reduce_sum(batch["weight"])
        if replica.num_replicas_in_sync > 1:
            total = replica.all_reduce(tf.distribute.ReduceOp.SUM, total)
        return tf.reduce_sum(each * batch["weight"]) / tf.maximum(total, 1.0)
