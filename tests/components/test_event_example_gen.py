"""Sessions, histories, windows and samples against a naive recomputation, row by row."""

import hashlib
import random

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("apache_beam")

from components.common.artifacts import SPLITS
from components.common.columns import deserialize, serialize
from components.common.tables import Chunk
from components.event_example_gen.roles import roles
from components.event_example_gen.rows import normalise
from components.event_example_gen.sessions import sessions
from components.event_example_gen.settings import Settings
from components.event_example_gen.survey import Plan, Survey, fixed_end, merge_surveys, plan, survey
from schema.errors import DataError

DAY = 86_400
START = 1_483_228_800  # 2017-01-01


def make_settings(session_id=True, event_type=True, query=False, **sections):
    columns = {"user_id": "u", "item_id": "i", "timestamp": "t", "quantity": "q", "value": "v"}
    columns |= {"session_id": "s"} if session_id else {}
    columns |= {"event_type": "e"} if event_type else {}
    columns |= {"query": "w"} if query else {}
    events = {
        "path": "events.parquet",
        "columns": columns,
        "event_weights": {"purchase": 1.0, "view": 0.25},
        "context": {"store_id": "store"},
        "history_length": 5,
        "session_gap_minutes": 30,
    }
    return Settings.model_validate(
        {
            "data": {"root": "shop", **sections.get("data", {})},
            "events": events | sections.get("events", {}),
            "split": {"eval_days": 5, "test_days": 5, **sections.get("split", {})},
            # label windows that begin in the middle of the data; they may not be longer than the windows
            "ranking": {"windows": 2, "window_days": 3, **sections.get("ranking", {})},
        }
    )


def make_events(seed=0, users=6, sessions=40):
    """Rows in random order, with sessions at equal times, overlapping sessions and voids."""
    rng = random.Random(seed)
    rows = []
    for number in range(users * sessions):
        user = rng.randrange(users) + 8  # 8 to 13: string order is not number order
        begin = START + rng.randrange(30 * 24) * 3600  # whole hours: many sessions at the same time
        for line in range(rng.randrange(1, 5)):
            rows.append(
                {
                    "user_id": user,
                    "item_id": rng.randrange(30),
                    "timestamp": begin + rng.choice([0, 0, 600 * line, 4000]),
                    "session_id": 1000 + number,
                    "event_type": rng.choice(["purchase", "view"]),
                    "quantity": rng.choice([0, 1, 1, 2]),
                    "value": rng.choice([1.5, 2.0, None]),
                    "context_store_id": rng.choice([7, 8, None]),
                    "query": random.Random(number * 9 + line).choice(["Milk ", None, "rye bread"]),
                }
            )
    rng.shuffle(rows)
    return rows


def make_chunk(rows, settings):
    names = [role.name for role in roles(settings.events)]
    columns = {name: pa.array([row[name] for row in rows]) for name in names}
    return Chunk(pa.RecordBatch.from_pydict(columns), "events.parquet", 0, 0)


def run(rows, settings):
    """(plan, {split: rows of plain lists}) as the pipeline computes them, in one part."""
    chunk = make_chunk(rows, settings)
    chosen = plan(survey(chunk, settings), settings, "events.parquet")
    batch = normalise(chunk, chosen, settings)
    table = deserialize([serialize(batch)])
    found = {split: [] for split in SPLITS}
    for split, batch in sessions(table, chosen, settings):
        found[split] += batch.to_pylist()
    return chosen, found


def is_view(row):
    return row.get("event_type", "purchase") == "view"


def counts(row):
    """Voids are purchases of nothing; how much of an item somebody looked at says nothing."""
    return row["quantity"] > 0 or is_view(row)


