"""Fine-tunes the text encoder on the shop's behaviour, exports it, and encodes the catalogue."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import tensorflow as tf

from components.common import artifacts, curves
from components.common.searches import Searches
from components.text_encoder_trainer.behaviour import Behaviour
from models.data import arrays
from models.data.event_log import EventLog
from models.data.item_table import ItemTable
from models.text import encoder as text_encoder
from models.text import groups as text_groups
from models.text import training as text_training
from models.text.batches import LoweredTexts
from models.text.encoder import TextEncoder
from models.text.losses import Batch, GroupContrast, MaskedLanguageModel
from models.text.served import ServedEncoder
from models.text.strategy import distributed
from models.text.training import Fit
from schema import config as settings
from schema import names as F
from schema.errors import DataError

_MEASURE = "holdout_mrr"
_MAX_TEXTS = 20_000  # that training looks at; what enters their trained layers is kept in memory


def run(
    items: ItemTable,
    log: EventLog | None,
    searches: Searches | None,
    until: float,
    config: settings.TextEncoder,
    strategy: tf.distribute.Strategy,
    output: str,
    run_folder: str,
) -> str:
    """Writes the encoder as a SavedModel and the vectors of all distinct texts.

    Args:
      items: the catalogue.
      log, searches: to learn from; None in mode "frozen".
      until: unix seconds; only events before it are learned from.
      config: which BERT, how it is trained, how long texts are, which type.
      strategy: `models.text.strategy.make_strategy` of `config.strategy`.
      output: folder of the Model artifact; gets `Format-Serving/` (signature
        `serving_default`: `text` string [B] -> `embedding` float32 [B, E]) and
        `text_vectors.npz` (`vectors` float32 [T, E], `index` int32 [V]).
      run_folder: ModelRun artifact; gets the training curves.

    Returns:
      A line for a person.

    Raises:
      DataError: the events hold no pair to learn from.
    """
    text_training.set_seed(config.seed)
    texts, index = text_encoder.distinct_texts(items.text)
    dtype = text_encoder.dtype_here() if config.dtype == "auto" else config.dtype
    if log is None:
        encoder = TextEncoder(config.preset, config.sequence_length, dtype)
        fitted, learned = Fit([], {}), config.mode
        started = time.monotonic()
        served = ServedEncoder(encoder)
        vectors = text_encoder.encode_all(served.function(), texts, config.batch_size, encoder.lengths)
        seconds = time.monotonic() - started
    else:
        behaviour = Behaviour.of(log, searches, items, index, until)
        encoder, vectors, fitted, seconds = tune(texts, index[1:], behaviour, config, dtype, strategy)
        served = ServedEncoder(encoder)
        first = fitted.history[0]
        learned = (
            f"{config.mode}, held-out MRR {first[_MEASURE]:.3f} -> {fitted.best[_MEASURE]:.3f} "
            f"at step {fitted.best['step']:.0f}"
        )

    path = os.path.join(output, artifacts.TEXT_VECTORS)
    arrays.save(path, {"vectors": vectors, "index": index.astype(np.int32)})
    curves.write(run_folder, [{"epoch": entry.pop("step")} | entry for entry in fitted.history])
    _export(served, artifacts.model_folder(output))
    return (
        f"{len(texts):,} distinct texts of {len(items) - 1:,} items to {vectors.shape[1]} dimensions "
        f"in {seconds:,.0f} s ({dtype}); {learned}"
    )


def tune(
    texts: np.ndarray,
    catalogue: np.ndarray,
    behaviour: Behaviour,
    config: settings.TextEncoder,
    dtype: str,
    strategy: tf.distribute.Strategy,
) -> tuple[TextEncoder, np.ndarray, Fit, float]:
    """Fine-tunes an encoder and encodes the texts with it.

    Args:
      texts: object (str) [T], distinct.
      catalogue: int [V], the text of each product.
      behaviour: what to learn from.
      config: the configuration's section.
      dtype: compute type.
      strategy: where training runs.

    Returns:
      (the encoder, merged; float32 [T, E] vectors; what training found; seconds of encoding).

    Raises:
      DataError: no pair to learn from.
    """
    rng = np.random.default_rng(config.seed)
    products = len(texts)
    # a query may be a product's very text
    asked = behaviour.queries
    queries = np.sort(pd.unique(asked[pd.Index(texts).get_indexer(asked) < 0]))
    texts = np.concatenate([texts, queries])
    arguments = (config.preset, config.sequence_length, dtype)
    base = TextEncoder(*arguments, "frozen", config.trained_layers)
    with strategy.scope():
        encoder = TextEncoder(
            *arguments, config.mode, config.trained_layers, config.lora_rank, config.dropout
        )
        model = GroupContrast(encoder, config.temperature)

    used = np.ones(len(texts), bool)
    if len(texts) > _MAX_TEXTS:
        used[rng.permutation(len(texts))[_MAX_TEXTS:]] = False
    held, holdout, sources = _divided(behaviour, texts, used, config, rng)

    started = time.monotonic()
    known = LoweredTexts(base, texts, used, config.batch_size)
    seconds = time.monotonic() - started
    places = np.flatnonzero(held)
    ranked = np.searchsorted(places, holdout)

    def validate() -> dict[str, float]:
        ranks = text_groups.partner_ranks(known.encode(encoder, places), ranked)
        return {_MEASURE: float((1 / ranks).mean()), "holdout_recall@10": float((ranks <= 10).mean())}

    def prepare(
        model: GroupContrast | MaskedLanguageModel, batches: tf.data.Dataset, steps: int
    ) -> tuple[Callable[[Batch], tf.Tensor], Iterable[Batch]]:
        with strategy.scope():
            optimizer = text_training.make_optimizer(config.learning_rate, steps)
            step = text_training.make_step(model, optimizer, strategy, config.jit_compile)
        return step, (distributed(batch, strategy) for batch in batches)

    if config.masked_lm_steps:
        with strategy.scope():
            masked = MaskedLanguageModel(encoder)
        rows = rng.choice(np.flatnonzero(used & ~held), (config.masked_lm_steps, config.masked_lm_texts))
        hidden = known.masked_batches(rows, config.seed, config.jit_compile)
        step, batches = prepare(masked, hidden, config.masked_lm_steps)
        # to the end: what it teaches shows in the pairs only after the training that follows
        for batch in batches:
            step(batch)

    taught = catalogue[used[catalogue] & ~held[catalogue]]
    groups = _groups(behaviour.without(held | ~used), len(texts), sources, taught, config, rng)
    grouped = known.group_batches(groups, config.noise, config.seed, config.jit_compile)
    step, batches = prepare(model, grouped, config.steps)
    fitted = text_training.fit(
        step, batches, model.trained, validate, _MEASURE, config.validate_every, config.patience
    )

    merged = encoder.merged()
    started = time.monotonic()
    if used.all():
        vectors = known.encode(merged, np.arange(products))
    else:
        vectors = text_encoder.encode_all(
            merged.function(), texts[:products], config.batch_size, merged.lengths
        )
    return merged, vectors, fitted, seconds + time.monotonic() - started


def _divided(
    behaviour: Behaviour,
    texts: np.ndarray,
    used: np.ndarray,
    config: settings.TextEncoder,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Keeps some texts, and the pairs among them, out of training.

    Args:
      behaviour: what pairs come from.
      texts: object (str) [T], products and queries.
      used: bool [T], texts that training looks at.
      config: the configuration's section.
      rng: draws the held-out texts.

    Returns:
      (bool [T] held-out texts, int [H, 2] held-out pairs, int [P, 2] pairs to learn from of each kind).

    Raises:
      DataError: no pair is left on one of the sides.
    """
    sources = [pairs[used[pairs].all(1)] for pairs in _pairs(behaviour, texts, config)]
    held = np.zeros(len(texts), bool)
    pairs = rng.permutation(np.concatenate(sources))
    count = min(config.holdout_texts, len(np.unique(pairs)) // 5)
    # each with one of its partners: texts drawn alone would seldom find one among the others
    askers, drawn = np.unique(pairs[:, 0], return_index=True)
    held[pairs[drawn[rng.permutation(len(askers))[: count // 2]]]] = True
    holdout = np.concatenate([pairs[held[pairs].all(1)] for pairs in sources])
    sources = [pairs[~held[pairs].any(1)] for pairs in sources]
    if not any(map(len, sources)) or not len(holdout):
        raise DataError(
            f"only {sum(map(len, sources))} pairs of texts are bought together at least {config.min_support} "
            f"times and {config.min_lift:g} times as often as chance has it, besides {len(holdout)} held-out "
            "ones; lower text_encoder.min_support or min_lift, give more training data, or set "
            "text_encoder.mode: frozen"
        )
    return held, holdout, sources


def _groups(
    seen: Behaviour,
    texts: int,
    sources: list[np.ndarray],
    catalogue: np.ndarray,
    config: settings.TextEncoder,
    rng: np.random.Generator,
) -> text_groups.Groups:
    """What every training step looks at.

    Args:
      seen: behaviour that is learned from.
      texts: T, how many texts there are.
      sources: int [P, 2], pairs to learn from of each kind.
      catalogue: int, the texts of products that are learned from.
      config: the configuration's section.
      rng: draws the groups.
    """
    wanted = np.ones(len(seen.item), bool)
    if config.new_days is not None:
        wanted = text_groups.new_purchases(
            seen.item, seen.timestamp, seen.timestamp.max() + 1, config.new_days, config.new_span_days
        )
    size = seen.households, texts
    return text_groups.plan(
        config.steps,
        sources,
        config.pairs,
        text_groups.purchases(seen.household, seen.text, *size),
        text_groups.purchases(seen.household[wanted], seen.text[wanted], *size),
        config.households,
        config.contexts,
        config.targets,
        catalogue,
        config.negatives,
        rng,
    )


def _pairs(behaviour: Behaviour, texts: np.ndarray, config: settings.TextEncoder) -> list[np.ndarray]:
    """Texts of the same baskets, of the same households, and queries with what they led to, int32 [P, 2]."""
    limits = (len(texts), config.min_support, config.min_lift, config.partners)
    place = pd.Index(texts).get_indexer(behaviour.queries)
    return [
        text_groups.lifted_pairs(behaviour.session, behaviour.text, *limits),
        text_groups.lifted_pairs(behaviour.household, behaviour.text, *limits),
        text_groups.frequent_pairs(place, behaviour.found, config.partners),
    ]


def _export(encoder: ServedEncoder, folder: str) -> None:
    module = tf.Module()
    module.encoder = encoder
    module.encode = encode = encoder.function()
    serve = tf.function(lambda text: {F.EMBEDDING: encode(text)}, autograph=False)
    signature = serve.get_concrete_function(tf.TensorSpec([None], tf.string, F.TEXT))
    tf.saved_model.save(module, folder, signatures=signature)
