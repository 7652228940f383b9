"""What one `search` and one `suggest` cost: in this process, on one core, BERT included.

    python benchmarks/search_latency.py                      # 100,000 random items, random weights
    python benchmarks/search_latency.py --items 20000 --layers 3
    python benchmarks/search_latency.py --servable runs/complete_journey/serving/shelfwise/1795808275

The catalogue has titles of invented words whose frequencies fall as 1 / rank, brands, categories and
prices; sizes of the funnel are those of The Complete Journey's configuration. Queries are one to four
words of titles, a third of them with a typo, by users with a history and by strangers in turn; every one
is different, so that nothing can be remembered. With `--servable` the model is one that was pushed, and
the queries come from its own completions.

`cpu` is what the process worked, which other processes disturb less than `wall`, what a caller waits.
`recommend` is asked in turns, of the same funnel with and without a search.
"""

from __future__ import annotations

import argparse
import functools
import os
import string
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks import synthetic_servable
from benchmarks.serving_load import CpuUse
from benchmarks.synthetic_servable import AS_OF, SyntheticShop
from components.common import servables
from components.common.candidate_lists import tensor
from models.funnel.personal import PersonalFeatures
from models.funnel.scorer import Scorer
from models.funnel.search import SearchParts
from models.funnel.servable import Funnel
from models.search.catalogue import SearchCatalogue
from models.search.index import SearchIndex
from models.search.ranker import SearchRanker
from models.search.searcher import Searcher
from models.search.suggester import Suggester
from models.text.encoder import TextEncoder, dtype_here
from models.text.served import ServedEncoder
from schema import names as F
from schema.config import Config
from schema.errors import UserError

Call = Callable[[], Any]
_WORDS, _BRANDS = 30_000, 2_000
_TITLE_WORDS, _QUERY_WORDS = (3, 9), (1, 5)
_TYPOS = 1 / 3
_WARM = 20  # calls of each signature that are not measured


def vocabulary(count: int, rng: np.random.Generator) -> np.ndarray:
    """object (str) [count]: different invented words of two to four syllables."""
    onset, vowel = list("bcdfghklmnprstvwz") + ["st", "br", "ch"], list("aeiou") + ["ea", "oo"]
    words: dict[str, None] = {}
    while len(words) < count:
        size = rng.integers(2, 5)
        syllables = [str(rng.choice(onset)) + str(rng.choice(vowel)) for _ in range(size)]
        words["".join(syllables) + str(rng.choice(["", "", "n", "r", "l"]))] = None
    return np.asarray(list(words), object)


def search_catalogue(items: Any, rng: np.random.Generator) -> SearchCatalogue:
    """Every item with a title, a brand, a category and a price."""
    words = vocabulary(_WORDS, rng)
    count = len(items) - 1
    size = rng.integers(*_TITLE_WORDS, count)
    # Zipf's law: the n-th word is used as often as 1 / n
    drawn = words[np.exp(rng.uniform(0, np.log(_WORDS), size.sum())).astype(int) - 1]
    ends = np.cumsum(size)
    titles = [" ".join(drawn[end - n : end]) for end, n in zip(ends, size, strict=True)]
    brand = vocabulary(_BRANDS, rng)[np.exp(rng.uniform(0, np.log(_BRANDS), count)).astype(int) - 1]
    category = items.vocabularies["category"][items.categorical["category"][1:]]
    return SearchCatalogue(
        item_id=items.item_id[1:],
        fields={
            "title": np.asarray(titles, object),
            "brand": brand,
            "category": category,
        },
        category=category,
        brand=brand,
        price=np.round(np.exp(rng.normal(2.5, 1.0, count)), 2).astype(np.float32),
        newest=rng.integers(1, AS_OF, count).astype(np.int64),
        popularity=(1e6 / (1 + rng.permutation(count))).astype(np.float32),
    )


def with_typo(word: str, rng: np.random.Generator) -> str:
    """The word with one letter dropped, doubled, replaced or swapped with the next."""
    at = int(rng.integers(len(word)))
    letter = str(rng.choice(list(string.ascii_lowercase)))
    return [
        word[:at] + word[at + 1 :],
        word[:at] + word[at : at + 1] + word[at:],
        word[:at] + letter + word[at + 1 :],
        word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
    ][int(rng.integers(4))]


