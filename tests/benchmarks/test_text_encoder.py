"""Cold items against plain loops, and what the towers that are compared may see, on the tiny shop."""

import types

import numpy as np
import pytest
from rich.console import Console

from benchmarks import text_encoder
from tests.shops import tiny_shop

SHARE = 0.2


@pytest.fixture(scope="module")
def protocol():
    return text_encoder.Protocol.of(tiny_shop.log(), tiny_shop.items(), tiny_shop.WINDOWS, 8, SHARE, 3)


def had(protocol):
    """Items that the protocol's past holds."""
    return set(tiny_shop.log().items[protocol.past.item])


def test_held_out_items_leave_the_past(protocol):
    events = tiny_shop.events()
    past = events[
        (events["timestamp"] < tiny_shop.CUTOFF) & events["item_id"].isin(tiny_shop.items().item_id)
    ]
    count = past["item_id"].value_counts()
    often = set(count[count >= 8].index)
    held = set(protocol.held_out)
    assert len(held) == round(SHARE * len(often))
    assert held < often
    assert had(protocol) & often == often - held
    assert len(protocol.past) == (events["timestamp"] < tiny_shop.CUTOFF).sum() - count[list(held)].sum()


@pytest.mark.parametrize("kind", [text_encoder.NEW, text_encoder.HELD_OUT])
def test_cold_items_equal_plain_loops(protocol, kind, monkeypatch):
    monkeypatch.setattr(text_encoder, "KS", (1, 3))
    items, log = tiny_shop.items(), tiny_shop.log()
    rng = np.random.default_rng(2)
    queries, vectors = rng.normal(size=(len(log.users), 4)), rng.normal(size=(len(items), 4))
    events = tiny_shop.purchases()  # what is looked for is a purchase, also of what was viewed before
    future = events[(events["timestamp"] >= tiny_shop.CUTOFF) & (events["timestamp"] < tiny_shop.END)]
    known = set(log.users[protocol.past.user])
    ranked = [row for row in range(1, len(items)) if items.item_id[row] not in had(protocol)]
    if kind == text_encoder.NEW:
        ranked = [row for row in ranked if items.item_id[row] not in set(protocol.held_out)]
    counted = set(items.item_id[ranked]) if kind == text_encoder.NEW else set(protocol.held_out)
    recalls, shares, pairs = {1: [], 3: []}, [], 0
    for place, user in enumerate(log.users):
        taken = set(future[future["user_id"] == user]["item_id"]) & counted
        if user not in known or not taken:
            continue
        pairs += len(taken)
        order = sorted(ranked, key=lambda row: -float(vectors[row] @ queries[place]))
        order = [items.item_id[row] for row in order]
        for k, values in recalls.items():
            values.append(len(taken & set(order[:k])) / len(taken))
        shares.append(np.mean([1 - order.index(item) / (len(order) - 1) for item in taken]))
    found = text_encoder.rank(protocol.cold[kind], lambda users: queries[users], vectors)
    assert (found["users"], found["pairs"], found["items"]) == (len(shares), pairs, len(ranked))
    assert len(shares) > 5
    assert found["auc"] == pytest.approx(np.mean(shares))
    for k, values in recalls.items():
        assert found[f"recall@{k}"] == pytest.approx(np.mean(values))
        assert found[f"recall@{k}_se"] == pytest.approx(np.std(values) / len(values) ** 0.5)
        assert found[f"chance@{k}"] == k / len(ranked)


def test_items_that_cannot_be_told_apart_are_found_by_chance():
    user = np.repeat(np.arange(600), 2)
    cold = text_encoder.ColdItems(np.arange(1, 301), user, np.tile([4, 9], 600))  # everybody takes the same
    found = text_encoder.rank(cold, lambda users: np.ones((len(users), 2)), np.ones((301, 2)))
    for name, expected in (("recall@100", 1 / 3), ("auc", 0.5)):
        assert found[name] == pytest.approx(expected, abs=4 * found[f"{name}_se"])
        assert found[f"{name}_se"] < 0.02


