"""Trains the two towers on sessions and exports them."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import tensorflow as tf

from components.common import artifacts, curves
from components.retrieval_trainer import blending, training
from components.retrieval_trainer.examples import Examples, batches, item_rows, owned_rows, read_sessions
from models.data import arrays
from models.data.event_types import EventTypes
from models.data.item_table import ItemTable
from models.data.requests import Vocabularies
from models.retrieval import warm_start
from models.retrieval.towers import table_terms, trained_variables
from models.retrieval.two_tower import RetrievalModel
from schema import names as F
from schema.config import Collaborative, EventKinds, Retrieval


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a run reads.

    Attributes:
      folders: split folders of transformed sessions.
      items: the catalogue.
      item_vocabulary: items with an identity embedding.
      vocabularies: users, event types, contexts.
      kinds: what the event types mean.
      text_vectors: TextEncoderTrainer's text_vectors.npz.
      until: unix seconds; only sessions before it are learned from.
      previous: weights.npz of the model to start from; it must have learned from earlier events only.
    """

    folders: list[str]
    items: ItemTable
    item_vocabulary: list[str]
    vocabularies: Vocabularies
    kinds: EventKinds
    text_vectors: str
    until: int
    previous: str | None = None


def run(
    inputs: Inputs, config: Retrieval, collaborative: Collaborative, model_folder: str, run_folder: str
) -> str:
    """Trains and exports.

    Args:
      inputs: what is read.
      config: the section `retrieval`.
      collaborative: of the closed-form vectors that stand next to the learned ones.
      model_folder: Model artifact; gets `Format-Serving/` with the functions `query` and
        `item` and `scale`, what a query's learned part is multiplied by next to the
        collaborative one; `item_vectors.npz` (`vectors` float32 [V, D], every row's) and
        `query_vectors.npz` (the held-out sessions: `vectors` float32 [Q, D] with the scale in
        them, `history_row` and `history_event_type` int32 [Q, L], `history_age_days` float32
        [Q, L]); `weights.npz`, what a later model starts from (`models.retrieval.warm_start.Weights`).
      run_folder: ModelRun artifact; gets the training curves.

    Returns:
      A line for a person.

    Raises:
      DataError: too few sessions to train on, or a damaged `inputs.previous`.
    """
    tf.keras.utils.set_random_seed(config.seed)
    items, vocabularies = inputs.items, inputs.vocabularies
    sessions = read_sessions(inputs.folders, list(vocabularies.contexts), config.history_length)
    rows = item_rows(inputs.item_vocabulary, items)
    types = EventTypes.of(inputs.kinds, vocabularies.event_types)
    examples = Examples.of(sessions, rows, len(items), inputs.until, config, types)

    text = arrays.load(inputs.text_vectors)
    model = training.build(
        items, inputs.item_vocabulary, vocabularies, text, examples.probability, examples.known, config
    )
    model.compile(tf.keras.optimizers.Adam(config.learning_rate))
    owned = owned_rows(sessions, rows, len(vocabularies.users) + 1, inputs.until)
    taught = batches(
        examples.wanted, examples.training, rows, vocabularies, config, True, owned, examples.known, types
    )
    holdout = batches(examples.measured, examples.holdout, rows, vocabularies, config, training=False)
    terms = table_terms(inputs.item_vocabulary, items, vocabularies)
    warm, started = training.start(model, next(iter(holdout)), terms, inputs.previous)
    epochs = training.fit(model, taught, holdout, examples.known, warm, config)
    curves.write(run_folder, epochs)

    vectors = training.encode_items(model.item_tower, np.arange(len(items), dtype=np.int32))
    arrays.save(os.path.join(model_folder, artifacts.ITEM_VECTORS), {"vectors": vectors})
    # what CandidateIndex measures its search with: requests that no tower learned from
    queries = _queries(model, holdout)
    weighed = batches(examples.measured, examples.weighed, rows, vocabularies, config, training=False)
    scale = blending.blend(examples, _queries(model, weighed)["vectors"], vectors, collaborative)
    queries["vectors"] *= scale
    arrays.save(os.path.join(model_folder, artifacts.QUERY_VECTORS), queries)
    training.export(model, scale, next(iter(holdout)), artifacts.model_folder(model_folder))
    variables = trained_variables(model.query_tower, model.item_tower)
    weights = warm_start.Weights.of(variables, terms, inputs.until)
    weights.save(os.path.join(model_folder, artifacts.WEIGHTS))
    last = epochs[-1]
    recall = last.get(f"holdout_recall@{training.RECALL_AT}", float("nan"))
    return (
        f"{len(examples.training):,} sessions, {config.epochs} epochs, loss {last['loss']:.3f}, "
        f"holdout recall@{training.RECALL_AT} {recall:.3f}, scale {scale:.3g}{started}"
    )


def _queries(model: RetrievalModel, data: tf.data.Dataset) -> dict[str, np.ndarray]:
    """Learned query vectors of batches of sessions, and the histories they were asked with."""
    kept = ("vectors", "history_row", F.HISTORY_AGE_DAYS, F.HISTORY_EVENT_TYPE)
    queries: dict[str, list[np.ndarray]] = {name: [] for name in kept}
    for batch in data:
        batch["vectors"] = model.query_tower(batch, training=False)
        for name, parts in queries.items():
            parts.append(batch[name].numpy())
    return {name: np.concatenate(parts) for name, parts in queries.items()}
