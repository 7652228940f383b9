"""What the towers learn from: sessions read, targets drawn, windows kept; and what is exported."""

import dataclasses
import functools
import json
import os

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from components.common import artifacts
from components.retrieval_trainer import blending, examples, executor, training
from models.data import arrays, example_io
from models.retrieval.towers import table_terms, trained_variables
from models.retrieval.warm_start import Weights
from schema import names as F
from schema.errors import DataError
from tests.shops import records, tiny_shop
from tests.shops.tiny_shop import CONFIG, DAY, LABEL_START, START

LENGTH = CONFIG.retrieval.history_length


@pytest.fixture(scope="module")
def folders():
    return [tiny_shop.transformed_folders()[split] for split in tiny_shop.WINDOWS.past]


@pytest.fixture(scope="module")
def sessions(folders):
    return examples.read_sessions(folders, ["store_id"], LENGTH)


@pytest.fixture(scope="module")
def truth():
    """Sessions of the past by moment and user code: (user, moment, events)."""
    frame = tiny_shop.events()
    out = []
    for split in tiny_shop.WINDOWS.past:
        start, end = tiny_shop.SPLITS[split]
        inside = frame[(frame["timestamp"] >= start) & (frame["timestamp"] < end)]
        out += [(user, when, basket) for (user, when), basket in inside.groupby(["user_id", "timestamp"])]
    users = list(tiny_shop.vocabularies().users)
    return sorted(out, key=lambda one: (one[1], users.index(one[0]) if one[0] in users else -1))


@functools.cache
def codes():
    return {item: index + 1 for index, item in enumerate(tiny_shop.item_vocabulary())}


def test_read_sessions_equals_the_frame(sessions, truth):
    of_user = dict(tuple(tiny_shop.events().groupby("user_id")))
    assert len(sessions["user"]) == len(truth)
    users = list(tiny_shop.vocabularies().users)
    for place, (user, when, basket) in enumerate(truth):
        past = of_user[user]
        past = past[past["timestamp"] < when].tail(LENGTH)
        pad = LENGTH - len(past)
        assert sessions["user"][place] == (users.index(user) + 1 if user in users else 0)
        assert sessions["timestamp"][place] == when
        history = [codes().get(item, 0) for item in past["item_id"]]
        assert sessions["history_item"][place].tolist() == [0] * pad + history
        ages = [0] * pad + [(when - t) / DAY for t in past["timestamp"]]
        np.testing.assert_allclose(sessions["history_age_days"][place], ages, rtol=1e-5)
        start, count = sessions["target_start"][place], sessions["target_count"][place]
        targets = sessions["target_item"][start : start + count].tolist()
        kinds = sessions["target_event_type"][start : start + count].tolist()
        assert kinds == [1 if kind == "purchase" else 2 for kind in basket["event_type"]]
        assert targets == [codes().get(item, 0) for item in basket["item_id"]]
        assert sessions["weekday"][place] == pd.Timestamp(when, unit="s").isoweekday()


def drawn_batches(folders):
    """Two passes over the batches that the towers learn from, as numpy arrays."""
    tf.keras.utils.set_random_seed(CONFIG.retrieval.seed)
    read = examples.read_sessions(folders, ["store_id"], LENGTH)
    rows = examples.item_rows(tiny_shop.item_vocabulary(), tiny_shop.items())
    types = tiny_shop.event_types()
    found = examples.Examples.of(read, rows, len(tiny_shop.items()), LABEL_START, CONFIG.retrieval, types)
    owned = examples.owned_rows(read, rows, len(tiny_shop.vocabularies().users) + 1, LABEL_START)
    vocabularies = tiny_shop.vocabularies()
    data = examples.batches(
        found.wanted, found.training, rows, vocabularies, CONFIG.retrieval, True, owned, found.known, types
    )
    return [list(data.as_numpy_iterator()) for _ in range(2)]


