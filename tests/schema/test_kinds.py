"""What types of event mean."""

import pytest

from schema import config
from schema.config import EventKinds

EVENTS = {"path": "e.csv", "columns": {"user_id": "u", "item_id": "i", "timestamp": "t", "event_type": "k"}}


def kinds(weights, default="purchase", purchase_types=None):
    return EventKinds.of(
        config.Config.model_validate(
            {
                "name": "small",
                "data": {"root": "data"},
                "items": {"path": "i.csv", "item_id": "i", "text": ["title"]},
                "events": EVENTS | {"event_weights": weights, "default_event_type": default},
                "serving": {"purchase_types": purchase_types},
            }
        )
    )


def test_weights_are_parts_of_the_largest():
    found = kinds({"purchase": 4.0, "cart": 2.0, "view": 0.5})
    assert found.weights == {"purchase": 1.0, "cart": 0.5, "view": 0.125}
    assert found.purchases == ("purchase",)
    assert found.others == ("cart", "view")
    assert not found.alike


@pytest.mark.parametrize("weight", [1.0, 0.25, 7.0])
def test_one_type_weighs_1(weight):
    """So that its weight changes no model."""
    found = kinds({"order": weight}, default="order")
    assert found == EventKinds(("order",), {"order": 1.0})
    assert found.alike
    assert not found.others


def test_two_types_of_purchases_may_weigh_differently():
    found = kinds({"purchase": 1.0, "rent": 0.5}, purchase_types=["purchase", "rent"])
    assert not found.others
    assert not found.alike
    assert kinds({"purchase": 1.0, "rent": 1.0}, purchase_types=["purchase", "rent"]).alike


def test_the_default_type_is_the_purchase_and_a_list_replaces_it():
    weights = {"order": 1.0, "view": 0.1}
    assert kinds(weights, default="order").purchases == ("order",)
    assert kinds(weights, default="view", purchase_types=["order"]).others == ("view",)


def test_a_shop_of_purchases_alone_has_no_source_for_views():
    """The candidates that its sources give, and so the limits that follow, are those of before."""
    sizes = config.Candidates().sizes
    most = sum(sizes.values()) - sizes["viewed"]
    tree = {
        "name": "small",
        "data": {"root": "data"},
        "items": {"path": "i.csv", "item_id": "i", "text": ["title"]},
        "events": EVENTS,
        "ranking": {"list_size": 8, "eval_list_size": 12},
        "serving": {"max_candidates": most},
    }
    config.Config.model_validate(tree)
    tree["events"] = EVENTS | {"event_weights": {"purchase": 1.0, "view": 0.1}}
    with pytest.raises(ValueError, match="serving.max_candidates"):
        config.Config.model_validate(tree)
