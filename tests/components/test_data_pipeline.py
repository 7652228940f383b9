"""The data side as a real pipeline: example gens, statistics, reviewed schemas, validators, gate."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from schema.config import load
from schema.errors import DataError, GateError, find_user_error
from tests.shops.households import household_frames, write_shop

pytestmark = pytest.mark.slow

SHOP = "pipeline/configs/complete_journey.yaml"
USERS = 60
QUALITY_TYPE = "Metrics"
EVENT_SPLITS = ("train", "eval", "test")


@pytest.fixture(scope="module")
def shop():
    """Frames of 90 households of the Complete Journey (a sample of 60 is smaller)."""
    return household_frames(90)


def run_pipeline(folder, config):
    """Runs the data side in a LocalDagRunner; the metadata's path."""
    from tfx import v1 as tfx

    from components.catalog_example_gen import settings as catalog_settings
    from components.catalog_example_gen.component import CatalogExampleGen
    from components.common.fingerprint import code_version, data_version
    from components.data_quality_gate.component import DataQualityGate
    from components.event_example_gen import settings as event_settings
    from components.event_example_gen.component import EventExampleGen

    resolve = config.data.resolve
    tables = {"items.path": config.items.path, "users.path": config.users and config.users.path}
    tables["exposures.path"] = config.exposures.path
    catalog_gen = CatalogExampleGen(
        config=catalog_settings.Settings.of(config).to_json(),
        data_version=data_version({key: resolve(path) for key, path in tables.items() if path}),
        code_version=code_version("components.catalog_example_gen"),
    )
    event_gen = EventExampleGen(
        config=event_settings.Settings.of(config).to_json(),
        data_version=data_version({"events.path": resolve(config.events.path)}),
        code_version=code_version("components.event_example_gen"),
        items=catalog_gen.outputs["items"],
    )
    examples = {"items": catalog_gen.outputs["items"], "events": event_gen.outputs["examples"]}
    if config.users:
        examples["users"] = catalog_gen.outputs["users"]
    steps, anomalies = [catalog_gen, event_gen], {}
    for table, channel in examples.items():
        statistics = tfx.components.StatisticsGen(examples=channel).with_id(f"{table}_statistics")
        schema_file = f"{config.schema_dir}/{table}.pbtxt"
        schema = tfx.components.ImportSchemaGen(schema_file=schema_file).with_id(f"{table}_schema")
        validator = tfx.components.ExampleValidator(
            statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
        ).with_id(f"{table}_validator")
        anomalies[table] = validator.outputs["anomalies"]
        steps += [statistics, schema, validator]
    steps.append(DataQualityGate(**anomalies, schema_dir="schema/complete_journey", code_version="1"))
    metadata = str(folder / "metadata.sqlite")
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="data",
            pipeline_root=str(folder / "root"),
            components=steps,
            enable_cache=True,
            metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(metadata),
            beam_pipeline_args=config.beam_args,
        )
    )
    return metadata


def artifacts(metadata, type_name):
    """Live artifacts of a type, oldest first."""
    from tfx import v1 as tfx
    from tfx.orchestration import metadata as tfx_metadata

    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(metadata)
    with tfx_metadata.Metadata(connection) as store:
        found = store.store.get_artifacts_by_type(type_name)
    return sorted(found, key=lambda artifact: artifact.id)


def examples_by_split(metadata):
    """Examples artifacts by their split names."""
    return {
        tuple(json.loads(a.properties["split_names"].string_value)): a
        for a in artifacts(metadata, "Examples")
    }


def read_examples(uri, split):
    """Rows of one split as dicts of plain lists."""
    import tensorflow as tf

    files = sorted(str(path) for path in Path(uri).glob(f"Split-{split}/*.gz"))
    assert files
    rows = []
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        rows.append({k: list(getattr(v, v.WhichOneof("kind")).value) for k, v in features.items()})
    return rows