def naive(rows, settings, chosen):
    """The same examples by plain loops over rows."""
    kept = [(n, r) for n, r in enumerate(rows) if counts(r) and r["timestamp"] * 10**6 <= chosen.data_end]
    if chosen.users is not None:
        kept = [(n, r) for n, r in kept if str(r["user_id"]) in chosen.users]
    key = lambda nr: (str(nr[1]["user_id"]), nr[1]["timestamp"], str(nr[1].get("session_id", "")), nr[0])  # noqa: E731
    if not settings.events.columns.session_id:
        key = lambda nr: (str(nr[1]["user_id"]), nr[1]["timestamp"], nr[0])  # noqa: E731
    kept.sort(key=key)
    split_of = lambda t: "train" if t < chosen.train_end else "eval" if t < chosen.eval_end else "test"  # noqa: E731
    days, label_windows = settings.ranking.window_days, settings.ranking.windows
    limits = {chosen.train_end, chosen.eval_end}
    for cutoff in (chosen.train_end, chosen.eval_end):
        limits |= {cutoff - int(days * DAY) * back for back in range(1, label_windows + 1)}
        if settings.split.strategy == "time":
            limits |= {cutoff + int(days * DAY) + 1}
    piece_of = lambda t: sum(t >= limit for limit in limits)  # noqa: E731
    each_event = not settings.events.columns.session_id and settings.events.session_gap_minutes == 0
    groups, last = {}, None
    wholes, whole_of = {}, {}  # sessions of a user in time order; that of each piece
    with_purchase = set()
    for n, row in kept:
        time, user = row["timestamp"], str(row["user_id"])
        if each_event:
            name, whole = (user, f"{user}-{time}", split_of(time), n), n
        elif settings.events.columns.session_id:
            whole = (user, row["session_id"])
            name = (user, str(row["session_id"]), split_of(time), piece_of(time))
        else:
            joined = (
                last is not None
                and last[0] == user
                and time - last[1] <= settings.events.session_gap_minutes * 60
            )
            whole = last[2] if joined else (user, time)
            joined = joined and piece_of(last[1]) == piece_of(time)
            name = last[3] if joined else (user, f"{user}-{time}", split_of(time), piece_of(time))
            last = (user, time, whole, name)
        if whole not in wholes.setdefault(user, []):
            wholes[user].append(whole)
        whole_of[name] = whole
        if not is_view(row):
            with_purchase.add((user, whole))
        groups.setdefault(name, []).append(row)
    text = lambda values: [str(v).encode() for v in values]  # noqa: E731
    types = lambda values: text(r.get("event_type", "purchase") for r in values)  # noqa: E731
    found = {split: [] for split in SPLITS}
    for (user, session, split, *row), lines in groups.items():
        begin = min(line["timestamp"] for line in lines)
        mine = [(n, r) for n, r in kept if str(r["user_id"]) == user]
        if each_event:
            past = [r for _, r in mine[: [n for n, _ in mine].index(row[0])]]
        else:
            past = [r for _, r in mine if r["timestamp"] < begin]
        if settings.split.strategy == "leave_one_out":
            place = wholes[user].index(whole_of[user, session, split, *row])
            bought = [(user, whole) in with_purchase for whole in wholes[user]]
            back = sum(bought[place + 1 :])  # sessions with a purchase that are still to come
            split = {0: "test", 1: "eval"}.get(back, "train") if sum(bought) >= 3 else "train"
        past = past[-settings.events.history_length :]
        weights = settings.events.event_weights
        store = lines[0]["context_store_id"]
        found[split].append(
            {
                "session_id": [session.encode()],
                "user_id": [user.encode()],
                "timestamp": [begin],
                "target_item_id": text(r["item_id"] for r in lines),
                "target_event_type": types(lines),
                "target_weight": [weights[r.get("event_type", "purchase")] for r in lines],
                "target_quantity": [float(r["quantity"]) for r in lines],
                "target_value": [
                    r["value"] if r["value"] is not None else 0.0 if is_view(r) else float("nan")
                    for r in lines
                ],
                "history_item_id": text(r["item_id"] for r in past),
                "history_age_days": [np.float32((begin - r["timestamp"]) / DAY) for r in past],
                "history_event_type": types(past),
                "context_store_id": [b"" if store is None else str(store).encode()],
            }
        )
        if settings.events.columns.query:
            found[split][-1]["target_query"] = text(r["query"] or "" for r in lines)
    return found


