"""Search against BM25, vectors alone and both together, on a shop's judgements.

    python benchmarks/search.py --config pipeline/configs/esci_us.yaml --set data.root=FOLDER
    python benchmarks/search.py --config my_shop.yaml --run runs/complete_journey

Any catalogue with judgements (`search.judgements`) needs its YAML only: no reviewed schemas, no run.

Systems, all over the whole catalogue:

* `bm25s`: the library's BM25 with its own words (no stemming); k1, b, stop words and the text columns are
  tuned on training queries;
* `minilm`: the cosine of query and item text with the encoder as it comes (`text_encoder.preset`);
* `hybrid`: reciprocal rank fusion of the two (Cormack et al., SIGIR 2009; constant 60);
* `bm25f`: Shelfwise's lexical source alone; `fused`: its sources by reciprocal ranks, nothing learned;
* `search`: Shelfwise, its ranker trained on training queries.

NDCG@10 has the configuration's gains; an item that was not judged counts 0 (`ndcg_judged@10`: the judged
items alone). Right for recall@50 and MRR are the items of the best grade.

Queries are divided by the SHA-256 of their words, never by rows. `fixed` figures are of the test share
(`search_training.test_share`): nothing saw those queries. `cross-fitted` figures are of all queries in five
folds: for each fold the ranker is trained on three of the others and stopped by the fourth, and bm25s is
tuned on all four, so that every query is scored by what never saw it. A trained query encoder learns from
the catalogue's own queries only. Differences are paired by query.

The typing-error sets are the same queries with one error each. Known items are asked for with up to three of
the first sixteen words of their text. Latency is processor time of one query in process, encoder included.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import shelfwise_env  # noqa: E402, F401, I001 (before TensorFlow is imported)

import apache_beam as beam  # noqa: E402
import bm25s  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from components.catalog_example_gen import executor as catalog_gen  # noqa: E402
from components.catalog_example_gen.settings import Settings as CatalogSettings  # noqa: E402
from components.common import search_inputs  # noqa: E402
from components.common.metrics import standard_error  # noqa: E402
from components.common.queries import SETS, Queries, known_items, place_of, with_typo  # noqa: E402
from components.common.search_metrics import per_query  # noqa: E402
from components.judgement_example_gen import executor as judgement_gen  # noqa: E402
from components.judgement_example_gen.settings import Settings as JudgementSettings  # noqa: E402
from components.query_encoder_trainer import executor as query_encoder  # noqa: E402
from components.query_encoder_trainer import training as encoding  # noqa: E402
from components.search_trainer import fitting  # noqa: E402
from components.search_trainer.fitting import Lists  # noqa: E402
from models.data import example_io  # noqa: E402
from models.data.item_table import ItemTable  # noqa: E402
from models.data.preprocessing import item_text  # noqa: E402
from models.search.catalogue import SearchCatalogue  # noqa: E402
from models.search.index import SearchIndex  # noqa: E402
from models.search.searcher import Searcher  # noqa: E402
from models.text.encoder import TextEncoder, encode_all, has_bfloat16  # noqa: E402
from models.text.served import ServedEncoder  # noqa: E402
from pipeline.run import command as runner  # noqa: E402
from schema import names as F  # noqa: E402
from schema.config import Config  # noqa: E402
from schema.errors import UserError  # noqa: E402

logging.getLogger("bm25s").setLevel(logging.WARNING)  # a line for each index

FOLDS = 5
DEPTH = 100
_BATCH = 16
_FUSION = 60.0
_TIMED = 100
_GRID = [(k1, b) for k1 in (0.6, 1.2, 2.0) for b in (0.3, 0.5, 0.75)]


@dataclasses.dataclass(frozen=True)
class Shop:
    """A catalogue with judgements.

    Attributes:
      catalogue: the searched items.
      texts: object (str) [C], what the text encoder reads of each.
      queries: all judged queries.
      split: object (str) [Q], the set of each.
    """

    catalogue: SearchCatalogue
    texts: np.ndarray
    queries: Queries
    split: np.ndarray


def read(config: Config, folder: str) -> Shop:
    """Reads the tables as the pipeline does; `folder` is scratch.

    Raises:
      UserError: the configuration names no judgements, or a table is wrong.
    """
    if config.search.judgements is None:
        raise UserError("search.judgements: is not given; name the table that says what is right")
    alone = config.model_copy(update={"users": None, "exposures": None})
    catalog_gen.run(
        beam.Pipeline(argv=config.beam_args), CatalogSettings.of(alone), f"{folder}/items", f"{folder}/users"
    )
    raw = search_inputs.raw_items(f"{folder}/items")
    ids = np.sort(example_io.first(raw, F.ITEM_ID, "").astype(object))
    nothing = np.zeros(0, np.int64)
    every = np.append([""], ids).astype(object)
    table = ItemTable(every, np.full(len(every), "", object), {}, {}, nothing, nothing, {})
    catalogue = search_inputs.catalogue(raw, table, config.items)
    columns = [tf.constant(catalogue.fields[name].tolist(), tf.string) for name in config.items.text]
    texts = np.asarray([text.decode("utf-8") for text in item_text(columns).numpy()], object)
    judgement_gen.run(JudgementSettings.of(config), ids, f"{folder}/judgements")
    parts = [search_inputs.read_judgements(f"{folder}/judgements", name, ids) for name in SETS]
    split = np.repeat(np.asarray(SETS, object), [len(part) for part in parts])
    return Shop(catalogue, texts, Queries.joined(parts), split)


class Bm25s:
    """The library's BM25 over several choices of columns, words and settings.

    Args:
      shop: what is searched.
      columns: text columns, most telling first: the first, the first two, or all are searched.
      sets: what is asked, by name.
    """

    def __init__(self, shop: Shop, columns: list[str], sets: Mapping[str, Queries]) -> None:
        self._fields, self._sets, self._size = shop.catalogue.fields, sets, len(shop.texts)
        chosen = {tuple(columns[:count]) for count in (1, 2, len(columns))}
        self._choices = [
            (names, stopwords, k1, b)
            for names in sorted(chosen, key=len)
            for stopwords in ("english", None)
            for k1, b in _GRID
        ]
        self._model = functools.lru_cache(None)(self._build)
        self._words = functools.lru_cache(None)(self._tokenized)
        self.top = functools.lru_cache(None)(self._ranked)

    def best(self, name: str, chosen: np.ndarray) -> tuple[Any, ...]:
        """The choice with the highest NDCG@10 on some queries (int [n]) of a set."""
        part = self._sets[name].where(chosen)
        return max(
            self._choices, key=lambda key: per_query(part, self.top(key, name)[chosen])["ndcg@10"].mean()
        )

    def _tokenized(self, stopwords: str | None, names: tuple[str, ...] | None, asked: str | None) -> Any:
        """The words of the items' columns, or of a set's queries."""
        settings = {"stopwords": stopwords, "show_progress": False}
        if asked is not None:
            return bm25s.tokenize(self._sets[asked].text.tolist(), return_ids=False, **settings)
        fields = [self._fields[name] for name in names or ()]
        return bm25s.tokenize([" ".join(parts) for parts in zip(*fields, strict=True)], **settings)

    def _build(self, key: tuple[Any, ...]) -> Any:
        names, stopwords, k1, b = key
        model = bm25s.BM25(k1=k1, b=b)
        model.index(self._words(stopwords, names, None), show_progress=False)
        return model

    def _ranked(self, key: tuple[Any, ...], name: str) -> np.ndarray:
        """int32 [Q, DEPTH], what a choice finds for a set's queries, -1 for nothing."""
        model, lists = self._model(key), self._words(key[1], None, name)
        out = np.full((len(lists), min(DEPTH, self._size)), -1, np.int32)
        for query, words in enumerate(lists):
            known = [word for word in words if word in model.vocab_dict]
            if known:
                score = model.get_scores(known)
                top = np.argsort(-score, kind="stable")[: out.shape[1]]
                out[query] = np.where(score[top] > 0, top, -1)
        return out


