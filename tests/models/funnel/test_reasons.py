"""Reasons are true: each is held against the request, for hundreds of requests."""

import collections
import itertools

import numpy as np
import tensorflow as tf

from components.common import artifacts
from models.funnel import reasons, search_reasons
from schema import names as F
from schema.config import Reasons
from schema.reasons import REASONS
from tests.models.funnel import tiny_funnel
from tests.models.funnel.reason_proof import Event, Shop, prove
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, DAY, ITEMS, recommend_inputs, text

REQUESTS = 160  # fewer than serving.max_pairs allows


def proof_shop():
    items, frame = tiny_shop.items(), tiny_shop.events()
    past = frame[frame["timestamp"] < CUTOFF]
    age = (CUTOFF - past["timestamp"]) / DAY
    first = age.groupby(past["item_id"]).max()
    bought, bought_age = past[past["event_type"] == "purchase"], age[past["event_type"] == "purchase"]
    sources = tiny_shop.built().factory.at(CUTOFF).sources
    names = items.vocabularies["department"][items.categorical["department"]]
    return Shop(
        title={
            item: words.split(". ")[0].removesuffix(".")
            for item, words in zip(items.item_id, items.text, strict=True)
        },
        category=dict(zip(items.item_id, names, strict=True)),
        sold_week=bought[bought_age <= 7].groupby("item_id").size().to_dict(),
        sold=bought[bought_age <= CONFIG.candidates.trending_days].groupby("item_id").size().to_dict(),
        candidates=(candidates := frozenset(items.item_id[sources.candidate_row.numpy()[:-1]])),
        new=candidates & set(first[first <= CONFIG.candidates.new_days].index),
        as_of=CUTOFF,
        promoted={
            row["item_id"]: frozenset(
                week
                for week, stores in zip(row["exposure_week"], row["exposure_mailer"], strict=True)
                if stores >= CONFIG.exposures.least_stores
            )
            for _, row in tiny_shop.item_frame().iterrows()
        },
    )


def requests(seed):
    """Random requests: regular buyers, lookers, baskets of equal age, nobody at all."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(REQUESTS):
        events = []
        for item in rng.choice([*ITEMS, "no such item"], rng.integers(0, 6), replace=False):
            if rng.random() < 0.3:  # at regular intervals
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
    wanted = {key for key in Reasons.model_fields if not key.startswith("search_")}
    wanted -= {"similar", "exploration", "exploration_anywhere"}
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
    model = tiny_funnel.make(**serving)
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
    model = tiny_funnel.make(exploration_share=0.25)
    answer = {name: text(value) for name, value in model.recommend(inputs_of(rows, now)).items()}
    seen = proven(answer, rows, now, model_serving := CONFIG.serving)
    assert model_serving.exploration_share == 0
    assert seen["exploration"] >= 40


def test_titles(monkeypatch):
    """The first part; a point within it does not end it."""
    model = tiny_funnel.make()
    texts = ["whole milk. dairy. 1 gal.", "bread.", "", "no point", "2.5 l oil. food.", "é. b"]
    monkeypatch.setattr(model.reasons, "_text", tf.constant(texts))
    expected = ["whole milk", "bread", "", "no point", "2.5 l oil", "é"]
    assert text(model.reasons.title(tf.range(6))).tolist() == expected


def test_every_reason_has_words_and_a_rule():
    """`schema.reasons` and `RULES` are one table in two rooms: the same keys, the same order."""
    keys = [rule.key for rule in reasons.RULES]
    assert len(set(keys)) == len(keys)
    searched = {reason.key for reason in REASONS if reason.key.startswith("search_")}  # SearchReasons'
    assert {*keys, reasons.DEFAULT, reasons.SIMILAR} == {reason.key for reason in REASONS} - searched
    assert [*Reasons.model_fields] == [reason.key for reason in REASONS]
    # of one source the table lists first what overrules, and so comes last among the rules
    priority = {key: place for place, key in enumerate([reasons.SIMILAR, reasons.DEFAULT, *keys])}
    of_lists = [reason for reason in REASONS if reason.key not in searched]
    for first, second in itertools.pairwise(of_lists):
        if first.source == second.source and second.key != "looked_at":  # it overlaps with none
            assert priority[first.key] > priority[second.key]


def test_every_fact_of_a_reason_is_said():
    for reason in REASONS:
        assert not reason.unknown_facts(reason.template)
        said = search_reasons.FACTS if reason.key.startswith("search_") else reasons._FACTS
        for fact in reason.facts:
            assert fact == "when" or fact in said
