"""EventLog against the data frame that its sessions were written from."""

import numpy as np
import pandas as pd
import pytest

from models.data import example_io
from models.data.event_log import EventLog
from schema.errors import DataError
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CUTOFF, DAY, GHOST, NEWCOMER, START, record_batch

PER_EVENT = (
    "user",
    "item",
    "event_type",
    "bought",
    "weight",
    "timestamp",
    "session",
    "quantity",
    "value",
    "part",
)


@pytest.fixture(scope="module")
def log():
    return tiny_shop.log()


@pytest.fixture(scope="module")
def frame():
    return tiny_shop.events()


def test_read_gives_every_event_sorted_by_user_and_time(log, frame):
    assert len(log) == len(frame)
    assert log.users[log.user].tolist() == frame["user_id"].tolist()
    assert log.items[log.item].tolist() == frame["item_id"].tolist()
    assert log.event_types[log.event_type].tolist() == frame["event_type"].tolist()
    np.testing.assert_array_equal(log.timestamp, frame["timestamp"])
    np.testing.assert_array_equal(log.quantity, frame["quantity"])
    np.testing.assert_array_equal(log.value, frame["value"])
    assert log.contexts["store_id"].tolist() == frame["store_id"].tolist()


def test_events_know_whether_they_are_purchases_and_what_they_weigh(log, frame):
    assert log.bought.tolist() == (frame["event_type"] == "purchase").tolist()
    assert log.weight.tolist() == [1.0 if kind == "purchase" else 0.25 for kind in frame["event_type"]]
    assert log.other_types == ("view",)
    bought = log.purchases
    assert len(bought) == len(tiny_shop.purchases()) < len(log)
    assert bought.items[bought.item].tolist() == tiny_shop.purchases()["item_id"].tolist()
    assert bought.purchases is bought
    assert bought.users is log.users
    assert (log.of_type("view") == ~log.bought).all()


def test_a_type_that_the_configuration_does_not_know_is_refused(tmp_path):
    columns = {
        "user_id": [["a"]],
        "timestamp": [[5]],
        "target_item_id": [["x", "y"]],
        "target_event_type": [["purchase", "rent"]],
    }
    example_io.write_records(str(tmp_path), [record_batch(columns)])
    with pytest.raises(DataError, match=r"type rent, which events.event_weights \(purchase, view\) lacks"):
        EventLog.read([str(tmp_path)], tiny_shop.EVENT_KINDS)


def test_read_numbers_sessions_in_the_order_of_users_and_time(log, frame):
    expected = frame.groupby(["user_id", "timestamp"]).ngroup()
    np.testing.assert_array_equal(log.session, expected)


def test_sessions_in_one_second_have_one_order_whatever_that_of_the_records(tmp_path):
    columns = {
        "session_id": [["c"], ["a"], ["b"]],
        "user_id": [["u"]] * 3,
        "timestamp": [[20]] * 3,
        "target_item_id": [["x", "y"], ["z"], ["w", "x"]],
        "target_event_type": [["v", "v"], ["v"], ["v", "v"]],
    }
    for place, order in enumerate(([0, 1, 2], [2, 0, 1], [1, 2, 0])):
        rows = {name: [values[at] for at in order] for name, values in columns.items()}
        example_io.write_records(str(tmp_path / str(place)), [record_batch(rows)])
        log = EventLog.read([str(tmp_path / str(place))], None)
        assert log.items[log.item].tolist() == ["z", "w", "x", "x", "y"]


@pytest.mark.parametrize("name", ["users", "items", "event_types"])
def test_names_are_distinct_and_sorted(log, name):
    values = getattr(log, name).tolist()
    assert values == sorted(set(values))


def test_read_of_sessions_without_targets_or_optional_columns(tmp_path):
    columns = {
        "user_id": [["b"], ["a"], ["b"]],
        "timestamp": [[20], [30], [10]],
        "target_item_id": [["x", "y"], [], ["z"]],
        "target_event_type": [["v", "w"], [], ["v"]],
    }
    example_io.write_records(str(tmp_path), [record_batch(columns)])
    log = EventLog.read([str(tmp_path)], None, ["device"])
    assert log.items[log.item].tolist() == ["z", "x", "y"]
    assert log.timestamp.tolist() == [10, 20, 20]
    assert log.users[log.user].tolist() == ["b", "b", "b"]
    assert log.users.tolist() == ["a", "b"]
    assert log.quantity.tolist() == log.value.tolist() == [0, 0, 0]
    assert log.contexts["device"].tolist() == ["", "", ""]


