"""Items, users and exposure weeks against pandas; repeated and missing ids."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

pytest.importorskip("apache_beam")

from components.catalog_example_gen import executor
from components.catalog_example_gen import exposures as exposures_lib
from components.catalog_example_gen.settings import Settings
from components.common.columns import deserialize, serialize
from components.common.tables import Chunk
from schema.config import Exposures, Items, Users
from schema.errors import DataError

ORIGIN = 1_482_728_400  # 2016-12-26 05:00:00
EXPOSURES = Exposures.model_validate(
    {
        "path": "promotions.parquet",
        "item_id": "product_id",
        "store": "store_id",
        "time": {"column": "week", "unit": "week", "origin": "2016-12-26T05:00:00", "first": 1},
        "channels": {"display": "display_location", "mailer": "mailer_location"},
        "inactive": ["0"],
    }
)
ITEMS = Items.model_validate(
    {"path": "items.csv", "item_id": "id", "text": ["title"], "categorical": {"brand": "b", "label": "title"}}
)


def make_promotions(seed=0, rows=900):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "item_id": rng.integers(80, 120, rows),  # two- and three-digit ids sort differently as text
            "store": rng.integers(0, 15, rows),
            "time": rng.integers(1, 6, rows),
            "channel_display": rng.choice(["0", "1", "A"], rows),
            "channel_mailer": rng.choice(["0", "0", "D", None], rows),
        }
    )


def make_chunk(frame, path="promotions.parquet", first_row=0):
    return Chunk(pa.RecordBatch.from_pandas(frame, preserve_index=False), path, 0, first_row)


def count(frame, exposures=EXPOSURES, batch=400):
    """stores_by_week of batches that went through the shuffle's serialization."""
    partials = [
        exposures_lib.exposed(make_chunk(frame[i : i + batch]), exposures)
        for i in range(0, len(frame), batch)
    ]
    return exposures_lib.stores_by_week(deserialize([serialize(p) for p in partials]), exposures)


@pytest.mark.parametrize("batch", [100, 1100])
def test_stores_by_week_equal_pandas(batch):
    frame = make_promotions()
    frame = pd.concat([frame, frame.sample(200, random_state=1)])  # repeated rows count once
    found = count(frame, batch=batch).to_pandas()
    weeks = ORIGIN + (frame["time"] - 1) * 7 * 86_400
    wanted = {}
    for name in ("display", "mailer"):
        active = ~frame[f"channel_{name}"].isin(["0", None])
        rows = pd.DataFrame(
            {"item_id": frame["item_id"].astype(str), "week": weeks, "store": frame["store"]}
        )[active]
        wanted[f"exposure_{name}"] = rows.groupby(["item_id", "week"])["store"].nunique().astype("float32")
    expected = pd.DataFrame(wanted).fillna(0).astype("float32").sort_index().reset_index()
    assert (expected["exposure_mailer"] == 0).any()
    pd.testing.assert_frame_equal(found, expected)


def test_dictionary_encoded_channels_count_alike():
    frame = make_promotions(1)
    encoded = frame.assign(channel_display=frame["channel_display"].astype("category"))
    assert count(encoded).equals(count(frame))


def test_a_channel_can_be_some_values_of_a_column():
    front = {"column": "mailer_location", "values": ["D", "H"]}
    channels = {**EXPOSURES.channels, "front": front}
    exposures = Exposures.model_validate({**EXPOSURES.model_dump(), "channels": channels})
    frame = make_promotions(4)
    frame["channel_mailer"] = np.random.default_rng(4).choice(["0", "D", "A", "H", None], len(frame))
    frame["channel_front"] = frame["channel_mailer"]
    found = count(frame, exposures).to_pandas()
    plain = count(frame.assign(channel_mailer=frame["channel_mailer"].replace({"A": "0"})))
    wanted = plain.to_pandas().set_index(["item_id", "week"])["exposure_mailer"]
    got = found.set_index(["item_id", "week"])["exposure_front"]
    assert got[got > 0].equals(wanted[wanted > 0].rename("exposure_front"))
    assert (found["exposure_mailer"] > found["exposure_front"]).any()
    roles = {role.name: role.column for role in exposures_lib.exposure_roles(exposures)}
    assert roles["channel_front"] == "mailer_location"
    assert roles["channel_mailer"] == EXPOSURES.channels["mailer"]