def reciprocal(lists: list[np.ndarray], items: int) -> np.ndarray:
    """int32 [Q, DEPTH]: ranked lists (int32 [Q, N] each, -1 for none) fused by reciprocal ranks."""
    out = np.full((len(lists[0]), DEPTH), -1, np.int32)
    for query in range(len(out)):
        score = np.zeros(items + 1)
        for top in lists:
            score[top[query]] += 1 / (_FUSION + np.arange(1, top.shape[1] + 1))
        score[-1] = 0  # where -1 went
        best = np.argsort(-score, kind="stable")[:DEPTH]
        out[query, : len(best)] = np.where(score[best] > 0, best, -1)
    return out


class Ours:
    """Shelfwise's search in process.

    Args:
      shop: what is searched.
      vectors: float32 [C, E], the items' text vectors.
      encode: of queries.
      config: the shop's configuration.
    """

    def __init__(self, shop: Shop, vectors: np.ndarray, encode: Any, config: Config) -> None:
        index = SearchIndex.build(shop.catalogue, config.search)
        self.searcher = Searcher(index, encode, vectors, config.search)
        self.names = self.searcher.feature_names
        everything = tf.ones([1, 1], tf.bool)

        def find(query: tf.Tensor) -> tuple[tf.Tensor, ...]:
            found = self.searcher(query, everything)
            return found.features, found.position, found.valid, found.exact

        self.find = tf.function(find, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)

    def lists(self, queries: Queries) -> Lists:
        """Candidates and gains of queries."""
        parts = []
        for start in range(0, len(queries), _BATCH):
            texts = tf.constant(queries.text[start : start + _BATCH].tolist(), tf.string)
            features, position, valid, exact = (value.numpy() for value in self.find(texts))
            nobody = np.zeros((*position.shape, 0), np.float32)
            gain = np.zeros(position.shape, np.float32)
            parts.append(Lists(features, nobody, position, valid, exact, gain, np.zeros(len(position))))
        return Lists.joined(parts).with_gains(queries)

    def by(self, lists: Lists, feature: str) -> np.ndarray:
        """int32 [Q, N], positions by one feature, -1 where it is 0."""
        value = np.where(lists.valid, lists.features[..., self.names.index(feature)], 0)
        order = np.argsort(-value, 1, kind="stable")
        found = np.take_along_axis(value, order, 1) > 0
        return np.where(found, np.take_along_axis(lists.position, order, 1), -1)

    def milliseconds(self, texts: np.ndarray) -> np.ndarray:
        """float64 [n], processor time of single queries; the first answers are not counted."""
        times = []
        for place, text in enumerate(np.concatenate([texts[:5], texts])):
            started = time.process_time()
            self.find(tf.constant([text]))
            if place >= 5:
                times.append((time.process_time() - started) * 1e3)
        return np.asarray(times)


