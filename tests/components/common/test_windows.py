"""Which events are learned from, and which are predicted."""

import dataclasses

import numpy as np
import pytest

from components.common.windows import Windows
from models.data import example_io
from models.data.event_log import EventLog
from schema.config import Split
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, DAY, END, WINDOWS, record_batch


class Properties:
    """What `Windows.of` reads of an Examples artifact."""

    def __init__(self, **values):
        self._values = values

    def get_int_custom_property(self, name):
        return self._values[name]


@pytest.mark.parametrize(
    ("evaluate_on", "past", "future", "cutoff", "end"),
    [("test", ("train", "eval"), "test", 200, 301), ("eval", ("train",), "eval", 100, 200)],
)
def test_windows(evaluate_on, past, future, cutoff, end):
    examples = Properties(train_end=100, eval_end=200, data_end=300)
    assert Windows.of(examples, Split(evaluate_on=evaluate_on)) == Windows(past, future, cutoff, end)


def test_leave_one_out_divides_by_split_and_each_user_asks_when_their_session_begins(tmp_path):
    examples = Properties(train_end=301, eval_end=301, data_end=300)
    sessions = {"train": [("a", 10), ("b", 290)], "eval": [("a", 10), ("c", 90)], "test": [("a", 10)]}
    for split, rows in sessions.items():
        columns = {
            "user_id": [[user] for user, _ in rows],
            "timestamp": [[when] for _, when in rows],
            "target_item_id": [[f"{split} {user}"] for user, _ in rows],
            "target_event_type": [["view"]] * len(rows),
        }
        example_io.write_records(str(tmp_path / f"Split-{split}"), [record_batch(columns)])
    for evaluate_on, past_of_a, future_items, moments in (
        ("test", ["train a", "eval a"], ["test a"], {"a": 10, "b": 301, "c": 301}),
        ("eval", ["train a"], ["eval a", "eval c"], {"a": 10, "b": 301, "c": 90}),
    ):
        windows = Windows.of(examples, Split(strategy="leave_one_out", evaluate_on=evaluate_on))
        folders = [example_io.split_folder(str(tmp_path), split) for split in windows.splits]
        past, future = windows.divide(EventLog.read(folders, None))
        assert future.items[future.item].tolist() == future_items
        assert windows.cutoff > past.timestamp.max()
        asked = windows.moments(future)
        assert dict(zip(past.users, asked.tolist(), strict=True)) == {
            user: moments[user] for user in past.users
        }
        state = past.histories(np.asarray([0]), asked, 5)
        # an event of the same second is history if it is of an earlier split, and only then
        assert state["history_item_id"][0].tolist() == past_of_a
        assert set(state["history_age_days"][0]) == {0}


@pytest.mark.parametrize(
    ("days", "by_time", "end"),
    [
        (28, True, END),  # the evaluation window is as long
        (30, True, END),
        (7, True, CUTOFF + 7 * DAY + 1),
        (0.5, True, CUTOFF + DAY // 2 + 1),
        (7, False, END),  # one session of each user, whenever it is
    ],
)
def test_labels_span_what_the_heads_speak_of(days, by_time, end):
    """And not the evaluation window, which may be longer."""
    ranking = CONFIG.ranking.model_copy(update={"window_days": days})
    assert dataclasses.replace(WINDOWS, by_time=by_time).label_end(ranking) == end


def test_the_last_event_of_the_data_is_a_label():
    """The evaluation window ends with it, `test_days` after the cutoff."""
    last = CUTOFF + 28 * DAY
    examples = Properties(train_end=CUTOFF - DAY, eval_end=CUTOFF, data_end=last)
    windows = Windows.of(examples, Split(test_days=28))
    assert windows.label_end(CONFIG.ranking) == windows.end == last + 1


@pytest.mark.parametrize(("windows", "days"), [(1, 28), (3, 28), (2, 0.5)])
def test_label_windows_end_at_the_cutoff_and_meet(windows, days):
    ranking = CONFIG.ranking.model_copy(update={"windows": windows, "window_days": days})
    starts = tiny_shop.WINDOWS.label_starts(ranking)
    assert len(starts) == windows
    assert np.diff([*starts, CUTOFF]).tolist() == [int(days * DAY)] * windows
    assert windows_of(ranking) == [(start, ("all", "novel")) for start in starts]


def windows_of(ranking):
    return list(tiny_shop.WINDOWS.tasks_by_start(ranking).items())


def test_first_purchases_may_have_windows_of_their_own():
    few = CONFIG.ranking.model_copy(update={"windows": 1, "novel_windows": 3})
    back = [CUTOFF - days * DAY for days in (84, 56, 28)]
    assert windows_of(few) == [(back[0], ("novel",)), (back[1], ("novel",)), (back[2], ("all", "novel"))]
    assert tiny_shop.WINDOWS.label_starts(few) == back
    many = CONFIG.ranking.model_copy(update={"windows": 2, "novel_windows": 1})
    assert windows_of(many) == [(back[1], ("all",)), (back[2], ("all", "novel"))]