def queries(titles: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Words of titles, in their order, some of them misspelt."""
    out = []
    for title in rng.choice(np.asarray(titles, object), count):
        words = title.split()
        size = min(int(rng.integers(*_QUERY_WORDS)), len(words))
        start = int(rng.integers(len(words) - size + 1))
        words = words[start : start + size]
        if rng.random() < _TYPOS:
            at = int(rng.integers(size))
            words[at] = with_typo(words[at], rng)
        out.append(" ".join(words))
    return out


def query_encoder(config: Config, layers: int) -> tf.Module:
    """The shop's BERT, or some of its layers, as a distilled encoder has them."""
    text = config.text_encoder
    dtype = dtype_here() if text.dtype == "auto" else text.dtype
    module = tf.Module(name="query_encoder")
    module.encoder = ServedEncoder(TextEncoder(text.preset, text.sequence_length, dtype, layers=layers))
    module.encode = module.encoder.function()
    return module


def search_parts(
    shop: SyntheticShop, scorer: Scorer, config: Config, layers: int, rng: np.random.Generator
) -> SearchParts:
    """A search of the shop's items whose weights nobody trained."""
    catalogue = search_catalogue(shop.items, rng)
    index = SearchIndex.build(catalogue, config.search)
    encoder = query_encoder(config, layers)
    dim = encoder.encode(tf.constant(["a"])).shape[1]
    vectors = synthetic_servable.clustered(rng.integers(0, 300, len(catalogue)), dim, rng)
    searcher = Searcher(index, encoder.encode, vectors, config.search)
    personal = PersonalFeatures(shop.retriever, shop.items, scorer)
    ranker = SearchRanker(tuple(searcher.feature_names), personal.names)
    return SearchParts(catalogue, searcher, ranker, Suggester(index, config.search), encoder)


def requests(
    signatures: servables.Signatures, states: Sequence[Mapping[str, Any]], neutral: Mapping[str, Any]
) -> dict[str, list[dict[str, tf.Tensor]]]:
    """Signature -> its inputs for each of the states (which hold the query and the prefix)."""
    return {
        name: [
            {
                spec.name: tensor(np.asarray((neutral | dict(state))[spec.name]))
                for spec in function.structured_input_signature[1].values()
            }
            for state in states
        ]
        for name, function in signatures.items()
    }


def synthetic(options: argparse.Namespace) -> tuple[dict[str, list[Call]], str]:
    """Calls of a shop of random items by name, and what they are of."""
    config = synthetic_servable.configured(options.set)
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        shop = SyntheticShop.make(options.items, config, folder)
        ranker = tf.saved_model.load(shop.ranker)
        scorer = Scorer(shop.retriever, ranker)
        begun = time.process_time()
        parts = search_parts(shop, scorer, config, options.layers, rng)
        built = time.process_time() - begun
    encoder = parts.query_encoder
    without = Funnel(shop.retriever, ranker, encoder.encode, encoder, shop.items, config)
    with_search = Funnel(shop.retriever, ranker, encoder.encode, encoder, shop.items, config, parts)
    signatures = {
        name: function
        for name, function in with_search.signatures().items()
        if name in (F.SEARCH, F.SUGGEST, F.RECOMMEND)
    }
    users = np.unique(shop.log.user)
    words = queries(parts.catalogue.fields["title"], options.requests, rng)
    states = []
    for number, query in enumerate(words):
        user = users[number % len(users) : number % len(users) + 1]
        state = shop.log.histories(user, AS_OF, config.candidates.history_length)
        if number % 2:
            state |= servables.nobody() | {
                F.context(name): np.asarray([""], object) for name in ("store_id",)
            }
        typed = query[: int(rng.integers(1, 1 + len(query)))]
        state |= {F.QUERY: np.asarray([query], object), F.PREFIX: np.asarray([typed], object)}
        states.append(state | {F.CONTEXT_TIMESTAMP: np.asarray([AS_OF], np.int64)})
    neutral = servables.neutral_inputs(shop.items, np.arange(1, 9))
    asked = requests(signatures, states, neutral)
    calls = {
        name: [functools.partial(signatures[name], **inputs) for inputs in asked[name]] for name in signatures
    }
    plain = without.signatures()[F.RECOMMEND]
    calls["recommend, no search built"] = [
        functools.partial(plain, **inputs) for inputs in asked[F.RECOMMEND]
    ]
    return calls, (
        f"{options.items:,} items, {type(parts.searcher.index).__name__} of text vectors, tables built in "
        f"{built:.0f} s, {options.layers or 'all'} layers of BERT"
    )


def pushed(options: argparse.Namespace) -> tuple[dict[str, list[Call]], str]:
    """Calls of a pushed version by name: its warm-up requests, with queries that it completes itself."""
    from components.infra_validator.executor import requests_of

    loaded = tf.saved_model.load(options.servable)
    asked = [(request.model_spec.signature_name, request.inputs) for request in requests_of(options.servable)]
    inputs = {
        name: [
            {key: tf.constant(tf.make_ndarray(value)) for key, value in given.items()}
            for which, given in asked
            if which == name
        ]
        for name in (F.SEARCH, F.SUGGEST, F.RECOMMEND)
    }
    rng = np.random.default_rng(1)
    letters = [a + b for a in string.ascii_lowercase for b in "aeiouhlr"]
    known: dict[str, None] = {}
    for prefix in letters:
        given = inputs[F.SUGGEST][0] | {F.PREFIX: tf.constant([prefix]), F.K: tf.constant([20])}
        answer = loaded.signatures[F.SUGGEST](**given)[F.COMPLETION][0].numpy()
        known |= {phrase.decode(): None for phrase in answer if phrase}
    words = queries(list(known), options.requests, rng)
    calls: dict[str, list[Call]] = {name: [] for name in inputs}
    for number, query in enumerate(words):
        own = {F.QUERY: tf.constant([query]), F.PREFIX: tf.constant([query[: 1 + number % 5]])}
        for name, found in inputs.items():
            base = found[number % len(found)]
            given = base | {key: value for key, value in own.items() if key in base}
            calls[name].append(functools.partial(loaded.signatures[name], **given))
    return calls, options.servable


def measure(calls: Mapping[str, Sequence[Call]], rounds: int) -> dict[str, dict[str, np.ndarray]]:
    """Milliseconds of each call, name -> {"wall", "cpu"} -> float [rounds * calls]; all in turns."""
    took: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in calls}
    count = min(map(len, calls.values()))
    for round_ in range(rounds + 1):
        # the first round traces and fills caches
        for place in range(count if round_ else min(count, _WARM)):
            for name, asked in calls.items():
                begun, worked = time.perf_counter(), time.process_time()
                asked[place]()
                if round_:
                    took[name]["wall"].append(1000 * (time.perf_counter() - begun))
                    took[name]["cpu"].append(1000 * (time.process_time() - worked))
    return {name: {kind: np.asarray(values) for kind, values in each.items()} for name, each in took.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--servable", metavar="FOLDER", help="a pushed version in place of random items")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument(
        "--layers", type=int, default=0, help="layers of the query encoder; 0 for all of them"
    )
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="a setting")
    options = parser.parse_args(argv)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    calls, what = pushed(options) if options.servable else synthetic(options)
    use = CpuUse()
    took = measure(calls, options.rounds)
    table = Table(title="one request, one core, ms", box=None)
    for header in ("signature", "cpu median", "cpu p99", "wall median", "wall p99"):
        table.add_column(header, justify="left" if header == "signature" else "right")
    for name, each in took.items():
        cells = [
            f"{percentile(each[kind]):.1f}"
            for kind in ("cpu", "wall")
            for percentile in (np.median, functools.partial(np.percentile, q=99))
        ]
        table.add_row(name, *cells)
    Console(width=120).print(table)
    stolen, others = use.shares()
    print(
        f"{what}; {options.requests} requests, {options.rounds} rounds, in turns; "
        f"{stolen:.0%} of the machine stolen, {others:.0%} used by others"
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"search_latency: {error}")
