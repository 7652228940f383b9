"""A span of the store is the shop's own events table, as EventExampleGen reads it."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.common import tables
from components.event_example_gen import roles
from schema import config
from schema.config import EventKinds
from schema.errors import UserError
from serving.store import StoredEvent

ROOT = Path(__file__).resolve().parents[3]
NOW = float(int(time.time()) - 1000)


def bought(number, user, item, at, **more):
    given = {"received_at": NOW, "event_type": "purchase", **more}
    return StoredEvent(event_id=f"event-{number:04d}", user_id=user, item_id=item, occurred_at=at, **given)


@pytest.fixture
def shop():
    return config.load(ROOT / "pipeline/configs/complete_journey.yaml").events


def test_event_example_gen_reads_what_the_store_wrote(store, shop, tmp_path):
    store.append(
        [
            bought(1, "7", "82", NOW - 9000.25, session_id="order-1", value=3.5, quantity=2.0),
            bought(2, "7", "83", NOW - 5000, context={"store_id": "367"}),
            bought(3, "7", "84", NOW - 4900),
            bought(4, "7", "85", NOW - 100),
            bought(5, "8", "82", NOW - 4900),
            bought(6, "8", "82", NOW, event_type="view"),  # a type that no weight is given
            bought(7, "9", "82", NOW, suspect=True),
            bought(8, "9", "83", NOW),  # of the same robot
            bought(9, "7", "86", NOW - 9000, received_at=NOW + 500),  # arrives in the next period
        ]
    )
    span = store.export_span(tmp_path / "spans", NOW - 10, NOW + 10, shop)
    assert span.events == 5
    assert [path.name for path in span.path.parent.iterdir()] == [span.path.name]
    units = tables.open_table(str(span.path), "events.path", roles.roles(shop))
    chunks = [chunk for unit in units for chunk in tables.read(unit, roles.roles(shop))]
    table = pa.Table.from_batches([chunk.batch for chunk in chunks]).to_pydict()
    times = [value for chunk in chunks for value in roles.event_times(chunk, shop)]
    kinds = EventKinds.of(config.load(ROOT / "pipeline/configs/complete_journey.yaml"))
    assert all(roles.counted(chunk, shop, kinds).all() for chunk in chunks)
    assert table["user_id"] == ["7", "7", "7", "7", "8"]
    assert table["item_id"] == ["82", "83", "84", "85", "82"]
    assert times == [int((NOW - ago) * 1e6) for ago in (9000.25, 5000, 4900, 100, 4900)]
    assert table["quantity"] == [2.0, 1.0, 1.0, 1.0, 1.0]
    assert table["value"] == [3.5, None, None, None, None]
    assert table["context_store_id"] == ["", "367", "", "", ""]
    session = table["session_id"]
    assert session[0] == "order-1"
    assert session[1] == session[2]  # 100 seconds apart
    assert len(set(session)) == 4
    following = store.export_span(tmp_path / "spans", NOW + 10, NOW + 900, shop)
    assert pq.read_table(following.path)["product_id"].to_pylist() == ["86"]


def test_a_period_that_is_not_over_is_refused(store, shop, tmp_path):
    with pytest.raises(UserError, match="may still arrive"):
        store.export_span(tmp_path, 0, time.time(), shop)
    with pytest.raises(UserError, match="is not before until"):
        store.export_span(tmp_path, 9, 9, shop)
    empty = store.export_span(tmp_path, 0, 1, shop)
    assert pq.read_table(empty.path).num_rows == empty.events == 0
