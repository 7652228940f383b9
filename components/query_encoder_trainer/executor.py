"""Trains the encoder of queries, and keeps what finds most on the validation queries."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from components.common import artifacts, search_inputs, search_lists
from components.common.queries import Queries, divided, known_items, with_typo
from components.query_encoder_trainer import training
from components.query_encoder_trainer.training import MEASURE, Lesson, measured
from models.search.catalogue import SearchCatalogue
from models.search.index import SearchIndex
from models.text import encoder as text_encoder
from models.text.encoder import TextEncoder
from models.text.served import ServedEncoder
from schema import names as F
from schema.config import QueryEncoder, Search, SearchTraining
from schema.config import TextEncoder as TextEncoderSettings

_RANKED = 50  # by which hard negatives are looked for

Encode = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was trained and what answers.

    Attributes:
      encode: the encoder that answers.
      module: what the encoder belongs to, for the export.
      kept: "text_encoder", "tuned" or "distilled".
      figures: NDCG@10 on the validation queries, clean and with typing errors: `text_encoder` and, if one
        was trained, its own.
      history: of the training.
    """

    encode: Encode
    module: tf.Module
    kept: str
    figures: dict[str, float]
    history: list[dict[str, float]]


def queries(
    catalogue: SearchCatalogue, judgements: str | None, config: SearchTraining
) -> tuple[Queries, Queries]:
    """What the encoder learns from and is stopped by: known items, and the judgements where there are any.

    Args:
      catalogue: the searched items.
      judgements: JudgementExampleGen's artifact, if there is one.
      config: how many known items, and the shares.
    """
    drawn = known_items(catalogue, config.pseudo_queries, config.seed)
    split = divided(drawn.text, config.valid_share, 0.0)
    train, valid = [drawn.where(split == "train")], drawn.where(split == "eval")
    if judgements:
        ids = catalogue.item_id
        train.append(search_inputs.read_judgements(judgements, "train", ids))
        judged = search_inputs.read_judgements(judgements, "eval", ids)
        valid = judged if len(judged) else valid  # what people judged says more than what was drawn
    return Queries.joined(train), valid


def found_by_words(catalogue: SearchCatalogue, train: Queries, settings: Search) -> np.ndarray:
    """int32 [Q, N], what BM25F finds for each query, -1 for none: further hard negatives."""
    index = SearchIndex.build(catalogue, settings)
    return search_lists.lexical_lists(index, train.text, settings, _RANKED)


def run(
    train: Queries,
    valid: Queries,
    lexical: np.ndarray | None,
    items: np.ndarray,
    encoder_folder: str,
    text: TextEncoderSettings,
    config: QueryEncoder,
    seed: int,
    output: str,
    run_folder: str,
) -> str:
    """Writes the query encoder as a SavedModel.

    Args:
      train, valid: queries to learn from and to be stopped by.
      lexical: from :func:`found_by_words`; None where nothing is trained.
      items: float32 [C, E], the items' text vectors, by position.
      encoder_folder: SavedModel of the text encoder.
      text: its settings.
      config, seed: how queries are learned.
      output: folder of the Model artifact; gets `Format-Serving/` with `encode` (string [B] to float32
        [B, E]) and the signature `serving_default`.
      run_folder: ModelRun artifact; gets `history.json`.

    Returns:
      A line for a person.
    """
    teacher = tf.saved_model.load(encoder_folder)
    found = learn(train, valid, items, teacher.encode, teacher, text, config, seed, lexical)
    export(found, artifacts.model_folder(output))
    tf.io.gfile.makedirs(run_folder)
    with tf.io.gfile.GFile(os.path.join(run_folder, artifacts.TRAINING_CURVES), "w") as file:
        curve = [{"epoch": entry["step"]} | entry for entry in found.history]
        json.dump({"epochs": curve, "kept": found.kept, "figures": found.figures}, file)
    if not found.figures:
        return "queries are encoded by the text encoder; nothing was trained"
    figures = ", ".join(f"{name} {value:.3f}" for name, value in found.figures.items())
    return f"{found.kept} answers; {MEASURE} of vectors alone on {len(valid):,} queries: {figures}"


def learn(
    train: Queries,
    valid: Queries,
    items: np.ndarray,
    teacher: Encode,
    module: tf.Module,
    text: TextEncoderSettings,
    config: QueryEncoder,
    seed: int,
    lexical: np.ndarray | None = None,
) -> Outcome:
    """Trains an encoder, if the settings ask for one, and decides which answers.

    Args:
      train, valid, items, text, config, seed: as :func:`run`.
      teacher: the text encoder, which `module` holds.
      module: see `Outcome.module`.
      lexical: from :func:`found_by_words`; without it, hard negatives come from the vectors alone.

    Returns:
      The encoder that answers. It is the text encoder where nothing is trained or nothing can be measured.
    """
    if config.mode == "text_encoder" or not len(valid) or not len(train):
        return Outcome(teacher, module, "text_encoder", {}, [])
    asked = (valid.text, with_typo(valid.text, seed))
    before = [measured(valid, training.encode_texts(teacher, text_), items) for text_ in asked]
    figures = {"text_encoder": before[0], "text_encoder_typo": before[1]}
    target = training.encode_texts(teacher, train.text)
    rng = np.random.default_rng(seed)
    ranked = [training.nearest(target, items, _RANKED)] + ([lexical] if lexical is not None else [])
    lesson = Lesson(train, target, items, training.hard_negatives(train, ranked, config.hard_negatives, rng))
    dtype = "bfloat16" if text_encoder.has_bfloat16() and text.dtype != "float32" else "float32"
    layers = config.layers if config.mode == "distilled" else 0
    encoder = TextEncoder(
        text.preset, config.sequence_length, dtype, "full", dropout=text.dropout, layers=layers
    )
    fitted = training.train(encoder, lesson, valid, config, seed)
    figures |= {
        config.mode: fitted.best[f"{MEASURE}_clean"],
        f"{config.mode}_typo": fitted.best[f"{MEASURE}_typo"],
    }
    least = (before[0] + before[1]) / 2
    least *= 1 - config.tolerance if config.mode == "distilled" else 1
    # a tuned encoder must find more: with an equal one nothing is won
    better = fitted.best[MEASURE] >= least if config.mode == "distilled" else fitted.best[MEASURE] > least
    if not better:
        return Outcome(teacher, module, "text_encoder", figures, fitted.history)
    merged = ServedEncoder(encoder.merged())
    return Outcome(merged.function(), merged, config.mode, figures, fitted.history)


def export(found: Outcome, folder: str) -> None:
    """Writes the encoder that answers as a SavedModel."""
    module = tf.Module()
    module.encoder = found.module
    module.encode = encode = found.encode
    serve = tf.function(lambda text: {F.EMBEDDING: encode(text)}, autograph=False)
    signature = serve.get_concrete_function(tf.TensorSpec([None], tf.string, F.TEXT))
    tf.saved_model.save(module, folder, signatures=signature)