def assert_equal(found, wanted):
    assert {s: len(rows) for s, rows in found.items()} == {s: len(rows) for s, rows in wanted.items()}
    order = lambda row: (row["user_id"], row["session_id"], row["timestamp"])  # noqa: E731
    for split in SPLITS:
        for left, right in zip(
            sorted(found[split], key=order), sorted(wanted[split], key=order), strict=True
        ):
            assert left.keys() == right.keys()
            for name in left:
                if isinstance(right[name][0] if right[name] else b"", bytes):
                    assert left[name] == right[name], name
                else:
                    np.testing.assert_array_equal(left[name], right[name], name)


@pytest.mark.parametrize("seed", [0, 1])
def test_sessions_by_id_equal_naive(seed):
    rows, settings = make_events(seed), make_settings()
    chosen, found = run(rows, settings)
    assert all(found.values())
    assert any(not row["history_item_id"] for row in found["train"])
    assert_equal(found, naive(rows, settings, chosen))


def test_queries_lie_beside_the_targets_where_the_shop_has_them():
    rows, settings = make_events(4), make_settings(query=True)
    chosen, found = run(rows, settings)
    assert {query for row in found["train"] for query in row["target_query"]} == {b"", b"Milk ", b"rye bread"}
    assert_equal(found, naive(rows, settings, chosen))


@pytest.mark.parametrize("seed", [2, 3])
def test_sessions_by_gap_equal_naive(seed):
    rows = make_events(seed)
    for row in rows:
        del row["session_id"], row["event_type"]
    settings = make_settings(session_id=False, event_type=False)
    chosen, found = run(rows, settings)
    assert any(len(set(row["target_item_id"])) > 3 for row in found["train"])
    assert_equal(found, naive(rows, settings, chosen))


@pytest.mark.parametrize("strategy", ["time", "leave_one_out"])
def test_each_event_a_session_equals_naive(strategy):
    """Events of one second come in the file's order, and those before are history."""
    rows = make_events(10)
    for row in rows:
        del row["session_id"], row["event_type"]
    settings = make_settings(
        session_id=False,
        event_type=False,
        events={"session_gap_minutes": 0},
        split={"strategy": strategy},
    )
    chosen, found = run(rows, settings)
    assert {len(row["target_item_id"]) for split in found.values() for row in split} == {1}
    assert any(0 in row["history_age_days"] for row in found["train"])
    assert_equal(found, naive(rows, settings, chosen))


@pytest.mark.parametrize("gap", [0, 30])
@pytest.mark.parametrize("strategy", ["time", "leave_one_out"])
def test_batches_are_bounded_and_hold_the_same(gap, strategy):
    rows = make_events(9)
    for row in rows:
        del row["session_id"]
    settings = make_settings(
        session_id=False, events={"session_gap_minutes": gap}, split={"strategy": strategy}
    )
    chosen, wanted = run(rows, settings)
    table = deserialize([serialize(normalise(make_chunk(rows, settings), chosen, settings))])
    found, most = {split: [] for split in SPLITS}, 40
    for split, batch in sessions(table, chosen, settings, most):
        part = batch.to_pylist()
        assert sum(len(row["history_item_id"]) for row in part) < most + settings.events.history_length
        found[split] += part
    assert len(found["train"]) > 20
    assert_equal(found, wanted)


@pytest.mark.parametrize("session_id", [True, False])
def test_leave_one_out_equals_naive(session_id):
    rows = make_events(11)
    rows += [dict(rows[0], user_id=99, session_id=n, timestamp=START + n, quantity=1) for n in range(2)]
    for row in rows:
        if not session_id:
            del row["session_id"]
        if row["user_id"] != 99:
            row["timestamp"] += 86_400 * (row["user_id"] - 8)  # windows of time would divide otherwise
    settings = make_settings(session_id=session_id, split={"strategy": "leave_one_out"})
    chosen, found = run(rows, settings)
    last = max(row["timestamp"] for row in rows if counts(row))
    assert (chosen.train_end, chosen.eval_end) == (last + 1, last + 1)
    for split in ("eval", "test"):  # one session with a purchase a user, none of who has fewer than three
        bought = [row for row in found[split] if b"purchase" in row["target_event_type"]]
        assert [row["user_id"] for row in bought] == [[str(u).encode()] for u in (10, 11, 12, 13, 8, 9)]
    alone = [row for row in found["test"] if b"purchase" not in row["target_event_type"]]
    assert alone  # views after the last purchase
    assert_equal(found, naive(rows, settings, chosen))