def test_before_and_between_cut_at_the_moment_itself(log):
    moment = int(log.timestamp[len(log) // 2])
    before, after = log.before(moment), log.between(moment, moment + 5 * DAY)
    keep = [t < moment for t in log.timestamp.tolist()]
    for name in PER_EVENT:
        assert getattr(before, name).tolist() == [
            v for v, k in zip(getattr(log, name).tolist(), keep, strict=True) if k
        ]
    assert sorted(after.timestamp.tolist()) == sorted(
        t for t in log.timestamp.tolist() if moment <= t < moment + 5 * DAY
    )
    assert moment in after.timestamp
    assert after.items is log.items
    assert len(before.contexts["store_id"]) == len(before)


def test_item_rows(log):
    rows = log.item_rows(np.asarray(["", *sorted(tiny_shop.ITEMS)], object))
    for row, item in zip(rows, log.items, strict=True):
        assert row == (-1 if item == tiny_shop.STRANGER else 1 + sorted(tiny_shop.ITEMS).index(item))


@pytest.mark.parametrize("length", [1, 3, 25, 4000])
@pytest.mark.parametrize("as_of", [CUTOFF, START + 61 * DAY, "at an event"])
def test_histories(log, frame, length, as_of):
    if as_of == "at an event":
        as_of = int(frame["timestamp"].iloc[700])
    users = np.flatnonzero(np.isin(log.users, frame.loc[frame["timestamp"] < as_of, "user_id"].unique()))
    users = users[::-1]
    state = log.histories(users, as_of, length)
    width = state["history_item_id"].shape[1]
    assert width <= length
    for place, user in enumerate(log.users[users]):
        past = frame[(frame["user_id"] == user) & (frame["timestamp"] < as_of)].tail(length)
        pad = width - len(past)
        assert state["user_id"][place] == user
        assert state["history_item_id"][place].tolist() == past["item_id"].tolist() + [""] * pad
        assert state["history_event_type"][place].tolist() == past["event_type"].tolist() + [""] * pad
        ages = [(as_of - t) / DAY for t in past["timestamp"]]
        np.testing.assert_allclose(state["history_age_days"][place], ages + [0] * pad, rtol=1e-6)
        assert min(ages) > 0
        assert state["context_store_id"][place] == past["store_id"].iloc[-1]
    assert state["history_age_days"].dtype == np.float32


def test_history_of_a_user_without_a_past_is_empty(log):
    newcomer = int(np.flatnonzero(log.users == NEWCOMER)[0])
    other = int(np.flatnonzero(log.users == "u00")[0])
    state = log.histories(np.asarray([newcomer, other]), CUTOFF, 4)
    assert state["history_item_id"][0].tolist() == [""] * 4
    assert state["history_age_days"][0].tolist() == [0] * 4
    assert state["context_store_id"][0] == ""
    assert state["context_store_id"][1] in tiny_shop.STORES
    alone = log.histories(np.asarray([newcomer]), CUTOFF, 4)
    assert set(alone["history_item_id"].ravel()) == {""}
    assert GHOST not in log.users


def test_a_moment_before_every_event_is_refused(log):
    with pytest.raises(ValueError, match="no event before as_of"):
        log.histories(np.asarray([0]), START - 1, 4)


def test_order_within_a_session_is_kept(tmp_path):
    columns = {
        "user_id": [["a"]],
        "timestamp": [[5]],
        "target_item_id": [["z", "a", "m", "a"]],
        "target_event_type": [["v"] * 4],
    }
    example_io.write_records(str(tmp_path), [record_batch(columns)])
    state = EventLog.read([str(tmp_path)], None).histories(np.asarray([0]), 6, 3)
    assert state["history_item_id"].tolist() == [["a", "m", "a"]]
    assert pd.Series(state["history_item_id"][0]).tolist() == ["a", "m", "a"]
