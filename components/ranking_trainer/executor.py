"""Trains the ranker on labelled candidate lists and exports it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import tensorflow as tf

from components import shop
from components.candidate_sampler.executor import AS_OF, tensor
from models import example_io
from models import features as F
from models.ranking import RankingModel
from models.retrieval import training_curves
from models.retriever import Retriever
from pipeline.config import Ranking
from pipeline.errors import DataError

HISTORY = "history.json"
_BATCH = 32
_ADAPT_ROWS = 400_000


def padded(table: pa.Table, column: str, default: object) -> np.ndarray:
    """A list column as a matrix [rows, longest], padded at the end."""
    size = example_io.lengths(table, column)
    values = example_io.flat(table, column)
    kind = object if isinstance(default, str) else values.dtype
    out = np.full((table.num_rows, max(int(size.max(initial=0)), 1)), default, kind)
    if len(values):
        out[np.arange(out.shape[1]) < size[:, None]] = values
    return out


def load_features(
    folder: str, retriever_at: Callable[[int], Retriever], contexts: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], Retriever]:
    """Reads labelled lists and computes their features with the serving graph.

    Args:
      folder: split folder of CandidateSampler's examples.
      retriever_at: gives the retriever of an `as_of`.
      contexts: context names.

    Returns:
      (`features` float32 [Q, N, F], `codes` name -> int32 [Q, N], `weight` and the labels
      `models.features.LABELS` float32 [Q, N]; a retriever).

    Raises:
      DataError: there is no list.
    """
    table = example_io.read_table(folder)
    if not table.num_rows:
        raise DataError(f"{folder}: no labelled list; nobody bought a candidate in the label window")
    moments = example_io.first(table, AS_OF, 0).astype(np.int64)
    parts: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
    order: list[np.ndarray] = []
    for as_of in np.unique(moments):
        retriever = retriever_at(int(as_of))

        def describe(
            inputs: dict[str, tf.Tensor],
            exclude: tf.Tensor,
            candidates: tf.Tensor,
            source: Retriever = retriever,
        ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
            _, features, codes = source.describe(
                inputs, source.not_excluded(exclude), source.positions(candidates)
            )
            return features, codes

        graph = tf.function(describe, reduce_retracing=True, autograph=False)
        chosen = np.flatnonzero(moments == as_of)
        order.append(chosen)
        for start in range(0, len(chosen), _BATCH):
            rows = table.take(pa.array(chosen[start : start + _BATCH]))
            inputs = {
                name: example_io.first(rows, name, "") for name in (F.USER_ID, *map(F.context, contexts))
            }
            inputs |= {name: padded(rows, name, "") for name in (F.HISTORY_ITEM_ID, F.HISTORY_EVENT_TYPE)}
            inputs[F.HISTORY_AGE_DAYS] = padded(rows, F.HISTORY_AGE_DAYS, 0.0).astype(np.float32)
            inputs[F.CONTEXT_TIMESTAMP] = example_io.first(rows, F.CONTEXT_TIMESTAMP, 0).astype(np.int64)
            features, codes = graph(
                {name: tensor(value) for name, value in inputs.items()},
                tensor(padded(rows, F.EXCLUDE_ITEM_ID, "")),
                tensor(padded(rows, F.CANDIDATE_ITEM_ID, "")),
            )
            parts.append((features.numpy(), {name: code.numpy() for name, code in codes.items()}))
    back = np.argsort(np.concatenate(order))
    out = {
        "features": np.concatenate([features for features, _ in parts])[back],
        "codes": {name: np.concatenate([codes[name] for _, codes in parts])[back] for name in parts[0][1]},
        **{name: padded(table, name, 0.0) for name in F.LABELS},
        "weight": padded(table, F.CANDIDATE_WEIGHT, 0.0),
    }
    if not np.isfinite(out["features"]).all():
        bad = np.unique(np.nonzero(~np.isfinite(out["features"]))[2])
        names = [retriever.pair_features.names[index] for index in bad]
        raise DataError(
            f"{folder}: features {names} are not finite; "
            "look for wrong prices, ages or timestamps in the events"
        )
    return out, retriever


def run(
    folder: str,
    retriever_at: Callable[[int], Retriever],
    contexts: tuple[str, ...],
    config: Ranking,
    model_folder: str,
    run_folder: str,
) -> str:
    """Trains and exports.

    Args:
      folder: CandidateSampler's train split.
      retriever_at: gives the retriever of an `as_of`.
      contexts: context names.
      config: the configuration's section.
      model_folder: Model artifact; gets `Format-Serving/` with the function `score`
        (features float32 [B, N, F], codes) -> logits float32 [B, N].
      run_folder: ModelRun artifact; gets `history.json`.

    Returns:
      A line for a person.
    """
    tf.keras.utils.set_random_seed(config.seed)
    data, retriever = load_features(folder, retriever_at, contexts)
    lists = len(data[F.LABEL])
    rng = np.random.default_rng(config.seed)
    order = rng.permutation(lists)
    held = order[: max(1, int(lists * config.holdout_share))]
    chosen = order[len(held) :]

    def dataset(rows: np.ndarray) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(lambda values: values[rows], data))

    model = RankingModel(data["features"].shape[-1], retriever.pair_features.code_sizes, config)
    real = data["features"][chosen][data["weight"][chosen] > 0]
    model.adapt(tf.constant(real[rng.permutation(len(real))[:_ADAPT_ROWS]]))
    batch = min(config.batch_size, len(chosen))
    steps = config.epochs * (len(chosen) // batch)
    model.compile(
        tf.keras.optimizers.Adam(
            tf.keras.optimizers.schedules.CosineDecay(config.learning_rate, max(steps, 1))
        )
    )
    training = (
        dataset(chosen).shuffle(len(chosen), seed=config.seed).batch(batch, drop_remainder=True).prefetch(2)
    )
    fitted = model.fit(
        training,
        validation_data=dataset(held).batch(min(config.batch_size, len(held))),
        epochs=config.epochs,
        verbose=0,
    )
    curves = training_curves(fitted.history)
    epochs = [
        {"epoch": index + 1} | {name: float(values[index]) for name, values in curves.items()}
        for index in range(config.epochs)
    ]
    tf.io.gfile.makedirs(run_folder)
    with tf.io.gfile.GFile(os.path.join(run_folder, HISTORY), "w") as file:
        json.dump({"epochs": epochs, "features": list(retriever.pair_features.names)}, file)
    _export(model, data["features"].shape[-1], list(data["codes"]), shop.model_folder(model_folder))
    last = epochs[-1]
    return (
        f"{len(chosen):,} lists of {data[F.LABEL].shape[1]}, {data['features'].shape[-1]} features, "
        f"{config.epochs} epochs, loss {last['loss']:.3f}, holdout {last['val_loss']:.3f}"
    )


def _export(model: RankingModel, width: int, codes: list[str], folder: str) -> None:
    module = tf.Module(name="ranker")
    module.model = model
    signature = [
        tf.TensorSpec([None, None, width], tf.float32, "features"),
        {name: tf.TensorSpec([None, None], tf.int32, name) for name in codes},
    ]
    module.score = tf.function(
        lambda features, codes: model({"features": features, "codes": codes}, training=False),
        input_signature=signature,
        autograph=False,
    )
    tf.saved_model.save(module, folder)
