"""A tiny synthetic shop, and the models that the components' own executors build from it.

What takes seconds is made once for all processes that run the same code (`cache.kept`), the rest
once a process (`functools.cache`), so that tests of `models` and of `components` share it. Days
count from `START`, a Monday.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import os
import shutil
import string
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from components.candidate_index import executor as index_executor
from components.candidate_sampler import executor as sampler_executor
from components.candidate_sampler.label_window import LabelWindow
from components.common import artifacts, slicing
from components.common.retriever_inputs import RetrieverFactory
from components.common.windows import Windows
from components.ranking_trainer import executor as ranking_executor
from components.retrieval_trainer import executor as retrieval_executor
from components.servable_builder import executor as servable_executor
from components.text_encoder_trainer import executor as text_executor
from models.data import arrays, example_io
from models.data.event_log import EventLog
from models.data.event_types import EventTypes
from models.data.item_table import ItemTable
from models.data.requests import Vocabularies
from models.retrieval import snapshot
from models.retrieval.snapshot import Snapshot
from schema.config import Config, EventKinds
from tests.shops import cache

DAY = 86_400
START = 1_483_920_000  # Monday, 9 January 2017
TRAIN_END, CUTOFF, END = START + 144 * DAY, START + 172 * DAY, START + 200 * DAY
WINDOWS = Windows(("train", "eval"), "test", CUTOFF, END)
SPLITS = {"train": (0, TRAIN_END), "eval": (TRAIN_END, CUTOFF), "test": (CUTOFF, END)}

ITEMS = [str(100 + number) for number in range(60)]
RARE, LATE, NEVER, STRANGER = (
    "156",
    "157",
    "158",
    "999",
)  # few events; only after CUTOFF; none; no catalogue row
USERS = [f"u{number:02d}" for number in range(30)]
NEWCOMER, GHOST = "u28", "u29"  # events only after CUTOFF; none at all
DEPARTMENTS = ["bakery", "dairy", "produce"]
BRANDS = ["acme", "best", "corner", "daily"]
STORES = ["s1", "s2", "s3"]
CHANNELS = ["display", "mailer"]
KINDS = ["bread", "milk", "apple", "cheese", "pear", "roll"]
BERT_DIM = 16

CONFIG = Config.model_validate(
    {
        "name": "tiny",
        "data": {"root": "/nowhere"},
        "events": {
            "path": "events.csv",
            "columns": {"user_id": "user", "item_id": "item", "timestamp": "time", "event_type": "type"},
            "event_weights": {"purchase": 1.0, "view": 0.25},
            "context": {"store_id": "store"},
        },
        "items": {
            "path": "items.csv",
            "item_id": "item",
            "text": ["name"],
            "categorical": {"department": "department", "brand": "brand"},
            "category": "department",
            "brand": "brand",
        },
        "users": {
            "path": "users.csv",
            "user_id": "user",
            "categorical": {"region": "region", "age": "age"},
            "sensitive": ["age"],
        },
        "exposures": {
            "path": "exposures.csv",
            "item_id": "item",
            "time": {"column": "week"},
            "store": "store",
            "channels": {"display": "display", "mailer": "mailer"},
            "planned": ["mailer", "display"],
            "known_ahead": 21,
            "plan_stores": 3,
            "compared_within": "brand",
        },
        "text_encoder": {"sequence_length": 8, "dtype": "float32"},
        "retrieval": {
            "embedding_dim": 8,
            "batch_sessions": 64,
            "targets_per_session": 2,
            "epochs": 1,
            "history_length": 10,
            "learning_rate": 0.02,
            "uniform_negatives": 16,
        },
        "candidates": {
            "min_events": 8,
            "two_tower": 12,
            "buy_again": 10,
            "co_purchased": 8,
            "trending": 6,
            "new_items": 3,
            "planned": 4,
            "viewed": 5,
            "new_days": 139,  # five candidates as of CUTOFF, all as of LABEL_START
            "neighbours": 7,
            "collaborative": {"rank": 6, "regularization": 5.0},
            "history_length": 40,
        },
        "ranking": {
            "list_size": 16,
            "eval_list_size": 24,
            "epochs": 4,
            "holdout_share": 0.3,
            "batch_size": 8,
            "hidden": [8],
            "learning_rate": 0.003,
        },
        "serving": {"default_k": 5, "max_k": 80},
        "quality": {"ks": [3, 5], "primary_metric": "ndcg@5", "max_ece": 1.0, "item_slices": ["department"]},
    }
)
EVENT_KINDS = EventKinds.of(CONFIG)


@functools.cache
def folder() -> Path:
    """Where a process writes what is its own; the fixtures remove it at the end."""
    return Path(tempfile.mkdtemp(prefix="tiny_shop_"))


def remove_folder() -> None:
    shutil.rmtree(folder(), ignore_errors=True)
    folder.cache_clear()


@cache.kept
def _events(base: Path) -> None:
    rng = np.random.default_rng(3)
    popularity = 1 / np.arange(2, 58) ** 0.7
    prices = dict(zip(ITEMS, np.round(rng.uniform(1, 9, len(ITEMS)), 2), strict=True))
    rows = []
    for user in USERS[:-1]:
        favourites = rng.choice(40, 6, replace=False)
        first = 173 if user == NEWCOMER else rng.uniform(0, 60)
        first = int(first * DAY)
        times = first + np.sort(rng.choice(200 * DAY - first, rng.integers(25, 50), False))
        for seconds in times:
            when = START + int(seconds)
            store = STORES[rng.integers(3)]
            for _ in range(rng.integers(1, 6)):
                if rng.random() < 0.6:
                    number = favourites[rng.integers(6)]
                else:
                    number = rng.choice(56, p=popularity / popularity.sum())
                rows.append((user, ITEMS[number], when, store))
    for day in (10, 90):
        rows += [("u03", RARE, START + day * DAY + 7, "s1"), ("u04", STRANGER, START + day * DAY + 7, "s2")]
    rows += [(user, LATE, CUTOFF + 3 * DAY + 11, "s3") for user in USERS[:12]]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "store_id"])
    frame = frame.sort_values(["user_id", "timestamp"], kind="stable", ignore_index=True)
    frame["event_type"] = np.where(rng.random(len(frame)) < 0.2, "view", "purchase")
    frame["quantity"] = rng.integers(1, 4, len(frame)).astype(np.float32)
    price = frame["item_id"].map(prices).fillna(1.0)
    frame["value"] = (price * frame["quantity"]).astype(np.float32)
    frame["session_id"] = frame.groupby(["user_id", "timestamp"]).ngroup().map("b{:05d}".format)
    frame.to_parquet(base / "events.parquet")


@functools.cache
def events() -> pd.DataFrame:
    """Every event, by user and time: the truth that EventLog must give back."""
    return pd.read_parquet(_events()[0] / "events.parquet")


@functools.cache
def purchases() -> pd.DataFrame:
    """The events that are purchases."""
    return events()[events()["event_type"] == "purchase"]


def record_batch(columns: Mapping[str, Sequence[Sequence[Any]]]) -> pa.RecordBatch:
    """A record batch of list columns from lists of lists; the first value decides the type."""
    arrays = {}
    for name, rows in columns.items():
        sample = next((value for row in rows for value in row), "")
        kind = (
            pa.large_binary() if isinstance(sample, str)
            else pa.float32() if isinstance(sample, float | np.floating)
            else pa.int64()
        )  # fmt: skip
        rows = [[v.encode() if isinstance(v, str) else v for v in row] for row in rows]
        arrays[name] = pa.array(rows, pa.large_list(kind))
    return pa.RecordBatch.from_pydict(arrays)


def session_columns(frame: pd.DataFrame) -> dict[str, list[list[Any]]]:
    """Raw session examples (see the data contract) without histories."""
    groups = [group for _, group in frame.groupby("session_id", sort=False)]
    columns: dict[str, list[list[Any]]] = {
        name: [[group[name].iloc[0]] for group in groups] for name in ("session_id", "user_id", "timestamp")
    }
    columns["context_store_id"] = [[group["store_id"].iloc[0]] for group in groups]
    for name, source in (
        ("target_item_id", "item_id"),
        ("target_event_type", "event_type"),
        ("target_quantity", "quantity"),
        ("target_value", "value"),
    ):
        columns[name] = [group[source].tolist() for group in groups]
    return columns


def write_sessions(frame: pd.DataFrame, target: str | Path) -> str:
    """Writes the sessions of events, in a random order, as one split folder."""
    ids = pd.Series(frame["session_id"].unique()).sample(frac=1, random_state=5)
    shuffled = frame.set_index("session_id").loc[ids].reset_index()
    example_io.write_records(str(target), [record_batch(session_columns(shuffled))])
    return str(target)


def read_log(frame: pd.DataFrame, target: str | Path) -> EventLog:
    """An event log of events through the real write and read path."""
    return EventLog.read([write_sessions(frame, target)], EVENT_KINDS, ["store_id"])


@cache.kept
def _sessions(base: Path) -> None:
    frame = events()
    for split, (start, end) in SPLITS.items():
        write_sessions(frame[frame["timestamp"].between(start, end - 1)], base / f"Split-{split}")


def session_folders() -> dict[str, str]:
    """Split -> folder of raw session examples."""
    return {split: str(_sessions()[0] / f"Split-{split}") for split in SPLITS}


@functools.cache
def log() -> EventLog:
    """All events."""
    return EventLog.read(list(session_folders().values()), EVENT_KINDS, ["store_id"])


@functools.cache
def past_log() -> EventLog:
    """The events before the cut-off."""
    return EventLog.read([session_folders()[split] for split in WINDOWS.past], EVENT_KINDS, ["store_id"])


@functools.cache
def item_frame() -> pd.DataFrame:
    """The catalogue: item_id, text, department and brand codes (0 = missing), exposures by week."""
    rng = np.random.default_rng(4)
    rows = []
    for number, item in enumerate(ITEMS):
        department = 0 if number == 7 else number % 3 + 1
        brand = 0 if number % 11 == 0 else number % 4 + 1
        weeks = sorted(rng.choice(29, rng.integers(0, 8), replace=False).tolist())
        rows.append(
            {
                "item_id": item,
                # items 0 and 30 share a text
                "text": f"{KINDS[number % 6]}. no {number % 30}",
                "department": department,
                "brand": brand,
                "exposure_week": [START + 7 * DAY * week for week in weeks],
                **{f"exposure_{c}": rng.integers(0, 20, len(weeks)).astype(float).tolist() for c in CHANNELS},
            }
        )
    return pd.DataFrame(rows)


def write_items(frame: pd.DataFrame, target: str | Path) -> ItemTable:
    """An item table through the real write and read path, from rows in a random order."""
    frame = frame.sample(frac=1, random_state=6)
    columns = {
        name: [value if isinstance(value, list) else [value] for value in frame[name]] for name in frame
    }
    example_io.write_records(str(target), [record_batch(columns)])
    table = example_io.read_table(str(target))
    return ItemTable.from_transformed(table, {"department": DEPARTMENTS, "brand": BRANDS}, CHANNELS)


@functools.cache
def items() -> ItemTable:
    return write_items(item_frame(), folder() / "items/Split-items")


def snapshot_at(as_of: int, config: Config = CONFIG) -> Snapshot:
    """Item tables of a moment, of all events and the whole catalogue."""
    category = config.items.category
    return snapshot.build(log(), items(), as_of, config.candidates, None, config.exposures, category)


@functools.cache
def vocabularies() -> Vocabularies:
    """Users without the last four of the past; two users lack attributes."""
    past = events()[events()["timestamp"] < CUTOFF]
    known = sorted(past["user_id"].unique())[:24]
    attribute_user = known[2:] + ["u25"]
    return Vocabularies(
        users=known,
        event_types=["purchase", "view"],
        contexts={"store_id": ["s2", "s1"]},
        attribute_user=attribute_user,
        attributes={"region": (np.arange(len(attribute_user)) % 3).astype(np.int32)},
        attribute_values={"region": ["north", "south"]},
    )


def event_types() -> EventTypes:
    """What the codes of the vocabulary mean."""
    return EventTypes.of(EVENT_KINDS, vocabularies().event_types)


@functools.cache
def item_vocabulary() -> list[str]:
    """Items with an identity embedding, the most frequent first; one is not in the catalogue."""
    counts = collections.Counter(events()[events()["timestamp"] < CUTOFF]["item_id"])
    return [item for item, count in counts.most_common() if count >= 8] + [STRANGER]


@cache.kept
def _transformed(base: Path) -> None:
    code = {item: index + 1 for index, item in enumerate(item_vocabulary())}
    users = {user: index + 1 for index, user in enumerate(vocabularies().users)}
    types = {kind: index + 1 for index, kind in enumerate(vocabularies().event_types)}
    stores = {store: index + 1 for index, store in enumerate(vocabularies().contexts["store_id"])}
    of_user = dict(tuple(events().groupby("user_id")))
    baskets = list(events().groupby(["user_id", "timestamp"]))
    for split, (start, end) in SPLITS.items():
        columns: dict[str, list[list[Any]]] = collections.defaultdict(list)
        for (user, when), basket in baskets:
            if not start <= when < end:
                continue
            mine = of_user[user]
            known = np.searchsorted(mine["timestamp"], when)  # they are in order
            history = mine.iloc[max(known - 20, 0) : known]
            moment = pd.Timestamp(when, unit="s")
            columns["user"].append([users.get(user, 0)])
            columns["timestamp"].append([when])
            columns["weekday"].append([moment.isoweekday()])
            columns["hour"].append([moment.hour + 1])
            columns["context_store_id"].append([stores.get(basket["store_id"].iloc[0], 0)])
            columns["target_item"].append([code.get(item, 0) for item in basket["item_id"]])
            columns["target_event_type"].append([types[kind] for kind in basket["event_type"]])
            columns["history_item"].append([code.get(item, 0) for item in history["item_id"]])
            columns["history_age_days"].append([float((when - t) / DAY) for t in history["timestamp"]])
            columns["history_event_type"].append([types[kind] for kind in history["event_type"]])
        example_io.write_records(str(base / f"Split-{split}"), [record_batch(columns)])


def transformed_folders() -> dict[str, str]:
    """Split -> folder of sessions in EventTransform's layout."""
    return {split: str(_transformed()[0] / f"Split-{split}") for split in SPLITS}