def test_leave_one_out_holds_out_purchases_and_what_follows_them():
    """Views between two purchases are known when the second is asked for, views after the last never are."""
    base = {"user_id": 1, "quantity": 1, "value": 1.0, "context_store_id": 7}
    kinds = ["view", "purchase", "view", "purchase", "view", "view", "purchase", "view", "purchase", "view"]
    rows = [
        base | {"timestamp": START + day * DAY, "session_id": day, "item_id": day, "event_type": kind}
        for day, kind in enumerate(kinds)
    ]
    _, found = run(rows, make_settings(split={"strategy": "leave_one_out"}))
    days = {split: [int(row["target_item_id"][0]) for row in found[split]] for split in SPLITS}
    assert days == {"train": [0, 1, 2, 3, 4, 5], "eval": [6, 7], "test": [8, 9]}
    asked = next(row for row in found["test"] if row["target_event_type"] == [b"purchase"])
    assert asked["history_item_id"] == [b"3", b"4", b"5", b"6", b"7"]


def test_a_view_needs_no_quantity_above_0_and_costs_nothing():
    base = {"user_id": 1, "session_id": 1, "context_store_id": 7}
    rows = [
        base
        | {"timestamp": START + day * DAY, "item_id": day, "event_type": kind, "quantity": 0, "value": None}
        for day, kind in enumerate(["view", "purchase"] * 10)
    ]
    rows += [dict(row, quantity=1, value=2.0) for row in rows]
    _, found = run(rows, make_settings())
    every = [row for split in SPLITS for row in found[split]]
    assert sum(row["target_event_type"].count(b"view") for row in every) == 20
    assert sum(row["target_event_type"].count(b"purchase") for row in every) == 10
    assert sorted({value for row in every for value in row["target_value"]}) == [0.0, 2.0]


@pytest.mark.parametrize("gap", [0, 30])
@pytest.mark.parametrize(("changed", "same"), [("test", ("train", "eval")), ("eval", ("train",))])
def test_leave_one_out_no_held_out_event_reaches_an_earlier_example(gap, changed, same):
    rows = make_events(12)
    for row in rows:
        del row["session_id"]
        row["event_type"] = "purchase"
    settings = make_settings(
        session_id=False, events={"session_gap_minutes": gap}, split={"strategy": "leave_one_out"}
    )
    before = run(rows, settings)[1]
    size = {row["user_id"][0]: len(row["target_item_id"]) for row in before[changed]}
    later = {row["user_id"][0]: len(row["target_item_id"]) for row in before["test"]}
    in_time = sorted((n for n, r in enumerate(rows) if r["quantity"] > 0), key=lambda n: rows[n]["timestamp"])
    other = [dict(row) for row in rows]
    for user in size:
        mine = [n for n in in_time if str(rows[n]["user_id"]).encode() == user]
        end = len(mine) - (later[user] if changed == "eval" else 0)
        for n in mine[end - size[user] : end]:
            other[n] |= {"item_id": 999, "value": 7.0}
    after = run(other, settings)[1]
    assert all(row["target_item_id"] == [b"999"] * size[row["user_id"][0]] for row in after[changed])
    for split in same:
        assert_equal({**after, split: before[split]}, after)