@pytest.fixture(scope="module")
def good_run(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    config = load(SHOP, {"data.root": write_shop(folder / "shop", shop), "data.sample_users": USERS})
    return run_pipeline(folder, config)


def test_good_data_passes_the_gate(good_run):
    (quality,) = artifacts(good_run, QUALITY_TYPE)
    result = json.loads((Path(quality.uri) / "quality.json").read_text())
    assert result["passed"]
    assert {table: sorted(splits) for table, splits in result["tables"].items()} == {
        "items": ["items"],
        "users": ["users"],
        "events": ["eval", "test", "train"],
    }
    assert quality.custom_properties["summary"].string_value == "no anomalies in 3 tables (5 splits)"


def test_artifact_properties(good_run, shop):
    found = examples_by_split(good_run)
    assert set(found) == {("items",), ("users",), EVENT_SPLITS}
    items, events = found[("items",)], found[EVENT_SPLITS]
    found = events.custom_properties
    assert found["payload_format"].string_value == "FORMAT_TF_EXAMPLE"
    assert events.properties["span"].int_value == 0
    # 2017-11-06 04:01:20, 2017-12-04 04:01:20, 2018-01-01 04:01:20 UTC
    limits = [found[name].int_value for name in ("train_end", "eval_end", "data_end")]
    assert limits == [1_509_940_880, 1_512_360_080, 1_514_779_280]
    assert f"of {USERS} users" in found["summary"].string_value
    assert "test from 2017-12-04 04:01:20" in found["summary"].string_value
    assert items.custom_properties["summary"].string_value.startswith(f"{len(shop['products']):,} items, ")


def test_sessions_are_the_shops_baskets(good_run, shop):
    events = examples_by_split(good_run)[EVENT_SPLITS]
    frame = shop["transactions"]
    ids = sorted(frame["household_id"].unique(), key=lambda u: hashlib.md5(str(u).encode()).hexdigest())[
        :USERS
    ]
    frame = frame[frame["household_id"].isin(ids) & (frame["quantity"] > 0)]
    windows = {
        "train": (0, 1_509_940_880),
        "eval": (1_509_940_880, 1_512_360_080),
        "test": (1_512_360_080, 2**40),
    }
    seconds = frame["transaction_timestamp"].astype("datetime64[s]").astype("int64")
    seen = set()
    for split, (low, high) in windows.items():
        rows = read_examples(events.uri, split)
        wanted = frame[(seconds >= low) & (seconds < high)].groupby("basket_id")
        assert {int(row["session_id"][0]) for row in rows} == set(wanted.groups)
        assert len(rows) == len(wanted)
        baskets = wanted["product_id"].apply(list)
        for row in rows:
            assert [int(i) for i in row["target_item_id"]] == baskets[int(row["session_id"][0])]
            assert low <= row["timestamp"][0] < high
        seen |= {int(row["user_id"][0]) for row in rows}
    assert seen == set(ids)


def test_no_history_event_at_or_after_its_session(good_run, shop):
    events = examples_by_split(good_run)[EVENT_SPLITS]
    frame = shop["transactions"]
    frame = frame[frame["quantity"] > 0].sort_values(["transaction_timestamp", "basket_id"], kind="stable")
    by_user = dict(list(frame.groupby("household_id")))
    checked = 0
    for split in ("train", "eval", "test"):
        for row in read_examples(events.uri, split)[::7]:
            lines = by_user[int(row["user_id"][0])]
            seconds = lines["transaction_timestamp"].astype("datetime64[s]").astype("int64")
            before = lines[seconds < row["timestamp"][0]].tail(128)
            assert [int(i) for i in row["history_item_id"]] == list(before["product_id"])
            assert all(age > 0 for age in row["history_age_days"])
            checked += 1
    assert checked > 300


def test_later_events_change_nothing_before_the_cutoff(good_run, shop, tmp_path):
    import apache_beam as beam

    from components.event_example_gen import executor
    from components.event_example_gen.settings import Settings

    changed = shop["transactions"].copy()
    late = changed["transaction_timestamp"] >= "2017-12-04 04:01:20"
    late &= changed["transaction_timestamp"] < changed["transaction_timestamp"].max()
    changed.loc[late, "product_id"] = changed.loc[late, "product_id"].to_numpy()[::-1]
    changed.loc[late, ["quantity", "sales_value"]] = [7, 3.25]
    root = write_shop(tmp_path / "shop", {"transactions": changed})
    config = load(SHOP, {"data.root": root, "data.sample_users": USERS})
    settings = Settings.of(config)
    executor.run(beam.Pipeline(argv=config.beam_args), settings, str(tmp_path / "out"))
    before = examples_by_split(good_run)[EVENT_SPLITS]
    order = lambda row: row["session_id"]  # noqa: E731
    for split in ("train", "eval", "test"):
        left, right = (
            sorted(read_examples(uri, split), key=order) for uri in (before.uri, str(tmp_path / "out"))
        )
        assert (left == right) == (split != "test")


def test_spoiled_data_stops_at_the_gate(shop, tmp_path):
    spoiled = {name: frame.copy() for name, frame in shop.items()}
    spoiled["products"].loc[5, "department"] = "GARBAGE"
    users = spoiled["transactions"]["household_id"].map(lambda u: hashlib.md5(str(u).encode()).hexdigest())
    spoiled["transactions"].loc[users.idxmin(), "sales_value"] = float("nan")
    config = load(
        SHOP, {"data.root": write_shop(tmp_path / "shop", spoiled), "data.sample_users": 10, "users": None}
    )
    with pytest.raises(GateError) as caught:
        run_pipeline(tmp_path, config)
    line = find_user_error(caught.value)
    assert "\n" not in line
    assert line.startswith("data quality: items, split items, feature department: ")
    assert "GARBAGE" in line
    assert "events, split train, feature target_value: " in line
    assert "NaN" in line
    assert "correct the data or review schema/complete_journey/events.pbtxt" in line


@pytest.mark.parametrize(
    ("table", "spoil", "wanted"),
    [
        (
            "transactions",
            lambda f: f.drop(columns="household_id"),
            r"transactions.parquet: column 'household_id' \(events.columns.user_id\) is missing; columns are",
        ),
        (
            "transactions",
            lambda f: f.assign(quantity=f["quantity"].where(f.index != 700)),
            r"transactions.parquet: column 'quantity' \(events.columns.quantity\) has no .* row 701, 1 times",
        ),
        (
            "transactions",
            lambda f: f.head(0),
            r"transactions.parquet: the file has no rows \(events.path\)",
        ),
        (
            "transactions",
            lambda f: f[f["transaction_timestamp"] >= "2017-11-20"],
            r"transactions.parquet: the train window \(before 2017-11-06 04:01:20\) has no .*span 2017-11-2",
        ),
        (
            "transactions",
            lambda f: f[~f["transaction_timestamp"].between("2017-11-06", "2017-12-05")],
            r"transactions.parquet: the eval window \(2017-11-06 04:01:20 to 2017-12-04 04:01:20\) has no",
        ),
        (
            "products",
            lambda f: pd.concat([f, f.iloc[[3]]]),
            r"products.parquet: 'product_id' \(items.item_id\) \d+ is in rows 4 and \d[\d,]+; keep one row",
        ),
        (
            "demographics",
            lambda f: pd.concat([f.head(10), f.head(1)]),
            r"demographics.parquet: 'household_id' \(users.user_id\) 1 is in rows 1 and 11; keep one row",
        ),
        (
            "promotions",
            lambda f: f.assign(week=f["week"].astype(str)),
            r"promotions.parquet: column 'week' \(exposures.time.column\) has type string; expected",
        ),
    ],
    ids=[
        "missing column",
        "missing value",
        "empty file",
        "empty train window",
        "empty eval window",
        "repeated item",
        "repeated user",
        "wrong type",
    ],
)
def test_bad_input_leaves_beam_as_one_line(shop, tmp_path, table, spoil, wanted):
    import apache_beam as beam

    from components.catalog_example_gen import executor as catalog
    from components.catalog_example_gen import settings as catalog_settings
    from components.event_example_gen import executor as events
    from components.event_example_gen import settings as event_settings

    root = write_shop(tmp_path / "shop", shop | {table: spoil(shop[table])})
    config = load(SHOP, {"data.root": root})
    pipeline = beam.Pipeline(argv=config.beam_args)
    if table == "transactions":
        settings = event_settings.Settings.of(config)
        run = lambda: events.run(pipeline, settings, str(tmp_path / "out"))  # noqa: E731
    else:
        settings = catalog_settings.Settings.of(config)
        run = lambda: catalog.run(pipeline, settings, str(tmp_path / "items"), str(tmp_path / "users"))  # noqa: E731
    with pytest.raises(DataError, match=wanted) as caught:
        run()
    assert "\n" not in str(caught.value)
    assert "while running" not in str(caught.value)
