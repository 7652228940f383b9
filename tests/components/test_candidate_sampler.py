"""Labelled lists against the data frame of events, and the ranker's features against serving."""

import collections
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from components.candidate_sampler import executor
from components.candidate_sampler.label_window import LabelWindow, promotions
from components.candidate_sampler.sampling import sample
from components.common import artifacts
from components.common.candidate_lists import AS_OF, padded, request_inputs, tensor
from components.common.labelled_features import load_features
from models.data import example_io
from models.retrieval.sources.candidate_sources import SOURCES
from schema import names as F
from schema.errors import DataError
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, DAY, LABEL_START, START

LENGTH = CONFIG.candidates.history_length


@functools.cache
def request():
    retriever = tiny_shop.factory().at(LABEL_START)
    return LabelWindow.between(tiny_shop.log(), LABEL_START, CUTOFF, retriever, tiny_shop.items())


@functools.cache
def lists(novel, list_size):
    """user id -> what `labelled` yields for that user."""
    log, out = tiny_shop.log(), {}
    for batch in executor.labelled(request(), LENGTH, novel, CONFIG.ranking, list_size):
        for place, user in enumerate(batch["user"]):
            out[log.users[user]] = {name: values[place] for name, values in batch.items()}
    return out


@functools.cache
def truth():
    """user -> (items bought before, items bought in the window), candidates only, of users with any past."""
    items = tiny_shop.items()
    candidates = set(items.item_id[request().retriever.sources.candidate_row.numpy()[:-1]])
    frame, bought = tiny_shop.events(), tiny_shop.purchases()
    before, window = (
        bought[bought["timestamp"] < LABEL_START],
        bought[bought["timestamp"].between(LABEL_START, CUTOFF - 1)],
    )
    return {
        user: (
            set(before.loc[before["user_id"] == user, "item_id"]) & candidates,
            set(window.loc[window["user_id"] == user, "item_id"]) & candidates,
        )
        for user in frame.loc[frame["timestamp"] < LABEL_START, "user_id"].unique()
    }


@functools.cache
def found_by_search(novel):
    """user -> candidate ids that the sources find for a user's request, built from the data frame."""
    users, retriever = sorted(truth()), request().retriever
    asked = [request_of(user) for user in users]
    longest = max(one["history_item_id"].shape[1] for one in asked)

    def batched(name):
        values = [one[name] for one in asked]
        if name.startswith("history_"):
            fill = 0.0 if values[0].dtype == tf.float32 else ""
            values = [
                tf.pad(value, [[0, 0], [0, longest - value.shape[1]]], constant_values=fill)
                for value in values
            ]
        return tf.concat(values, 0)

    allowed = np.ones((len(users), retriever.sources.count), bool)
    if novel:
        ids = tiny_shop.items().item_id[retriever.sources.candidate_row.numpy()[:-1]]
        for row, user in enumerate(users):
            allowed[row] = ~np.isin(ids, list(truth()[user][0]))
    position = request().find({name: batched(name) for name in asked[0]}, tf.constant(allowed))
    rows = tf.gather(retriever.sources.candidate_row, position)
    found = tiny_shop.text(tf.gather(retriever.parser.item_ids, rows))
    return {user: set(row) - {""} for user, row in zip(users, found, strict=True)}


def request_of(user):
    frame = tiny_shop.events()
    past = frame[(frame["user_id"] == user) & (frame["timestamp"] < LABEL_START)].tail(LENGTH)
    return {
        "user_id": tf.constant([user]),
        "history_item_id": tf.constant([past["item_id"].tolist()]),
        "history_age_days": tf.constant([((LABEL_START - past["timestamp"]) / DAY).tolist()], tf.float32),
        "history_event_type": tf.constant([past["event_type"].tolist()]),
        "context_store_id": tf.constant([past["store_id"].iloc[-1]]),
        "context_timestamp": tf.constant([LABEL_START], tf.int64),
    }


@pytest.mark.slow
@pytest.mark.parametrize("novel", [False, True])
def test_users_are_those_with_a_past_who_come_back(novel):
    frame = tiny_shop.purchases()
    window = frame[frame["timestamp"].between(LABEL_START, CUTOFF - 1)]
    expected = set(truth()) & set(window["user_id"])
    assert set(lists(novel, 16)) == expected
    assert len(expected) > 20


