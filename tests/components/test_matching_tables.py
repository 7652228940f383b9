"""Ids that do not meet: both ExampleGens count them, and refuse a shop of which too many do not."""

import apache_beam as beam
import pyarrow as pa
import pytest

from components.catalog_example_gen import executor as catalog
from components.catalog_example_gen import settings as catalog_settings
from components.common import matching
from components.event_example_gen import executor as events
from components.event_example_gen import settings as event_settings
from schema.config import Config
from schema.errors import DataError

DAY = 86_400


def write_shop(folder, event_id, promoted_id, **quality):
    """A shop of 20 items; `event_id` and `promoted_id` write the id of item n in the other tables."""
    (folder / "items.csv").write_text("id,title\n" + "".join(f"{n},t{n}\n" for n in range(100, 120)))
    lines = [f"u{n % 7},{event_id(100 + n % 20)},{1_500_000_000 + n * DAY}\n" for n in range(60)]
    (folder / "events.csv").write_text("user,item,time\n" + "".join(lines))
    lines = [
        f"{promoted_id(100 + n)},{1_500_000_000 + week * 7 * DAY}\n" for n in range(20) for week in range(2)
    ]
    (folder / "promotions.csv").write_text("item,time\n" + "".join(lines))
    return Config.model_validate(
        {
            "name": "shop",
            "data": {"root": str(folder)},
            "events": {
                "path": "events.csv",
                "columns": {"user_id": "user", "item_id": "item", "timestamp": "time"},
            },
            "items": {"path": "items.csv", "item_id": "id", "text": ["title"]},
            "exposures": {"path": "promotions.csv", "item_id": "item", "time": {"column": "time"}},
            "split": {"eval_days": 10, "test_days": 10},
            "ranking": {"window_days": 10},
            "quality": quality,
        }
    )


def run(config, folder):
    """(what CatalogExampleGen found, what EventExampleGen found)."""
    pipeline = lambda: beam.Pipeline(argv=config.beam_args)  # noqa: E731
    items, out = str(folder / "out_items"), str(folder / "out_events")
    first = catalog.run(pipeline(), catalog_settings.Settings.of(config), items, str(folder / "out_users"))
    return first, events.run(pipeline(), event_settings.Settings.of(config), out, items)


@pytest.mark.slow
def test_those_that_do_not_meet_are_counted(tmp_path):
    config = write_shop(tmp_path, lambda n: n if n < 116 else f"{n}.0", lambda n: n if n < 117 else f"0{n}")
    items, sessions = run(config, tmp_path)
    assert (items["weeks_exposed"], items["unmatched"]) == (34, 6)
    assert set(items["unmatched_ids"]) <= {"0117", "0118", "0119"}
    assert (sessions["events"], sessions["unmatched"]) == (60, 12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "shown"),
    [(lambda n: f"{n}.0", "'1\\d\\d.0' against '1\\d\\d'"), (lambda n: f"x{n}", "'x1\\d\\d', .*'1\\d\\d'")],
)
def test_a_shop_whose_ids_do_not_meet_is_refused(tmp_path, write, shown):
    same = lambda n: n  # noqa: E731
    wanted = rf"events.csv: 60 of 60 events \(100.0%\) are of items that .* lacks, such as {shown}"
    with pytest.raises(DataError, match=wanted):
        run(write_shop(tmp_path, write, same), tmp_path)
    wanted = rf"promotions.csv: 40 of 40 promoted item-weeks \(100.0%\) are of items .*, such as {shown}"
    with pytest.raises(DataError, match=wanted):
        run(write_shop(tmp_path, same, write), tmp_path)


@pytest.mark.slow
def test_the_share_is_a_setting(tmp_path):
    half = lambda n: n if n < 110 else f"x{n}"  # noqa: E731
    assert run(write_shop(tmp_path, half, half), tmp_path)[1]["unmatched"] == 30
    with pytest.raises(DataError, match=r"30 of 60 events \(50.0%\) .*quality.max_unmatched \(0.49\)"):
        run(write_shop(tmp_path, half, lambda n: n, max_unmatched=0.49), tmp_path)


def test_ids_that_differ_in_their_writing_come_first():
    ids = ["0100", "a", "17850.0", "B7"]
    with pytest.raises(DataError) as error:
        matching.check_share(4, 4, 0.5, ids, pa.array(["17850", "100", "b7", "zzz"]), "e.csv", "events")
    for pair in ("'0100' against '100'", "'17850.0' against '17850'", "'B7' against 'b7'"):
        assert pair in str(error.value)
    assert "'a'" not in str(error.value)
