"""Days are those of the shop's time zone, and numbers take the form of the shop's language."""

import datetime as dt
import zoneinfo

import numpy as np
import pytest
import tensorflow as tf

from models.funnel.calendar import Calendar, utc_offsets
from models.funnel.wording import wording
from schema.config import Numbered, Phrases


@pytest.mark.parametrize(
    ("n", "expected"), [(0, "0 days"), (1, "1 day"), (2, "a pair of days"), (3, "3 days"), (21, "21 days")]
)
def test_numbers_take_their_form(n, expected):
    phrase = Numbered(exact={2: "a pair of days"}, forms=["{n} day", "{n} days"])
    assert wording(phrase, "n != 1", 21)[n] == expected


@pytest.mark.parametrize("name", ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_offsets_are_those_of_the_zone(name):
    starts, offsets = utc_offsets(name)
    zone = zoneinfo.ZoneInfo(name)
    rng = np.random.default_rng(0)
    moments = np.concatenate([rng.integers(0, 4_000_000_000, 300), starts[1:40], starts[1:40] - 1])
    for moment in moments.tolist():
        expected = dt.datetime.fromtimestamp(moment, zone).utcoffset().total_seconds()
        assert offsets[np.searchsorted(starts, moment, side="right") - 1] == expected


def words_of(said):
    return [word.decode() for word in said[0].numpy()]


def test_days_begin_at_midnight_of_the_shop():
    calendar = Calendar(Phrases(), "America/New_York")
    now = int(dt.datetime(2017, 3, 13, 1, 30, tzinfo=zoneinfo.ZoneInfo("America/New_York")).timestamp())
    hours = [1.4, 1.6, 24.4, 24.6, 48.6, 24.0 * 6, 24.0 * 7]  # the clock went forward the day before
    age = tf.constant([[hour / 24 for hour in hours]])
    words = words_of(calendar.when(age, tf.constant([now], tf.int64)))
    assert words == [
        "today", "yesterday", "yesterday", "on Saturday", "on Friday", "on Tuesday", "7 days ago",
    ]  # fmt: skip
    unknown = words_of(calendar.when(age, tf.constant([0], tf.int64)))
    assert unknown == [
        "within a day", "within a day", "yesterday", "yesterday", "2 days ago", "6 days ago", "7 days ago",
    ]  # fmt: skip