def test_batches_do_not_depend_on_the_order_of_the_records(folders, tmp_path):
    expected = drawn_batches(folders)
    assert len(expected[0]) > 3
    again = [records.shuffled(folder, tmp_path / str(at), at) for at, folder in enumerate(folders)]
    for one, other in zip(expected, drawn_batches(again), strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert mine.keys() == theirs.keys()
            for name, values in mine.items():
                np.testing.assert_array_equal(values, theirs[name], err_msg=name)
    # every pass draws anew
    assert any(
        not np.array_equal(mine["negative_row"], other["negative_row"])
        for mine, other in zip(*expected, strict=True)
    )


def test_sessions_of_strangers_in_the_same_second_have_one_order(tmp_path):
    """User 0 is everybody outside of the vocabulary: moment and user do not tell sessions apart."""
    count = 40
    rng = np.random.default_rng(1)
    baskets = [rng.integers(1, 4, rng.integers(1, 5)).tolist() for _ in range(count)]
    ages = [[float(age) for age in rng.integers(1, 4, rng.integers(0, 3))] for _ in range(count)]
    columns = {
        "user": [[0]] * count,
        "timestamp": [[7]] * count,
        "target_item": baskets,
        "target_event_type": [[1 + item % 2 for item in row] for row in baskets],
        "history_item": [[1] * len(row) for row in ages],
        "history_age_days": ages,
        "history_event_type": [[1] * len(row) for row in ages],
    }
    folder = tmp_path / "one"
    example_io.write_records(str(folder), [tiny_shop.record_batch(columns)])
    read = [
        examples.read_sessions([where], [], 3)
        for where in (str(folder), records.shuffled(str(folder), tmp_path / "other", 4))
    ]
    for name, values in read[0].items():
        np.testing.assert_array_equal(values, read[1][name], err_msg=name)
    assert len({tuple(basket) for basket in baskets}) > 10


def test_sessions_without_any_history(tmp_path):
    columns = {"user": [[1], [2]], "timestamp": [[5], [6]], "target_item": [[1], [2, 3]]}
    columns["target_event_type"] = [[1], [1, 1]]
    tiny_shop.example_io.write_records(str(tmp_path), [tiny_shop.record_batch(columns)])
    read = examples.read_sessions([str(tmp_path)], [], 3)
    assert read["history_item"].tolist() == [[0] * 3] * 2
    assert read["target_start"].tolist() == [0, 1]


def test_item_rows_of_the_vocabulary():
    rows = examples.item_rows(tiny_shop.item_vocabulary(), tiny_shop.items())
    assert rows[0] == 0
    for row, item in zip(rows[1:], tiny_shop.item_vocabulary(), strict=True):
        assert tiny_shop.items().item_id[row] == ("" if item == tiny_shop.STRANGER else item)


@pytest.mark.parametrize("shuffled", [False, True])
def test_batches_draw_targets_of_their_own_session(sessions, truth, shuffled):
    rows = examples.item_rows(tiny_shop.item_vocabulary(), tiny_shop.items())
    chosen = np.arange(130)
    config = CONFIG.retrieval.model_copy(update={"targets_per_session": 5})
    # the age of the oldest event tells the sessions apart
    marked = dict(sessions) | {F.HISTORY_AGE_DAYS: sessions[F.HISTORY_AGE_DAYS].copy()}
    marked[F.HISTORY_AGE_DAYS][:, 0] = np.arange(len(truth))
    vocabularies = tiny_shop.vocabularies()
    data = examples.batches(marked, chosen, rows, vocabularies, config, shuffled)
    passes = []
    for _ in range(2):
        drawn = {}
        for batch in data.as_numpy_iterator():
            for at, place in enumerate(batch[F.HISTORY_AGE_DAYS][:, 0].astype(int)):
                drawn[place] = batch["target_row"][at].tolist()
                np.testing.assert_array_equal(batch["history_row"][at], rows[sessions["history_item"][place]])
                for name in ("user", "weekday", "hour", "context_store_id"):
                    assert batch[name][at] == sessions[name][place]
                user = truth[place][0]
                in_table = user in vocabularies.users and user in vocabularies.attribute_user
                region = (
                    vocabularies.attributes["region"][list(vocabularies.attribute_user).index(user)]
                    if in_table
                    else 0
                )
                assert batch["user_region"][at] == region
        # a partial batch is left out in training
        assert len(drawn) == (128 if shuffled else 130)
        passes.append(drawn)
    wanted = {
        place: {int(rows[codes().get(item, 0)]) for item in truth[place][2]["item_id"]} for place in chosen
    }
    reached = {place: set(drawn[place]) for drawn in passes for place in drawn}
    assert all(reached[place] <= wanted[place] for place in reached)
    assert sum(map(len, reached.values())) > 0.7 * sum(map(len, wanted.values()))
    if shuffled:
        assert sum(passes[0][place] != passes[1].get(place) for place in passes[0]) > 60


def test_a_session_without_targets_gives_none(sessions):
    rows = examples.item_rows(tiny_shop.item_vocabulary(), tiny_shop.items())
    empty = dict(sessions) | {"target_count": sessions["target_count"].copy()}
    empty["target_count"][3] = 0
    (batch,) = examples.batches(
        empty, np.asarray([3]), rows, tiny_shop.vocabularies(), CONFIG.retrieval, training=False
    )
    assert not batch["target_row"].numpy().any()


@pytest.fixture(scope="module")
def divided(sessions):
    """What the tiny shop's towers learn from."""
    rows = examples.item_rows(tiny_shop.item_vocabulary(), tiny_shop.items())
    return examples.Examples.of(sessions, rows, len(tiny_shop.items()), LABEL_START, CONFIG.retrieval)


def test_only_sessions_before_the_label_window_are_learned_from(divided, sessions, truth):
    taught, holdout = set(divided.training.tolist()), set(divided.holdout.tolist())
    assert not taught & holdout
    usable = {
        place
        for place, (_, when, _) in enumerate(truth)
        if when < LABEL_START and sessions["history_item"][place].any()
    }
    assert len(holdout) == max(1, int(len(usable) * CONFIG.retrieval.holdout_share))
    assert max(truth[place][1] for place in usable - holdout) <= min(truth[place][1] for place in holdout)
    first = first_purchases(truth)
    assert taught == {place for place in usable - holdout if first[place]}
    assert len(taught) < len(usable - holdout)
    assert any(when >= LABEL_START for _, when, _ in truth)
    # the learned part is weighed by the latest sessions of all, as old as it is when it serves
    later = [
        place
        for place, (_, when, _) in enumerate(truth)
        if when >= LABEL_START and sessions["history_item"][place].any()
    ]
    weighed = divided.weighed.tolist()
    assert set(weighed) <= set(later)
    assert len(weighed) == min(len(holdout), len(later))
    rest = set(later) - set(weighed)
    assert max((truth[place][1] for place in rest), default=0) <= min(truth[place][1] for place in weighed)


def first_purchases(truth):
    """Of each session, the items (with an embedding or not) that its user bought in no earlier one."""
    known = tiny_shop.vocabularies().users
    since = {}
    for user, when, basket in truth:
        for item in basket["item_id"]:
            key = (user, codes().get(item, 0))
            since[key] = min(since.get(key, when), when)
    return [
        [item for item in basket["item_id"] if user not in known or since[user, codes().get(item, 0)] == when]
        for user, when, basket in truth
    ]


def test_first_targets(sessions, truth):
    got = examples.first_targets(sessions)
    expected = first_purchases(truth)
    assert got["target_count"].tolist() == [len(items) for items in expected]
    assert 0 < sum(got["target_count"]) < sum(sessions["target_count"])
    for place, items in enumerate(expected):
        start, count = got["target_start"][place], got["target_count"][place]
        assert sorted(got["target_item"][start : start + count]) == sorted(
            codes().get(item, 0) for item in items
        )


def test_first_targets_of_several_types(sessions, truth):
    """What is heavier than all that the user did with the item before, in plain loops."""
    weight = {"purchase": 1.0, "view": 0.25}
    known = tiny_shop.vocabularies().users
    strongest, expected, after_a_view = {}, [], 0
    for user, _, basket in truth:
        kept, new = [], {}
        for item, kind in zip(basket["item_id"], basket["event_type"], strict=True):
            key = (user, codes().get(item, 0))
            before = strongest.get(key, 0.0)
            if user not in known or weight[kind] > before:
                kept.append((key[1], kind))
                after_a_view += before > 0 and user in known
            new[key] = max(new.get(key, 0.0), weight[kind])
        for key, value in new.items():
            strongest[key] = max(strongest.get(key, 0.0), value)
        expected.append(kept)
    got = examples.first_targets(sessions, tiny_shop.event_types())
    assert got["target_count"].tolist() == [len(kept) for kept in expected]
    assert after_a_view > 20
    for start, count, kept in zip(got["target_start"], got["target_count"], expected, strict=True):
        kinds = ["", "purchase", "view"]
        targets = zip(
            got["target_item"][start : start + count],
            (kinds[kind] for kind in got["target_event_type"][start : start + count]),
            strict=True,
        )
        assert sorted(targets) == sorted(kept)


def test_targets_are_drawn_by_weight_and_sessions_count_as_their_strongest(sessions):
    """A view of a quarter of a purchase's weight is drawn a quarter as often."""
    columns = {
        "target_item": np.asarray([1, 2, 3, 4, 5], np.int32),
        "target_event_type": np.asarray([1, 2, 2, 2, 0], np.int32),  # 0: nobody knows the type
        "target_start": np.asarray([0, 3, 5], np.int32),
        "target_count": np.asarray([3, 2, 0], np.int32),
    }
    three = {name: values[:3] for name, values in sessions.items() if not name.startswith("target_")}
    rows = np.arange(10, dtype=np.int32)
    config = CONFIG.retrieval.model_copy(update={"targets_per_session": 6000})
    types, chosen = tiny_shop.event_types(), np.arange(3)
    (batch,) = examples.batches(
        three | columns, chosen, rows, tiny_shop.vocabularies(), config, False, types=types
    )
    drawn = [np.bincount(row, minlength=6) / 6000 for row in batch["target_row"].numpy()]
    np.testing.assert_allclose(drawn[0], [0, 2 / 3, 1 / 6, 1 / 6, 0, 0], atol=0.02)
    np.testing.assert_allclose(drawn[1], [0, 0, 0, 0, 0.5, 0.5], atol=0.02)
    assert drawn[2].tolist() == [1, 0, 0, 0, 0, 0]
    assert batch["target_weight"].numpy().tolist() == [1.0, 0.25, 0.0]


def test_what_measures_the_towers_are_purchases(sessions):
    rows = examples.item_rows(tiny_shop.item_vocabulary(), tiny_shop.items())
    types = tiny_shop.event_types()
    found = examples.Examples.of(sessions, rows, len(tiny_shop.items()), LABEL_START, CONFIG.retrieval, types)
    assert set(found.measured["target_event_type"]) == {1}
    assert set(found.wanted["target_event_type"]) == {1, 2}
    for chosen in (found.holdout, found.weighed):
        assert len(chosen)
        assert (found.measured["target_count"][chosen] > 0).all()
    # the share of a row is that with which it is drawn
    weight = types.weight[found.wanted["target_event_type"]]
    expected, in_time = np.zeros(len(tiny_shop.items())), sessions[F.TIMESTAMP] < LABEL_START
    for session in np.flatnonzero(in_time):
        start, count = found.wanted["target_start"][session], found.wanted["target_count"][session]
        mine = slice(start, start + count)
        np.add.at(expected, rows[found.wanted["target_item"][mine]], weight[mine] / weight[mine].sum())
    expected = np.maximum(expected / expected[1:].sum(), 1e-9)
    np.testing.assert_allclose(found.probability, expected, rtol=1e-4)


def test_owned_rows_are_a_users_distinct_targets_before_the_label_window(sessions, truth):
    rows = examples.item_rows(tiny_shop.item_vocabulary(), tiny_shop.items())
    vocabulary = list(tiny_shop.vocabularies().users)
    owned = examples.owned_rows(sessions, rows, len(vocabulary) + 1, LABEL_START).to_list()
    assert owned[0] == []
    assert len(owned) == len(vocabulary) + 1
    later = 0
    for code, user in enumerate(vocabulary, 1):
        mine = [(when, basket) for who, when, basket in truth if who == user]
        bought = {item for when, basket in mine if when < LABEL_START for item in basket["item_id"]}
        later += len({item for _, basket in mine for item in basket["item_id"]} - bought)
        expected = {
            tiny_shop.items().item_id.tolist().index(i)
            for i in bought
            if i in codes() and i != tiny_shop.STRANGER
        }
        assert set(owned[code]) == expected
        assert len(owned[code]) == len(expected)
    assert later


def test_batches_hold_what_may_be_no_negative_and_uniform_ones(sessions):
    rows = examples.item_rows(tiny_shop.item_vocabulary(), tiny_shop.items())
    owned = examples.owned_rows(sessions, rows, len(tiny_shop.vocabularies().users) + 1, LABEL_START)
    known = np.asarray([5, 9, 11])
    config = CONFIG.retrieval.model_copy(update={"uniform_negatives": 40})
    chosen = np.asarray([0, 50, 100])
    (batch,) = examples.batches(sessions, chosen, rows, tiny_shop.vocabularies(), config, False, owned, known)
    assert batch["negative_row"].shape == (40,)
    assert set(batch["negative_row"].numpy()) == set(known)
    for place, row in zip(chosen, batch["owned_row"].numpy(), strict=True):
        assert sorted(row[row > 0]) == owned[int(sessions["user"][place])].numpy().tolist()


def test_uniform_negatives_are_drawn_from_what_was_sold_before_the_label_window(divided, truth, sessions):
    known = set(tiny_shop.items().item_id[divided.known])
    sold = {item for _, when, basket in truth if when < LABEL_START for item in basket["item_id"]}
    assert known == {item for item in sold if item in codes() and item != tiny_shop.STRANGER}
    # an item of which all sales before the label window are moved into it
    late = divided.known[len(divided.known) // 2]
    rows = divided.rows
    owner = np.repeat(np.arange(len(sessions["user"])), sessions["target_count"])
    with_it = np.unique(owner[rows[sessions["target_item"]] == late])
    moved = dict(sessions) | {F.TIMESTAMP: sessions[F.TIMESTAMP].copy()}
    moved[F.TIMESTAMP][with_it] = LABEL_START
    again = examples.Examples.of(moved, rows, len(tiny_shop.items()), LABEL_START, CONFIG.retrieval)
    assert late not in again.known
    assert again.probability[late] == pytest.approx(1e-9)
    assert len(again.known) > 20


def trained(folders, target):
    """Name -> array of the towers that are trained on the sessions of some folders."""
    inputs = executor.Inputs(
        folders,
        tiny_shop.items(),
        tiny_shop.item_vocabulary(),
        tiny_shop.vocabularies(),
        tiny_shop.EVENT_KINDS,
        os.path.join(tiny_shop.text_encoder()[0], artifacts.TEXT_VECTORS),
        LABEL_START,
    )
    executor.run(inputs, CONFIG.retrieval, CONFIG.candidates.collaborative, str(target), str(target / "run"))
    return arrays.load(str(target / artifacts.WEIGHTS))


@pytest.mark.slow  # trains two models
def test_nothing_of_the_label_window_is_in_the_towers_and_a_seed_fixes_them(folders, tmp_path):
    """The split `eval` begins where the ranker's label window does; Beam's order does not count."""
    assert tiny_shop.TRAIN_END == LABEL_START
    shuffled = records.shuffled(folders[0], tmp_path / "shuffled", 5)
    with_later, without = trained(folders, tmp_path / "a"), trained([shuffled], tmp_path / "b")
    assert with_later.keys() == without.keys()
    for name, values in without.items():
        np.testing.assert_array_equal(with_later[name], values, err_msg=name)


@pytest.mark.parametrize("better", ["learned", "closed"])
def test_the_better_score_weighs_more(divided, sessions, better):
    """Learned scores that know the answer, or are always wrong, against the collaborative ones."""
    rows, wanted = divided.rows, divided.wanted
    held = np.argsort(sessions[F.TIMESTAMP], kind="stable")[-150:]
    known = np.unique(rows[sessions["target_item"]])
    asked = dataclasses.replace(divided, weighed=held, known=known[known > 0])
    size = len(tiny_shop.items())
    vectors = np.eye(size, dtype=np.float32)
    queries = np.random.default_rng(0).normal(size=(len(held), size)).astype(np.float32)
    for place, session in enumerate(held):
        start, count = wanted["target_start"][session], wanted["target_count"][session]
        answer = rows[wanted["target_item"][start : start + count]]
        queries[place, answer] += 9 if better == "learned" else -9
    config = CONFIG.candidates.collaborative
    weight = blending.blend(asked, queries, vectors, config, top=5)
    without = config.model_copy(update={"rank": 0})
    assert blending.blend(asked, queries, vectors, without, top=5) == 1.0
    least = blending.blend(asked, queries, vectors, config, top=5, weights=(0.01,))
    ratio = weight / least * 0.01
    assert ratio >= 0.7 if better == "learned" else ratio <= 0.2


def test_sampling_probabilities_are_the_shares_of_drawn_targets(divided, truth):
    share = dict.fromkeys(tiny_shop.ITEMS, 0.0)
    for (_, when, _), items in zip(truth, first_purchases(truth), strict=True):
        if when < LABEL_START:
            for item in items:
                if item in codes() and item != tiny_shop.STRANGER:
                    share[item] += 1 / len(items)
    total = sum(share.values())
    for row, item in enumerate(tiny_shop.items().item_id[1:], 1):
        assert divided.probability[row] == pytest.approx(max(share[item] / total, 1e-9), rel=1e-4)


def test_history_and_export():
    folder, _ = tiny_shop.towers()
    (epoch,) = json.loads((tiny_shop.towers_run() / "history.json").read_text())["epochs"]
    assert epoch["epoch"] == 1
    assert np.isfinite(epoch["loss"])
    assert 0 < epoch["holdout_recall@100"] <= 1
    vectors = arrays.load(os.path.join(folder, "item_vectors.npz"))["vectors"]
    assert vectors.shape == (len(tiny_shop.items()), CONFIG.retrieval.embedding_dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    towers = tf.saved_model.load(artifacts.model_folder(folder))
    np.testing.assert_allclose(towers.item(tf.range(len(vectors))), vectors, atol=1e-6)


def test_training_and_serving_give_the_same_query_vector(sessions, truth):
    """The skew test of the query side: a session's batch against the same request in raw strings."""
    rows = examples.item_rows(tiny_shop.item_vocabulary(), tiny_shop.items())
    retriever = tiny_shop.factory().at(LABEL_START)
    of_user = dict(tuple(tiny_shop.events().groupby("user_id")))
    chosen = []
    for place, (user, when, _) in enumerate(truth):
        past = of_user[user]
        past = past[past["timestamp"] < when].tail(LENGTH)
        known = user in tiny_shop.vocabularies().users  # training knows the attributes of these only
        if known and len(past) and set(past["item_id"]) <= set(codes()) - {tiny_shop.STRANGER}:
            chosen.append(place)
    chosen = np.asarray(chosen[::25])
    assert len(chosen) > 15
    (batch,) = examples.batches(
        sessions, chosen, rows, tiny_shop.vocabularies(), CONFIG.retrieval, training=False
    )
    batch.pop("target_row")
    learned = retriever._towers.query(batch).numpy()
    for at, place in enumerate(chosen):
        user, when, basket = truth[place]
        past = of_user[user]
        past = past[past["timestamp"] < when].tail(LENGTH + 7)
        request = {
            "user_id": tf.constant([user]),
            "history_item_id": tf.constant([past["item_id"].tolist()]),
            "history_age_days": tf.constant([((when - past["timestamp"]) / DAY).tolist()], tf.float32),
            "history_event_type": tf.constant([past["event_type"].tolist()]),
            "context_store_id": tf.constant([basket["store_id"].iloc[0]]),
            "context_timestamp": tf.constant([when], tf.int64),
        }
        served = retriever.query(retriever.parser(request)).numpy()[0]
        expected = learned[at] * retriever._towers.scale.numpy()
        np.testing.assert_allclose(served[: len(expected)], expected, atol=1e-5)


def test_too_few_sessions_are_an_error_that_says_what_to_do(folders, tmp_path):
    with pytest.raises(DataError, match="sessions with a history lie before .* ranking.windows"):
        executor.run(
            executor.Inputs(
                folders,
                tiny_shop.items(),
                tiny_shop.item_vocabulary(),
                tiny_shop.vocabularies(),
                tiny_shop.EVENT_KINDS,
                "unused",
                START + 2 * DAY,
            ),
            CONFIG.retrieval,
            CONFIG.candidates.collaborative,
            str(tmp_path),
            str(tmp_path),
        )
    assert not list(tmp_path.iterdir())


def untrained(vocabulary=None, **settings):
    """A new model of the tiny shop, and what the rows of its tables stand for."""
    tf.keras.utils.set_random_seed(5)
    items, vocabulary = tiny_shop.items(), vocabulary or tiny_shop.item_vocabulary()
    model = training.build(
        items,
        vocabulary,
        tiny_shop.vocabularies(),
        arrays.load(os.path.join(tiny_shop.text_encoder()[0], "text_vectors.npz")),
        np.full(len(items), 1 / len(items), np.float32),
        np.arange(1, 40),
        CONFIG.retrieval.model_copy(update=settings),
    )
    return model, table_terms(vocabulary, items, tiny_shop.vocabularies())


@pytest.fixture(scope="module")
def batch(sessions):
    rows = examples.item_rows(tiny_shop.item_vocabulary(), tiny_shop.items())
    chosen = np.flatnonzero(sessions["timestamp"] < LABEL_START)[::9][:64]
    (batch,) = examples.batches(
        sessions, chosen, rows, tiny_shop.vocabularies(), CONFIG.retrieval, training=False
    )
    return batch


@pytest.fixture(scope="module")
def learned(batch, tmp_path_factory):
    """A model that learned one batch by heart, the file of its weights, and the loss before."""
    model, terms = untrained(item_id_dropout=0)
    training.start(model, batch, terms, None)
    before = float(model.compute_loss(batch))
    optimizer = tf.keras.optimizers.Adam(0.02)
    for _ in range(12):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch)
        optimizer.minimize(loss, model.trainable_variables, tape=tape)
    path = str(tmp_path_factory.mktemp("last") / artifacts.WEIGHTS)
    variables = trained_variables(model.query_tower, model.item_tower)
    Weights.of(variables, terms, LABEL_START).save(path)
    return model, path, before


def test_a_warm_start_begins_where_the_last_model_ended(learned, batch):
    last, path, before = learned
    # tomorrow's vocabulary: another order, a new item, one that is gone
    vocabulary = [tiny_shop.NEVER, *tiny_shop.item_vocabulary()[-3::-1]]
    model, terms = untrained(vocabulary)
    warm, said = training.start(model, batch, terms, path)
    assert warm
    size = len(vocabulary)
    assert said == f"; warm start with {size - 1:,} of {size:,} item rows and 24 of 24 user rows"
    assert model.compute_loss(batch) < 0.9 * before
    rows = tiny_shop.items().item_id
    kept = np.flatnonzero(np.isin(rows, vocabulary[1:])).astype(np.int32)
    assert len(kept) == size - 1
    np.testing.assert_allclose(model.item_tower(kept), last.item_tower(kept), atol=1e-6)
    new = np.flatnonzero(rows == tiny_shop.NEVER).astype(np.int32)
    assert np.abs(model.item_tower(new) - last.item_tower(new)).max() > 1e-3


def test_training_leaves_the_weights_for_the_next_model(batch):
    folder, _ = tiny_shop.towers()
    model, terms = untrained()
    assert training.start(model, batch, terms, os.path.join(folder, artifacts.WEIGHTS))[0]
    vectors = arrays.load(os.path.join(folder, "item_vectors.npz"))["vectors"]
    np.testing.assert_allclose(model.item_tower(tf.range(len(vectors))), vectors, atol=1e-6)
    assert Weights.load(os.path.join(folder, artifacts.WEIGHTS)).learned_until == LABEL_START


def test_a_cold_start_says_why(learned, batch, tmp_path):
    for path, why, settings in (
        (learned[1], "has another architecture (item/hidden/bias was 16, is 24)", {"embedding_dim": 12}),
        (str(tmp_path / "none.npz"), "was built without weights to start from", {}),
    ):
        model, terms = untrained(**settings)
        warm, said = training.start(model, batch, terms, path)
        assert not warm
        assert said == f"; cold start: the last blessed model {why}"
        cold, _ = untrained(**settings)
        training.start(cold, batch, terms, None)
        for one, other in zip(model.trainable_variables, cold.trainable_variables, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("warm", [False, True])
def test_negatives_are_mined_by_the_vectors_that_begin_an_epoch(batch, warm):
    """In the first epoch only after a warm start: vectors that have learned nothing are no index."""
    model, _ = untrained(mined_negatives=16)
    known = np.arange(1, 40)
    callback = training.Mining(known, warm)
    callback.set_model(model)
    callback.on_epoch_begin(0)
    mined = model._mine(model.query_tower(batch), batch).numpy()
    assert mined.any() == warm
    vectors = training.encode_items(model.item_tower, known)
    model.item_tower.trainable_variables[-1].assign_add(tf.random.normal([CONFIG.retrieval.embedding_dim]))
    if warm:
        np.testing.assert_array_equal(model._searched, vectors)
    callback.on_epoch_begin(1)
    assert model._mine(model.query_tower(batch), batch).numpy().any()
    np.testing.assert_array_equal(model._searched, training.encode_items(model.item_tower, known))
    assert np.abs(model._searched.numpy() - vectors).max() > 1e-3