@dataclasses.dataclass(frozen=True)
class Built:
    """Artifact folders, as the components' executors wrote them, and what stands above them."""

    text_encoder: str
    retrieval: str
    index: str
    candidates: str
    ranking: str
    servable: str
    histories: str
    summaries: dict[str, str]
    factory: RetrieverFactory


LABEL_START = WINDOWS.label_starts(CONFIG.ranking)[0]


@functools.cache
def bert_preset(layers: int) -> str:
    """A small BERT with random weights, in Hugging Face's layout."""
    rng = np.random.default_rng(9)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "no", *KINDS]
    words += [mark + sign for mark in ("", "##") for sign in string.digits + string.ascii_lowercase]
    shapes = {
        "embeddings.word_embeddings.weight": (len(words), BERT_DIM),
        "embeddings.position_embeddings.weight": (32, BERT_DIM),
        "embeddings.token_type_embeddings.weight": (2, BERT_DIM),
    }
    shapes |= {"pooler.dense.weight": (BERT_DIM, BERT_DIM), "pooler.dense.bias": (BERT_DIM,)}
    shapes |= {f"embeddings.LayerNorm.{part}": (BERT_DIM,) for part in ("weight", "bias")}
    for at in (f"encoder.layer.{layer}" for layer in range(layers)):
        names = [f"{at}.attention.self.{name}" for name in ("query", "key", "value")]
        for name in (*names, f"{at}.attention.output.dense"):
            shapes |= {f"{name}.weight": (BERT_DIM, BERT_DIM), f"{name}.bias": (BERT_DIM,)}
        for name, out, size in (("intermediate", 32, BERT_DIM), ("output", BERT_DIM, 32)):
            shapes |= {f"{at}.{name}.dense.weight": (out, size), f"{at}.{name}.dense.bias": (out,)}
        for name in (f"{at}.attention.output", f"{at}.output"):
            shapes |= {f"{name}.LayerNorm.weight": (BERT_DIM,), f"{name}.LayerNorm.bias": (BERT_DIM,)}
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": len(words),
        "hidden_size": BERT_DIM,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "max_position_embeddings": 32,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
    }
    target = folder() / f"bert_{layers}"
    target.mkdir()
    (target / "vocab.txt").write_text("\n".join(words))
    (target / "config.json").write_text(json.dumps(config))
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    return str(target)


