"""A servable of any number of items, from the real model classes with weights that nobody trained.

    python benchmarks/synthetic_servable.py 1000000 /tmp/million
    python benchmarks/synthetic_servable.py 20000 /tmp/more candidates.two_tower=450

For measuring how cost grows with the catalogue: sizes (sources, history, features, vocabularies,
vectors) are those of The Complete Journey's configuration, what is in them is random; item vectors
lie in clusters, as trained ones do. Its lists say nothing.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import tensorflow as tf  # noqa: E402

from components.common import artifacts  # noqa: E402
from components.servable_builder import executor as servable_executor  # noqa: E402
from models.data import example_io  # noqa: E402
from models.data.event_log import EventLog  # noqa: E402
from models.data.item_table import ItemTable  # noqa: E402
from models.data.requests import Vocabularies  # noqa: E402
from models.funnel.retriever import Retriever, search_vectors  # noqa: E402
from models.ranking import training  # noqa: E402
from models.ranking.ranker import RankingModel  # noqa: E402
from models.retrieval.index.kinds import make_plan  # noqa: E402
from models.retrieval.promotions import Promotions  # noqa: E402
from models.retrieval.snapshot import Snapshot  # noqa: E402
from models.retrieval.towers import ItemEmbedding, QuerySpec, QueryTower  # noqa: E402
from models.text.encoder import TextEncoder, dtype_here  # noqa: E402
from models.text.served import ServedEncoder  # noqa: E402
from schema.config import Config, load  # noqa: E402
from schema.config.loading import parse_settings  # noqa: E402

AS_OF = 1_512_360_000  # 4 December 2017
_DAY = 86_400
# of The Complete Journey
_CODES = {"department": 31, "category": 303, "product_type": 2378, "brand": 2, "manufacturer": 6471}
_STATS = 28
_NAMED = ("log_lines_7", "log_first_age", "log_price", "log_cycle")  # what the graph reads by name
_TEXT_DIM = 32
_USERS, _EVENTS, _STORES, _TEXTS = 200, 600, 380, 64


def catalogue(count: int, rng: np.random.Generator) -> ItemTable:
    """Items "1000000", "1000001", ... with random categories and a few distinct texts."""
    texts = np.asarray([f"product {number} of the shop. department {number % 7}" for number in range(_TEXTS)])
    return ItemTable(
        item_id=np.asarray(["", *map(str, range(10**6, 10**6 + count))], object),
        text=np.asarray(["", *texts[rng.integers(0, _TEXTS, count)]], object),
        categorical={
            name: np.append(0, rng.integers(1, size + 1, count)).astype(np.int32)
            for name, size in _CODES.items()
        },
        vocabularies={
            name: np.asarray(["", *(f"{name} {code}" for code in range(1, size + 1))], object)
            for name, size in _CODES.items()
        },
        exposure_row=np.zeros(0, np.int32),
        exposure_week=np.zeros(0, np.int64),
        exposure={},
    )


def events(items: ItemTable, vocabularies: Vocabularies, rng: np.random.Generator, folder: str) -> EventLog:
    """A year of baskets of ten items; some items are bought far more often than others."""
    sessions = _USERS * _EVENTS // 10
    # Zipf's law: the n-th item is bought as often as 1 / n
    rank = np.exp(rng.uniform(0, np.log(len(items) - 1), (sessions, 10))).astype(int)

    def column(values: np.ndarray, kind: pa.DataType) -> pa.Array:
        return pa.array(values.reshape(sessions, -1).tolist(), pa.large_list(kind))

    user = np.asarray(vocabularies.users, object)[np.arange(sessions) % _USERS]
    stores = np.asarray(vocabularies.contexts["store_id"], object)
    batch = pa.RecordBatch.from_pydict(
        {
            "session_id": column(np.asarray([f"s{n}".encode() for n in range(sessions)]), pa.large_binary()),
            "user_id": column(user, pa.large_binary()),
            "timestamp": column(AS_OF - rng.integers(1, 365 * _DAY, sessions), pa.int64()),
            "context_store_id": column(stores[rng.integers(0, _STORES, sessions)], pa.large_binary()),
            "target_item_id": column(items.item_id[rank], pa.large_binary()),
            "target_event_type": column(np.full((sessions, 10), b"purchase", object), pa.large_binary()),
            "target_quantity": column(np.ones((sessions, 10)), pa.float32()),
            "target_value": column(np.ones((sessions, 10)), pa.float32()),
        }
    )
    example_io.write_records(folder, [batch])
    return EventLog.read([folder], None, ["store_id"])


def clustered(cluster: np.ndarray, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors, float32 [N, dim], around a random centre for each cluster number (int [N])."""
    centres = rng.standard_normal((cluster.max() + 1, dim), np.float32)
    vectors = centres[cluster] + 0.5 * rng.standard_normal((len(cluster), dim), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def snapshot(items: ItemTable, cluster: np.ndarray, config: Config, rng: np.random.Generator) -> Snapshot:
    """Every item is a candidate with as many neighbours as it can have."""
    collaborative = clustered(cluster[1:], config.candidates.collaborative.rank, rng)
    count = len(items) - 1
    rows = np.arange(1, count + 1, dtype=np.int32)
    popularity = (1e6 / rows).astype(np.float32)
    neighbours = min(config.candidates.neighbours, count - 1)
    return Snapshot(
        as_of=AS_OF,
        candidate_row=rows,
        row_candidate=np.append(count, rows - 1).astype(np.int32),
        stats=rng.normal(0, 1, (count + 1, _STATS)).astype(np.float32),
        stat_names=(*_NAMED, *(f"stat_{number}" for number in range(len(_NAMED), _STATS))),
        trending=popularity / 12,
        sold=popularity / 12,
        popularity=popularity,
        neighbour=rng.integers(0, count, (count, neighbours), dtype=np.int32),
        neighbour_weight=-np.sort(-rng.random((count, neighbours), np.float32), axis=1),
        collaborative_input=collaborative,
        collaborative_output=collaborative,
        promotions=Promotions.none(len(items)),
    )


def save_ranker(retriever: Retriever, config: Config, rng: np.random.Generator, folder: str) -> None:
    """The ranker as RankingTrainer exports it, its bins at the quantiles of random numbers."""
    features = retriever.pair_features
    width, of_item, sizes = len(features.names), features.item_width, features.code_sizes
    model = RankingModel(width, sizes, config.ranking, of_item)
    model.adapt(rng.normal(0, 1, (2000, width)).astype(np.float32), np.zeros(2000, bool))
    training.export(model, width, of_item, list(sizes), folder)


@dataclasses.dataclass(frozen=True)
class SyntheticShop:
    """What ServableBuilder is given, for items that nobody sells.

    Attributes:
      retriever: as of `AS_OF`.
      items: the catalogue.
      log: events.
      index: kind of the search.
      ranker, text_encoder: folders of SavedModels.
    """

    retriever: Retriever
    items: ItemTable
    log: EventLog
    index: str
    ranker: str
    text_encoder: str

    @classmethod
    def make(cls, count: int, config: Config, folder: str, seed: int = 0) -> SyntheticShop:
        """Makes it.

        Args:
          count: items, all of them candidates.
          config: the shop's.
          folder: for the parts that are files.
          seed: of everything random.
        """
        tf.keras.utils.set_random_seed(seed)
        rng = np.random.default_rng(seed)
        items = catalogue(count, rng)
        vocabularies = Vocabularies(
            users=[f"u{number:04d}" for number in range(_USERS)],
            event_types=["purchase"],
            contexts={"store_id": [str(300 + number) for number in range(_STORES)]},
            attribute_user=[],
            attributes={},
            attribute_values={},
        )
        dim = config.retrieval.embedding_dim
        text_folder, ranker_folder = os.path.join(folder, "text"), os.path.join(folder, "ranker")
        text = config.text_encoder
        encoder = tf.Module(name="text_encoder")
        encoder.encoder = ServedEncoder(TextEncoder(text.preset, text.sequence_length, dtype_here()))
        encoder.encode = encoder.encoder.function()
        tf.saved_model.save(encoder, text_folder)
        embedding = ItemEmbedding(items, np.arange(count + 1, dtype=np.int32), dim, 0.0, name="items")
        spec = QuerySpec(_USERS + 1, 2, {}, {"store_id": _STORES + 1})
        query_tower = QueryTower(embedding, spec, dim, 0.0, 0.0, name="query")
        towers = tf.Module(name="towers")
        towers.query_tower = query_tower
        towers.query = tf.function(lambda inputs: query_tower(inputs, training=False), autograph=False)
        towers.scale = tf.Variable(1.0)
        cluster = rng.integers(0, int(np.sqrt(count)), count + 1)
        vectors, tables = clustered(cluster, dim, rng), snapshot(items, cluster, config, rng)
        text_space = clustered(cluster, _TEXT_DIM, rng)
        searched = search_vectors(vectors, tables)
        plan = make_plan(
            *(config.candidates.index, searched, tables.candidate_row),
            *(searched[rng.integers(1, count + 1, 200)], min(20, count), config.candidates.index_recall),
        )
        retriever = Retriever(config, items, vocabularies, tables, vectors, text_space, plan, towers)
        save_ranker(retriever, config, rng, ranker_folder)
        log = events(items, vocabularies, rng, os.path.join(folder, "events"))
        return cls(retriever, items, log, plan.kind, ranker_folder, text_folder)


def build(count: int, target: Path, config: Config) -> str:
    """Builds the servable.

    Args:
      count: items, all of them candidates.
      target: the version folder to make, `<base>/<number>`.
      config: the shop's.

    Returns:
      A line for a person.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        shop_ = SyntheticShop.make(count, config, work)
        line = servable_executor.run(
            shop_.retriever,
            shop_.items,
            shop_.ranker,
            shop_.text_encoder,
            shop_.log,
            AS_OF,
            config,
            os.path.join(work, "servable"),
            os.path.join(work, "histories"),
        )
        os.rename(artifacts.model_folder(os.path.join(work, "servable")), target)
    sizes = config.candidates
    places = sum(sizes.sizes.values())
    return f"{line}; {shop_.index} search, up to {places} candidates ranked"


def configured(settings: Sequence[str] = ()) -> Config:
    """The Complete Journey's configuration with settings `path=value` of one's own."""
    return load(ROOT / "pipeline" / "configs" / "complete_journey.yaml", parse_settings(settings, ""))


if __name__ == "__main__":
    base = Path(sys.argv[2])
    base.mkdir(parents=True, exist_ok=True)
    print(build(int(sys.argv[1]), base / "1", configured(sys.argv[3:])))