@pytest.mark.parametrize("name", ["quantity", "value"])
@pytest.mark.parametrize("number", [float("inf"), float("-inf"), 1e300])
def test_a_number_beyond_float32_is_named(name, number):
    if (name, number) == ("quantity", float("-inf")):
        return  # below the minimum: the row is not used
    rows, settings = make_events(7), make_settings()
    rows[57] |= {"quantity": 1, name: number}
    chunk = make_chunk([row | {"value": row["value"] or 1.0} for row in rows], settings)
    chosen = plan(survey(chunk, settings), settings, "events.parquet")
    wanted = (
        rf"events.parquet: column '{name[0]}' \(events.columns.{name}\) is {number:g} in row 58, 1 times in"
    )
    with pytest.raises(DataError, match=wanted.replace("+", r"\+")):
        normalise(chunk, chosen, settings)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_only_purchases_need_a_quantity(missing):
    rows, settings = make_events(8), make_settings()
    for row in rows:
        row["quantity"] = missing if row["event_type"] == "view" else float(row["quantity"])
    filled = [row | {"quantity": 1.0 if row["event_type"] == "view" else row["quantity"]} for row in rows]
    assert any(b"view" in row["target_event_type"] for row in run(rows, settings)[1]["train"])
    assert_equal(run(rows, settings)[1], run(filled, settings)[1])
    rows[31] |= {"event_type": "purchase", "quantity": missing}
    with pytest.raises(
        DataError, match=r"'q' \(events.columns.quantity\) has no value .* in row 32, 1 times"
    ):
        run(rows, settings)
    for row in rows:
        del row["event_type"]
    with pytest.raises(DataError, match=r"'q' \(events.columns.quantity\) has no value"):
        run(rows, make_settings(event_type=False))


def test_examples_are_ordered_by_user_and_time_whatever_the_row_order():
    rows, settings = make_events(4), make_settings()
    _, found = run(rows, settings)
    keys = [(row["user_id"], row["timestamp"]) for row in found["train"]]
    assert keys == sorted(keys)
    without_ties = [dict(row, timestamp=row["timestamp"] + n) for n, row in enumerate(rows)]
    shuffled = random.Random(9).sample(without_ties, len(rows))
    assert_equal(run(shuffled, settings)[1], run(without_ties, settings)[1])


def test_same_timestamp_of_another_session_is_not_history():
    base = {"user_id": 1, "event_type": "purchase", "quantity": 1, "value": 1.0, "context_store_id": 7}
    times = [(0, 1, 10), (5, 2, 11), (5, 3, 12), (6, 3, 13), (12 * DAY, 4, 14), (18 * DAY, 5, 15)]
    rows = [base | {"timestamp": START + t, "session_id": s, "item_id": i} for t, s, i in times]
    _, found = run(rows, make_settings())
    history = {row["session_id"][0]: row["history_item_id"] for split in found.values() for row in split}
    assert history[b"2"] == [b"10"]
    assert history[b"3"] == [b"10"]
    assert history[b"4"] == [b"10", b"11", b"12", b"13"]


def test_a_session_that_crosses_a_cutoff_is_cut():
    base = {"user_id": 1, "event_type": "purchase", "quantity": 1, "value": 1.0, "context_store_id": 7}
    cutoff = 15 * DAY  # the end is day 20
    times = [(0, 1, 10), (cutoff - 60, 2, 11), (cutoff, 2, 12), (20 * DAY, 3, 13)]
    rows = [base | {"timestamp": START + t, "session_id": s, "item_id": i} for t, s, i in times]
    chosen, found = run(rows, make_settings())
    assert chosen.eval_end == START + cutoff
    assert [row["target_item_id"] for row in found["eval"]] == [[b"11"]]
    assert [row["target_item_id"] for row in found["test"]] == [[b"12"], [b"13"]]
    assert found["test"][0]["history_item_id"] == [b"10", b"11"]