@cache.kept
def _text_encoder(base: Path) -> str:
    config = CONFIG.text_encoder.model_copy(update={"preset": bert_preset(1)})
    return text_executor.run(
        items(), None, None, 0, config, tf.distribute.get_strategy(), str(base / "model"), str(base / "run")
    )


def text_encoder() -> tuple[str, str]:
    """(artifact folder, summary) of the tiny BERT."""
    base, summary = _text_encoder()
    return str(base / "model"), summary


@cache.kept
def _towers(base: Path) -> str:
    inputs = retrieval_executor.Inputs(
        [transformed_folders()[split] for split in WINDOWS.past],
        items(),
        item_vocabulary(),
        vocabularies(),
        EVENT_KINDS,
        os.path.join(text_encoder()[0], artifacts.TEXT_VECTORS),
        LABEL_START,
    )
    return retrieval_executor.run(
        inputs, CONFIG.retrieval, CONFIG.candidates.collaborative, str(base / "model"), str(base / "run")
    )


def towers() -> tuple[str, str]:
    """(artifact folder, summary) of the two towers."""
    base, summary = _towers()
    return str(base / "model"), summary


def towers_run() -> Path:
    """Where the training of the towers wrote its history."""
    return _towers()[0] / "run"


@cache.kept
def _index(base: Path) -> None:
    index_executor.run(
        past_log(),
        event_types(),
        items(),
        arrays.load(os.path.join(towers()[0], artifacts.ITEM_VECTORS))["vectors"],
        index_executor.load_queries(towers()[0], items(), items()),
        np.zeros(0, np.int32),
        [LABEL_START, CUTOFF],
        CONFIG.candidates,
        0.95,
        str(base),
        CONFIG.exposures,
        CONFIG.items.category,
    )