@pytest.mark.parametrize("novel", [False, True])
@pytest.mark.parametrize("size", [16, 200])
def test_labels_are_what_is_bought_in_the_window(novel, size):
    for user, row in lists(novel, size).items():
        seen, bought = truth()[user]
        wanted = bought - seen if novel else bought
        ids, label, weight = row[F.CANDIDATE_ITEM_ID], row[F.LABEL], row[F.CANDIDATE_WEIGHT]
        real = weight > 0
        found = found_by_search(novel)[user]
        assert (ids[~real] == "").all()
        assert not label[~real].any()
        assert len(set(ids[real])) == real.sum() == min(len(found), size)
        assert set(ids[real]) <= found
        assert set(ids[label > 0]) == wanted & found
        assert (label[real] == [item in wanted for item in ids[real]]).all()
        share = len(wanted & found) / len(wanted) if wanted else np.nan
        assert row["found_share"] == pytest.approx(share, nan_ok=True)
        if novel:
            assert not set(ids) & seen


@pytest.mark.parametrize("novel", [False, True])
def test_labels_say_what_happened_next(novel):
    """Soon, in the next session, again, how many and for how much: from the data frame."""
    frame = tiny_shop.purchases()
    window = frame[frame["timestamp"].between(LABEL_START, CUTOFF - 1)]
    soon_end = LABEL_START + CONFIG.ranking.soon_days * DAY
    totals = collections.Counter()
    for user, row in lists(novel, 200).items():
        mine = window[window["user_id"] == user]
        first = mine["session_id"][mine["timestamp"] == mine["timestamp"].min()]
        for place in np.flatnonzero(row[F.CANDIDATE_WEIGHT] > 0):
            of_item = mine[mine["item_id"] == row[F.CANDIDATE_ITEM_ID][place]]
            expected = {
                F.LABEL: len(of_item) > 0,
                F.LABEL_SOON: (of_item["timestamp"] < soon_end).any(),
                F.LABEL_NEXT_SESSION: of_item["session_id"].isin(first).any(),
                F.LABEL_REPEAT: of_item["session_id"].nunique() > 1,
                F.LABEL_QUANTITY: of_item["quantity"].sum(),
                F.LABEL_VALUE: of_item["value"].sum(),
            }
            got = {name: row[name][place] for name in F.LABELS}
            assert got == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-5)
            totals.update({name: bool(value) for name, value in expected.items()})
    assert min(totals.values()) >= 5
    assert totals[F.LABEL] > totals[F.LABEL_SOON] > totals[F.LABEL_NEXT_SESSION]


@pytest.mark.parametrize("novel", [False, True])
def test_weights_stand_for_all_candidates(novel):
    sampled, ratio = 0, []
    for user, row in lists(novel, 12).items():
        weight, label = row[F.CANDIDATE_WEIGHT], row[F.LABEL]
        if label.sum() == len(label):
            continue  # no place was left for the others
        ratio.append(weight.sum() / len(found_by_search(novel)[user]))
        assert (weight[label > 0] == 1).all()
        sampled += weight.max() > 1
    assert np.mean(ratio) == pytest.approx(1, abs=0.03)
    assert sampled > 10


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_each_candidate_is_kept_with_its_own_probability(share):
    """Against the formula, and the weights estimate the totals of all candidates."""
    rows = 20_000
    valid, label = np.arange(12) < 10, np.arange(12) < 2
    promoted = np.asarray([9, 0, 0, 0, 0, 0, 2, 2, 3, 3, 50, 0.0])
    place, weight = sample(
        *(np.tile(column, (rows, 1)) for column in (valid, label, promoted)),
        6,
        share,
        np.random.default_rng(2),
    )
    assert place.shape == weight.shape == (rows, 6)
    assert (np.sort(place, 1)[:, 1:] > np.sort(place, 1)[:, :-1]).all()
    kept = np.stack([(place == column).any(1) for column in range(12)], 1).mean(0)
    expected = np.where(label, 1, 4 * ((1 - share) / 8 + share * promoted / 10)) * valid
    np.testing.assert_allclose(kept, expected, atol=0.015)
    for column in range(10):
        np.testing.assert_allclose(weight[place == column], 1 / expected[column], rtol=1e-5)
    value = np.arange(12) ** 2.0
    assert (weight * value[place]).sum(1).mean() == pytest.approx(value[valid].sum(), rel=0.01)


