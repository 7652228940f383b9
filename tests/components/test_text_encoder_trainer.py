"""TextEncoderTrainer with a small BERT: what it reads, learns, exports and says."""

import dataclasses
import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.common import artifacts
from components.common.searches import Searches
from components.text_encoder_trainer import executor
from components.text_encoder_trainer.behaviour import Behaviour
from models.data import arrays, example_io
from models.text import encoder as text_encoder
from models.text.encoder import TextEncoder
from schema.errors import DataError
from tests.shops import records, tiny_shop

LENGTH = 8
TUNED = {
    "mode": "lora",
    "trained_layers": 1,
    "lora_rank": 2,
    "steps": 6,
    "pairs": 4,
    "households": 2,
    "contexts": 2,
    "targets": 2,
    "negatives": 4,
    "min_support": 2,
    "min_lift": 1.0,
    "holdout_texts": 6,
    "validate_every": 3,
    "masked_lm_steps": 2,
    "masked_lm_texts": 8,
    "new_span_days": 200,
}
NO_SEARCHES = Searches(np.zeros(0, object), np.zeros(0, object), np.zeros(0, np.int64))


def tune(tmp_path, log, searches=NO_SEARCHES, until=tiny_shop.LABEL_START, **changes):
    config = tiny_shop.CONFIG.text_encoder.model_copy(
        update=TUNED | {"preset": tiny_shop.bert_preset(2)} | changes
    )
    found = executor.run(
        tiny_shop.items(),
        log,
        searches,
        until,
        config,
        tf.distribute.get_strategy(),
        str(tmp_path / "model"),
        str(tmp_path / "run"),
    )
    return found, arrays.load(os.path.join(tmp_path, "model", artifacts.TEXT_VECTORS))


@pytest.mark.slow  # three encoders, two training loops and an export are traced
def test_the_component_learns_exports_and_says_so(tmp_path):
    keras.utils.set_random_seed(1)
    early = tiny_shop.LABEL_START - 5
    searches = searches_of(*[(f"some {number}", str(100 + number), early) for number in range(30)])
    found, table = tune(tmp_path, tiny_shop.past_log(), searches)
    assert "lora, held-out MRR" in found
    epochs = json.loads((tmp_path / "run" / artifacts.TRAINING_CURVES).read_text())["epochs"]
    assert [entry["epoch"] for entry in epochs] == [0, 3, 6]
    assert all(0 < entry["holdout_mrr"] <= 1 for entry in epochs)
    assert np.isfinite([entry["loss"] for entry in epochs[1:]]).all()
    items = tiny_shop.items()
    loaded = tf.saved_model.load(artifacts.model_folder(str(tmp_path / "model")))
    texts = tf.constant(items.text.tolist())
    np.testing.assert_allclose(table["vectors"][table["index"]], loaded.encode(texts), atol=1e-4)
    variables = tf.train.list_variables(
        os.path.join(artifacts.model_folder(str(tmp_path / "model")), "variables", "variables")
    )
    assert not any("lora" in name for name, _ in variables)
    if max(entry["holdout_mrr"] for entry in epochs[1:]) > epochs[0]["holdout_mrr"]:
        frozen = TextEncoder(tiny_shop.bert_preset(2), LENGTH)(texts).numpy()
        assert np.abs(frozen - table["vectors"][table["index"]]).max() > 1e-3


@pytest.mark.slow  # two small training loops
def test_the_same_seed_gives_the_same_vectors_whatever_ran_before(tmp_path):
    """Nor does the order matter in which the searches lie in the files."""
    early = tiny_shop.LABEL_START - 5
    rows = [(f"some {number % 9}", str(100 + number), early - number) for number in range(30)]
    short = {"masked_lm_steps": 0, "steps": 3, "dropout": 0.5}
    vectors = []
    for before, searches in ((1, rows), (2, rows[::-1])):
        keras.utils.set_random_seed(before)
        folder = tmp_path / str(before)
        _, table = tune(folder, tiny_shop.past_log(), searches_of(*searches), **short)
        epochs = json.loads((folder / "run" / artifacts.TRAINING_CURVES).read_text())["epochs"]
        vectors.append((table["vectors"], epochs[-1]["loss"]))
    np.testing.assert_array_equal(vectors[0][0], vectors[1][0])
    assert vectors[0][1] == vectors[1][1]


