"""The store on SQLite and PostgreSQL: appended once, read back in order, erased, exported."""

from __future__ import annotations

import itertools
import random
import sqlite3
import threading

import alembic.autogenerate
import alembic.migration
import numpy as np
import pytest
import sqlalchemy as sa

from schema.events import Event
from serving.store import EventStore, Shown, ShownList, StoredEvent, migrations, tables
from serving.store.engine import StoreError, connect

NOW = 1_700_000_000.0
_numbers = itertools.count()
INJECTIONS = ["' OR '1'='1", "'; DROP TABLE events; --", "\\'; --", "%", "_", '"', "🥛 milk", "a\nb"]


def event(item, kind="view", ago=0.0, user="u1", **more):
    given = {"event_id": f"event-{next(_numbers):06d}", "received_at": NOW, **more}
    return StoredEvent(user_id=user, item_id=item, event_type=kind, occurred_at=NOW - ago, **given)


def shown(items, ago=0.0, user="u1", list_id=None, **more):
    given = {"arm": "", "experiment": "", "fallback": False, "query": "", **more}
    places = [
        item if isinstance(item, Shown) else Shown(item, place, 1.0, "two_tower")
        for place, item in enumerate(items)
    ]
    return ShownList(
        list_id=list_id or f"list-{next(_numbers)}",
        request_id="r",
        user_id=user,
        surface="home.for_you",
        model_version=7,
        label="",
        shown_at=NOW - ago,
        items=places,
        **given,
    )


def test_an_event_counts_once_however_often_it_comes(store):
    first, second = event("a"), event("b")
    assert store.append([first, second, first]) == (2, 1)
    assert store.append([second, event("c")]) == (1, 1)
    changed = event("z", event_id=first.event_id)
    assert store.append([changed]) == (0, 1)
    assert [each.item_id for each in store.recent("u1", 10, NOW)] == ["a", "b", "c"]
    assert store.append([]) == (0, 0)


def test_concurrent_batches_of_the_same_events_neither_deadlock_nor_double(store):
    events = [event(str(number)) for number in range(300)]
    counts, errors = [], []

    def send(seed):
        mine = events[:]
        random.Random(seed).shuffle(mine)
        try:
            for start in range(0, 300, 60):
                counts.append(store.append(mine[start : start + 60]))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=send, args=[seed]) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(count.accepted for count in counts) == 300
    assert sum(count.duplicate for count in counts) == 5 * 300
    assert len(store.recent("u1", 1000, NOW)) == 300


def test_a_transaction_that_fails_leaves_nothing(store):
    with pytest.raises(sa.exc.DBAPIError):
        store.write([event("a"), event("b", kind=None)], [shown(["a"])])
    assert store.recent("u1", 10, NOW) == []
    assert store.shown_counts("u1", 0) == {}


def test_history_is_by_the_shoppers_clock_whatever_the_order_of_arrival(store):
    store.append([event("late", "purchase", 5 * 86_400)])
    store.append([event("newest", "click", 60), event("oldest", "view", 9 * 86_400), event("ahead", ago=-50)])
    store.append([event("", "search", 1, query="milk"), event("x", "not_interested"), event("y", user="u2")])
    store.append([event("robot", suspect=True)])
    assert store.recent("u1", 10, NOW) == [
        Event("oldest", 9.0, "view"),
        Event("late", 5.0, "purchase"),
        Event("newest", 60 / 86_400, "view"),
        Event("ahead", 0.0, "view"),
    ]
    assert [each.item_id for each in store.recent("u1", 2, NOW)] == ["newest", "ahead"]


def test_the_basket_and_what_was_taken_out_of_it(store):
    store.append([event("milk", "cart", 90), event("bread", "cart", 80), event("eggs", "cart", 70)])
    store.append([event("bread", "remove_from_cart", 60), event("eggs", "purchase", 50)])
    assert store.basket("u1") == ["milk"]
    assert [each.item_id for each in store.recent("u1", 10, NOW)] == ["milk", "eggs", "eggs"]
    store.append([event("bread", "cart", 40)])
    assert store.basket("u1") == ["milk", "bread"]


def test_not_interested_until_wanted_again(store):
    store.append(
        [event("a", "not_interested", 90), event("b", "not_interested", 80), event("c", "click", 70)]
    )
    store.append([event("b", "view", 60), event("a", "click", 50), event("c", "not_interested", 40)])
    assert store.dismissed("u1") == ["b", "c"]


