"""Fine-tuning of the text encoder on texts that belong together.

A training batch is a list of texts and of *groups*, in which every text has a role. A text is
encoded once and may be in many groups: what BERT costs is what limits training.

* `MEMBER`s are partners: two products bought together, a query and the product it led to, a
  text and its misspelt self. Each is a positive of the mean of the other members of its
  group, against the members of the other groups of the *global* batch: the sampled softmax of
  van den Oord et al., "Representation learning with contrastive predictive coding" (2018),
  symmetric and with a learned, clipped temperature as in CLIP (Radford et al., ICML 2021).
* `CONTEXT`s are a sample of what a household buys, and its `TARGET` is another product that it
  bought. The target is a positive of the mean of its contexts, against `NEGATIVE`s drawn
  evenly from the catalogue. Even negatives, because the vectors shall tell which of all
  products will be bought, by whom: negatives drawn by popularity would cancel what makes a
  product sell.

With :mod:`models.text.encoder` the only code that touches Keras 3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import keras
import keras_nlp
import numpy as np
import tensorflow as tf

from models.text.encoder import TextEncoder
from models.text.groups import CONTEXT, MEMBER, NEGATIVE, TARGET, Groups
from models.text.noise import noisy
from schema.errors import ConfigError

_MAX_LOG_SCALE = float(np.log(100.0))  # CLIP's clip
_MASKED_SHARE = 0.15  # of the word pieces, after Devlin et al., "BERT" (2019)
_NEVER = -1e9


Batch = Mapping[str, tf.Tensor]


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The distribution strategy of a configuration's word.

    Args:
      name: "none" (TensorFlow's default), "one_device" (the first GPU, else the CPU), "mirrored"
        (all GPUs of this machine), "multi_worker" (the machines of `TF_CONFIG`; must be the
        first thing that TensorFlow does in the process) or "tpu" (the TPU of this machine).

    Raises:
      ConfigError: the hardware or the surroundings are not there.
    """
    try:
        if name == "one_device":
            return tf.distribute.OneDeviceStrategy(
                "/GPU:0" if tf.config.list_logical_devices("GPU") else "/CPU:0"
            )
        if name == "mirrored":
            return tf.distribute.MirroredStrategy()
        if name == "multi_worker":
            return tf.distribute.MultiWorkerMirroredStrategy()
        if name == "tpu":
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect("local")
            return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, KeyError, tf.errors.OpError) as error:
        raise ConfigError(f"text_encoder.strategy: '{name}' cannot start here ({error})") from error
    return tf.distribute.get_strategy()


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


class LoweredTexts:
    """Texts with what enters the encoder's trained layers, computed once.

    Training sees a text many times and never changes the layers below: their output is kept.
    On two cores this is what makes fine-tuning affordable.

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
        # padding costs as much as text: texts of one length together
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


def distributed(batch: Batch, strategy: tf.distribute.Strategy) -> Batch:
    """A global batch as the replicas of a strategy take it: each an equal part, in order.

    Raises:
      ConfigError: the batch cannot be divided by the number of replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batch
    part = {}
    for name, values in batch.items():
        part[name], left = divmod(int(values.shape[0]), replicas)
        if left:
            raise ConfigError(
                f"text_encoder: a batch with {values.shape[0]} rows of '{name}' cannot be divided by the "
                f"{replicas} replicas of text_encoder.strategy; change pairs, households, contexts, targets "
                "or negatives"
            )

    def share(context: tf.distribute.ValueContext) -> Batch:
        number = context.replica_id_in_sync_group
        return {name: values[number * part[name] :][: part[name]] for name, values in batch.items()}

    return strategy.experimental_distribute_values_from_function(share)


def make_step(
    model: GroupContrast | MaskedLanguageModel,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    jit_compile: bool,
) -> Callable[[Batch], tf.Tensor]:
    """One training step on one (distributed) batch, as a compiled function that gives the loss.

    With several replicas XLA compiles nothing here (collectives between replicas cannot be
    inside a compiled cluster on CPU and GPU); a TPU compiles the whole step anyway.
    """
    weights = model.trained
    optimizer.build(weights)

    def update(batch: Batch) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weight.value for weight in weights])
            loss = model.loss(batch)
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        optimizer.apply(gradients, weights)
        return loss

    if jit_compile and strategy.num_replicas_in_sync == 1:
        update = tf.function(update, autograph=False, jit_compile=True)

    @tf.function(autograph=False)
    def step(batch: Batch) -> tf.Tensor:
        parts = strategy.run(update, args=(batch,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, parts, None)

    return step


def make_optimizer(learning_rate: float, steps: int) -> keras.optimizers.Optimizer:
    """AdamW: a tenth of the steps to warm up, then a cosine down to nothing."""
    warmup = max(1, steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), warmup_target=learning_rate, warmup_steps=warmup
    )
    return keras.optimizers.AdamW(schedule, weight_decay=0.01)


@dataclasses.dataclass
class Fit:
    """What training found.

    Attributes:
      history: one entry a validation: `step`, `loss` (mean since the last one), the measures.
      best: the entry whose weights the encoder now has.
    """

    history: list[dict[str, float]]
    best: dict[str, float]


def fit(
    step: Callable[[Batch], tf.Tensor],
    batches: Iterable[Batch],
    weights: list[keras.Variable],
    validate: Callable[[], dict[str, float]],
    measure: str,
    every: int,
    patience: int,
) -> Fit:
    """Trains until `measure` stops improving, and restores the best weights.

    Args:
      step: from :func:`make_step`.
      batches: one a step; training ends with them.
      weights: restored to their best values at the end.
      validate: measures of the weights as they are.
      measure: the one to maximise; also measured before the first step, so that weights are
        never worse than at the start.
      every: steps between two validations.
      patience: validations without a new best before training stops.
    """
    history = [{"step": 0.0} | validate()]
    best, kept, losses = history[0], [weight.numpy() for weight in weights], []
    for count, batch in enumerate(batches, 1):
        losses.append(step(batch))
        if count % every:
            continue
        history.append({"step": float(count), "loss": float(np.mean(losses))} | validate())
        losses = []
        if history[-1][measure] > best[measure]:
            best, kept = history[-1], [weight.numpy() for weight in weights]
        elif history[-1]["step"] - best["step"] >= patience * every:
            break
    for weight, value in zip(weights, kept, strict=True):
        weight.assign(value)
    return Fit(history, best)
