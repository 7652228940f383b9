"""The evaluation's protocol, baselines and verdict, on the tiny shop."""

import collections
import dataclasses
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.common import artifacts, metrics
from components.common.candidate_lists import padded, request_inputs, tensor
from components.common.protocol import TASKS, Protocol
from components.common.registry import Reference
from components.funnel_evaluator import calibration, executor, systems
from components.funnel_evaluator import verdict as verdicts
from models.data import example_io
from models.ranking.calibration import expected_calibration_error, reliability
from schema.config import Quality
from schema.errors import DataError, UserError
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, DAY, END, NEWCOMER, WINDOWS

MIN_EVENTS = CONFIG.candidates.min_events
QUALITY = CONFIG.quality


@pytest.fixture(scope="module", autouse=True)
def load_once():
    """Each SavedModel is loaded once for this file: loading takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.saved_model, "load", tiny_shop.load)
        yield


@pytest.fixture(scope="module")
def protocol():
    return Protocol.of(tiny_shop.log(), WINDOWS, MIN_EVENTS)


@pytest.fixture(scope="module")
def truth():
    """Catalogue and per user what was bought before and after the cut-off: plain loops.

    A view makes an item part of the catalogue and a user known, and is nothing that was had or is relevant.
    """
    frame = tiny_shop.events()
    before, after = collections.defaultdict(collections.Counter), collections.defaultdict(set)
    lines, recent = collections.Counter(), collections.defaultdict(set)
    events, seen = collections.Counter(), collections.defaultdict(set)
    for row in frame.itertuples():
        bought = row.event_type == "purchase"
        if row.timestamp < CUTOFF:
            events[row.item_id] += 1
            seen[row.user_id].add(row.item_id)
            before[row.user_id][row.item_id] += bought
            lines[row.item_id] += bought
            if CUTOFF - row.timestamp <= 28 * DAY and bought:
                recent[row.item_id].add(row.user_id)
        elif row.timestamp < END and bought:
            after[row.user_id].add(row.item_id)
    before = collections.defaultdict(
        collections.Counter, {user: +counts for user, counts in before.items()}
    )  # without what was only viewed
    catalogue = {item for item, count in events.items() if count >= MIN_EVENTS}
    relevant = {
        user: items & catalogue
        for user, items in after.items()
        if items & catalogue and seen[user] & catalogue
    }
    return catalogue, before, relevant, lines, recent


def names_of(protocol, row):
    return set(protocol.log.items[protocol.catalogue[np.flatnonzero(row)]])


def test_catalogue_relevant_and_seen_equal_plain_loops(protocol, truth):
    catalogue, before, relevant, _, _ = truth
    log = protocol.log
    assert set(log.items[protocol.catalogue]) == catalogue
    assert {tiny_shop.RARE, tiny_shop.LATE}.isdisjoint(catalogue)
    for number, user in enumerate(log.users):
        seen = set(before[user]) & catalogue
        bought = relevant.get(user, set())
        assert names_of(protocol, protocol.seen[number]) == seen
        assert names_of(protocol, protocol.relevant["all"][number]) == bought
        assert names_of(protocol, protocol.relevant["novel"][number]) == bought - seen
    assert set(log.users[protocol.users("all")]) == set(relevant)
    assert NEWCOMER not in relevant
    novel = {user for user, items in relevant.items() if items - set(before[user])}
    assert set(log.users[protocol.users("novel")]) == novel
    assert 0 < len(novel) <= len(relevant)


def test_the_window_ends_before_its_end(truth):
    short = dataclasses.replace(WINDOWS, end=CUTOFF + 3 * DAY)
    frame = tiny_shop.events()
    inside = frame[frame["timestamp"].between(CUTOFF, short.end - 1)]
    protocol = Protocol.of(tiny_shop.log(), short, MIN_EVENTS)
    assert set(protocol.log.users[protocol.users("all")]) <= set(inside["user_id"])
    assert len(protocol.users("all")) < len(truth[2])


def test_a_window_without_purchases_is_an_error():
    empty = dataclasses.replace(WINDOWS, end=CUTOFF)
    with pytest.raises(DataError, match="evaluation window"):
        Protocol.of(tiny_shop.log(), empty, MIN_EVENTS)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.parametrize("name", ["popularity", "popularity_recent", "personal_frequency"])
def test_baselines_equal_plain_loops(protocol, truth, task, k, name):
    catalogue, before, _, lines, recent = truth
    users = protocol.users(task)
    top = systems.baselines(protocol, k)[name](users, task)
    assert top.shape == (len(users), k)
    names = protocol.log.items[protocol.catalogue]
    for user, row in zip(protocol.log.users[users], top, strict=True):
        score = {
            "popularity": lambda item: lines[item],
            "popularity_recent": lambda item: len(recent[item]),
            "personal_frequency": lambda item, user=user: (before[user][item], lines[item]),
        }[name]
        allowed = catalogue - (set(before[user]) if task == "novel" else set())
        got = names[row[row >= 0]].tolist()
        assert len(got) == len(set(got)) == min(k, len(allowed))
        assert (row[len(got) :] == -1).all()
        assert set(got) <= allowed
        # ties may be in any order: the scores must be the best ones, best first
        assert [score(item) for item in got] == sorted(map(score, allowed), reverse=True)[: len(got)]


@pytest.fixture(scope="module")
def folder():
    return artifacts.model_folder(tiny_shop.built().servable)


@pytest.mark.parametrize("task", TASKS)
def test_servable_asks_with_the_right_requests(protocol, folder, task):
    """The lists are those of `recommend` for the histories at the cut-off."""
    users = protocol.users(task)
    k = 6
    model = tf.saved_model.load(folder)
    top = systems.servable(model, protocol, 40, k)(users, task)
    assert top.shape == (len(users), k)
    names = protocol.log.items[protocol.catalogue]
    signature = model.signatures["recommend"]
    frame = tiny_shop.events()
    for place in (0, len(users) - 1):
        user = protocol.log.users[users[place]]
        past = frame[(frame["user_id"] == user) & (frame["timestamp"] < CUTOFF)]
        last = past.tail(40)
        request = {
            "user_id": tf.constant([user]),
            "history_item_id": tf.constant([last["item_id"].tolist()]),
            "history_age_days": tf.constant([((CUTOFF - last["timestamp"]) / DAY).tolist()], tf.float32),
            "history_event_type": tf.constant([last["event_type"].tolist()]),
            "context_store_id": tf.constant([last["store_id"].iloc[-1]]),
            "context_timestamp": tf.constant([CUTOFF], tf.int64),
        }
        had = past.loc[past["event_type"] == "purchase", "item_id"].unique().tolist()
        seen = [had] if task == "novel" else None
        answer = signature(**tiny_shop.recommend_inputs(request, k, seen))
        ids = [item for item in tiny_shop.text(answer["item_id"])[0] if item]
        assert names[top[place][: len(ids)]].tolist() == ids
        if task == "novel":
            assert not set(ids) & set(had)


def run(folder, output, last=None, ranking_blessed=True, candidates=CONFIG.candidates, **quality):
    return executor.run(
        log=tiny_shop.log(),
        windows=WINDOWS,
        model_folder=folder,
        last=last,
        ranking_blessed=ranking_blessed,
        users=None,
        users_uri=None,
        candidates=candidates,
        quality=QUALITY.model_copy(update=quality),
        lists=example_io.split_folder(tiny_shop.built().candidates, "full"),
        output=str(output),
    )


def test_run_writes_what_it_found(folder, protocol, tmp_path):
    found = run(folder, tmp_path, must_beat=[])
    assert json.loads((tmp_path / "metrics.json").read_text()) == found
    assert found["catalogue"] == len(protocol.catalogue)
    assert found["window"] == {"start": CUTOFF, "end": END}
    assert found["n_users"] == {task: len(protocol.users(task)) for task in TASKS}
    assert found["blessed"] is True
    assert len(found["reasons"]) == 1
    assert "calibration error" in found["reasons"][0]
    assert found["checks"] == [{"name": "calibration", "passed": True, "text": found["reasons"][0]}]
    assert set(found["baselines"]) == {"popularity", "popularity_recent", "personal_frequency"}
    for task in TASKS:
        table = pq.read_table(tmp_path / f"recommendations.{task}.parquet").to_pandas()
        users = protocol.log.users[protocol.users(task)]
        assert set(table["user_id"]) == set(users)
        lists = table.groupby("user_id")
        assert lists["rank"].apply(lambda ranks: ranks.tolist() == list(range(1, len(ranks) + 1))).all()
        # the figures are those of the lists that were written
        relevant = [names_of(protocol, protocol.relevant[task][user]) for user in protocol.users(task)]
        recall = [
            len(set(lists.get_group(user)["item_id"][:5]) & wanted) / len(wanted)
            for user, wanted in zip(users, relevant, strict=True)
        ]
        assert found["funnel"][task]["recall@5"] == pytest.approx(np.mean(recall))
        assert found["funnel"][task]["recall@5_se"] == pytest.approx(pd.Series(recall).sem())
        assert 0 < found["funnel"][task]["coverage@5"] <= 1
        vectors = systems.item_vectors(tf.saved_model.load(folder), protocol)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
        column = pd.Series(np.arange(len(vectors)), protocol.log.items[protocol.catalogue])
        distance = []
        for user in users:
            mine = vectors[column[lists.get_group(user)["item_id"][:5]]]
            distance.append(1 - (mine @ mine.T)[~np.eye(len(mine), dtype=bool)].mean())
        assert found["funnel"][task]["diversity@5"] == pytest.approx(np.mean(distance), abs=1e-5)
        assert found["funnel"][task]["novelty@5"] > found["baselines"]["popularity"][task]["novelty@5"]
        lift = {name: found["baselines"][name][task]["popularity_lift@5"] for name in found["baselines"]}
        assert lift["popularity"] > 0
    regular = found["slices"]["activity=regular (10-299)"]
    assert regular["n_users"] == len(protocol.users("all"))
    assert regular["all"]["ndcg@5"] == pytest.approx(found["funnel"]["all"]["ndcg@5"])
    assert regular["all"]["paired"]["ndcg@5"]["popularity"] == pytest.approx(
        found["paired"]["popularity"]["all"]["ndcg@5"]
    )
    difference, error = found["paired"]["popularity"]["all"]["ndcg@5"]
    assert difference == pytest.approx(
        found["funnel"]["all"]["ndcg@5"] - found["baselines"]["popularity"]["all"]["ndcg@5"]
    )
    assert error > 0


def test_calibration_is_that_of_every_candidate_of_the_lists(folder):
    """Against `rank` asked candidate by candidate, and the events of the window."""
    model = tf.saved_model.load(folder)
    lists = example_io.split_folder(tiny_shop.built().candidates, "full")
    found = calibration.measure(model, lists, ("store_id",))
    table = example_io.read_table(lists)
    frame = tiny_shop.purchases()
    window = frame[frame["timestamp"].between(CUTOFF, END - 1)]
    assert found["users"] == table.num_rows == window[window["user_id"] != NEWCOMER]["user_id"].nunique()
    bought = window.groupby(["user_id", "item_id"]).agg(
        sessions=("session_id", "nunique"), value=("value", "sum")
    )
    said, happened, worth = [], [], []
    users = example_io.first(table, "user_id", "")
    for row, user in enumerate(users):
        one = table.slice(row, 1)
        ids = [item for item in padded(one, "candidate_item_id", "")[0] if item]
        inputs = {name: tensor(value) for name, value in request_inputs(one, ("store_id",)).items()}
        answer = model.signatures["rank"](**tiny_shop.rank_inputs(inputs, [ids]))
        said += answer["p_purchase"].numpy()[0].tolist()
        keys = [(user, item) for item in ids]
        happened += [key in bought.index for key in keys]
        worth += [bought["value"].get(key, 0) for key in keys]
    assert found["candidates"] == len(said)
    assert found["purchase"]["predicted"] == pytest.approx(np.mean(said), rel=1e-4)
    assert found["purchase"]["observed"] == pytest.approx(np.mean(happened), rel=1e-4)
    assert found["value"]["observed"] == pytest.approx(np.mean(worth), rel=1e-4)
    assert 0 < found["repeat"]["observed"] < found["purchase"]["observed"]
    curve = reliability(np.asarray(said), np.asarray(happened), np.ones(len(said)), 20)
    assert found["purchase"]["ece"] == pytest.approx(expected_calibration_error(curve), abs=0.01)
    assert len(found["purchase"]["curve"]) == len(curve)


def test_max_users_and_a_previous_model(folder, tmp_path):
    found = run(folder, tmp_path, last=Reference(folder=folder), must_beat=[], max_users=7)
    assert found["n_users"]["all"] == 7
    assert found["last_blessed"] == found["funnel"]
    assert found["blessed"] is True
    assert all("keeps up with the last blessed" in reason for reason in found["reasons"][1:])
    assert found["paired"]["last_blessed"]["all"]["ndcg@5"] == [0.0, 0.0]
    assert found["standing"] == {"all/ndcg@5": 1.0, "novel/ndcg@5": 1.0}


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        ({"must_beat": ["chance"]}, r"quality.must_beat: unknown baseline \['chance'\]"),
        ({"primary_metric": "ndcg@7"}, "quality.primary_metric: 'ndcg@7' is not measured"),
    ],
)
def test_unknown_names_in_the_configuration(folder, tmp_path, quality, message):
    with pytest.raises(UserError, match=message):
        run(folder, tmp_path, **quality)
    assert not (tmp_path / "metrics.json").exists()


def test_a_duplicated_item_stops_the_evaluation(protocol, monkeypatch, tmp_path, folder):
    """A servable that repeats an item would look better than it is."""

    def repeated(*args):
        return lambda users, task: np.zeros((len(users), 5), int)

    monkeypatch.setattr(systems, "servable", repeated)
    with pytest.raises(ValueError, match="twice"):
        run(folder, tmp_path)


# what `calibration.compared` gives of good probabilities
GOOD = {"observed": 0.2, "ece": 0.01, "ece_of_chance": 0.0, "log_loss": 0.4, "log_loss_of_rate": 0.5}


def verdict(
    funnel, others, ranking_blessed=True, counts=None, purchase=GOOD, standing=None, by_time=True, **quality
):
    """(texts, all passed) of the checks of constant metrics.

    `funnel` is task -> value, `others` name -> task -> value.
    """
    values = {("funnel", task): {"ndcg@5": np.full(4, value)} for task, value in funnel.items()}
    for name, tasks in others.items():
        values |= {(name, task): {"ndcg@5": np.full(4, value)} for task, value in tasks.items()}
    settings = Quality(
        ks=[5],
        primary_metric="ndcg@5",
        must_beat=[n for n in others if n != "last_blessed"],
        **quality,
    )
    found = verdicts.checks(
        values,
        counts or dict.fromkeys(TASKS, 4),
        settings,
        ranking_blessed,
        Reference(folder="17", standing=standing or {}) if "last_blessed" in others else None,
        purchase,
        by_time,
    )
    # what a person reads and what is decided are the same
    failures = (" <= ", "falls behind", "did not bless", "exceeds", "not below")
    assert [any(sign in check.text for sign in failures) for check in found] == [
        not check.passed for check in found
    ]
    (calibrated,) = [check for check in found if check.name == "calibration"]
    reasons = [check.text for check in found if check is not calibrated]
    return reasons, all(check.passed for check in found)


@pytest.mark.parametrize(
    ("funnel", "baseline", "blessed"),
    [
        ((0.3, 0.3), (0.2, 0.2), True),
        ((0.3, 0.2), (0.2, 0.2), False),  # equal is not better
        ((0.1, 0.3), (0.2, 0.2), False),
        ((0.3, 0.1), (0.2, 0.2), False),
    ],
)
def test_the_funnel_must_beat_every_baseline_in_every_task(funnel, baseline, blessed):
    tasks = dict(zip(TASKS, funnel, strict=True))
    others = {
        "popularity": dict(zip(TASKS, baseline, strict=True)),
        "personal_frequency": dict.fromkeys(TASKS, 0.05),
    }
    reasons, passed = verdict(tasks, others)
    assert passed is blessed
    assert len(reasons) == 4
    assert sum("<=" in reason for reason in reasons) == sum(
        a <= b for a, b in zip(funnel, baseline, strict=True)
    )


@pytest.mark.parametrize(("ours", "blessed"), [(0.30, True), (0.2, True), (0.1961, True), (0.1959, False)])
def test_the_last_blessed_model_sets_the_floor(ours, blessed):
    reasons, passed = verdict(
        dict.fromkeys(TASKS, ours),
        {"last_blessed": dict.fromkeys(TASKS, 0.2)},
        max_regression=0.02,
    )
    assert passed is blessed
    assert [("keeps up" in reason, "behind" in reason) for reason in reasons] == [(blessed, not blessed)] * 2


NDCG_5 = Quality(ks=[5], primary_metric="ndcg@5", max_regression=0.02)


def test_a_loss_that_is_tolerated_once_does_not_add_up():
    """Releases of -1.5 % each, all of them measured against the one before: the second is refused."""
    release, pushed, standing = 0.2, 1, {}
    for _ in range(9):
        new = release * 0.985
        reasons, passed = verdict(
            dict.fromkeys(TASKS, new),
            {"last_blessed": dict.fromkeys(TASKS, release)},
            standing=standing,
            max_regression=0.02,
        )
        if passed:
            last = Reference(folder="17", standing=standing)
            values = {
                (name, task): {"ndcg@5": np.asarray([value])}
                for name, value in (("funnel", new), ("last_blessed", release))
                for task in TASKS
            }
            standing = verdicts.standings(values, dict.fromkeys(TASKS, 1), NDCG_5, last)
            release, pushed = new, pushed + 1
    assert pushed == 2
    assert standing == pytest.approx({"all/ndcg@5": 0.985, "novel/ndcg@5": 0.985})
    assert all("tolerance 2% of the best, 1.5% above it" in reason for reason in reasons)


def test_a_task_without_users_keeps_its_standing():
    last = Reference(folder="17", standing={"novel/ndcg@5": 0.99})
    values = {(name, "all"): {"ndcg@5": np.asarray([0.2])} for name in ("funnel", "last_blessed")}
    found = verdicts.standings(values, {"all": 1, "novel": 0}, NDCG_5, last)
    assert found == {"all/ndcg@5": 1.0, "novel/ndcg@5": 0.99}
    assert verdicts.standings(values, {"all": 1, "novel": 0}, NDCG_5, None) == dict.fromkeys(found, 1.0)


def test_the_evaluators_refusal_stands():
    reasons, passed = verdict(dict.fromkeys(TASKS, 1.0), {}, ranking_blessed=False)
    assert passed is False
    assert reasons == ["the Evaluator did not bless the ranking head"]


@pytest.mark.parametrize(
    ("changed", "by_time", "blessed"),
    [
        ({"ece": 0.05}, True, True),
        ({"ece": 0.0501}, True, False),
        ({"ece": 0.0501}, False, False),
        # a quarter of the base rate, and no more
        ({"ece": 0.01, "observed": 0.04}, True, True),
        ({"ece": 0.0101, "observed": 0.04}, True, False),
        ({"ece": 0.0101, "observed": 0.04}, False, True),  # labels of one session: another quantity
        ({"ece": 0.0150, "ece_of_chance": 0.005, "observed": 0.04}, True, True),
        ({"ece": 0.0151, "ece_of_chance": 0.005, "observed": 0.04}, True, False),
        ({"log_loss": 0.5}, True, False),
        ({"log_loss": 0.6}, False, True),
        ({"ece": 0.001, "observed": 0.0}, True, False),  # nothing was bought
    ],
)
def test_probabilities_that_mean_something_else_are_not_blessed(changed, by_time, blessed):
    purchase = GOOD | changed
    _, passed = verdict(dict.fromkeys(TASKS, 0.3), {}, purchase=purchase, by_time=by_time, max_ece=0.05)
    assert passed is blessed


@pytest.fixture(scope="module")
def candidates(folder):
    """(probabilities, labels) of every candidate of the split `full`, float [R]."""
    model = tf.saved_model.load(folder)
    table = example_io.read_table(example_io.split_folder(tiny_shop.built().candidates, "full"))
    inputs = request_inputs(table, ("store_id",)) | {
        **{name: padded(table, name, "") for name in ("exclude_item_id", "candidate_item_id")},
    }
    answer = model.signatures["rank"](**{name: tensor(value) for name, value in inputs.items()})
    there = padded(table, "candidate_weight", 0.0) > 0
    return answer["p_purchase"].numpy()[there].astype(float), padded(table, "label", 0.0)[there].astype(float)


RUINED = {
    "nothing": lambda p: np.zeros_like(p),
    "a hundredth": lambda p: p / 100,
    "half": lambda p: p / 2,
    "double": lambda p: np.minimum(2 * p, 1),
    "shuffled": lambda p: np.random.default_rng(1).permutation(p),
    "reversed": lambda p: p.min() + p.max() - p,
    "one for all": lambda p: np.full_like(p, 2 * p.mean()),
}


def passes(probability, label, quality):
    measured = calibration.compared(probability, label, np.ones_like(label)) | {"observed": label.mean()}
    return verdicts.calibrated(measured, quality, same_window=True).passed


@pytest.mark.parametrize("ruin", RUINED)
def test_a_ruined_model_of_the_tiny_shop_is_refused(candidates, ruin):
    """By the relative bounds: where purchases are rarer than `max_ece`, that bound sees nothing."""
    probability, label = candidates
    quality = Quality(max_ece=1.0)
    assert passes(probability, label, quality)
    assert not passes(RUINED[ruin](probability), label, quality)


@pytest.fixture(scope="module")
def films():
    """(probabilities, labels): one film in 1,682 of each of 400 users, float [R].

    20 in a bin, whose share is off by a quarter by chance.
    """
    rng = np.random.default_rng(5)
    probability = rng.dirichlet(np.full(1682, 0.3), 400)
    label = np.zeros_like(probability)
    label[np.arange(400), [rng.choice(1682, p=row) for row in probability]] = 1
    return probability.ravel(), label.ravel()


def test_rare_purchases_are_judged_fairly(films):
    assert passes(*films, Quality())


@pytest.mark.parametrize("ruin", RUINED)
def test_rare_purchases_of_a_ruined_model_are_refused(films, ruin):
    probability, label = films
    assert not passes(RUINED[ruin](probability), label, Quality())


def test_chance_alone_moves_a_curve():
    """The error that exact probabilities show is that of the ones measured on fresh draws."""
    rng = np.random.default_rng(3)
    probability = rng.beta(1, 20, 4000)
    weight = rng.integers(1, 4, 4000).astype(float)
    labels = [(rng.random(4000) < probability).astype(float) for _ in range(40)]
    errors = [expected_calibration_error(reliability(probability, label, weight, 20)) for label in labels]
    found = calibration.compared(probability, labels[0], weight)
    assert found["ece"] == errors[0]
    assert found["ece_of_chance"] == pytest.approx(np.mean(errors), rel=0.15)
    loss = -np.log(np.where(labels[0] > 0, probability, 1 - probability))
    assert found["log_loss"] == pytest.approx((loss * weight).sum() / weight.sum())
    rate = (labels[0] * weight).sum() / weight.sum()
    assert found["log_loss_of_rate"] == pytest.approx(-rate * np.log(rate) - (1 - rate) * np.log(1 - rate))


def test_a_task_nobody_is_in_decides_nothing():
    reasons, passed = verdict({"all": 0.3}, {"popularity": {"all": 0.2}}, counts={"all": 4, "novel": 0})
    assert passed is True
    assert len(reasons) == 1


def test_standard_error_of_the_paired_difference():
    rng = np.random.default_rng(1)
    ours, theirs = rng.random(9), rng.random(9)
    values = {("funnel", "all"): {"m": ours}, ("x", "all"): {"m": theirs}}
    got = executor._paired(values, {"all": 9, "novel": 0})
    mean, error = got["x"]["all"]["m"]
    assert mean == pytest.approx((ours - theirs).mean())
    assert error == pytest.approx(pd.Series(ours - theirs).sem())
    assert metrics.standard_error(ours - theirs) == pytest.approx(error)