def test_probabilities_are_cut_at_one():
    """A candidate that alone was promoted gets one place; what is left goes to the others."""
    valid = np.ones((4000, 6), bool)
    promoted = np.tile([0, 0, 0, 0, 0, 7.0], (4000, 1))
    place, weight = sample(valid, ~valid, promoted, 3, 0.9, np.random.default_rng(3))
    kept = np.stack([(place == column).any(1) for column in range(6)], 1).mean(0)
    assert kept[5] == 1
    np.testing.assert_allclose(kept[:5], 2 / 5, atol=0.03)
    assert (weight[place == 5] == 1).all()
    np.testing.assert_allclose(weight[place < 5], 2.5)


def test_more_positives_than_places():
    label = np.tile(np.arange(9) < 8, (4000, 1))
    place, weight = sample(
        np.ones_like(label), label, np.zeros(label.shape), 2, 0.1, np.random.default_rng(4)
    )
    np.testing.assert_allclose(weight, 4)
    kept = np.stack([(place == column).any(1) for column in range(9)], 1).mean(0)
    np.testing.assert_allclose(kept, [0.25] * 8 + [0], atol=0.03)


@pytest.mark.parametrize(("promotion", "probability"), [(0.5, (0.92, 0.12)), (0.0, (0.2, 0.2))])
def test_one_promotion_however_small_gets_the_whole_share(promotion, probability):
    """2 of 10 are kept: 2 (0.6 / 10 + 0.4) = 0.92 and 2 * 0.6 / 10 = 0.12; alike without a promotion."""
    valid = np.ones((400, 10), bool)
    promoted = np.tile(np.where(np.arange(10) == 3, promotion, 0.0), (400, 1))
    place, weight = sample(valid, ~valid, promoted, 2, 0.4, np.random.default_rng(5))
    assert {3, 4} <= set(place.ravel())
    np.testing.assert_allclose(1 / weight[place == 3], probability[0], rtol=1e-5)
    np.testing.assert_allclose(1 / weight[place != 3], probability[1], rtol=1e-5)


def test_the_only_other_candidate_stands_for_itself():
    place, weight = sample(
        np.tile([True, True, False], (50, 1)),
        np.tile([True, False, False], (50, 1)),
        np.zeros((50, 3)),
        2,
        0.0,
        np.random.default_rng(6),
    )
    assert {tuple(sorted(row)) for row in place} == {(0, 1)}
    assert (weight == 1).all()