@pytest.mark.parametrize("session_id", [True, False])
def test_a_session_is_cut_where_a_label_window_begins_and_ends(session_id):
    """A cart that lives for days: what it gets in a label window is not known when the window begins."""
    base = {"user_id": 1, "event_type": "purchase", "quantity": 1, "value": 1.0, "context_store_id": 7}
    rows = [base | {"timestamp": START + hour * 3600, "item_id": hour} for hour in range(20 * 24 + 1)]
    if session_id:
        rows = [row | {"session_id": 5} for row in rows]
    settings = make_settings(session_id, events={"session_gap_minutes": 60})
    chosen, found = run(rows, settings)
    assert (chosen.train_end, chosen.eval_end) == (START + 10 * DAY, START + 15 * DAY)
    begins = [(row["timestamp"][0] - START) / DAY for split in SPLITS for row in found[split]]
    # two label windows of 3 days before each cut-off, and 3 days of labels after it, hours being whole
    assert [round(24 * day) for day in begins] == [0, 96, 168, 216, 240, 288, 313, 360, 433]
    ends = [*begins[1:], 21]
    for row, end in zip([row for split in SPLITS for row in found[split]], ends, strict=True):
        assert all(int(item) < round(24 * end) for item in row["target_item_id"])
    assert sum(len(row["target_item_id"]) for split in SPLITS for row in found[split]) == len(rows)