@functools.cache
def factory() -> RetrieverFactory:
    """Retrievers as of LABEL_START and CUTOFF."""
    return RetrieverFactory(CONFIG, items(), vocabularies(), towers()[0], str(_index()[0]))


@cache.kept
def _candidates(base: Path) -> str:
    starts = [(LABEL_START, CUTOFF)]
    window = LabelWindow.between
    makes = factory()
    _, summary = sampler_executor.run(
        [window(past_log(), start, end, makes.at(start), items()) for start, end in starts],
        window(log(), CUTOFF, END, makes.at(CUTOFF), items()),
        {"half": np.where(np.arange(len(log().users)) % 2, "odd", "even").astype(object)},
        slicing.item_slices(log().before(CUTOFF), items(), CONFIG.quality.item_slices),
        CONFIG.candidates.history_length,
        CONFIG.ranking,
        str(base),
    )
    return summary


@cache.kept
def _ranking(base: Path) -> str:
    return ranking_executor.run(
        example_io.split_folder(str(_candidates()[0]), "train"),
        factory().at,
        ("store_id",),
        CONFIG.ranking,
        str(base / "model"),
        str(base / "run"),
    )


@cache.kept
def _servable(base: Path) -> str:
    from tests.shops import tiny_search  # is made of this shop

    ranking_folder = artifacts.model_folder(str(_ranking()[0] / "model"))
    retriever = factory().at(CUTOFF)
    return servable_executor.run(
        retriever,
        items(),
        ranking_folder,
        artifacts.model_folder(text_encoder()[0]),
        past_log(),
        CUTOFF,
        CONFIG,
        str(base / "model"),
        str(base / "histories"),
        tiny_search.personal_parts(retriever, load(ranking_folder)),
    )


