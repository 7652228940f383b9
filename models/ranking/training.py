"""Trains a ranker on labelled lists, calibrates it and exports it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from models.data.parameters import parameters
from models.ranking import trees
from models.ranking.losses import PURCHASE
from models.ranking.metrics import estimated_ndcg
from models.ranking.ranker import RankingModel
from models.retrieval.two_tower import training_curves
from schema import names as F
from schema.config import Ranking
from schema.errors import DataError

TOP = 20  # of the NDCG by which epochs and trials are compared
_ADAPT_ROWS = 400_000
_LAST_RATE = 0.1  # of the learning rate: weights that stand still have no mean to gain from
_MEMORY = 3.0  # how many times the memory of the weights' mean (1 / (1 - momentum) steps) fits into training


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained ranker.

    Attributes:
      model: calibrated on the held-out lists.
      epochs: curves, one dictionary an epoch, of the weights that the epoch ended with.
      lists: how many it learned from.
      ndcg: NDCG@20 of the held-out lists by the weights that are kept.
    """

    model: RankingModel
    epochs: list[dict[str, float]]
    lists: int
    ndcg: float


def fit(data: Mapping[str, Any], code_sizes: Mapping[str, int], config: Ranking, of_item: int = 0) -> Fitted:
    """Trains a ranker and calibrates it on held-out users.

    Args:
      data: `features` float32 [Q, N, F] in a file (`StoredRows`), `codes` name -> int32 [Q, N],
        `weight` and the labels `schema.names.LABELS` float32 [Q, N], `user_id` object [Q].
      code_sizes: category -> vocabulary size.
      config: the section `ranking`.
      of_item: how many of the features, the first ones, are the item's alone.

    Raises:
      DataError: too few users to hold some out.
    """
    tf.keras.utils.set_random_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    # a user's lists of other windows and tasks have labels in common: all or none are held out
    users = np.unique(data[F.USER_ID])
    if len(users) < 2:
        raise DataError(
            f"labelled lists of {len(users)} user; training needs at least 2, to hold one out: "
            "give more data or longer label windows (ranking.window_days)"
        )
    left_out = rng.permutation(users)[: max(1, int(len(users) * config.holdout_share))]
    is_held = np.isin(data[F.USER_ID], left_out)
    held, chosen = np.flatnonzero(is_held), np.flatnonzero(~is_held)
    features = data["features"]
    with tf.device("CPU"):
        lists = tf.nest.map_structure(
            tf.constant,
            {name: values for name, values in data.items() if name not in (F.USER_ID, "features")},
        )

    def gather(row: tf.Tensor) -> dict[str, Any]:
        # the features are most of the memory, and stay where they are
        numbers = tf.numpy_function(lambda rows: features[rows], [row], tf.float32, stateful=False)
        numbers = tf.ensure_shape(numbers, [None, *features.shape[1:]])
        return tf.nest.map_structure(lambda values: tf.gather(values, row), lists) | {"features": numbers}

    def batches(rows: tf.data.Dataset, size: int, drop_remainder: bool = False) -> tf.data.Dataset:
        return rows.batch(size, drop_remainder=drop_remainder).map(gather).prefetch(2)

    model = RankingModel(features.shape[-1], code_sizes, config, of_item)
    which, place = np.nonzero(data["weight"][chosen] > 0)
    some = rng.permutation(len(which))[:_ADAPT_ROWS]
    rows = chosen[which[some]], place[some]
    model.adapt(features.picked(*rows), data[F.LABEL][rows] > 0)
    batch = min(config.batch_size, len(chosen))
    steps = config.epochs * (len(chosen) // batch)
    rate = tf.keras.optimizers.schedules.CosineDecay(config.learning_rate, max(steps, 1), _LAST_RATE)
    # What is kept is an exponential mean of the weights, mostly of the last third of the steps: each step
    # ends at a distance from the minimum that its batch decides (averaging: Polyak and Juditsky, SIAM J.
    # Control and Optimization 1992).
    model.compile(
        tf.keras.optimizers.Adam(rate, use_ema=True, ema_momentum=max(1 - _MEMORY / max(steps, 1), 0.0))
    )
    shuffled = tf.data.Dataset.from_tensor_slices(chosen).shuffle(len(chosen), seed=config.seed)
    training = batches(shuffled, batch, drop_remainder=True)
    validation = batches(tf.data.Dataset.from_tensor_slices(held), min(config.batch_size, len(held)))
    quality: list[float] = []
    # Else the step would create variables, and be traced twice for it: that takes seconds.
    model(next(iter(validation)))
    model.optimizer.build(model.trainable_variables)

    def measure(*_: object) -> None:
        per_list = [
            estimated_ndcg(model(part)[PURCHASE].numpy(), part[F.LABEL].numpy(), part["weight"].numpy(), TOP)
            for part in validation
        ]
        per_list = np.concatenate(per_list)
        quality.append(float(np.nanmean(per_list)) if np.isfinite(per_list).any() else 0.0)

    fitted = model.fit(
        training,
        validation_data=validation,
        epochs=config.epochs,
        callbacks=[tf.keras.callbacks.LambdaCallback(on_epoch_end=measure)],
        verbose=0,
    )
    curves = training_curves(fitted.history) | {f"val_ndcg@{TOP}": quality}
    epochs = [
        {"epoch": index + 1} | {name: float(values[index]) for name, values in curves.items()}
        for index in range(config.epochs)
    ]
    if config.trees:
        weight, bought = data["weight"][chosen], data[F.LABEL][chosen] > 0
        grown, kept = trees.chosen_rows(weight, bought, rng)
        row, place = np.nonzero(grown)
        bought, weight = bought[row, place], weight[row, place]
        weight = np.where(bought, weight, weight / kept)
        model.grow_trees(features.picked(chosen[row], place), bought, weight)
    measure()  # the mean of the weights took their place at the end; and the trees count
    model.calibrate(validation)
    return Fitted(model, epochs, len(chosen), quality[-1])


def export(model: RankingModel, width: int, of_item: int, codes: list[str], folder: str) -> None:
    """Saves the functions `score`, `heads`, `item_parts` and `score_with` of a `RankingModel`.

    Args:
      model: trained and calibrated.
      width: F, how many numbers describe a pair.
      of_item: S, how many of them, the first ones, are the item's alone.
      codes: category names.
      folder: of the SavedModel.
    """

    def numbers(*shape: int | None) -> tf.TensorSpec:
        return tf.TensorSpec(shape, tf.float32)

    def categories(*shape: int | None) -> dict[str, tf.TensorSpec]:
        return {name: tf.TensorSpec(shape, tf.int32, name) for name in codes}

    module = tf.Module(name="ranker")
    functions = []

    def add(name: str, function: Callable[..., Any], *signature: Any) -> None:
        setattr(module, name, tf.function(function, input_signature=signature, autograph=False))
        functions.append(getattr(module, name).get_concrete_function())

    add("score", model.score, numbers(None, None, width), categories(None, None))
    add("heads", model.predict_heads, numbers(None, None, width), categories(None, None))
    add("item_parts", model.item_parts, numbers(None, of_item), categories(None))
    parts = [numbers(None, None, part.shape[-1]) for part in functions[-1].structured_outputs]
    add("score_with", model.score_with, numbers(None, None, width - of_item), *parts)
    module.parameters = parameters(model, functions)
    tf.saved_model.save(module, folder)