class LowestDraw(np.random.Generator):
    """Draws 0, which a generator may."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def random(self, size):
        return np.zeros(size)


@pytest.mark.parametrize("others", [3, 7, 10, 49])
def test_all_places_are_filled_whatever_is_drawn(others):
    """The probabilities add up to a whole number only up to rounding."""
    for size in range(1, others):
        valid = np.ones((1, others), bool)
        place, weight = sample(valid, ~valid, np.zeros((1, others)), size, 0.0, LowestDraw())
        np.testing.assert_allclose(weight, [[others / size] * size], rtol=1e-6)
        assert len(set(place[0])) == size


# Within weeks, which begin at START + 140 days, 147, ...; and from the end of one to the start of another.
@pytest.mark.parametrize(("first", "last"), [(145, 153), (147, 154)])
def test_promotions_are_those_of_the_weeks_that_touch_the_window(first, last):
    retriever = request().retriever
    start, end = START + first * DAY, START + last * DAY
    got = promotions(tiny_shop.items(), retriever, start, end)
    ids = tiny_shop.items().item_id[retriever.sources.candidate_row.numpy()[:-1]]
    frame = tiny_shop.item_frame().set_index("item_id")
    assert len(got) == len(ids)
    for item, found in zip(ids, got, strict=True):
        row = frame.loc[item]
        inside = [start - 7 * DAY < week < end for week in row["exposure_week"]]
        stores = sum(np.sum(np.asarray(row[f"exposure_{name}"])[inside]) for name in tiny_shop.CHANNELS)
        assert found == pytest.approx(stores)
    assert (got > 0).sum() > 3
    none = dataclasses.replace(tiny_shop.items(), exposure={})
    assert not promotions(none, retriever, start, end).any()


def test_promoted_and_passed_over_is_drawn_more_often():
    """In the lists of the shop, not only in the sampler."""
    share = {}
    for wanted in (0.0, 0.9):
        config = CONFIG.ranking.model_copy(update={"promoted_share": wanted})
        promoted = dict(
            zip(
                tiny_shop.items().item_id[request().retriever.sources.candidate_row.numpy()[:-1]],
                request().promoted,
                strict=True,
            )
        )
        drawn = [
            promoted[item] > 0
            for batch in executor.labelled(request(), LENGTH, False, config, 10)
            for item, label in zip(batch[F.CANDIDATE_ITEM_ID].ravel(), batch[F.LABEL].ravel(), strict=True)
            if item and not label
        ]
        share[wanted] = np.mean(drawn)
    assert share[0.9] > share[0.0] + 0.2


@pytest.mark.parametrize("novel", [False, True])
def test_inputs_are_the_state_at_the_moment(novel):
    for user, row in lists(novel, 16).items():
        expected = request_of(user)
        size = expected["history_item_id"].shape[1]
        for name, value in expected.items():
            got = row[name] if np.ndim(row[name]) == 0 else row[name][:size]
            value = tiny_shop.text(value)[0]
            if name == F.HISTORY_AGE_DAYS:
                np.testing.assert_allclose(got, value, rtol=1e-5)
            else:
                np.testing.assert_array_equal(got, value)
        assert (row["history_item_id"][size:] == "").all()
        assert row["as_of"] == LABEL_START
        excluded = set(row[F.EXCLUDE_ITEM_ID]) - {""}
        assert excluded == (truth()[user][0] if novel else set())


def test_later_events_change_no_input(tmp_path):
    """The leak test: only labels may depend on the window, and nothing on what follows it."""
    frame = tiny_shop.events()
    log = tiny_shop.read_log(frame[frame["timestamp"] < CUTOFF], tmp_path)
    other = LabelWindow.between(log, LABEL_START, CUTOFF, request().retriever, tiny_shop.items())
    for batch in executor.labelled(other, LENGTH, False, CONFIG.ranking, 16):
        for place, user in enumerate(log.users[batch["user"]]):
            for name, value in lists(False, 16)[user].items():
                if name != "user":
                    np.testing.assert_array_equal(batch[name][place], value, err_msg=name)


def test_each_user_may_ask_at_a_moment_of_their_own():
    """Leave-one-out: what is known comes as it is, and ages count from the user's own moment."""
    log = tiny_shop.log()
    moments = CUTOFF + np.arange(len(log.users)) * 3600
    asked = LabelWindow(
        LABEL_START, log.before(CUTOFF), log.between(CUTOFF, tiny_shop.END), moments, request().retriever
    )
    common = dataclasses.replace(asked, moments=np.full(len(log.users), CUTOFF))
    found = list(executor.labelled(asked, LENGTH, False, CONFIG.ranking, 16))
    assert len(found) > 0
    for batch, same in zip(found, executor.labelled(common, LENGTH, False, CONFIG.ranking, 16), strict=True):
        np.testing.assert_array_equal(batch["context_timestamp"], moments[batch["user"]])
        np.testing.assert_array_equal(batch["history_item_id"], same["history_item_id"])
        older = np.where(same["history_item_id"] != "", (batch["user"] / 24)[:, None], 0)
        np.testing.assert_allclose(batch["history_age_days"] - same["history_age_days"], older, atol=1e-4)


@pytest.mark.slow
def test_records_carry_the_lists(tmp_path):
    """What is written is what `labelled` yielded; padding of histories is cut off."""
    table = example_io.read_table(example_io.split_folder(tiny_shop.built().candidates, "train"))
    task = example_io.first(table, "slice_task", "")
    users = example_io.first(table, F.USER_ID, "")
    counts = {"all": len(lists(False, 16)), "novel": len(lists(True, 16))}
    assert {name: int((task == name).sum()) for name in counts} == counts
    assert set(users[task == "all"]) == set(lists(False, 16))
    assert (example_io.lengths(table, F.LABEL) == CONFIG.ranking.list_size).all()
    assert "" not in example_io.flat(table, F.HISTORY_ITEM_ID)
    for name in (F.HISTORY_AGE_DAYS, F.HISTORY_EVENT_TYPE):
        np.testing.assert_array_equal(
            example_io.lengths(table, name), example_io.lengths(table, F.HISTORY_ITEM_ID)
        )
    ids = dict(
        zip(example_io.first(table, F.USER_ID, "")[task == "all"], np.flatnonzero(task == "all"), strict=True)
    )
    row = ids["u03"]
    history = table.column(F.HISTORY_ITEM_ID)[int(row)].as_py()
    assert [value.decode() for value in history] == tiny_shop.text(request_of("u03")["history_item_id"])[
        0
    ].tolist()
    groups = set(example_io.first(table, "slice_half", ""))
    assert groups == {"odd", "even"}