def test_no_later_event_reaches_an_earlier_example():
    rows, settings = make_events(5), make_settings()
    chosen, before = run(rows, settings)
    changed = [dict(row) for row in rows]
    rng = random.Random(1)
    last = max(row["timestamp"] for row in rows if row["quantity"] > 0)
    for row in changed:
        if row["timestamp"] >= chosen.eval_end and row["timestamp"] < last:
            row["item_id"], row["quantity"], row["value"] = rng.randrange(900, 999), rng.choice([1, 3]), 99.0
            row["event_type"] = "view"
    after = run(changed, settings)[1]
    assert before["test"] != after["test"]
    for split in ("train", "eval"):
        assert_equal({**after, split: before[split]}, after)
    for split, (low, high) in {
        "train": (0, chosen.train_end),
        "eval": (chosen.train_end, chosen.eval_end),
        "test": (chosen.eval_end, chosen.data_end // 10**6 + 1),
    }.items():
        assert all(low <= row["timestamp"][0] < high for row in before[split])
        assert all(age > 0 for row in before[split] for age in row["history_age_days"])


def test_sample_takes_users_with_smallest_md5():
    rows, settings = make_events(6, users=12), make_settings(data={"sample_users": 4})
    chosen, found = run(rows, settings)
    ids = {str(row["user_id"]) for row in rows}
    assert chosen.users == tuple(sorted(sorted(ids, key=lambda u: hashlib.md5(u.encode()).hexdigest())[:4]))
    assert {row["user_id"][0].decode() for split in found.values() for row in split} == set(chosen.users)
    assert_equal(found, naive(rows, settings, chosen))


def test_sample_keeps_the_windows_of_all_users():
    rows = make_events(6, users=12)
    whole = run(rows, make_settings())[0]
    sampled = run(rows, make_settings(data={"sample_users": 2}))[0]
    assert (sampled.train_end, sampled.eval_end) == (whole.train_end, whole.eval_end)


def test_surveys_merge_to_the_survey_of_all():
    rows, settings = make_events(7, users=12), make_settings(data={"sample_users": 3})
    parts = [survey(make_chunk(rows[i : i + 50], settings), settings) for i in range(0, len(rows), 50)]
    whole = survey(make_chunk(rows, settings), settings)
    assert merge_surveys(parts + [Survey()], 3) == whole
    halves = [merge_surveys(parts[:4], 3), merge_surveys(parts[4:], 3)]
    assert merge_surveys(halves, 3) == whole


def test_fixed_end_leaves_later_events_out():
    rows = make_events(8)
    settings = make_settings(split={"end": "2017-01-20T00:00:00"})
    chosen, found = run(rows, settings)
    end = START + 19 * DAY
    assert (chosen.eval_end, chosen.train_end) == (end - 5 * DAY, end - 10 * DAY)
    assert max(row["timestamp"][0] for row in found["test"]) <= end
    assert_equal(found, naive(rows, settings, chosen))


def test_end_with_offset_is_the_same_moment():
    local = make_settings(split={"end": "2017-01-20T02:00:00+02:00"})
    utc = make_settings(split={"end": "2017-01-20T00:00:00"})
    assert fixed_end(local.split) == fixed_end(utc.split) == (START + 19 * DAY) * 10**6


@pytest.mark.parametrize(
    ("split", "wanted"),
    [
        (
            {"test_days": 25},
            r"the train window \(before .*\) has no events; change split.end.*span 2017-01-01 .* to",
        ),
        ({"end": "2018-01-01T00:00:00"}, r"the test window \(from 2017-12-27 00:00:00 on\) has no events"),
        ({"end": "2016-01-01T00:00:00"}, r"none of the \d+ rows is used.*events.min_quantity.*split.end"),
    ],
)
def test_empty_window(split, wanted):
    with pytest.raises(DataError, match=wanted) as caught:
        run(make_events(9), make_settings(split=split))
    assert str(caught.value).startswith("events.parquet: ")


def test_missing_value_in_required_role():
    rows, settings = make_events(1), make_settings()
    rows[41]["item_id"] = None
    with pytest.raises(
        DataError, match=r"events.parquet: column 'i' \(events.columns.item_id\) .* in row 42, 1 times"
    ):
        run(rows, settings)


def test_unknown_event_type_names_row_and_key():
    rows, settings = make_events(1), make_settings()
    rows[7] |= {"event_type": "gift", "quantity": 1}
    wanted = (
        r"events.parquet: event type 'gift' in row 8, column 'e' \(events.columns.event_type\), has no "
        r"weight in events.event_weights \(purchase, view\); give it one there, or leave such events out"
    )
    with pytest.raises(DataError, match=wanted):
        run(rows, settings)


def test_default_type_needs_a_weight():
    settings = make_settings(event_type=False, events={"default_event_type": "rating"})
    with pytest.raises(
        DataError, match=r"events.default_event_type 'rating' has no weight in events.event_weights"
    ):
        run(make_events(1), settings)


def test_no_rows_that_count_gives_no_batch():
    settings = make_settings()
    rows = [dict(row, quantity=0, event_type="purchase") for row in make_events(1)]
    assert normalise(make_chunk(rows, settings), Plan(0, 1, 2 * 10**15, None), settings) is None


def test_settings_ignore_what_is_not_written():
    from schema.config import load

    config = load("pipeline/configs/complete_journey.yaml")
    tuned = load(
        "pipeline/configs/complete_journey.yaml", {"split.evaluate_on": "eval", "retrieval.epochs": 9}
    )
    sampled = load("pipeline/configs/complete_journey.yaml", {"data.sample_users": 9})
    assert Settings.of(config).to_json() == Settings.of(tuned).to_json()
    assert Settings.of(config).to_json() != Settings.of(sampled).to_json()
    assert Settings.from_json(Settings.of(sampled).to_json()).data.sample_users == 9


@pytest.mark.parametrize("blank", [None, ""])
def test_a_guest_ends_the_run_with_the_setting_that_says_what_to_do(blank):
    rows = [{**row, "user_id": str(row["user_id"])} for row in make_events(3)]
    rows[17]["user_id"] = blank
    with pytest.raises(DataError, match=r"row 18, 1 times .*events.guests to drop .* or own"):
        survey(make_chunk(rows, make_settings()), make_settings())


@pytest.mark.parametrize("policy", ["drop", "own"])
@pytest.mark.parametrize("sample", [None, 3])
def test_guests_are_left_out_or_users_of_their_own(policy, sample):
    settings = make_settings(events={"guests": policy}, data={"sample_users": sample})
    rows = [{**row, "user_id": str(row["user_id"])} for row in make_events(4)]
    without = [row for row in rows if row["session_id"] % 3 == 0]
    for place, row in enumerate(without):
        row["user_id"] = [None, ""][place % 2]
    assert survey(make_chunk(rows, settings), settings).guests == len(without)
    chosen, found = run(rows, settings)
    if policy == "drop":
        named = [row for row in rows if row["user_id"]]
    else:
        named = [{**row, "user_id": row["user_id"] or f"guest-{row['session_id']}"} for row in rows]
    assert_equal(found, naive(named, settings, chosen))


def test_guests_need_a_session_to_be_users():
    with pytest.raises(ValueError, match="guests: own makes a user of each session"):
        make_settings(session_id=False, events={"guests": "own"})
