"""Groups of users against plain counts."""

import numpy as np

from components.common import slicing
from models.data import example_io
from schema.config import Users
from tests.shops import tiny_shop
from tests.shops.tiny_shop import DAY, START, record_batch


def test_activity_counts_past_events():
    log = tiny_shop.log()
    moment = START + 40 * DAY
    frame = tiny_shop.events()
    counts = frame[frame["timestamp"] < moment].groupby("user_id").size()
    found = slicing.user_slices(log.before(moment), None, None)
    assert set(found) == {"activity"}
    for user, group in zip(log.users, found["activity"], strict=True):
        count = counts.get(user, 0)
        expected = "cold (<10)" if count < 10 else "regular (10-299)" if count < 300 else "heavy (>=300)"
        assert group == expected
    assert len(set(found["activity"])) == 2


def test_the_limits_of_activity(monkeypatch):
    """10 and 300 events belong to the upper group."""
    monkeypatch.setattr(slicing, "_ACTIVITY", ((5, "few"), (9, "some"), (np.inf, "many")))
    log = tiny_shop.log()
    chosen = np.concatenate(
        [np.flatnonzero(log.user == user)[:size] for user, size in enumerate((4, 5, 8, 9))]
    )
    part = log.where(np.isin(np.arange(len(log)), chosen))
    groups = slicing.user_slices(part, None, None)["activity"]
    assert groups[:5].tolist() == ["few", "some", "some", "many", "few"]


def test_attributes_of_the_users_table_sensitive_ones_included(tmp_path):
    columns = {
        "user_id": [["u02"], ["u00"], ["not in the log"]],
        "region": [["north"], [], ["south"]],
        "age": [["30"], ["40"], ["50"]],
    }
    example_io.write_records(str(tmp_path / "Split-users"), [record_batch(columns)])
    users = Users(path="x", user_id="x", categorical={"region": "x", "age": "x"}, sensitive=["age"])
    log = tiny_shop.log()
    found = slicing.user_slices(log, users, str(tmp_path))
    by_user = {name: dict(zip(log.users, values, strict=True)) for name, values in found.items()}
    assert by_user["region"]["u02"] == "north"
    assert by_user["region"]["u00"] == by_user["region"]["u05"] == "unknown"
    assert by_user["age"]["u00"] == "40"
    assert by_user["age"]["u05"] == "unknown"