def test_without_stores_a_week_counts_one():
    exposures = EXPOSURES.model_copy(update={"store": None})
    frame = make_promotions(2).drop(columns="store")
    found = count(frame, exposures).to_pandas()
    assert set(found["exposure_display"]) <= {0.0, 1.0}
    assert len(found) == len(count(make_promotions(2)))


def test_without_channels_every_row_is_an_exposure():
    exposures = EXPOSURES.model_copy(update={"channels": {}})
    frame = make_promotions(3)[["item_id", "store", "time"]]
    found = count(frame, exposures)
    assert found.schema.names == ["item_id", "week"]
    assert found.num_rows == len(frame[["item_id", "time"]].drop_duplicates())


@pytest.mark.parametrize(
    ("time", "value", "start"),
    [
        ({"column": "t", "unit": "week", "origin": "2016-12-26T05:00:00"}, 3, "2017-01-09 05:00"),
        (
            {"column": "t", "unit": "week", "origin": "2016-12-26T05:00:00+05:00", "first": 0},
            1,
            "2017-01-02 00:00",
        ),
        ({"column": "t", "unit": "day", "origin": "2017-01-02T00:00:00", "first": 1}, 7, "2017-01-02 00:00"),
        ({"column": "t", "unit": "day", "origin": "2017-01-02T00:00:00", "first": 1}, 8, "2017-01-09 00:00"),
        ({"column": "t"}, 1_483_920_000 - 1, "2017-01-02 00:00"),  # the last second of a Sunday
        ({"column": "t"}, 1_483_920_000, "2017-01-09 00:00"),
        ({"column": "t", "origin": "2017-01-04T00:00:00"}, 1_483_920_000, "2017-01-04 00:00"),
    ],
)
def test_week_starts(time, value, start):
    exposures = Exposures.model_validate({"path": "p", "item_id": "i", "time": time})
    found = exposures_lib.week_starts(make_chunk(pd.DataFrame({"time": [value]})), exposures)
    assert str(dt.datetime.fromtimestamp(int(found[0]), dt.UTC))[:16] == start


@pytest.mark.parametrize("column", ["item_id", "store"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.int32(), pa.int64()),
        (pa.int64(), pa.string()),
        (pa.string(), pa.large_string()),
        (pa.uint64(), pa.int8()),
        (pa.dictionary(pa.int32(), pa.string()), pa.int64()),
        (pa.dictionary(pa.int32(), pa.int64()), pa.int32()),
    ],
)
def test_files_of_different_id_types_count_as_one(column, first, second):
    frame = make_promotions(5)
    partials = []
    for part, kind in ((frame[:400], first), (frame[300:], second)):  # 100 rows are in both
        batch = make_chunk(part).batch
        values = batch.column(column)
        if pa.types.is_dictionary(kind):
            values = values.cast(kind.value_type).dictionary_encode()
        index = batch.schema.get_field_index(column)
        batch = batch.set_column(index, column, values.cast(kind))
        partials.append(serialize(exposures_lib.exposed(Chunk(batch, "promotions.parquet", 0, 0), EXPOSURES)))
    assert exposures_lib.stores_by_week(deserialize(partials), EXPOSURES).equals(count(frame))


def test_missing_store_is_an_error():
    frame = make_promotions(4, rows=10).astype({"store": "Int64"})
    frame.loc[3, "store"] = None
    wanted = r"promotions.parquet: column 'store_id' \(exposures.store\) has no value .* in row 24, 1 times"
    with pytest.raises(DataError, match=wanted):
        exposures_lib.exposed(make_chunk(frame, first_row=20), EXPOSURES)