def test_visits_in_which_an_item_was_seen_and_not_wanted(store):
    hour = 3600.0
    base = (NOW // hour) * hour
    for ago in (0.5 * hour, 1.5 * hour, 1.5 * hour + 60, 2.5 * hour):  # two of them in one visit
        store.log_list(shown(["a", "b", "c"], ago=NOW - base + ago))
    store.log_list(shown(["a"], ago=3.2 * hour, query="milk"))  # they asked for it
    store.log_list(shown(["a"], ago=30 * 86_400))
    store.append([event("b", "click", NOW - base + 1.0 * hour)])
    assert store.shown_counts("u1", NOW - 86_400, hour, 2) == {"a": 3, "b": 1}
    assert store.shown_counts("u1", NOW - 86_400, hour, 3) == {"a": 3, "b": 1, "c": 3}
    assert store.shown_counts("u2", 0) == {}
    known = store.user("u1", 10, NOW, NOW - 86_400, hour, 2)
    assert known.unwanted == {"a": 3, "b": 1}
    assert (known.events, known.dismissed, known.erased) == (store.recent("u1", 10, NOW), [], False)


def test_a_user_is_given_out_and_erased_with_a_row_each(store):
    store.append([event("a", value=2.5, context={"store_id": "3"}), event("b", user="u2")])
    store.log_list(shown(["a", "b"], list_id="mine"))
    store.log_list(shown(["a"], list_id="other", user="u2"))
    given = store.export("u1", "clerk")
    assert [(row["item_id"], row["value"], row["context"]) for row in given["events"]] == [
        ("a", 2.5, {"store_id": "3"})
    ]
    assert [row["list_id"] for row in given["lists"]] == ["mine"]
    assert [row["item_id"] for row in given["lists"][0]["items"]] == ["a", "b"]
    assert store.erase("u1", "clerk") == (1, 1)
    empty = store.export("u1")
    assert (empty["events"], empty["lists"], empty["erased"]) == ([], [], True)
    assert store.user("u1", 9, NOW, 0, 1, 1).erased
    assert len(store.export("u2")["events"]) == len(store.export("u2")["lists"]) == 1
    rows = store.audit("u1")
    assert [(row["action"], row["caller"], row["events"], row["lists"]) for row in rows] == [
        ("export", "clerk", 1, 1),
        ("erase", "clerk", 1, 1),
        ("export", "", 0, 0),
    ]
    assert not any("u1" in str(value) for row in rows for value in row.values())
    with store._engine.connect() as connection:
        left = connection.execute(sa.select(tables.places.c.list_id)).scalars().all()
    assert left == ["other"]


@pytest.mark.parametrize("text", INJECTIONS)
def test_texts_are_values_and_no_sql(store, text):
    store.append([event(text, user=text, query=text), event("other", user="somebody")])
    store.log_list(shown([text], user=text, query=""))
    assert [each.item_id for each in store.recent(text, 10, NOW)] == [text]
    assert store.shown_counts(text, 0) == {text: 1}
    assert store.erase(text) == (1, 1)
    assert len(store.recent("somebody", 10, NOW)) == 1


def test_exposures_against_a_plain_loop(store):
    rng = random.Random(5)
    lists, events, users = [], [], [f"u{number}" for number in range(8)]
    for _ in range(60):
        user = rng.choice(users)
        places = [Shown(str(place), place, rng.choice([1.0, 0.5, 0.25]), "s") for place in range(3)]
        lists.append(
            shown(
                places,
                ago=rng.uniform(0, 1000),
                user=user,
                arm=rng.choice(["a", "b"]),
                experiment=rng.choice(["x", "y"]),
                fallback=rng.random() < 0.1,
            )
        )
        for _ in range(rng.randrange(4)):
            kind = rng.choice(["click", "purchase", "view"])
            by = user if rng.random() < 0.8 else rng.choice(users)
            value = rng.choice([None, 1.0, 2.5])
            item = str(rng.randrange(3))
            events.append(event(item, kind, user=by, list_id=lists[-1].list_id, value=value))
    for user in users:
        events += [event("old", "purchase", rng.uniform(0, 40) * 86_400, user, value=3.0) for _ in range(5)]
    events.append(event("r", user="u3", suspect=True))
    for each in lists:
        store.log_list(each)
    store.append(events)
    asked = ("x", NOW - 900, NOW - 100)
    found = store.exposures(*asked)
    seen = sorted(
        (each for each in lists if each.experiment == "x" and each.user_id != "u3"),
        key=lambda each: (each.shown_at, each.list_id),
    )
    chosen = [each for each in seen if NOW - 900 <= each.shown_at < NOW - 100]
    assert len(chosen) > 8
    assert any(each.fallback for each in chosen)
    assert found["list_id"].tolist() == [each.list_id for each in chosen]
    assert found["unit"].tolist() == [each.user_id for each in chosen]
    assert found["arm"].tolist() == [each.arm for each in chosen]
    assert found["fallback"].tolist() == [each.fallback for each in chosen]
    first = {}
    for each in seen:  # of the experiment, also before the period
        first.setdefault(each.user_id, each.shown_at)

    def before(user):
        start = first[user]
        bought = [e for e in events if (e.user_id, e.event_type) == (user, "purchase")]
        return sum(e.value or 0 for e in bought if start - 28 * 86_400 <= e.occurred_at < start)

    np.testing.assert_allclose(found["covariate"], [before(each.user_id) for each in chosen])
    places = store.exposed_places(*asked)
    assert places["list_id"].tolist() == [each.list_id for each in chosen for _ in range(3)]
    assert places["position"].tolist() == [0, 1, 2] * len(chosen)
    assert places["propensity"].tolist() == [item.propensity for each in chosen for item in each.items]
    happened = sorted(
        (
            e
            for e in events
            if e.event_type in ("click", "purchase")
            and e.user_id in {each.user_id for each in chosen}
            and e.occurred_at >= NOW - 900
        ),
        key=lambda e: (e.occurred_at, e.event_id),
    )
    outcomes = store.outcomes(*asked)
    for column, field in (("unit", "user_id"), ("item_id", "item_id"), ("event_type", "event_type")):
        assert outcomes[column].tolist() == [getattr(e, field) for e in happened]
    assert outcomes["list_id"].tolist() == [e.list_id for e in happened]
    assert outcomes["value"].tolist() == [e.value or 0 for e in happened]
    for columns in (store.exposures, store.exposed_places, store.outcomes):
        assert all(len(column) == 0 for column in columns("nothing", 0, NOW).values())


def test_drawn_places_and_their_clicks_against_a_plain_loop(store):
    rng = random.Random(6)
    lists = []
    for _ in range(40):
        places = [Shown(str(rng.randrange(3)), place, rng.choice([1.0, 0.5]), "s") for place in range(1)]
        lists.append(shown(places, ago=rng.uniform(0, 1000), user=rng.choice(["u1", "u2"])))
    events = []
    for each in lists:
        for _ in range(rng.randrange(3)):  # twice is one click; another user's, or of another item, is none
            user = rng.choice(["u1", "u2"])
            events.append(event(str(rng.randrange(3)), "click", user=user, list_id=each.list_id))
        store.log_list(each)
    store.append(events)
    clicks = {(e.list_id, e.item_id, e.user_id) for e in events}
    expected = {}
    for each in lists:
        item = each.items[0]
        if item.propensity < 1 and each.shown_at >= NOW - 800:
            times, clicked = expected.get(item.item_id, (0, 0))
            hit = (each.list_id, item.item_id, each.user_id) in clicks
            expected[item.item_id] = (times + 1, clicked + hit)
    assert sum(clicked for _, clicked in expected.values()) > 0
    assert store.explored(NOW - 800) == expected


def test_a_stopped_experiment_stays_stopped_until_it_is_resumed(store):
    assert store.stopped() == {}
    assert [store.stop("x"), store.stop("x"), store.stop("y")] == [True, False, True]
    assert {*store.stopped()} == {"x", "y"}
    assert [store.resume("x"), store.resume("x")] == [True, False]
    assert [*store.stopped()] == ["y"]


def test_the_migrations_make_the_tables(url):
    store = EventStore(url)
    with store._engine.connect() as connection:
        context = alembic.migration.MigrationContext.configure(connection, opts={"compare_type": True})
        assert alembic.autogenerate.compare_metadata(context, tables.metadata) == []
    store.append([event("a")])
    store.close()
    again = EventStore(url)  # nothing to do, and nothing lost
    assert len(again.recent("u1", 10, NOW)) == 1
    again.close()


def test_events_are_counted_by_the_minute_in_which_they_came(store):
    minute = 60 * int(NOW // 60)
    store.append([event("1", received_at=minute + after) for after in (0, 59.9, 60, 181)])
    counted = [(minute // 60, 2), (minute // 60 + 1, 1), (minute // 60 + 3, 1)]
    assert store.events_per_minute(minute, minute + 240) == counted
    assert store.events_per_minute(minute + 1, minute + 181) == [(minute // 60, 1), (minute // 60 + 1, 1)]


def test_gateways_that_start_together_migrate_once(url):
    errors, stores = [], []

    def start():
        try:
            stores.append(EventStore(url))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert errors == []


def test_an_sqlite_file_that_another_process_is_making_is_waited_for(tmp_path):
    path = tmp_path / "store.sqlite"
    other = sqlite3.connect(path, check_same_thread=False)
    other.execute("CREATE TABLE theirs (number INTEGER)")
    other.execute("BEGIN EXCLUSIVE")  # of a file without a write-ahead log, where SQLite waits for nobody
    opened: list[EventStore] = []
    opening = threading.Thread(target=lambda: opened.append(EventStore(f"sqlite:///{path}")))
    opening.start()
    opening.join(0.3)
    assert opening.is_alive()
    other.rollback()
    other.close()
    opening.join()
    (store,) = opened
    assert store.append([event("a")]).accepted == 1
    store.close()


def test_a_database_of_a_newer_release_is_refused(url):
    EventStore(url).close()
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer release"):
        migrations.upgrade(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "is no database URL"),
        ("mysql://localhost/x", "mysql is not supported"),
        ("sqlite:///:memory:", "an SQLite store is a file"),
        ("postgresql+psycopg://shop:secret@localhost:1/x", "cannot be opened"),
    ],
)
def test_a_wrong_address_is_one_line_without_the_password(url, said):
    with pytest.raises(StoreError, match=said) as caught:
        EventStore(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
