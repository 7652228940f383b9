"""The retrieval loss against a naive softmax, and the export."""

import numpy as np
import pytest
import tensorflow as tf

from components.retrieval_trainer import training
from models.retrieval import two_tower as retrieval
from models.retrieval.two_tower import RetrievalModel
from tests.models.retrieval import test_towers as towers
from tests.shops import tiny_shop

TEMPERATURE = 0.2
SHARE = np.random.default_rng(8).dirichlet(np.full(61, 0.3)).astype(np.float32)
KNOWN = np.arange(1, 61)
TARGETS = np.asarray([[3, 5], [5, 0], [9, 9], [0, 0], [12, 3], [0, 40], [7, 1]], np.int32)


def make(share=SHARE, **dropouts):
    return RetrievalModel(
        towers.make_query_tower(**dropouts), towers.make_item_tower(), share, TEMPERATURE, KNOWN
    )


def batch(targets=TARGETS, **fixed):
    return towers.query_inputs(**fixed) | {"target_row": tf.constant(targets)}


def naive_loss(model, inputs, share):
    queries = model.query_tower(inputs, training=False).numpy().astype(np.float64)
    pairs = [(s, int(row)) for s, rows in enumerate(inputs["target_row"].numpy()) for row in rows if row > 0]
    vectors = {row: model.item_tower(tf.constant([row])).numpy()[0].astype(np.float64) for _, row in pairs}
    total = 0.0
    for mine, (session, row) in enumerate(pairs):

        def logit(other, session=session):
            return queries[session] @ vectors[other] / TEMPERATURE - np.log(np.clip(share[other], 1e-6, 1))

        negatives = [other for place, (_, other) in enumerate(pairs) if place != mine and other != row]
        logits = [logit(row), *(logit(other) for other in negatives)]
        total += np.log(np.exp(logits).sum()) - logits[0]
    return total / max(len(pairs), 1)


@pytest.mark.parametrize("seed", [2, 3])
def test_loss_equals_a_naive_softmax_with_logq_and_without_accidental_hits(seed):
    model, inputs = make(), batch(seed=seed)
    expected = naive_loss(model, inputs, SHARE)
    for _ in range(2):  # it keeps no state
        np.testing.assert_allclose(model.compute_loss(inputs, training=False), expected, rtol=1e-4)


def test_a_popular_item_is_a_smaller_negative():
    """The sign of the correction: more often drawn, less pushed away."""
    targets = np.asarray([[3, 0], [5, 0]], np.int32)
    inputs = batch(targets, batch=2)
    losses = []
    for popular in (0.01, 0.9):
        share = np.full(61, 0.05, np.float32)
        share[5] = popular
        model = make(share)
        losses.append(float(model.compute_loss(inputs | {"target_row": tf.constant(targets)})))
        queries, items = model.query_tower(inputs), model.item_tower(tf.constant([3, 5]))
        logits = (queries.numpy() @ items.numpy().T) / TEMPERATURE - np.log([0.05, popular])
        first = np.log(np.exp(logits[0]).sum()) - logits[0, 0]
        second = np.log(np.exp(logits[1]).sum()) - logits[1, 1]
        np.testing.assert_allclose(losses[-1], (first + second) / 2, rtol=1e-4)
    alone = [naive_loss(make(), batch(np.asarray([[3, 0]], np.int32), batch=1), SHARE)]
    assert alone == [0.0]  # without negatives there is nothing to lose
    assert losses[0] != losses[1]


def test_padding_targets_are_ignored():
    model = make()
    wide = np.concatenate([np.zeros_like(TARGETS), TARGETS, np.zeros_like(TARGETS)], 1)
    ours, theirs = (model.compute_loss(batch(targets)) for targets in (TARGETS, wide))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_accidental_hits_are_removed():
    """Two sessions with the same target: no negative remains."""
    inputs = batch(np.asarray([[9, 9], [9, 0]], np.int32), batch=2)
    np.testing.assert_allclose(make().compute_loss(inputs), 0.0, atol=1e-5)