def test_the_eval_split_is_of_the_window_after_the_cutoff():
    table = example_io.read_table(example_io.split_folder(tiny_shop.built().candidates, "eval"))
    assert set(example_io.first(table, AS_OF, 0)) == {CUTOFF}
    assert (example_io.lengths(table, F.LABEL) == CONFIG.ranking.eval_list_size).all()
    assert "of what is bought next" in tiny_shop.built().summaries["candidates"]
    # each candidate has the slices of its item, padding none
    ids = padded(table, F.CANDIDATE_ITEM_ID, "")
    frame = tiny_shop.item_frame().set_index("item_id")
    past = tiny_shop.purchases()[lambda events: events["timestamp"] < CUTOFF]
    price = past.groupby("item_id")["value"].sum() / past.groupby("item_id")["quantity"].sum()
    department, band = (padded(table, f"slice_{name}", "") for name in ("department", "price_band"))
    limits = np.quantile(price, [0.25, 0.5, 0.75])
    for row, place in zip(*np.nonzero(ids != ""), strict=True):
        item = ids[row, place]
        code = frame.loc[item, "department"]
        assert department[row, place] == (tiny_shop.DEPARTMENTS[code - 1] if code else "unknown")
        # a price may be a limit, and then is on either side of it by rounding
        least, most = (1 + sum(price[item] > limit + slack for limit in limits) for slack in (1e-6, -1e-6))
        assert least <= int(band[row, place][0]) <= most
    assert set(band[ids == ""]) | set(department[ids == ""]) <= {""}
    assert len(set(band[ids != ""])) == 4


def test_the_full_split_has_every_candidate():
    folder = example_io.split_folder(tiny_shop.built().candidates, "full")
    table = example_io.read_table(folder)
    ids, weight = padded(table, F.CANDIDATE_ITEM_ID, ""), padded(table, F.CANDIDATE_WEIGHT, 0.0)
    assert set(weight[ids != ""]) == {1}
    assert set(example_io.first(table, "slice_task", "")) == {"all"}
    retriever = tiny_shop.factory().at(CUTOFF)
    inputs = request_inputs(table, ("store_id",))
    everything = tf.ones([1, retriever.sources.count], tf.bool)
    found = retriever.find({name: tensor(value) for name, value in inputs.items()}, everything)
    rows = tf.gather(retriever.sources.candidate_row, found.position)
    expected = tiny_shop.text(tf.gather(retriever.parser.item_ids, rows))
    assert len(ids) > 20
    for got, wanted in zip(ids, expected, strict=True):
        assert set(got) - {""} == set(wanted) - {""}


# --- the ranker's features -------------------------------------------------------------


@pytest.mark.slow
def test_training_and_serving_compute_the_same_features():
    """The skew test: `load_features` of written lists against a search for the same requests."""
    folder = example_io.split_folder(tiny_shop.built().candidates, "train")
    data, _ = load_features(folder, tiny_shop.factory().at, ("store_id",))
    learned = data["features"][np.arange(len(data["features"]))]
    table = example_io.read_table(folder)
    users, task = (example_io.first(table, name, "") for name in (F.USER_ID, "slice_task"))
    ids = padded(table, F.CANDIDATE_ITEM_ID, "")
    retriever = request().retriever
    compared = 0
    for row in range(0, len(users), 4):
        exclude = sorted(truth()[users[row]][0]) if task[row] == "novel" else [""]
        found, features, codes = retriever.describe(
            request_of(users[row]), retriever.not_excluded(tf.constant([exclude]))
        )
        rows = tf.gather(retriever.sources.candidate_row, found.position)
        place = {
            item: at for at, item in enumerate(tiny_shop.text(tf.gather(retriever.parser.item_ids, rows))[0])
        }
        for at, item in enumerate(ids[row]):
            if item:
                difference = np.abs(learned[row, at] - features[0, place[item]].numpy())
                # a rounding error may swap the ranks of two items that are as near
                assert (difference > 1e-3).sum() <= 1, (users[row], item)
                for name, code in codes.items():
                    assert data["codes"][name][row, at] == code[0, place[item]]
                compared += 1
    assert compared > 150


