"""The training loop of the text encoder: one compiled step, its optimizer, early stopping.

Keras 3; see `models.text`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from models.text.losses import Batch, GroupContrast, MaskedLanguageModel


def set_seed(seed: int) -> None:
    """Seeds what Keras 3 draws by itself, whatever ran in this process before.

    That is the first values of the low-rank updates, and dropout.
    """
    keras.utils.set_random_seed(seed)


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
