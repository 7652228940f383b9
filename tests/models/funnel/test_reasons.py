"""Reasons are true: each is held against the request, for hundreds of requests."""

import collections
import datetime as dt
import zoneinfo

import numpy as np
import pytest
import tensorflow as tf

from components.common import artifacts
from models.funnel.reasons import Calendar, utc_offsets, wording
from models.funnel.servable import Funnel
from schema import names as F
from schema.config import Numbered, Phrases, Reasons
from tests.models.funnel.reason_proof import Event, Shop, prove
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, DAY, ITEMS, recommend_inputs, text

REQUESTS = 240


def proof_shop():
    items, frame = tiny_shop.items(), tiny_shop.events()
    past = frame[frame["timestamp"] < CUTOFF]
    age = (CUTOFF - past["timestamp"]) / DAY
    first = age.groupby(past["item_id"]).max()
    sources = tiny_shop.built().factory.at(CUTOFF).sources
    names = items.vocabularies["department"][items.categorical["department"]]
    return Shop(
        title={
            item: words.split(". ")[0].removesuffix(".")
            for item, words in zip(items.item_id, items.text, strict=True)
        },
        category=dict(zip(items.item_id, names, strict=True)),
        sold_week=past[age <= 7].groupby("item_id").size().to_dict(),
        sold=past[age <= CONFIG.candidates.trending_days].groupby("item_id").size().to_dict(),
        candidates=(candidates := frozenset(items.item_id[sources.candidate_row.numpy()[:-1]])),
        new=candidates & set(first[first <= CONFIG.candidates.new_days].index),
        as_of=CUTOFF,
    )


