"""The closed-form vectors against EASE as its paper writes it, and the query in the graph."""

import numpy as np
import pytest
import scipy.sparse as sp
import tensorflow as tf

from models.data.event_types import EventTypes
from models.retrieval import collaborative, low_rank_ease
from schema import names as F
from schema.config import Collaborative, EventKinds

COUNT, USERS = 14, 9
PLAIN = {"regularization": 3.0, "half_life_days": 40.0, "trend_power": 0.0, "rank": COUNT}


@pytest.fixture(scope="module")
def events():
    rng = np.random.default_rng(4)
    user = np.sort(rng.integers(0, USERS, 260)).astype(np.int32)
    age = np.concatenate([np.sort(rng.uniform(0, 200, n))[::-1] for n in np.bincount(user)])
    item = (rng.integers(0, 4, 260) + 3 * user) % COUNT
    weight = rng.choice(np.asarray([0.2, 1], np.float32), 260)  # views and purchases
    return collaborative.Events(user, item.astype(np.int32), age.astype(np.float32), weight)


def naive_history(events, config, users=USERS):
    out = np.zeros((users, COUNT))
    for user in range(users):
        mine = np.flatnonzero(events.user == user)
        for place, event in enumerate(mine[::-1]):
            weight = 2.0 ** (-float(events.age_days[event]) / config.half_life_days)
            if config.half_life_events:
                weight *= 2.0 ** (-place / config.half_life_events)
            out[user, events.item[event]] += (weight + config.least_weight) * events.weight[event]
    return out**config.power


def naive_ease(gram, regularization):
    precision = np.linalg.inv(gram + regularization * np.eye(COUNT))
    weight = precision / -np.diag(precision)[None]
    np.fill_diagonal(weight, 0)
    return weight


@pytest.mark.parametrize("settings", [{}, {"half_life_events": 6.0, "least_weight": 0.1, "power": 1.0}])
def test_histories(events, settings):
    config = Collaborative(**PLAIN | settings)
    got = collaborative.histories(events, USERS, COUNT, config)
    np.testing.assert_allclose(got.toarray(), naive_history(events, config), rtol=1e-5)


@pytest.mark.parametrize("more_users", [False, True])
def test_of_full_rank_it_is_ease(events, more_users):
    """Both ways to invert: users x users where they are few, items x items where they are many."""
    if more_users:
        events = collaborative.Events(
            np.repeat(np.arange(52), 5).astype(np.int32), events.item, events.age_days, events.weight
        )
    users = 52 if more_users else USERS
    config = Collaborative(**PLAIN)
    inputs, outputs = collaborative.fit(events, COUNT, config)
    history = naive_history(events, config, users)
    expected = history @ naive_ease(history.T @ history, config.regularization)
    assert inputs.shape == outputs.shape == (COUNT, min(COUNT, users))
    np.testing.assert_allclose(history @ inputs @ outputs.T, expected, atol=2e-4)


def test_a_lower_rank_is_the_nearest_one(events):
    config = Collaborative(**PLAIN | {"rank": 3})
    inputs, outputs = collaborative.fit(events, COUNT, config)
    history = naive_history(events, config)
    full = history @ naive_ease(history.T @ history, config.regularization)
    left, size, right = np.linalg.svd(full)
    np.testing.assert_allclose(
        history @ inputs @ outputs.T, left[:, :3] * size[:3] @ right[:3], atol=2e-3 * size[0]
    )


def test_the_trend_scales_items_by_their_recent_share(events):
    flat, trending = (
        Collaborative(**PLAIN | {"trend_power": power, "trend_days": 20.0}) for power in (0.0, 0.5)
    )
    history = naive_history(events, flat)
    plain, scaled = (
        history @ inputs @ outputs.T
        for inputs, outputs in (collaborative.fit(events, COUNT, config) for config in (flat, trending))
    )
    late = events.age_days <= 20
    recent = np.bincount(events.item[late], events.weight[late], minlength=COUNT)
    weight = np.bincount(events.item, 2.0 ** (-events.age_days / 40) * events.weight, minlength=COUNT)
    expected = ((recent + 1) / (weight + weight.sum() / recent.sum())) ** 0.5
    assert expected.max() > 1.1 * expected.min()
    np.testing.assert_allclose(scaled, plain * expected, atol=1e-3)


