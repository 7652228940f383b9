"""New items get their share of the places, drawn by user and day."""

import numpy as np
import pytest

from schema import names as F
from tests.models.funnel import tiny_funnel
from tests.models.funnel.tiny_funnel import HISTORY, PLAIN, USERS, answer
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, DAY, ITEMS, recommend_inputs


def new_items():
    frame = tiny_shop.events()
    past = frame[frame["timestamp"] < CUTOFF].groupby("item_id")["timestamp"].agg(["size", "min"])
    old = set(past.index[(past["size"] >= CONFIG.candidates.min_events) | (past["min"] < CUTOFF - 28 * DAY)])
    return set(ITEMS) - old


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_share_of_the_places_explores_new_items(share):
    model, plain = tiny_funnel.make(**PLAIN, exploration_share=share), tiny_funnel.make(**PLAIN)
    inputs = recommend_inputs(tiny_shop.request(USERS, HISTORY), 20)
    shown, without = answer(model, inputs), answer(plain, inputs)
    fresh = new_items()
    assert len(fresh) >= 2
    for row in range(3):
        ids, source = shown[F.ITEM_ID][row].tolist(), shown[F.SOURCE][row]
        new = [place for place in range(20) if source[place] == F.EXPLORATION]
        assert [place + 1 for place in new] == [round(n / share) for n in range(1, int(20 * share) + 1)][
            : len(fresh)
        ]
        assert {ids[place] for place in new} <= fresh
        assert len(set(ids) - {""}) == sum(map(bool, ids))
        assert (shown[F.SCORE][row, new] == 0).all()
        rest = [item for place, item in enumerate(ids) if place not in new]
        assert rest == without[F.ITEM_ID][row].tolist()[: len(rest)]


def test_exploration_is_the_same_for_the_same_request_and_obeys_its_filters():
    model = tiny_funnel.make(**PLAIN, exploration_share=0.5)
    fresh = sorted(new_items())
    base = tiny_shop.request(USERS, HISTORY)
    first = answer(model, recommend_inputs(base, 20))
    np.testing.assert_array_equal(first[F.ITEM_ID], answer(model, recommend_inputs(base, 20))[F.ITEM_ID])
    excluded = answer(model, recommend_inputs(base, 20, exclude=[[fresh[0]], [""], [fresh[1]]]))
    assert fresh[0] not in excluded[F.ITEM_ID][0]
    assert fresh[1] not in excluded[F.ITEM_ID][2]
    items = tiny_shop.items()
    departments = dict(
        zip(items.item_id, items.vocabularies["department"][items.categorical["department"]], strict=True)
    )
    dairy = answer(model, recommend_inputs(base, 20, category=[["dairy"]] * 3))
    for row in range(3):
        assert {departments[item] for item in dairy[F.ITEM_ID][row] if item} == {"dairy"}
    had = tiny_shop.request(USERS, [[(item, 3.0) for item in fresh]] * 3)
    assert F.EXPLORATION not in answer(model, recommend_inputs(had, 20))[F.SOURCE]


def test_other_users_and_days_explore_others():
    """With one place and two new items, each is drawn for some."""
    model = tiny_funnel.make(**PLAIN, exploration_share=0.5)
    users = [f"user {number}" for number in range(30)]
    base = tiny_shop.request(users, [[]] * 30)
    drawn = answer(model, recommend_inputs(base, 2))[F.ITEM_ID][:, 1]
    assert len(set(drawn)) > 1
    base[F.CONTEXT_TIMESTAMP] += DAY
    assert (answer(model, recommend_inputs(base, 2))[F.ITEM_ID][:, 1] != drawn).any()