def test_items_meet_their_weeks():
    roles = executor.item_roles(ITEMS)
    frame = pd.DataFrame(
        {
            "item_id": [100, 99, 1000],
            "text_title": ["Tea", "", None],
            "brand": [69.0, float("nan"), 7.0],
            "label": ["Tea", "", None],
        }
    )
    rows = pa.Table.from_batches([executor.attributes(make_chunk(frame), roles)])
    weeks = pa.table(
        {
            "item_id": ["100", "100", "98", "99"],  # 98 is not in the catalogue
            "week": [1, 2, 1, 3],
            "exposure_display": pa.array([1, 2, 9, 4], pa.float32()),
        }
    )
    found = executor.examples(rows, roles, weeks).to_pylist()
    assert [row["item_id"] for row in found] == [[b"100"], [b"1000"], [b"99"]]
    assert found[0] == {
        "item_id": [b"100"],
        "text_title": [b"Tea"],
        "brand": [b"69"],
        "label": [b"Tea"],
        "exposure_week": [1, 2],
        "exposure_display": [1.0, 2.0],
    }
    assert [row["exposure_week"] for row in found] == [[1, 2], [], [3]]
    assert not found[2]["text_title"]
    assert not found[2]["brand"]


@pytest.mark.parametrize("missing", [None, ""])
def test_missing_item_id(missing):
    frame = pd.DataFrame({"item_id": ["a", missing], "text_title": "t", "brand": "b", "label": "t"})
    with pytest.raises(DataError, match=r"items.csv: column 'id' \(items.item_id\) .* in row 12"):
        executor.attributes(make_chunk(frame, "items.csv", 10), executor.item_roles(ITEMS))


def test_users_have_only_their_attributes():
    users = Users.model_validate(
        {"path": "u.csv", "user_id": "h", "categorical": {"age": "a"}, "sensitive": ["age"]}
    )
    roles = executor.user_roles(users)
    frame = pd.DataFrame({"user_id": [2, 1], "age": ["65+", None]})
    found = executor.examples(pa.Table.from_batches([executor.attributes(make_chunk(frame), roles)]), roles)
    assert found.to_pylist() == [{"user_id": [b"1"], "age": None}, {"user_id": [b"2"], "age": [b"65+"]}]


def test_settings_ignore_sample_and_sensitivity():
    from schema.config import load

    path = "pipeline/configs/complete_journey.yaml"
    plain = Settings.of(load(path)).to_json()
    same = load(path, {"data.sample_users": 9, "users.sensitive": [], "items.brand": None})
    assert Settings.of(same).to_json() == plain
    assert Settings.of(load(path, {"exposures.inactive": ["0", "X"]})).to_json() != plain
    without = Settings.of(load(path, {"users": None}))
    assert without.users is None
    assert without.exposures is not None


def test_numbers_of_an_item_stay_numbers_and_gaps_stay_gaps():
    settings = ITEMS.model_copy(update={"categorical": {}, "price": "p", "added": "a", "popularity": "n"})
    frame = pd.DataFrame(
        {
            "item_id": ["b", "a", "c"],
            "text_title": ["x", None, "y"],
            "item_price": [1.5, None, float("inf")],
            "item_added": pd.to_datetime([None, "2020-01-02T00:00:01", None]),
            "item_popularity": pd.array([3, None, 1 << 33], "Int64"),
        }
    )
    roles = executor.item_roles(settings)
    assert [role.column for role in roles[-3:]] == ["p", "a", "n"]
    batch = executor.examples(pa.Table.from_batches([executor.attributes(make_chunk(frame), roles)]), roles)
    assert batch.column("item_id").to_pylist() == [[b"a"], [b"b"], [b"c"]]
    assert batch.column("item_price").to_pylist() == [None, [1.5], None]
    assert batch.column("item_added").to_pylist() == [[1_577_923_201], None, None]
    assert batch.column("item_popularity").to_pylist() == [None, [3.0], [float(1 << 33)]]
    empty = frame.assign(item_price=None, item_added=None)
    batch = executor.attributes(make_chunk(empty), roles)
    assert batch.column("item_price").null_count == batch.column("item_added").null_count == 3