def encoders(shop: Shop, config: Config) -> tuple[Any, np.ndarray, Any, str]:
    """(the text encoder as a function, float32 [C, E] item vectors, the query encoder, what it is)."""
    text = config.text_encoder
    dtype = ("bfloat16" if has_bfloat16() else "float32") if text.dtype == "auto" else text.dtype
    encoder = ServedEncoder(TextEncoder(text.preset, text.sequence_length, dtype))
    encode = encoder.function()
    vectors = encode_all(encode, shop.texts, text.batch_size)
    train, valid = query_encoder.queries(shop.catalogue, None, config.search_training)
    seed = config.search_training.seed
    lexical = None
    if config.query_encoder.mode != "text_encoder":
        lexical = query_encoder.found_by_words(shop.catalogue, train, config.search)
    found = query_encoder.learn(
        *(train, valid, vectors, encode, encoder, text, config.query_encoder, seed, lexical)
    )
    figures = ", ".join(f"{name} {value:.3f}" for name, value in found.figures.items())
    return encode, vectors, found.encode, found.kept + (f" ({figures})" if figures else "")


def evaluate(shop: Shop, config: Config, console: Console) -> dict[str, Any]:
    """Scores every system on every set."""
    training = config.search_training
    encode, vectors, query_encode, kept = encoders(shop, config)
    ours = Ours(shop, vectors, query_encode, config)
    known = known_items(shop.catalogue, config.quality.search.known_items, training.seed + 1_000)
    sets = {"judged": shop.queries, "known_item": known}
    sets |= {
        f"{name}_typos": part.asked(with_typo(part.text, training.seed + 1)) for name, part in sets.items()
    }
    lists = {name: ours.lists(queries) for name, queries in sets.items()}
    roles = [name for name in shop.catalogue.fields if name not in config.items.text]
    library = Bm25s(shop, [*config.items.text, *roles], sets)
    fold = (place_of(shop.queries.text) * FOLDS).astype(int)
    tops = {name: _single(ours, lists[name], queries, encode, vectors) for name, queries in sets.items()}

    # cross-fitted: every judged query by what never saw it
    for of in ("judged", "judged_typos"):
        tops[of] |= {"bm25s": np.zeros((len(fold), min(DEPTH, len(shop.texts))), np.int32)}
        tops[of]["search"] = np.full(lists[of].position.shape, -1, np.int32)
    settings = []
    for held in range(FOLDS):
        inside, outside = np.flatnonzero(fold == held), np.flatnonzero(fold != held)
        if not len(inside):
            continue
        settings.append(library.best("judged", outside))
        stop = fold == (held + 1) % FOLDS
        ranker = _trained(
            ours, lists, outside[~stop[outside]], outside[stop[outside]], shop.queries, training
        )
        for of in ("judged", "judged_typos"):
            tops[of]["bm25s"][inside] = library.top(settings[-1], of)[inside]
            tops[of]["search"][inside] = fitting.ordered(ranker, lists[of].where(inside))
    # fixed: trained on the training share alone
    learned, stop, test = (np.flatnonzero(shop.split == name) for name in SETS)
    chosen = library.best("judged", np.concatenate([learned, stop]))
    ranker = _trained(ours, lists, learned, stop, shop.queries, training)
    fixed: dict[str, dict[str, np.ndarray]] = {}
    for of in ("judged", "judged_typos"):
        fixed[of] = {name: top[test] for name, top in tops[of].items()}
        fixed[of]["bm25s"] = library.top(chosen, of)[test]
        fixed[of]["search"] = fitting.ordered(ranker, lists[of].where(test))
    for of in ("known_item", "known_item_typos"):
        tops[of]["bm25s"] = library.top(chosen, of)
        tops[of]["search"] = fitting.ordered(ranker, lists[of])
    values: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for name, found in tops.items():
        label = f"{name} (cross-fitted)" if name.startswith("judged") else name
        values[label] = _scored(sets[name], found, len(shop.texts))
    for name, found in fixed.items():
        values[f"{name} (fixed)"] = _scored(sets[name].where(test), found, len(shop.texts))
    for name, systems in values.items():
        _print(name, systems, console)
    times = ours.milliseconds(shop.queries.text[:_TIMED])
    console.print(f"query encoder: {kept}; bm25s: {chosen}")
    console.print(
        f"latency: median {np.median(times):.1f} ms, p99 {np.percentile(times, 99):.1f} ms of processor time "
        f"over {len(times)} queries, {len(shop.texts):,} items"
    )
    return {
        "sets": {
            name: {
                "queries": len(next(iter(next(iter(systems.values())).values()))),
                **{system: {m: float(v.mean()) for m, v in of.items()} for system, of in systems.items()},
            }
            for name, systems in values.items()
        },
        "bm25s": [str(key) for key in (*settings, chosen)],
        "query_encoder": kept,
        "latency_ms": {"median": float(np.median(times)), "p99": float(np.percentile(times, 99))},
    }


