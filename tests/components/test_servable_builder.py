"""What lies beside the servable: request histories and warm-up requests."""

import os

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.common import artifacts
from components.infra_validator import executor as infra
from schema import names as F
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, DAY, NEWCOMER


def test_histories_are_every_users_state_at_the_cutoff():
    table = pq.read_table(os.path.join(tiny_shop.built().histories, "histories.parquet")).to_pandas()
    frame = tiny_shop.events()
    past = frame[frame["timestamp"] < CUTOFF]
    assert table["user_id"].tolist() == sorted(past["user_id"].unique())
    assert NEWCOMER not in table["user_id"].tolist()
    for row in table.itertuples():
        mine = past[past["user_id"] == row.user_id].tail(CONFIG.candidates.history_length)
        assert list(row.history_item_id) == mine["item_id"].tolist()
        assert list(row.history_event_type) == mine["event_type"].tolist()
        np.testing.assert_allclose(row.history_age_days, (CUTOFF - mine["timestamp"]) / DAY, rtol=1e-5)
        assert row.context_store_id == mine["store_id"].iloc[-1]


def test_warmup_requests_ask_every_signature_and_are_answered():
    folder = artifacts.model_folder(tiny_shop.built().servable)
    requests = infra.requests_of(folder)
    model = tiny_shop.load(folder)
    asked = [request.model_spec.signature_name for request in requests]
    assert {name: asked.count(name) for name in asked} == dict.fromkeys(model.signatures, 4)
    for request in requests:
        assert request.model_spec.name == "shelfwise"
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        assert set(inputs) == set(
            model.signatures[request.model_spec.signature_name].structured_input_signature[1]
        )
        answer = model.signatures[request.model_spec.signature_name](
            **{name: tf.constant(value) for name, value in inputs.items()}
        )
        for value in answer.values():
            assert tf.size(value) > 0
            if value.dtype.is_floating:
                assert np.isfinite(value).all()
    users = {tf.make_ndarray(r.inputs["user_id"])[0] for r in requests if "user_id" in r.inputs}
    assert len(users) == 4


def test_the_items_cards_lie_with_the_servable():
    path = os.path.join(artifacts.model_folder(tiny_shop.built().servable), F.CARDS_FILE)
    table = pq.read_table(path)
    assert sorted(table[F.ITEM_ID].to_pylist()) == sorted(tiny_shop.ITEMS)
    best = table.sort_by([(F.CARD_POPULARITY, "descending")])[F.ITEM_ID][0].as_py()
    frame = tiny_shop.events()
    assert best == frame[frame["timestamp"] < CUTOFF]["item_id"].value_counts().index[0]


def test_a_model_without_warmup_requests_cannot_be_validated(tmp_path):
    with pytest.raises(FileNotFoundError, match="no warm-up requests"):
        infra.requests_of(str(tmp_path))