@functools.cache
def built() -> Built:
    """The whole chain up to the servable."""
    servable, summary = _servable()
    summaries = {"text_encoder": text_encoder()[1], "retrieval": towers()[1], "servable": summary}
    summaries |= {"candidates": _candidates()[1], "ranking": _ranking()[1]}
    return Built(
        text_encoder()[0],
        towers()[0],
        str(_index()[0]),
        str(_candidates()[0]),
        str(_ranking()[0] / "model"),
        str(servable / "model"),
        str(servable / "histories"),
        summaries,
        factory(),
    )


# For models that no test changes: loading one takes seconds, and so does the first answer of each
# signature.
load = functools.cache(tf.saved_model.load)


def request(
    users: Sequence[str],
    histories: Sequence[Sequence[tuple[Any, ...]]],
    stores: Sequence[str] | None = None,
    timestamp: int = CUTOFF,
    event_type: str = "purchase",
) -> dict[str, tf.Tensor]:
    """Request inputs from histories of (item, age in days) or (item, age, event type), padded at the end."""
    longest = max(1, *(len(history) for history in histories))
    pad = [[(*each, event_type)[:3] for each in history] for history in histories]
    pad = [history + [("", 0.0, "")] * (longest - len(history)) for history in pad]
    ids = [[item for item, _, _ in row] for row in pad]
    return {
        "user_id": tf.constant(list(users)),
        "history_item_id": tf.constant(ids),
        "history_age_days": tf.constant([[age for _, age, _ in row] for row in pad], tf.float32),
        "history_event_type": tf.constant([[kind if item else "" for item, _, kind in row] for row in pad]),
        "context_store_id": tf.constant(list(stores) if stores else ["s1"] * len(users)),
        "context_timestamp": tf.fill([len(users)], tf.constant(timestamp, tf.int64)),
    }