def behaviour(log, searches):
    items = tiny_shop.items()
    text_of_item = np.unique(items.text.astype(str), return_inverse=True)[1]
    return Behaviour.of(log, searches, items, text_of_item, tiny_shop.LABEL_START)


def searches_of(*rows):
    query, item, timestamp = zip(*rows, strict=True)
    return Searches(np.asarray(query, object), np.asarray(item, object), np.asarray(timestamp))


def test_later_events_are_not_learned_from():
    """The label window and everything after it may change at will."""
    log, items = tiny_shop.log(), tiny_shop.items()
    late = log.timestamp >= tiny_shop.LABEL_START
    changed = np.where(late, np.random.default_rng(1).permutation(log.item), log.item)
    assert (changed != log.item).sum() > 50
    other = dataclasses.replace(log, item=changed.astype(np.int32))
    one, two = (behaviour(it, NO_SEARCHES) for it in (log, other))
    assert len(one.item) == (~late & (log.items[log.item] != tiny_shop.STRANGER)).sum()
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))
    np.testing.assert_array_equal(items.text[one.item], np.unique(items.text.astype(str))[one.text])


def test_searches_of_the_past_lead_to_the_texts_of_known_products():
    early, late = tiny_shop.LABEL_START - 5, tiny_shop.LABEL_START
    rows = [("milk", "103", early), ("milk", "103", late), ("what", tiny_shop.STRANGER, early)]
    found = behaviour(tiny_shop.log(), searches_of(*rows, ("bread now", "101", early)))
    assert found.queries.tolist() == ["milk", "bread now"]
    items = tiny_shop.items()
    texts = dict(zip(items.item_id, items.text, strict=True))
    assert np.unique(items.text.astype(str))[found.found].tolist() == [texts["103"], texts["101"]]


def test_searches_are_read_beside_the_targets(tmp_path):
    rows = {
        "timestamp": [[50], [60], [70]],
        "target_item_id": [["7", "8"], ["9"], ["7"]],
        "target_query": [["", " rye bread "], ["milk"], [""]],
    }
    folder = str(tmp_path / "Split-train")
    example_io.write_records(folder, [tiny_shop.record_batch(rows)])
    found = Searches.read([folder])
    assert found.query.tolist() == ["rye bread", "milk"]
    assert found.item_id.tolist() == ["8", "9"]
    assert found.timestamp.tolist() == [50, 60]
    kept = found.without(np.asarray(["9", "4"], object))
    assert (kept.query.tolist(), kept.timestamp.tolist()) == (["rye bread"], [50])
    without = str(tmp_path / "Split-eval")
    del rows["target_query"]
    example_io.write_records(without, [tiny_shop.record_batch(rows)])
    assert len(Searches.read([without]).query) == 0


def test_searches_have_one_order_whatever_that_of_the_records(tmp_path):
    """Pairs to learn from are drawn from them by a seed, and Beam has an order of its own in every run."""
    rng = np.random.default_rng(2)
    searches = [[str(word) for word in rng.choice(["milk", "rye", ""], 3)] for _ in range(20)]
    rows = {
        "timestamp": [[int(when)] for when in rng.integers(1, 4, len(searches))],
        "target_item_id": [[str(item) for item in rng.integers(1, 9, 3)] for _ in searches],
        "target_query": searches,
    }
    folder = str(tmp_path / "one")
    example_io.write_records(folder, [tiny_shop.record_batch(rows)])
    one = Searches.read([folder])
    other = Searches.read([records.shuffled(folder, tmp_path / "other", 3)])
    assert len(one.query) > 20
    for name in ("query", "item_id", "timestamp"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()


def test_no_pairs_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="only 0 pairs of texts.*lower text_encoder.min_support"):
        tune(tmp_path, tiny_shop.past_log(), min_support=10_000)


@pytest.mark.slow  # exports an encoder
def test_the_type_is_that_of_the_machine_when_the_configuration_leaves_it_open(tmp_path, monkeypatch):
    monkeypatch.setattr(text_encoder, "has_bfloat16", lambda: True)
    found, _ = tune(tmp_path, None, None, dtype="auto", mode="frozen")
    assert "(bfloat16); frozen" in found
