"""Snapshots: naive values, and nothing of the future in them."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from models.retrieval import snapshot
from schema.errors import DataError
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CHANNELS, CONFIG, CUTOFF, DAY, LATE, RARE, START, STRANGER

AS_OF = CUTOFF - 28 * DAY  # a Friday: the week of START + 140 days is half over
HOUR = 3600


@pytest.fixture(scope="module")
def items():
    return tiny_shop.items()


@pytest.fixture(scope="module")
def built(items):
    return build(tiny_shop.log(), items, AS_OF)


def build(log, items, as_of, config=CONFIG.candidates):
    return snapshot.build(log, items, as_of, config, None, CONFIG.exposures, CONFIG.items.category)


@pytest.fixture(scope="module")
def past():
    """Events before AS_OF of items in the catalogue, with their age."""
    frame = tiny_shop.events()
    frame = frame[(frame["timestamp"] < AS_OF) & (frame["item_id"] != STRANGER)]
    return frame.assign(age=(AS_OF - frame["timestamp"]) / DAY)


def purchases(past):
    return past[past["event_type"] == "purchase"]


def weights(past):
    return past["event_type"].map(CONFIG.events.event_weights)


def assert_equal(one, other, without=(), calendars="equal"):
    for field in dataclasses.fields(one):
        if field.name in without:
            continue
        a, b = getattr(one, field.name), getattr(other, field.name)
        if dataclasses.is_dataclass(a):
            # which weeks of the calendar may be read, a request's own moment decides: see test_promotions.py
            later = {"weeks", "usual"} if calendars == "apart" else set()
            assert_equal(a, b, later)
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name


def naive_stats(past, item, as_of):
    """Every statistic of one item, from its rows."""
    catalogue = tiny_shop.item_frame().set_index("item_id")
    seen = past[past["item_id"] == item]
    past = purchases(past)
    mine = past[past["item_id"] == item]
    lines = {days: int((mine["age"] <= days).sum()) for days in (7, 28, 90)}
    lines_of_user = mine.groupby("user_id").size()
    users = len(lines_of_user)
    row = catalogue.loc[item]
    gaps = np.concatenate([np.diff(np.unique(ages)) for _, ages in mine.groupby("user_id")["age"]] or [[]])
    out = {
        "log_lines_7": math.log1p(lines[7]),
        "log_lines_28": math.log1p(lines[28]),
        "log_lines_90": math.log1p(lines[90]),
        "log_lines": math.log1p(len(mine)),
        "log_users_28": math.log1p(mine.loc[mine["age"] <= 28, "user_id"].nunique()),
        "log_users": math.log1p(users),
        "lines_per_user": math.log1p(len(mine) / max(users, 1)),
        "repeat_share": int((lines_of_user > 1).sum()) / max(users, 1),
        "trend": math.log((lines[28] + 1) / (lines[90] / 90 * 28 + 1)),
        "trend_week": math.log((lines[7] + 1) / (lines[28] / 4 + 1)),
        "log_last_age": math.log1p(min(400, mine["age"].min()) if len(mine) else 400),
        "log_first_age": math.log1p(seen["age"].max() if len(seen) else 0),
        "log_cycle": math.log1p(gaps.mean() if len(gaps) else 400),
        "log_price": math.log1p(mine["value"].sum() / mine["quantity"].sum() if len(mine) else 0),
    }
    first = mine.groupby("user_id")["age"].max()
    out["log_first_purchases_28"] = math.log1p((first <= 28).sum())
    out["log_first_purchases_90"] = math.log1p((first <= 90).sum())
    out["first_purchase_share_90"] = (first <= 90).sum() / max(lines[90], 1)
    for days in (7, 28):
        recent = mine[mine["age"] <= days]
        price = math.log1p(recent["value"].sum() / recent["quantity"].sum()) if len(recent) else 0
        out[f"price_change_{days}"] = price - out["log_price"] if len(recent) else 0
    sums = past.groupby("item_id")[["value", "quantity"]].sum()
    prices = np.log1p(sums["value"] / sums["quantity"])
    for name in ("department", "brand"):
        kin = prices[prices.index.isin(catalogue.index[catalogue[name] == row[name]])]
        out[f"price_in_{name}"] = out["log_price"] - kin.mean() if len(mine) and row[name] else 0
    for name in ("department", "brand"):
        same = catalogue.index[catalogue[name] == row[name]]
        total = int(past.loc[past["age"] <= 28, "item_id"].isin(same).sum()) if row[name] else 0
        out[f"share_28_of_{name}"] = lines[28] / max(total, 1) if row[name] else 0
        out[f"log_lines_28_of_{name}"] = math.log1p(total)
    views = seen[seen["event_type"] == "view"]
    for days in (7, 28):
        out[f"log_events_{days}_of_view"] = math.log1p((views["age"] <= days).sum())
    out["log_lines_per_view"] = math.log((len(mine) + 1) / (len(views) + 1))
    for channel in CHANNELS:
        for days in (7, 28):
            total = sum(
                stores
                for week, stores in zip(row["exposure_week"], row[f"exposure_{channel}"], strict=True)
                if 0 <= as_of + HOUR - (week + 7 * DAY) < days * DAY
            )
            out[f"log_{channel}_{days}"] = math.log1p(total)
    return out


def naive_effects(past, as_of):
    """Item -> (lift, share) of the weeks that were over, from the rows; and the shop's share."""
    past = purchases(past)
    catalogue = tiny_shop.item_frame().set_index("item_id")
    current = int((as_of + HOUR - START) // (7 * DAY))
    lines, under, expected = {}, {}, {}
    for item, row in catalogue.iterrows():
        stores = dict(zip(row["exposure_week"], row["exposure_mailer"], strict=True))
        weeks = [
            (when + HOUR - START) // (7 * DAY) for when in past.loc[past["item_id"] == item, "timestamp"]
        ]
        weeks = [week for week in weeks if week < current]
        on = {week for week in range(-49, current) if stores.get(START + week * 7 * DAY, 0) >= 3}
        sold = range(min(weeks, default=current), current)
        lines[item], under[item] = len(weeks), sum(week in on for week in weeks)
        expected[item] = len(weeks) * len(on & set(sold)) / max(len(sold), 1)
    of_shop = (sum(under.values()) + 10) / (sum(expected.values()) + 10)
    share, out = sum(under.values()) / sum(lines.values()), {}
    for item, brand in catalogue["brand"].items():
        kin = catalogue.index[catalogue["brand"] == brand]
        of_kind = (sum(under[i] for i in kin) + 10 * of_shop) / (sum(expected[i] for i in kin) + 10)
        lift = (under[item] + 10 * of_kind) / (expected[item] + 10)
        out[item] = (lift, (under[item] + 10 * share) / (lines[item] + 10))
    return out, share


def test_the_effect_of_promotions_is_that_of_the_weeks_that_were_over(built, items, past):
    expected, share = naive_effects(past, AS_OF)
    found = built.promotions
    assert found.shop_share == pytest.approx(share)
    assert 0.02 < share < 0.98
    for row, item in enumerate(items.item_id[1:], 1):
        assert (found.lift[row], found.share[row]) == pytest.approx(expected[item], rel=1e-5), item
    assert len({round(float(lift), 4) for lift in found.lift[1:]}) > 10


def test_lines_of_a_week_without_promotion(built, items, past):
    """A promoted week counts as many weeks as it lifts sales."""
    current = int((AS_OF + HOUR - START) // (7 * DAY))
    catalogue = tiny_shop.item_frame().set_index("item_id")
    found, promoted = built.promotions, 0
    for row, item in enumerate(items.item_id[1:], 1):
        of_item = catalogue.loc[item]
        stores = dict(zip(of_item["exposure_week"], of_item["exposure_mailer"], strict=True))
        recent = range(current - 13, current)
        on = sum(stores.get(START + week * 7 * DAY, 0) >= 3 for week in recent)
        when = purchases(past).loc[past["item_id"] == item, "timestamp"]
        lines = sum((moment + HOUR - START) // (7 * DAY) in recent for moment in when)
        assert found.base[row] == pytest.approx(lines / (13 - on + on * found.lift[row]), rel=1e-5)
        promoted += on > 0
    assert promoted > 5


def test_a_shop_that_plans_nothing_has_no_promotions(items):
    for exposures in (None, CONFIG.exposures.model_copy(update={"planned": [], "known_ahead": 0})):
        config = CONFIG.candidates
        found = snapshot.build(tiny_shop.log(), items, AS_OF, config, None, exposures, "department")
        assert found.promotions.weeks.shape == (len(items), 0)
        assert not {"promoted_share", "log_promotion_lift"} & set(found.stat_names)


def test_stats_equal_naive_ones(built, items, past):
    expected = pd.DataFrame([naive_stats(past, item, AS_OF) for item in items.item_id[1:]])
    effects = [naive_effects(past, AS_OF)[0][item] for item in items.item_id[1:]]
    expected["log_promotion_lift"], expected["promoted_share"] = zip(
        *((math.log(lift), share) for lift, share in effects), strict=True
    )
    assert set(built.stat_names) == set(expected.columns)
    assert built.stats.shape == (len(items), len(built.stat_names))
    assert built.stats.dtype == np.float32
    for index, name in enumerate(built.stat_names):
        np.testing.assert_allclose(built.stats[1:, index], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_some_of_every_statistic_is_not_zero(built):
    """Else the comparison with naive values would say nothing."""
    assert dict(zip(built.stat_names, (built.stats[1:] != 0).any(0), strict=True)) == dict.fromkeys(
        built.stat_names, True
    )


def test_candidates_have_min_events_before_the_moment(built, items, past):
    counts = past.groupby("item_id").size()
    expected = [
        row
        for row, item in enumerate(items.item_id)
        if item and counts.get(item, 0) >= CONFIG.candidates.min_events
    ]
    assert built.candidate_row.tolist() == expected
    assert 10 < len(expected) < len(items) - 3
    chosen = set(items.item_id[built.candidate_row])
    assert not chosen & {RARE, LATE, STRANGER, ""}
    for row in range(len(items)):
        position = expected.index(row) if row in expected else len(expected)
        assert built.row_candidate[row] == position


def test_min_events_is_inclusive(items, past):
    counts = past.groupby("item_id").size()
    item, count = counts.index[7], int(counts.iloc[7])
    row = items.item_id.tolist().index(item)
    for min_events, there in ((count, True), (count + 1, False)):
        config = CONFIG.candidates.model_copy(update={"min_events": min_events})
        found = snapshot.build(tiny_shop.log(), items, AS_OF, config)
        assert (row in found.candidate_row) == there


def test_trending_and_popularity(built, items, past):
    for place, row in enumerate(built.candidate_row):
        mine = past[past["item_id"] == items.item_id[row]]
        recent = mine[mine["age"] <= CONFIG.candidates.trending_days]
        assert built.popularity[place] == weights(mine).sum()
        assert built.trending[place] == weights(recent).sum()
        assert built.sold[place] == len(purchases(recent))


@pytest.mark.parametrize("late", [0, 1])
def test_the_last_days_hold_an_event_of_exactly_that_age_and_none_a_second_older(tmp_path, late):
    as_of, ages = START + 100 * DAY, {"100": 7, "101": 28, "102": 90}
    columns = ["user_id", "item_id", "timestamp", "store_id", "event_type", "quantity", "value", "session_id"]
    rows = [
        ("a", item, as_of - days * DAY - late, "s1", "purchase", 1.0, 1.0, f"visit {item}")
        for item, days in ages.items()
    ]
    items = tiny_shop.items()
    config = CONFIG.candidates.model_copy(update={"min_events": 1, "trending_days": 28})
    log = tiny_shop.read_log(pd.DataFrame(rows, columns=columns), tmp_path)
    built = snapshot.build(log, items, as_of, config)
    stats = dict(zip(built.stat_names, built.stats.T, strict=True))
    for place, (item, age) in enumerate(ages.items()):
        row = items.item_id.tolist().index(item)
        assert built.candidate_row[place] == row
        within = {days: age + late <= days for days in (7, 28, 90)}  # a day more, or a second
        for days, yes in within.items():
            assert stats[f"log_lines_{days}"][row] == pytest.approx(math.log1p(yes))
        for days in (28, 90):
            assert stats[f"log_first_purchases_{days}"][row] == pytest.approx(math.log1p(within[days]))
        assert built.trending[place] == within[28]


def test_a_new_item_is_a_candidate_without_events(items):
    """What was just added to a shop: its own row, in its place among the others."""
    row = items.item_id.tolist().index(RARE)
    usual = snapshot.build(tiny_shop.log(), items, AS_OF, CONFIG.candidates)
    assert row not in usual.candidate_row
    new = np.asarray([row], np.int32)
    built = snapshot.build(tiny_shop.log(), items, AS_OF, CONFIG.candidates, new)
    assert built.candidate_row.tolist() == sorted([*usual.candidate_row.tolist(), row])
    assert built.row_candidate[row] == built.candidate_row.tolist().index(row)


@pytest.mark.parametrize("neighbours", [3, 7, 500])
def test_neighbours_equal_naive_cosine(items, past, neighbours, monkeypatch):
    monkeypatch.setattr(snapshot, "_BLOCK", 17)  # several blocks, the last one partial
    config = CONFIG.candidates.model_copy(update={"neighbours": neighbours})
    built = snapshot.build(tiny_shop.log(), items, AS_OF, config)
    count = len(built.candidate_row)
    names = items.item_id[built.candidate_row].tolist()
    users = sorted(past["user_id"].unique())
    matrix = np.zeros((len(users), count))
    for row in past.itertuples():
        if row.item_id in names:
            weight = 0.5 ** (row.age / CONFIG.candidates.half_life_days)
            weight *= CONFIG.events.event_weights[row.event_type]
            matrix[users.index(row.user_id), names.index(row.item_id)] += weight
    matrix = np.log1p(matrix)
    matrix /= np.linalg.norm(matrix, axis=0)
    cosine = matrix.T @ matrix
    np.fill_diagonal(cosine, 0)
    wanted = min(neighbours, count - 1)
    assert built.neighbour.shape == built.neighbour_weight.shape == (count, wanted)
    for place in range(count):
        best = np.sort(cosine[place])[::-1][:wanted]
        np.testing.assert_allclose(built.neighbour_weight[place], best, atol=1e-5)
        real = built.neighbour_weight[place] > 0
        found = built.neighbour[place][real]
        assert place not in found
        assert len(set(found)) == len(found)
        np.testing.assert_allclose(cosine[place, found], built.neighbour_weight[place][real], atol=1e-5)
        assert (built.neighbour[place][~real] == count).all()


def test_places_without_a_neighbour_are_empty(tmp_path):
    """Two pairs of items of different users: nobody else is near."""
    rows = []
    for user, pair in (("a", ("100", "101")), ("b", ("102", "103"))):
        for day in range(3):
            rows += [
                (user, item, START + day * DAY, "s1", "purchase", 1.0, 1.0, f"{user}{day}") for item in pair
            ]
    columns = ["user_id", "item_id", "timestamp", "store_id", "event_type", "quantity", "value", "session_id"]
    log = tiny_shop.read_log(pd.DataFrame(rows, columns=columns), tmp_path)
    config = CONFIG.candidates.model_copy(update={"min_events": 3})
    built = snapshot.build(log, tiny_shop.items(), START + 9 * DAY, config)
    assert built.neighbour.tolist() == [[1, 4, 4], [0, 4, 4], [3, 4, 4], [2, 4, 4]]
    np.testing.assert_allclose(built.neighbour_weight, [[1, 0, 0]] * 4, atol=1e-6)


def test_nothing_at_or_after_the_moment_is_read(built, tmp_path):
    """The leak test: a different future, the same tables."""
    frame = tiny_shop.events()
    past_only = frame[frame["timestamp"] < AS_OF]
    future = past_only.sample(400, random_state=1).assign(
        timestamp=lambda f: AS_OF + (np.arange(len(f)) % 3) * 10 * DAY,  # also exactly at it
        item_id=lambda f: np.where(np.arange(len(f)) % 2, tiny_shop.NEVER, f["item_id"]),
        user_id=lambda f: np.where(np.arange(len(f)) % 5, f["user_id"], "a new user"),
        value=1e6,
    )
    future["session_id"] = "later" + future["user_id"] + future["timestamp"].astype(str)
    catalogue = tiny_shop.item_frame().copy()
    catalogue["exposure_week"] = [
        [week for week in weeks if week + 7 * DAY <= AS_OF] for weeks in catalogue["exposure_week"]
    ]
    before = {
        channel: [
            values[: len(weeks)]
            for values, weeks in zip(
                catalogue[f"exposure_{channel}"], catalogue["exposure_week"], strict=True
            )
        ]
        for channel in CHANNELS
    }
    for channel in CHANNELS:
        catalogue[f"exposure_{channel}"] = before[channel]
    later = catalogue.copy()
    # of the week that has begun, promotions of later days are in the table too
    begun = START + 140 * DAY
    assert begun < AS_OF < begun + 7 * DAY
    later["exposure_week"] = [[*weeks, begun, AS_OF, AS_OF + 7 * DAY] for weeks in catalogue["exposure_week"]]
    for channel in CHANNELS:
        later[f"exposure_{channel}"] = [
            [*values, 500.0, 500.0, 500.0] for values in catalogue[f"exposure_{channel}"]
        ]

    with_past = build(
        tiny_shop.read_log(past_only, tmp_path / "past"),
        tiny_shop.write_items(catalogue, tmp_path / "past_items"),
        AS_OF,
    )
    with_future = build(
        tiny_shop.read_log(pd.concat([past_only, future]), tmp_path / "future"),
        tiny_shop.write_items(later, tmp_path / "later_items"),
        AS_OF,
    )
    assert_equal(with_past, with_future, calendars="apart")
    assert_equal(with_past, built, calendars="apart")


@pytest.mark.parametrize(
    ("before_end", "last", "month"),
    [
        (0, "c", "abc"),  # at the very end of week c
        (59 * 60, "c", "abc"),  # 59 minutes before it, as the last receipt of a shop's day may be
        (2 * HOUR, "b", "ab"),  # two hours before it the week is not over
        (3.5 * DAY, "b", "ab"),
        (7 * DAY - 1, "b", "ab"),
        (-1, "c", "abc"),
        (-3 * DAY, "c", "abc"),
    ],
)
def test_a_week_of_promotions_counts_when_it_is_over(tmp_path, before_end, last, month):
    """One promoted item whose stores say which weeks were summed; `last` of 7 days, `month` of 28."""
    stores = {"a": 1.0, "b": 10.0, "c": 100.0, "d": 1000.0}
    catalogue = tiny_shop.item_frame().copy()
    for name, value in (("exposure_week", []), *((f"exposure_{c}", []) for c in CHANNELS)):
        catalogue[name] = [list(value) for _ in range(len(catalogue))]
    catalogue.at[5, "exposure_week"] = [START + 7 * DAY * week for week in range(18, 22)]
    catalogue.at[5, "exposure_mailer"] = list(stores.values())
    catalogue.at[5, "exposure_display"] = [0.0] * 4
    for channel in CHANNELS:  # a column of floats, also where the first rows are empty
        catalogue.at[0, f"exposure_{channel}"] = [0.0]
    catalogue.at[0, "exposure_week"] = [START]
    items = tiny_shop.write_items(catalogue, tmp_path / "items")
    end_of_c = START + 21 * 7 * DAY
    built = snapshot.build(tiny_shop.log(), items, end_of_c - before_end, CONFIG.candidates)
    row = items.item_id.tolist().index(catalogue["item_id"][5])
    of_item = dict(zip(built.stat_names, built.stats[row], strict=True))
    assert of_item["log_mailer_7"] == pytest.approx(math.log1p(stores[last]))
    assert of_item["log_mailer_28"] == pytest.approx(math.log1p(sum(stores[week] for week in month)))


def test_no_candidate_is_an_error_that_says_what_to_do(items):
    config = CONFIG.candidates.model_copy(update={"min_events": 10_000})
    with pytest.raises(DataError, match="no item has 10000 events .*lower candidates.min_events"):
        snapshot.build(tiny_shop.log(), items, AS_OF, config)


def test_save_load(built, tmp_path):
    built.save(str(tmp_path / "deep" / "table.npz"))
    assert_equal(snapshot.Snapshot.load(str(tmp_path / "deep" / "table.npz")), built)
