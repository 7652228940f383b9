"""What a request or the shop does not want is not listed; the signatures' filters are in test_servable."""

import pytest

from schema import names as F
from tests.models.funnel import tiny_funnel
from tests.models.funnel.tiny_funnel import HISTORY, PLAIN, USERS, answer
from tests.shops import tiny_shop
from tests.shops.tiny_shop import recommend_inputs


@pytest.mark.parametrize(
    ("configured", "asked", "gone"),
    [
        (0.0, -1.0, set()),
        (0.0, 13.0, {"103", "101", "102", "104"}),
        (0.0, 12.5, {"101", "102", "104"}),  # within 12.5 days: not on the day itself
        (4.0, -1.0, {"101", "102"}),
        (4.0, 0.0, set()),
        (0.0, 1e9, {"100", "101", "102", "103", "104"}),
    ],
)
def test_bought_items_are_dropped_as_the_shop_or_the_request_says(configured, asked, gone):
    model = tiny_funnel.make(**PLAIN | {"drop_bought_days": configured})
    inputs = recommend_inputs(tiny_shop.request(USERS, HISTORY), 80, drop_bought_days=asked)
    shown = answer(model, inputs)[F.ITEM_ID]
    for row, history in enumerate(HISTORY):
        own = {item for item, _ in history}
        assert own - set(shown[row]) == own & gone


def test_what_was_only_looked_at_is_not_dropped():
    inputs = recommend_inputs(tiny_shop.request(USERS, HISTORY, event_type="view"), 80, drop_bought_days=1e9)
    shown = answer(tiny_funnel.make(**PLAIN), inputs)[F.ITEM_ID]
    assert {"100", "101", "102", "103"} <= set(shown[0])
    both = tiny_funnel.make(**PLAIN, purchase_types=("view",))
    assert not {"100", "101", "102", "103"} & set(answer(both, inputs)[F.ITEM_ID][0])