def test_the_servable_computes_the_features_that_the_ranker_learns_from():
    """The skew test through the exported graph, by name: raw strings in, every feature out."""
    folder = example_io.split_folder(tiny_shop.built().candidates, "eval")
    data, retriever = load_features(folder, tiny_shop.factory().at, ("store_id",))
    values = data["features"][np.arange(len(data["features"]))]
    learned = {name: values[..., place] for place, name in enumerate(retriever.pair_features.names)}
    learned |= data["codes"]
    table = example_io.read_table(folder)
    assert set(example_io.first(table, "slice_task", "")) == {"all", "novel"}
    servable = tiny_shop.load(artifacts.model_folder(tiny_shop.built().servable)).signatures["explain"]
    inputs = {
        name: tensor(example_io.first(table, name, default))
        for name, default in ((F.USER_ID, ""), (F.CONTEXT_TIMESTAMP, 0), (F.context("store_id"), ""))
    }
    inputs |= {
        name: tensor(padded(table, name, ""))
        for name in (F.HISTORY_ITEM_ID, F.HISTORY_EVENT_TYPE, F.EXCLUDE_ITEM_ID, F.CANDIDATE_ITEM_ID)
    }
    ages = padded(table, F.HISTORY_AGE_DAYS, 0.0)
    inputs[F.HISTORY_AGE_DAYS] = tf.constant(ages, tf.float32)
    # of `explain` a request may have few candidates
    rows = CONFIG.serving.max_explained // inputs[F.CANDIDATE_ITEM_ID].shape[1]
    parts = [
        servable(**{name: value[start : start + rows] for name, value in inputs.items()})
        for start in range(0, len(ages), rows)
    ]
    answer = {name: tf.concat([part[name] for part in parts], 0) for name in parts[0]}
    real = tiny_shop.text(inputs[F.CANDIDATE_ITEM_ID]) != ""
    assert real.sum() > 150
    names = tiny_shop.text(answer[F.FEATURE_NAME])
    assert (names == names[0]).all()
    assert set(names[0]) == set(learned)
    for place, name in enumerate(names[0]):
        off = np.abs(answer[F.FEATURE].numpy()[..., place] - learned[name])[real] > 1e-3
        # a rounding error may swap the ranks of two items that are as near
        assert off.mean() <= (0.01 if name.endswith("_rank") else 0), name


@pytest.mark.slow
def test_windows_whose_catalogues_differ_in_size(tmp_path):
    """In a small shop the sources give all there is, which grows from window to window."""
    sizes = dict.fromkeys(SOURCES, 300)
    config = CONFIG.model_copy(update={"candidates": CONFIG.candidates.model_copy(update=sizes)})
    makes = tiny_shop.factory()
    makes = type(makes)(config, makes.items, makes.vocabularies, tiny_shop.towers()[0], makes._index_uri)
    log = tiny_shop.log()
    tasks = {LABEL_START: ("novel",), CUTOFF: ("all", "novel")}
    requests = [
        LabelWindow.between(log, start, start + 28 * DAY, makes.at(start), tasks=tasks[start])
        for start in tasks
    ]
    assert len({each.retriever.sources.count for each in requests}) == 2
    ranking = CONFIG.ranking.model_copy(update={"list_size": 256})
    counts, _ = executor.run(requests, requests[1], {}, {}, LENGTH, ranking, str(tmp_path))
    folder = example_io.split_folder(str(tmp_path), "train")
    data, _ = load_features(folder, makes.at, ("store_id",))
    assert len(data["features"]) == counts["train"] > 80
    assert data["features"].shape[:2] == data["label"].shape == data["weight"].shape
    table = example_io.read_table(folder)
    asked = zip(example_io.first(table, "as_of", 0), example_io.first(table, "slice_task", ""), strict=True)
    assert set(asked) == {(LABEL_START, "novel"), (CUTOFF, "all"), (CUTOFF, "novel")}
    ids = padded(table, F.CANDIDATE_ITEM_ID, "")
    np.testing.assert_array_equal(data["weight"] > 0, ids != "")
    # and in the order of the lists, though they are computed moment by moment
    catalogue = dict(zip(makes.items.item_id, makes.items.categorical["department"], strict=True))
    for row in range(0, len(ids), 9):
        real = ids[row] != ""
        assert data["codes"]["department"][row][real].tolist() == [catalogue[item] for item in ids[row][real]]


def test_a_split_without_lists_is_an_error_that_says_so(tmp_path):
    example_io.write_records(str(tmp_path), [])
    with pytest.raises(DataError, match="nobody bought a candidate in the label window"):
        load_features(str(tmp_path), tiny_shop.factory().at, ("store_id",))