def _single(
    ours: Ours, lists: Lists, queries: Queries, encode: Any, vectors: np.ndarray
) -> dict[str, np.ndarray]:
    """What learns nothing: the text encoder alone, and the sources of the search."""
    zero_shot = encoding.nearest(encoding.encode_texts(encode, queries.text), vectors, DEPTH)
    return {
        "minilm": zero_shot,
        "bm25f": ours.by(lists, "lexical"),
        "fused": ours.by(lists, "fused"),
    }


def _trained(
    ours: Ours,
    lists: Mapping[str, Lists],
    train: np.ndarray,
    stop: np.ndarray,
    queries: Queries,
    training: Any,
) -> Any:
    """The ranker, as SearchTrainer trains it: some queries a second time with a typing error."""
    again = train[place_of(queries.text[train]) < training.typos]
    learned = Lists.joined([lists["judged"].where(train), lists["judged_typos"].where(again)])
    judge = Lists.joined([lists["judged"].where(stop), lists["judged_typos"].where(stop)])
    return fitting.fitted(ours.names, (), learned, judge, training)[0]


def _scored(queries: Queries, tops: dict[str, np.ndarray], items: int) -> dict[str, dict[str, np.ndarray]]:
    """Every system's metrics of every query; the hybrid is fused here, of what the set's bm25s is."""
    tops = (
        {"bm25s": tops["bm25s"], "minilm": tops["minilm"]}
        | {"hybrid": reciprocal([tops["bm25s"], tops["minilm"]], items)}
        | {name: tops[name] for name in ("bm25f", "fused", "search")}
    )
    return {name: per_query(queries, top) for name, top in tops.items()}


