"""MovieLens-100K through its configuration alone: the leave-one-out protocol on the real files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from schema.config import load

pytestmark = pytest.mark.slow

CONFIG = "pipeline/configs/movielens_100k.yaml"


@pytest.fixture(scope="module")
def ratings():
    """All ratings in time order, ties in the file's."""
    frame = pd.read_csv(load(CONFIG).data.resolve("ml-100k.inter"), sep="\t")
    frame.columns = [name.split(":")[0] for name in frame.columns]
    return frame.sort_values("timestamp", kind="stable")


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Folder of the sessions that EventExampleGen writes."""
    import apache_beam as beam

    from components.event_example_gen import executor
    from components.event_example_gen.settings import Settings

    config = load(CONFIG)
    out = tmp_path_factory.mktemp("events")
    settings = Settings.of(config)
    summary = executor.run(beam.Pipeline(argv=config.beam_args), settings, str(out))
    assert summary["splits"] == {"train": 98_114, "eval": 943, "test": 943}
    return out


def read(folder: Path, split: str) -> pd.DataFrame:
    from models.data import example_io

    table = example_io.read_table(str(folder / f"Split-{split}"))
    frame = pd.DataFrame(
        {name: example_io.first(table, name, "") for name in ("user_id", "target_item_id")}
        | {"timestamp": example_io.first(table, "timestamp", 0)}
    )
    frame["history"] = [[item.decode() for item in items.as_py()] for items in table["history_item_id"]]
    return frame


def test_each_user_s_last_two_ratings_are_held_out(examples, ratings):
    wanted = {user: items.tolist() for user, items in ratings.groupby("user_id")["item_id"]}
    length = load(CONFIG).events.history_length
    for split, place in (("test", -1), ("eval", -2)):
        found = read(examples, split)
        assert set(found["user_id"].astype(int)) == set(wanted)
        for row in found.itertuples():
            mine = wanted[int(row.user_id)]
            assert int(row.target_item_id) == mine[place]
            # what was rated before, also within the same second, and nothing after
            assert [int(item) for item in row.history] == mine[:place][-length:]
    train = read(examples, "train").groupby("user_id", sort=False)["target_item_id"].apply(list)
    assert {int(user): [int(item) for item in items] for user, items in train.items()} == {
        user: items[:-2] for user, items in wanted.items()
    }


def test_popularity_is_the_reference_s_on_the_validation_item(examples, ratings):
    """NDCG@10 .0345 is what a reference implementation of the protocol gives for popularity."""
    from benchmarks import baselines
    from components.common import metrics
    from components.common.protocol import Protocol
    from components.common.windows import Windows
    from models.data.event_log import EventLog

    end = int(ratings["timestamp"].max()) + 1
    windows = Windows(("train",), "eval", end, end, by_time=False)
    protocol = Protocol.of(
        EventLog.read([str(examples / f"Split-{split}") for split in windows.splits], None), windows, 0
    )
    users = protocol.users("novel")
    data = baselines.Interactions(
        protocol.past.user,
        protocol.column[protocol.past.item],
        np.zeros(len(protocol.past), np.float32),
        len(protocol.log.users),
        len(protocol.catalogue),
        users,
    )
    top = baselines.top_k(baselines.popularity(data, "lines"), 10, data.matrix()[users])
    values = metrics.per_user(top, protocol.relevant["novel"][users], [10])
    assert len(users) == 943
    assert values["ndcg@10"].mean() == pytest.approx(0.0345, abs=2e-4)


def test_items_have_their_texts_in_the_features_that_the_schema_names(tmp_path):
    import apache_beam as beam

    from components.catalog_example_gen import executor
    from components.catalog_example_gen.settings import Settings
    from models.data import example_io

    config = load(CONFIG)
    settings = Settings.of(config)
    folders = [str(tmp_path / name) for name in ("items", "users")]
    counts = executor.run(beam.Pipeline(argv=config.beam_args), settings, *folders)
    assert (counts["items"], counts["users"]) == (1682, 943)
    table = example_io.read_table(f"{folders[0]}/Split-items")
    row = example_io.first(table, "item_id", "").tolist().index("1")
    found = {name: example_io.first(table, name, "")[row] for name in table.schema.names}
    assert found == {
        "item_id": "1",
        "text_movie_title_token_seq": "Toy Story",
        "text_class_token_seq": "Animation Children's Comedy",
        "text_release_year_token": "1995",
        "genres": "Animation Children's Comedy",
        "year": "1995",
    }