def random_histories(count: int, seed: int = 11) -> list[list[tuple[str, float]]]:
    """Histories with repeats, unknown and rare items; the last one is empty."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count - 1):
        size = int(rng.integers(1, 30))
        ages = np.sort(rng.uniform(0, 300, size))[::-1].round(2)
        pool = rng.choice([*ITEMS, STRANGER], 8, replace=False)
        out.append([(str(rng.choice(pool)), float(age)) for age in ages])
    return [*out, []]


def recommend_inputs(
    inputs: Mapping[str, tf.Tensor],
    k: int | Sequence[int] = 0,
    exclude: Sequence[Sequence[str]] | None = None,
    category: Sequence[Sequence[str]] | None = None,
    diversity: float = 0.0,
    drop_bought_days: float = -1.0,
) -> dict[str, tf.Tensor]:
    """A request with the rest of what `recommend` takes."""
    size = int(inputs["user_id"].shape[0])
    return dict(inputs) | {
        "exclude_item_id": tf.constant(exclude or [[""]] * size),
        "category": tf.constant(category or [[""]] * size),
        "k": tf.constant([k] * size if isinstance(k, int) else k, tf.int32),
        "diversity": tf.fill([size], diversity),
        "drop_bought_days": tf.fill([size], drop_bought_days),
    }


def rank_inputs(
    inputs: Mapping[str, tf.Tensor],
    candidates: tf.Tensor | Sequence[Sequence[str]],
    exclude: Sequence[Sequence[str]] | None = None,
) -> dict[str, tf.Tensor]:
    """A request with the rest of what `rank` and `explain` take; nothing is excluded by default."""
    size = int(inputs["user_id"].shape[0])
    return dict(inputs) | {
        "candidate_item_id": tf.convert_to_tensor(candidates),
        "exclude_item_id": tf.constant(exclude or [[""]] * size),
    }


def text(tensor: tf.Tensor) -> np.ndarray:
    """A string tensor as an array of str."""
    values = tensor.numpy()
    return np.char.decode(values.astype("S"), "utf-8").astype(object) if tensor.dtype == tf.string else values


@pytest.fixture(scope="session", autouse=True)
def tiny_shop_folder():
    """Removes the folder after the last test of the session."""
    yield
    remove_folder()