def _print(name: str, systems: Mapping[str, Mapping[str, np.ndarray]], console: Console) -> None:
    metrics = list(next(iter(systems.values())))
    main = "mrr" if name.startswith("known") else "ndcg@10"
    count = len(next(iter(systems.values()))[main])
    table = Table("system", *metrics, f"search - it ({main})", "s.e.", title=f"{name}: {count:,} queries")
    for system, values in systems.items():
        apart = systems["search"][main] - values[main]
        paired = (f"{apart.mean():+.4f}", f"{standard_error(apart):.4f}") if system != "search" else ("", "")
        table.add_row(system, *(f"{values[metric].mean():.4f}" for metric in metrics), *paired)
    console.print(table)


def personal(run: Path, console: Console) -> dict[str, Any]:
    """What SearchEvaluator found in a finished run: words of what users then bought, with and without them.

    Raises:
      UserError: the run has no such figures.
    """
    found = sorted(
        run.glob("artifacts/SearchEvaluator/evaluation/*/search_metrics.json"),
        key=lambda p: int(p.parent.name),
    )
    sets = json.loads(found[-1].read_text(encoding="utf-8"))["sets"] if found else {}
    if "personal" not in sets:
        raise UserError(f"{run}: no run with a personal search; run the pipeline with events first")
    for name, entry in sets.items():
        for system, values in entry["systems"].items():
            console.print(
                f"{name} ({entry['queries']:,} queries), {system}: NDCG@10 {values['ndcg@10']:.4f}, "
                f"MRR {values['mrr']:.4f}"
            )
    systems = sets["personal"]["systems"]
    ratio = systems["search"]["ndcg@10"] / max(systems["not_personal"]["ndcg@10"], 1e-9)
    console.print(f"personal / not personal: {ratio:.3f}")
    return {"sets": sets, "ratio": ratio}


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runner.add_config_arguments(parser)
    parser.add_argument("--run", type=Path, help="folder of a finished run of a shop with events")
    parser.add_argument("--json", type=Path, help="where the figures go")
    args = parser.parse_args(argv)
    console = Console(width=140)
    try:
        config = runner.load_config(args)
        with tempfile.TemporaryDirectory() as folder:
            shop = read(config, folder)
        counts = ", ".join(f"{name} {int((shop.split == name).sum())}" for name in SETS)
        console.print(
            f"{config.name}: {len(shop.texts):,} items, {len(shop.queries):,} judged queries ({counts})"
        )
        out = evaluate(shop, config, console)
        if args.run:
            out["run"] = personal(args.run, console)
        if args.json:
            args.json.write_text(json.dumps(out, indent=1), encoding="utf-8")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