def test_text_alone_is_the_cosine_of_what_a_household_had(protocol, monkeypatch):
    given = []
    monkeypatch.setattr(
        text_encoder,
        "rank",
        lambda cold, query, vectors: given.append((query, vectors)) or {"n": len(cold.user)},
    )
    items, log = tiny_shop.items(), tiny_shop.log()
    texts, index = np.unique(items.text.astype(str), return_inverse=True)
    vectors = np.random.default_rng(2).normal(size=(len(texts), 4))
    row_of = np.maximum(log.item_rows(items.item_id), 0)
    assert set(text_encoder.rank_by_text(protocol, row_of, vectors, index)) == set(protocol.cold)
    query, ranked = given[0]
    np.testing.assert_array_equal(ranked, vectors[index])
    for user in np.unique(protocol.past.user)[::5]:
        ids = set(log.items[protocol.past.item[protocol.past.user == user]]) & set(items.item_id)
        had = {text for item, text in zip(items.item_id, index, strict=True) if item in ids}
        mean = vectors[sorted(had)].mean(0)
        np.testing.assert_allclose(query(np.asarray([user]))[0], mean / np.linalg.norm(mean), rtol=1e-5)


@pytest.mark.slow  # trains two towers twice
def test_towers_see_what_they_are_given_and_nothing_of_held_out_items(protocol, monkeypatch):
    given = []
    monkeypatch.setattr(
        text_encoder, "rank", lambda cold, query, vectors: given.append((query(cold.user), vectors)) or {}
    )
    items = tiny_shop.items()
    run = types.SimpleNamespace(
        factory=types.SimpleNamespace(items=items, vocabularies=tiny_shop.vocabularies()),
        config=tiny_shop.CONFIG,
        windows=tiny_shop.WINDOWS,
        transformed_folders=[tiny_shop.transformed_folders()[split] for split in tiny_shop.WINDOWS.past],
        item_vocabulary=tiny_shop.item_vocabulary(),
    )
    text = np.eye(len(items), dtype=np.float32), np.arange(len(items), dtype=np.int32)
    cold = np.flatnonzero(~np.isin(items.item_id, list(had(protocol))))[1:]
    known = np.flatnonzero(np.isin(items.item_id, list(had(protocol) & set(run.item_vocabulary))))
    for categories, texts in ((False, None), (True, text)):
        given.clear()
        found = text_encoder.train_towers(run, protocol, categories, texts)
        assert set(found["cold"]) == {text_encoder.NEW, text_encoder.HELD_OUT}
        query, vectors = given[0]
        assert np.isfinite(query).all()
        apart = len(np.unique(vectors[cold].round(4), axis=0))
        assert apart == (len(cold) if categories else 1)
        assert len(np.unique(vectors[known].round(4), axis=0)) > len(known) / 2


def test_the_table_names_what_was_measured(protocol):
    rng = np.random.default_rng(2)
    queries, vectors = rng.normal(size=(40, 4)), rng.normal(size=(61, 4))
    cold = {
        kind: text_encoder.rank(given, lambda users: queries[users], vectors)
        for kind, given in protocol.cold.items()
    }
    row = {"tower_seconds": 61.0, "cold": cold}
    held = {"seconds": 90.0, "encoding_seconds": 20.0, "step": 30.0, "holdout_mrr": 0.25}
    systems = {text_encoder.IDENTITIES: row, f"{text_encoder.TEXT} lora": {"cold": cold} | held}
    console = Console(width=220, record=True)
    text_encoder.show({"dtype": "bfloat16", "held_out": 3, "systems": systems}, console)
    page = console.export_text()
    for part in (
        "text encoder in bfloat16",
        "text alone: lora",
        "0.250",
        f"{cold['new']['pairs']} purchases",
    ):
        assert part in page
    for found in cold.values():
        assert f"{found['recall@100']:.4f} ±{found['recall@100_se']:.4f}" in page
        assert f"{found['auc']:.4f} ±{found['auc_se']:.4f}" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modes", "frozen,quick"], "--modes: 'quick' is not one of frozen, lora, full"),
        (["--held-out", "1.5"], "--held-out: 1.5 is not a share from 0 to below 1"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys):
    assert text_encoder.main(arguments) == 1
    assert capsys.readouterr().err == f"error: {message}\n"
