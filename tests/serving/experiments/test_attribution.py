"""Which list an outcome counts for, against plain loops; and the columns of a report."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.errors import DataError
from serving.experiments.attribution import attribute, exposures, outcome_sums
from serving.experiments.columns import Exposures
from tests.properties import drawn

ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 20)), max_size=12)


def columns(rows):
    return tuple(np.array([row[key] for row in rows]) for key in range(3))


@given(ROWS, ROWS, st.integers(1, 10))
@drawn(150)
def test_an_outcome_counts_for_the_last_list_within_the_window(shown, outcomes, window):
    found = attribute(columns(shown), columns(outcomes), window)
    for (unit, item, time), row in zip(outcomes, found, strict=True):
        times = [t for u, i, t in shown if (u, i) == (unit, item) and 0 <= time - t <= window]
        assert (row == -1) == (not times)
        if times:
            assert shown[row] == (unit, item, max(times))


def test_a_second_click_adds_nothing_and_money_adds_up():
    happened, money = outcome_sums(np.array([1, 1, -1, 0]), np.array([2.0, 3.0, 9.0, 0.5]), 3)
    assert happened.tolist() == [1, 1, 0]
    assert money.tolist() == [0.5, 5, 0]


def text(*values):
    return np.array(values, object)


LISTS = {
    "list_id": text("L2", "L1", "L3"),
    "unit": text("u", "u", "v"),
    "arm": text("a", "a", "b"),
    "time": np.array([200.0, 100.0, 100.0]),
    "fallback": np.array([0, 1, 0]),
    "latency_ms": np.array([4.0, 5.0, 6.0]),
    "covariate": np.array([7.0, 7.0, 0.0]),
}
PLACES = {
    "list_id": text("L1", "L1", "L2", "L3"),
    "unit": text("u", "u", "u", "v"),
    "item_id": text("x", "y", "x", "x"),
    "time": np.array([100.0, 100.0, 200.0, 100.0]),
}


def outcomes(*rows):
    names = ("unit", "item_id", "event_type", "time", "value", "list_id")
    found = dict(zip(names, zip(*rows, strict=True), strict=True))
    return {
        name: np.array(values, float) if name in ("time", "value") else text(*values)
        for name, values in found.items()
    }


def test_a_named_list_comes_before_the_last_one_that_showed_the_item():
    found = exposures(
        LISTS,
        PLACES,
        outcomes(
            ("u", "x", "click", 230, 0, "L1"),  # names the earlier list
            ("u", "x", "click", 231, 0, "L1"),  # again
            ("u", "x", "purchase", 240, 3, ""),  # at the till: the later list
            ("u", "y", "purchase", 99, 2, "L1"),  # the shopper's clock is a second behind
            ("u", "z", "click", 230, 0, "L1"),  # was not in the list
            ("v", "x", "click", 105, 0, "L2"),  # somebody else's list: last touch of their own
            ("v", "x", "purchase", 5000, 8, "L3"),  # too late
        ),
        window=1000,
    )
    assert found.values["clicked"].tolist() == [0, 1, 1]
    assert found.values["converted"].tolist() == [1, 1, 0]
    assert found.values["revenue"].tolist() == [3, 2, 0]
    assert found.values["shown"].tolist() == [1, 2, 1]
    assert found.values["fallback"].tolist() == [0, 1, 0]
    assert found.values["latency_ms"].tolist() == [4, 5, 6]
    assert found.arm.tolist() == ["a", "a", "b"]


def test_nothing_happened_and_nothing_was_shown():
    none = {name: values[:0] for name, values in outcomes(("u", "x", "click", 1, 0, "")).items()}
    found = exposures(LISTS, PLACES, none, 10)
    assert found.values["clicked"].tolist() == [0, 0, 0]
    empty = {name: values[:0] for name, values in LISTS.items()}
    nowhere = {name: values[:0] for name, values in PLACES.items()}
    assert len(exposures(empty, nowhere, outcomes(("u", "x", "click", 1, 0, "")), 10)) == 0
    unmeasured = LISTS | {"latency_ms": np.array([4.0, np.nan, 6.0])}
    assert "latency_ms" not in exposures(unmeasured, PLACES, none, 10).values


def test_wrong_columns_are_named():
    unit, arm, time = text("u", "v"), text("a", "b"), np.array([1.0, 2.0])
    with pytest.raises(DataError, match="column 'clicked' has shape"):
        Exposures(unit, arm, time, {"clicked": np.ones(3)})
    with pytest.raises(DataError, match="row 1 of 'clicked' is not finite"):
        Exposures(unit, arm, time, {"clicked": np.array([1, np.nan])})