@pytest.mark.slow  # trains a model
def test_training_uses_dropout_and_lowers_the_loss():
    model = make(user_dropout=0.5, history_dropout=0.5)
    inputs = batch()
    before = float(model.compute_loss(inputs, training=False))
    assert len({round(float(model.compute_loss(inputs, training=True)), 6) for _ in range(3)}) > 1
    model.compile(tf.keras.optimizers.Adam(0.05))
    model.fit(tf.data.Dataset.from_tensors(inputs).repeat(15), epochs=1, verbose=0)
    assert float(model.compute_loss(inputs, training=False)) < before - 0.5


def test_save_load(tmp_path):
    model, inputs = make(id_dropout=0.9, user_dropout=0.9, history_dropout=0.9), batch()
    model.compute_loss(inputs)
    training.export(model, 0.5, inputs, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    parsed = {name: value for name, value in inputs.items() if name != "target_row"}
    for _ in range(2):  # and no dropout
        np.testing.assert_allclose(loaded.query(parsed), model.query_tower(inputs, training=False), atol=1e-6)
    rows = tf.range(len(tiny_shop.items()))
    np.testing.assert_allclose(loaded.item(rows), model.item_tower(rows, training=False), atol=1e-6)
    other = towers.query_inputs(batch=2, length=9)
    np.testing.assert_allclose(loaded.query(other), model.query_tower(other, training=False), atol=1e-6)


def test_mixed_negatives_without_what_the_user_owns():
    """Targets of the batch and uniform rows, each with its share of the draw, against a naive softmax."""
    model = make()
    inputs = batch(np.asarray([[3, 5], [9, 0]], np.int32), batch=2)
    owned = np.asarray([[3, 5, 20, 0], [21, 9, 0, 0]], np.int32)
    negative = np.asarray([20, 21, 22, 5, 22], np.int32)
    inputs |= {"owned_row": tf.constant(owned), "negative_row": tf.constant(negative)}
    queries = model.query_tower(inputs, training=False).numpy().astype(np.float64)
    candidates = np.asarray([3, 5, 9, *negative])
    vectors = model.item_tower(tf.constant(candidates)).numpy().astype(np.float64)
    drawn = (3 * SHARE[candidates] + 5 / len(KNOWN)) / 8
    logits = queries @ vectors.T / TEMPERATURE - np.log(np.clip(drawn, 1e-6, 1))
    losses = []
    for place, session in enumerate((0, 0, 1)):
        rivals = [
            other
            for other, row in enumerate(candidates)
            if other != place and row != candidates[place] and row not in owned[session]
        ]
        assert len(rivals) == (4, 4, 6)[place]  # of the first session: 9, 21, 22, 22; 20 is its own
        mine = logits[session, place]
        losses.append(np.log(np.exp([mine, *logits[session, rivals]]).sum()) - mine)
    np.testing.assert_allclose(model.compute_loss(inputs), np.mean(losses), rtol=1e-4)


def test_hard_negatives_are_those_of_the_highest_scores():
    inputs = batch() | {"negative_row": tf.constant(np.arange(1, 50, dtype=np.int32))}
    hard = RetrievalModel(
        towers.make_query_tower(), towers.make_item_tower(), SHARE, TEMPERATURE, KNOWN, hard_negatives=3
    )
    every = make()
    every.query_tower, every.item_tower = hard.query_tower, hard.item_tower
    fewer, all_of_them = float(hard.compute_loss(inputs)), float(every.compute_loss(inputs))
    assert 0 < fewer < all_of_them
    logits_of_three = np.log(1 + 3)  # had they the target's own score
    assert fewer > logits_of_three / 2


def mining(rows, **dropouts):
    """A model that mines so many rows by vectors of its own, which have not learned anything since."""
    model = RetrievalModel(
        towers.make_query_tower(**dropouts),
        towers.make_item_tower(),
        SHARE,
        TEMPERATURE,
        KNOWN,
        mined_negatives=rows,
    )
    model.mine_from(model.item_tower(tf.constant(KNOWN)).numpy())
    return model


def mixed_inputs(seed=0):
    """A batch with targets, uniform negatives and what the users own; two sessions own nothing."""
    owned = np.random.default_rng(seed).integers(0, 61, (7, 12)).astype(np.int32)
    owned[[1, 3]] = 0
    negative = tf.constant([20, 21, 22, 5, 22], tf.int32)
    return batch(seed=seed) | {"owned_row": tf.constant(owned), "negative_row": negative}


def test_the_best_without_what_is_taken():
    rng = np.random.default_rng(4)
    query, vectors = rng.normal(size=(5, 6)).astype(np.float32), rng.normal(size=(30, 6)).astype(np.float32)
    taken = rng.integers(0, 31, (5, 14)).astype(np.int32)
    taken[3] = 30  # nothing
    taken[4] = np.arange(14)
    found = retrieval.best_without(*map(tf.constant, (query, vectors, taken)), 18).numpy()
    for row in range(5):
        free = [position for position in range(30) if position not in taken[row]]
        best = sorted(free, key=lambda position: -float(vectors[position] @ query[row]))[:18]
        assert found[row].tolist() == best + [30] * (18 - len(best))


@pytest.mark.parametrize("wanted", [1, 24, 30, 999])
def test_mined_rows_score_best_among_what_the_session_did_not_take(wanted):
    model, inputs = mining(wanted), mixed_inputs()
    queries = model.query_tower(inputs, training=False)
    mined = model._mine(queries, inputs).numpy()
    assert len(mined) == min(wanted, 7 * retrieval.MINED_EACH)
    vectors = model.item_tower(tf.constant(KNOWN)).numpy()
    for place, start in enumerate(range(0, len(mined), retrieval.MINED_EACH)):
        taken = {
            row for name in ("target_row", "history_row", "owned_row") for row in inputs[name][place].numpy()
        }
        score = vectors @ queries[place].numpy()
        best = sorted(set(KNOWN) - taken, key=lambda row: -float(score[row - 1]))[: retrieval.MINED_EACH]
        assert mined[start : start + retrieval.MINED_EACH].tolist() == best[: len(mined) - start]


def naive_mixed_loss(model, inputs, mined):
    """Softmax of each target over all candidates, each weighing one over how often it is expected."""
    owned, pairs = inputs["owned_row"].numpy(), np.argwhere(inputs["target_row"].numpy() > 0)
    rows = inputs["target_row"].numpy()[tuple(pairs.T)]
    uniform = inputs["negative_row"].numpy()
    candidates = np.concatenate([rows, uniform, mined[mined > 0]])
    queries = model.query_tower(inputs, training=False).numpy().astype(np.float64)
    vectors = model.item_tower(tf.constant(candidates)).numpy().astype(np.float64)
    expected = len(rows) * SHARE[candidates] + len(uniform) / len(KNOWN)
    expected += [np.sum(mined == row) for row in candidates]
    logits = queries @ vectors.T / TEMPERATURE - np.log(expected)
    losses = []
    for place, (session, _) in enumerate(pairs):
        rivals = [
            other
            for other, row in enumerate(candidates)
            if other != place and row != candidates[place] and row not in owned[session]
        ]
        logit = logits[session, place]
        losses.append(np.log(np.exp([logit, *logits[session, rivals]]).sum()) - logit)
    return np.mean(losses)


@pytest.mark.parametrize("seed", range(3))
def test_mined_negatives_count_once_and_never_for_those_who_own_them(seed):
    model, inputs = mining(24), mixed_inputs(seed)
    mined = model._mine(model.query_tower(inputs, training=False), inputs).numpy()
    owned = inputs["owned_row"].numpy()
    # of what was mined for others, something is a session's own: the mask has work to do
    assert any(np.isin(owned[session], mined).any() for session in range(7))
    loss = float(model.compute_loss(inputs))
    np.testing.assert_allclose(loss, naive_mixed_loss(model, inputs, mined), rtol=1e-4)
    without = float(naive_mixed_loss(model, inputs, np.zeros(0, np.int32)))
    assert abs(loss - without) > 1e-2


def test_nothing_is_mined_before_there_are_vectors_or_where_everything_is_taken():
    model, inputs = mining(24), mixed_inputs()
    nothing = naive_mixed_loss(model, inputs, np.zeros(0, np.int32))
    fresh = RetrievalModel(model.query_tower, model.item_tower, SHARE, TEMPERATURE, KNOWN, mined_negatives=24)
    np.testing.assert_allclose(fresh.compute_loss(inputs), nothing, rtol=1e-4)
    inputs["owned_row"] = tf.repeat(tf.range(1, 61)[None], 7, 0)
    assert not model._mine(model.query_tower(inputs), inputs).numpy().any()


def test_the_mined_softmax_estimates_the_whole_one():
    """Over many draws, the mean of what the candidates weigh is the sum over all items, mined or not."""
    rng = np.random.default_rng(9)
    model, inputs = mining(24), mixed_inputs()
    mined = model._mine(model.query_tower(inputs, training=False), inputs).numpy()
    worth = rng.uniform(1, 5, 61)
    draws = np.concatenate([rng.choice(61, (20_000, 9), p=SHARE), rng.choice(KNOWN, (20_000, 5))], 1)
    expected = 9 * SHARE + 5 / len(KNOWN) * np.isin(np.arange(61), KNOWN) + np.bincount(mined, minlength=61)
    weights = worth / expected
    estimate = weights[draws].sum(1).mean() + weights[mined].sum()
    np.testing.assert_allclose(estimate, worth.sum(), rtol=0.02)


@pytest.mark.slow  # XLA takes its time
def test_the_loss_is_the_same_compiled_and_distributed():
    """With places that hold no target, and with users who own something."""
    inputs = mixed_inputs()
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        distributed = mining(24)
    plain = mining(24)
    for model, run in (
        (distributed, tf.function(lambda: strategy.run(distributed.compute_loss, args=(inputs,)))),
        (plain, tf.function(lambda: plain.compute_loss(inputs))),
        (plain, tf.function(lambda: plain.compute_loss(inputs), jit_compile=True)),
    ):
        mined = model._mine(model.query_tower(inputs, training=False), inputs).numpy()
        np.testing.assert_allclose(run(), naive_mixed_loss(model, inputs, mined), rtol=1e-4)


def test_curves_are_those_of_whole_epochs():
    """Keras' own loss is of the last batch; what is regularised here is nothing."""
    history = {
        "loss": [9.0, 9.0],
        "mean_loss": [3.0, 2.0],
        "regularization_loss": [0.0, 0.0],
        "total_loss": [9.0, 9.0],
        "val_loss": [8.0, 8.0],
        "val_mean_loss": [4.0, 3.0],
        "val_regularization_loss": [0.0, 0.0],
        "val_total_loss": [8.0, 8.0],
        "auc": [0.6, 0.7],
    }
    expected = {"loss": [3.0, 2.0], "val_loss": [4.0, 3.0], "auc": [0.6, 0.7]}
    assert retrieval.training_curves(history) == expected


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_mines_anew_every_epoch(jit_compile):
    """A step that was compiled once searches the vectors that it is given later."""
    model = mining(24)
    model._mines.assign(False)
    model.compile(tf.keras.optimizers.SGD(0.05), jit_compile=jit_compile)
    data = tf.data.Dataset.from_tensors(mixed_inputs()).repeat(2)
    epochs = []
    for _ in range(3):
        epochs += model.fit(data, verbose=0).history[retrieval.MEAN_LOSS]
        before = float(model.compute_loss(mixed_inputs()))
        model.mine_from(model.item_tower(tf.constant(KNOWN)).numpy())
        assert float(model.compute_loss(mixed_inputs())) != before
    assert epochs[2] < epochs[1]
