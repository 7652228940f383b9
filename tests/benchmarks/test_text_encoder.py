"""Cold items by text vectors against plain loops, on the tiny shop."""

import numpy as np
import pytest
from rich.console import Console

from benchmarks import text_encoder
from tests.models import tiny_shop


@pytest.fixture(scope="module")
def given():
    items = tiny_shop.items()
    texts, index = np.unique(items.text.astype(str), return_inverse=True)
    vectors = np.random.default_rng(2).normal(size=(len(texts), 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return tiny_shop.log(), items, tiny_shop.WINDOWS, vectors, index


def test_cold_items_equal_plain_loops(given, monkeypatch):
    monkeypatch.setattr(text_encoder, "KS", (1, 2))
    log, items, windows, vectors, index = given
    events = tiny_shop.events()
    row = {item: number for number, item in enumerate(items.item_id)}
    past = events[(events["timestamp"] < tiny_shop.CUTOFF) & events["item_id"].isin(row)]
    future = events[(events["timestamp"] >= tiny_shop.CUTOFF) & (events["timestamp"] < tiny_shop.END)]
    cold = [number for item, number in row.items() if item and item not in set(past["item_id"])]
    recalls, shares = {1: [], 2: []}, []
    for user in sorted(set(past["user_id"])):
        taken = {row[item] for item in future[future["user_id"] == user]["item_id"] if row.get(item) in cold}
        if not taken:
            continue
        had = {index[row[item]] for item in past[past["user_id"] == user]["item_id"]}
        query = vectors[sorted(had)].mean(0)
        order = sorted(cold, key=lambda number: -float(vectors[index[number]] @ query))
        for k, values in recalls.items():
            values.append(len(taken & set(order[:k])) / len(taken))
        below = [sum(order.index(other) > order.index(item) for other in cold) for item in taken]
        shares.append(np.mean(below) / (len(cold) - 1))
    found = text_encoder.cold_start(log, items, windows, vectors, index)
    assert (found["households"], found["items"]) == (len(shares), len(cold))
    assert len(shares) > 5
    assert len(cold) > 1
    assert found["auc"] == pytest.approx(np.mean(shares))
    for k, values in recalls.items():
        assert found[f"recall@{k}"] == pytest.approx(np.mean(values))
        assert found[f"chance@{k}"] == k / len(cold)


def test_the_table_names_what_was_measured(given):
    row = text_encoder.cold_start(*given) | {"seconds": 61.0, "encoding_seconds": 20.0}
    held = {"step": 30.0, "holdout_mrr": 0.25, "holdout_recall@10": 0.5}
    found = {
        "speed": {"float32": 100.0, "bfloat16": 250.0},
        "dtype": "bfloat16",
        "modes": {"frozen": row, "lora": row | held},
    }
    console = Console(width=170, record=True)
    text_encoder.show(found, console)
    page = console.export_text()
    assert "bfloat16; encoding float32 100 texts/s, bfloat16 250 texts/s" in page
    assert "0.250" in page
    assert f"{row['auc']:.4f} ±{row['auc_se']:.4f}" in page


def test_an_unknown_mode_is_one_line(capsys):
    assert text_encoder.main(["--modes", "frozen,quick"]) == 1
    assert capsys.readouterr().err == "error: --modes: 'quick' is not one of frozen, lora, full\n"
