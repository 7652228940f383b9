"""Events and user states: what they accept, what they become, and with which words they refuse."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest

from schema import names as F
from schema.errors import RequestError, UserError, find_user_error
from schema.events import Event, UserState, events_from_columns, texts

ROOT = Path(__file__).resolve().parents[2]


def test_nobody_in_particular():
    assert UserState() == UserState("", (), {}, None)
    assert UserState().to_request() == {
        "user_id": "",
        "history_item_id": [],
        "history_age_days": [],
        "history_event_type": [],
    }


def test_the_request_is_oldest_first_and_keeps_the_order_of_equal_ages():
    events = [Event("new", 0, "view"), Event("a", 3.5), Event("b", 3.5, "cart"), Event("old", 40)]
    request = UserState("u", events, {"store_id": "367", "context_device": 2}, now=1_500_000_000).to_request()
    assert request == {
        "user_id": "u",
        "history_item_id": ["old", "a", "b", "new"],
        "history_age_days": [40.0, 3.5, 3.5, 0.0],
        "history_event_type": ["purchase", "purchase", "cart", "view"],
        "context_store_id": "367",
        "context_device": 2,
        "context_timestamp": 1_500_000_000,
    }
    assert list(request)[1:4] == list(F.HISTORY)


@pytest.mark.parametrize(
    "state",
    [
        UserState(),
        UserState("7"),
        UserState("7", [Event("x", 2.25, "view"), Event("y", 0.0)], {"store_id": "1"}, now=1),
    ],
)
def test_a_state_comes_back_from_its_request(state):
    assert UserState.from_request(state.to_request()) == state


def test_a_state_from_columns_that_hold_more_or_less():
    """A row of histories.parquet has None where nothing is known; a request has other inputs too."""
    row = {"user_id": 12, "history_item_id": ["a", 5], "context_store_id": None, "context_day": "Mon", "k": 3}
    state = UserState.from_request(row | {"history_age_days": None, "context_timestamp": 0})
    assert state == UserState("12", [Event("a"), Event("5")], {"day": "Mon"})
    assert UserState.from_request({"user_id": None, "history_item_id": None}) == UserState()


def test_ids_may_be_numbers_and_ages_whole():
    assert Event(5, 2) == Event("5", 2.0)
    assert type(Event("5", 2).days_ago) is float
    assert UserState(5).user_id == "5"


def test_states_do_not_change():
    events = [Event("a")]
    state = UserState("u", events)
    events.append(Event("b"))
    assert state.events == (Event("a"),)
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.user_id = "v"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Event(""), "item_id: is empty; give one"),
        (lambda: Event(None), "item_id: None is not text"),
        (lambda: Event(True), "item_id: True is not text"),
        (lambda: Event("a", -1), "days_ago: -1 is not a number of days of 0 or more"),
        (lambda: Event("a", math.nan), "days_ago: nan is not a number of days of 0 or more"),
        (lambda: Event("a", math.inf), "days_ago: inf is not a number of days of 0 or more"),
        (lambda: Event("a", "2"), "days_ago: '2' is not a number of days of 0 or more"),
        (lambda: Event("a", True), "days_ago: True is not a number of days of 0 or more"),
        (lambda: Event("a", 1, ""), "event_type: is empty; give one"),
        (lambda: UserState(1.5), "user_id: 1.5 is not text"),
        (lambda: UserState("u", ["a"]), "events[0]: 'a' is no Event"),
        (lambda: UserState("u", [], {"store": ["1"]}), "context 'store': ['1'] is not one value"),
        (lambda: UserState("u", [], {"store": None}), "context 'store': None is not one value"),
        (lambda: UserState(now=-1), "now: -1 is not a whole number of unix seconds"),
        (lambda: UserState(now=1.5), "now: 1.5 is not a whole number of unix seconds"),
        (
            lambda: UserState("u", [], {"context_timestamp": 5}, now=5),
            "now: given together with the context 'timestamp'; give one of them",
        ),
        (
            lambda: events_from_columns(["a", "b"], [1.0]),
            "history_age_days: has 1 values but history_item_id has 2",
        ),
        (
            lambda: events_from_columns(["a"], None, ["view", "view"]),
            "history_event_type: has 2 values but history_item_id has 1",
        ),
        (
            lambda: events_from_columns(["a", "b"], [1, -2]),
            "history_age_days[1]: -2 is not a number of days of 0 or more",
        ),
        (lambda: events_from_columns(["a", ""]), "history_item_id[1]: is empty; give one"),
        (
            lambda: events_from_columns("abc"),
            "history_item_id: expected a list, got the single text 'abc'; write ['abc']",
        ),
        (lambda: texts("category", ["x", None]), "category[1]: None is not text"),
    ],
)
def test_wrong_values_are_named_in_one_line(make, message):
    with pytest.raises(RequestError) as raised:
        make()
    assert str(raised.value) == message
    assert isinstance(raised.value, UserError)


def test_a_request_error_is_found_in_the_text_of_another():
    assert find_user_error(RuntimeError("x RequestError: k: 0 is wrong [while running y]")) == "k: 0 is wrong"


def test_the_ground_floor_is_light():
    """`schema` needs neither numpy nor TensorFlow."""
    code = (
        "import sys, schema.config, schema.events, schema.names, schema.errors\n"
        "heavy = {'numpy', 'pandas', 'tensorflow', 'tfx', 'pyarrow'} & set(sys.modules)\n"
        "rooms = {'models', 'components', 'pipeline', 'serving', 'kubeflow'} & set(sys.modules)\n"
        "sys.exit(f'{heavy} {rooms}' if heavy or rooms else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=1800)