def test_a_window_counts_pairs_near_in_the_sequence(events):
    config = Collaborative(**PLAIN | {"window_events": 1.5})
    inputs, outputs = collaborative.fit(events, COUNT, config)
    gram = np.zeros((COUNT, COUNT))
    for user in range(USERS):
        mine = events.item[events.user == user]
        weight = events.weight[events.user == user]
        for i, first in enumerate(mine):
            for j, second in enumerate(mine):
                if abs(i - j) <= 12:
                    gram[first, second] += 2.0 ** (-abs(i - j) / 1.5) * weight[i] * weight[j]
    expected = naive_history(events, config) @ naive_ease(gram, config.regularization)
    np.testing.assert_allclose(naive_history(events, config) @ inputs @ outputs.T, expected, atol=1e-3)


@pytest.mark.parametrize("settings", [{}, {"half_life_events": 6.0, "least_weight": 0.1, "power": 0.7}])
def test_the_graph_weighs_a_history_as_the_fit_does(events, settings):
    config = Collaborative(**PLAIN | settings | {"rank": 5})
    inputs, _ = collaborative.fit(events, COUNT, config)
    # row 0 is padding, row 1 an item that is no candidate
    types = EventTypes.of(EventKinds(("buy",), {"buy": 1.0, "look": 0.2}), ["look", "buy"])
    positions = np.append([COUNT, COUNT], np.arange(COUNT))
    query = collaborative.CollaborativeQuery(inputs, positions, config, types)
    longest = int(np.bincount(events.user).max())
    row = np.zeros((USERS + 1, longest + 3), np.int32)
    age, kind = np.zeros(row.shape, np.float32), np.zeros(row.shape, np.int32)
    for user in range(USERS):
        mine = events.user == user
        row[user, : mine.sum()] = events.item[mine] + 2
        age[user, : mine.sum()] = events.age_days[mine]
        kind[user, : mine.sum()] = 1 + (events.weight[mine] == 1)
    row[0, -1] = 1
    request = {"history_row": row, F.HISTORY_AGE_DAYS: age, F.HISTORY_EVENT_TYPE: kind}
    got = query({name: tf.constant(value) for name, value in request.items()}).numpy()
    np.testing.assert_allclose(got[:USERS], naive_history(events, config) @ inputs, atol=1e-4)
    assert not got[USERS].any()


def test_rank_0_is_none(events):
    inputs, outputs = collaborative.fit(events, COUNT, Collaborative(rank=0))
    assert inputs.shape == outputs.shape == (COUNT, 0)


# --- without dense matrices -------------------------------------------------------------------


@pytest.mark.parametrize("more_users", [False, True])
@pytest.mark.parametrize("settings", [{}, {"window_events": 1.5}, {"trend_power": 0.5, "rank": 4}])
def test_with_the_whole_spectrum_the_low_rank_form_is_the_exact_one(events, more_users, settings):
    if more_users:
        users = np.repeat(np.arange(52), 5).astype(np.int32)
        events = collaborative.Events(users, events.item, events.age_days, events.weight)
    history = naive_history(events, Collaborative(**PLAIN), 52 if more_users else USERS)
    exact, low = (
        collaborative.fit(events, COUNT, Collaborative(**PLAIN | settings | {"exact_cells": cells}))
        for cells in (10**6, 0)
    )
    np.testing.assert_allclose(history @ low[0] @ low[1].T, history @ exact[0] @ exact[1].T, atol=1e-3)


def test_a_part_of_the_spectrum_keeps_the_diagonal():
    """What the eigenvectors leave of the items' own weight counts: else rare items would lose theirs."""
    rng = np.random.default_rng(1)
    history = sp.random(60, 30, 0.2, format="csr", random_state=2, data_rvs=lambda n: rng.uniform(1, 2, n))
    ease = low_rank_ease.LowRankEase.of_histories(history, 2.0, 8)
    _, size, right = np.linalg.svd(history.toarray(), full_matrices=False)
    kept = right[:8].T * size[:8] ** 2 @ right[:8]
    gram = (history.T @ history).toarray()
    near = kept + np.diag(np.diag(gram - kept))
    precision = np.linalg.inv(near + 2 * np.eye(30))
    weight = -precision / np.diag(precision)
    np.fill_diagonal(weight, 0)
    np.testing.assert_allclose(ease.project(np.eye(30)), weight, atol=5e-3)
    np.testing.assert_allclose(ease.transposed(np.eye(30)), weight.T, atol=5e-3)


def test_the_exact_form_ends_where_its_matrices_are_too_large():
    plain = Collaborative()
    assert collaborative.cells(2_469, 18_959, plain) == 2_469 * 18_959
    assert collaborative.cells(20_000, 10_000, plain) == 20_000 * 10_000
    assert collaborative.cells(100, 10_000, Collaborative(window_events=2.0)) == 10_000**2