def requests(seed):
    """Random requests: regular buyers, lookers, baskets of equal age, nobody at all."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(REQUESTS):
        events = []
        for item in rng.choice([*ITEMS, "no such item"], rng.integers(0, 6), replace=False):
            if rng.random() < 0.3:  # every so many days
                gap, jitter, last = rng.uniform(0.3, 20), rng.choice([0.02, 0.6]), rng.uniform(0, 30)
                ages = last + gap * np.arange(rng.integers(2, 8)) + gap * jitter * rng.uniform(0, 1, 1)
            else:
                ages = rng.uniform(0, 200, rng.integers(1, 4))
            bought = rng.random() < 0.8
            events += [(item, np.float32(age), "purchase" if bought else "view") for age in ages]
        if events and rng.random() < 0.5:
            events += events[:1]  # the same line twice in one basket
        events.sort(key=lambda event: -event[1])
        rows.append(events)
    now = rng.choice([0, CUTOFF, CUTOFF + 5 * DAY + 4321, CUTOFF + 9 * DAY], REQUESTS)
    return rows, now


def inputs_of(rows, now, **more):
    longest = max(len(row) for row in rows)
    pad = [row + [("", 0.0, "")] * (longest - len(row)) for row in rows]
    base = tiny_shop.request([""] * len(rows), [[]] * len(rows))
    base |= {
        F.HISTORY_ITEM_ID: tf.constant([[item for item, _, _ in row] for row in pad]),
        F.HISTORY_AGE_DAYS: tf.constant([[age for _, age, _ in row] for row in pad], tf.float32),
        F.HISTORY_EVENT_TYPE: tf.constant([[kind for _, _, kind in row] for row in pad]),
        F.CONTEXT_TIMESTAMP: tf.constant(now, tf.int64),
    }
    return recommend_inputs(base, 80, **more)


def funnel(**serving):
    section = type(CONFIG.serving).model_validate(CONFIG.serving.model_dump() | serving)
    built = tiny_shop.built()
    ranker = tiny_shop.load(artifacts.model_folder(built.ranking))
    config = CONFIG.model_copy(update={"serving": section})
    return Funnel(built.factory.at(CUTOFF), ranker, None, None, tiny_shop.items(), config)


def proven(answer, rows, now, serving):
    """How often each template was proven."""
    facts, seen = proof_shop(), collections.Counter()
    for row, events in enumerate(rows):
        known = [
            Event(item, float(age), kind == "purchase") for item, age, kind in events if item in facts.title
        ]
        for item, source, reason in zip(
            *(answer[name][row] for name in (F.ITEM_ID, F.SOURCE, F.REASON)), strict=True
        ):
            if item:
                seen[prove(reason, source, item, known, int(now[row]), facts, serving)] += 1
    return seen


def test_every_reason_holds_in_the_requests_own_data():
    rows, now = requests(1)
    servable = tiny_shop.load(artifacts.model_folder(tiny_shop.built().servable))
    answer = servable.signatures["recommend"](**inputs_of(rows, now))
    seen = proven({name: text(value) for name, value in answer.items()}, rows, now, CONFIG.serving)
    wanted = set(Reasons.model_fields) - {"similar", "exploration", "exploration_anywhere"}
    # every candidate of the tiny shop sells well in its department, or has none; the new ones have one
    assert wanted - set(seen) <= {"trending_in_category", "new_items"}
    assert sum(seen.values()) > 15 * REQUESTS


def test_a_translation_and_another_time_zone():
    """Polish: three forms, and no weekdays; the shop's day begins eleven hours before UTC's."""
    serving = {
        "time_zone": "Pacific/Auckland",
        "reasons": {
            "buy_again": "Kupione {times}, ostatnio {when}",
            "often_in_category": "{purchases} w dziale {category}, ostatnio {when}",
        },
        "phrases": {
            "plural": "n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2",
            "times": {"forms": ["{n} raz", "{n} razy", "{n} razy"]},
            "purchases": {"forms": ["{n} zakup", "{n} zakupy", "{n} zakupów"]},
            "days": {"forms": ["{n} dzień", "{n} dni", "{n} dni"]},
            "days_ago": {"exact": {0: "dziś"}, "forms": ["{n} dzień temu", "{n} dni temu", "{n} dni temu"]},
            "weekdays": [],
        },
    }
    rows, now = requests(2)
    rows, now = rows[:80], now[:80]
    model = funnel(**serving)
    answer = {name: text(value) for name, value in model.recommend(inputs_of(rows, now)).items()}
    section = type(CONFIG.serving).model_validate(CONFIG.serving.model_dump() | serving)
    seen = proven(answer, rows, now, section)
    assert seen["buy_again"] > 5
    assert seen["often_in_category"] > 5
    words = " ".join(answer[F.REASON].ravel())
    for form in (" zakupy ", " zakupów "):
        assert form in words


def test_new_items_say_so():
    rows, now = requests(3)
    rows, now = rows[:40], now[:40]
    model = funnel(exploration_share=0.25)
    answer = {name: text(value) for name, value in model.recommend(inputs_of(rows, now)).items()}
    seen = proven(answer, rows, now, model_serving := CONFIG.serving)
    assert model_serving.exploration_share == 0
    assert seen["exploration"] >= 40


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


def test_days_begin_at_midnight_of_the_shop():
    calendar = Calendar(Phrases(), "America/New_York")
    now = int(dt.datetime(2017, 3, 13, 1, 30, tzinfo=zoneinfo.ZoneInfo("America/New_York")).timestamp())
    hours = [1.4, 1.6, 24.4, 24.6, 48.6, 24.0 * 6, 24.0 * 7]  # the clock went forward the day before
    age = tf.constant([[hour / 24 for hour in hours]])
    words = text(calendar.when(age, tf.constant([now], tf.int64)))[0].tolist()
    assert words == [
        "today", "yesterday", "yesterday", "on Saturday", "on Friday", "on Tuesday", "7 days ago",
    ]  # fmt: skip
    unknown = text(calendar.when(age, tf.constant([0], tf.int64)))[0].tolist()
    assert unknown == [
        "within a day", "within a day", "yesterday", "yesterday", "2 days ago", "6 days ago", "7 days ago",
    ]  # fmt: skip


def test_titles():
    """The first part; a point within it does not end it."""
    model = funnel()
    texts = ["whole milk. dairy. 1 gal.", "bread.", "", "no point", "2.5 l oil. food.", "é. b"]
    model.reasons._text = tf.constant(texts)
    expected = ["whole milk", "bread", "", "no point", "2.5 l oil", "é"]
    assert text(model.reasons.title(tf.range(6))).tolist() == expected
