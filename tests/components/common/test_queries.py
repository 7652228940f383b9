"""Queries: what is right, how they are divided, mistyped and drawn; metrics against plain loops."""

import math

import numpy as np
import pytest

from components.common import queries as lib
from components.common.queries import Queries
from components.common.search_metrics import per_query
from models.search.catalogue import SearchCatalogue

WORDS = ["oat milk", "dog food", "Größe 42", "狗粮 大包装", "a", "tv", "waterproof hiking boots", "½ gal"]


def catalogue(titles, popularity=None, extra=None):
    count = len(titles)
    fields = {"title": np.asarray(titles, object)} | (extra or {})
    weights = np.ones(count, np.float32) if popularity is None else np.asarray(popularity, np.float32)
    ids = np.asarray([f"i{place:04d}" for place in range(count)], object)
    unknown = np.full(count, np.nan, np.float32)
    return SearchCatalogue(ids, fields, None, None, unknown, np.zeros(count, np.int64), weights)


def drawn(seed, queries=30, items=40):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 8, queries)
    query = np.repeat(np.arange(queries), size)
    position = np.concatenate([rng.choice(items, count, replace=False) for count in size])
    gain = rng.choice([0.0, 0.01, 0.1, 1.0], len(query)).astype(np.float32)
    order = rng.permutation(len(query))
    return Queries.of([f"q{n}" for n in range(queries)], query[order], position[order], gain[order])


def truth(queries):
    out = {}
    for query, position, gain in zip(queries.query, queries.position, queries.gain, strict=True):
        out.setdefault(int(query), {})[int(position)] = float(gain)
    return out


def test_gains_and_parts_equal_a_dictionary():
    queries = drawn(0)
    known = truth(queries)
    assert all(max(items.values()) > 0 for items in known.values())
    position = np.random.default_rng(1).integers(0, 45, (len(queries), 60)).astype(np.int32)
    gain, judged = queries.gains_of(position)
    for query in range(len(queries)):
        for place, item in enumerate(position[query].tolist()):
            assert judged[query, place] == (item in known[query])
            assert gain[query, place] == pytest.approx(known[query].get(item, 0.0))
    chosen = np.asarray([5, 2, 11])
    part = queries.where(chosen)
    assert part.text.tolist() == [queries.text[query] for query in chosen]
    assert truth(part) == {place: known[int(query)] for place, query in enumerate(chosen)}
    both = Queries.joined([part, queries])
    assert truth(both) == truth(part) | {query + 3: items for query, items in known.items()}


def naive_metrics(items, top, k=10, recall_at=50):
    def dcg(gains):
        return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains[:k]))

    ideal = dcg(sorted(items.values(), reverse=True))
    shown = [item for item in top if item >= 0]
    best = max(items.values())
    right = [item for item in shown if items.get(item, -1) == best]
    return {
        "ndcg@10": dcg([items.get(item, 0.0) if item >= 0 else 0.0 for item in top]) / ideal,
        "ndcg_judged@10": dcg([items[item] for item in shown if item in items]) / ideal,
        "recall@50": len([i for i in top[:recall_at] if i >= 0 and items.get(i, -1) == best])
        / sum(gain == best for gain in items.values()),
        "mrr": 1 / (list(top).index(right[0]) + 1) if right else 0.0,
        "zero_results": float(not shown),
    }


def test_metrics_equal_plain_loops():
    queries = drawn(3)
    rng = np.random.default_rng(4)
    top = np.stack([rng.permutation(60)[:55] for _ in range(len(queries))])
    top = np.where(rng.random(top.shape) < 0.3, -1, top)
    top[7] = -1
    found, known = per_query(queries, top), truth(queries)
    for query in range(len(queries)):
        expected = naive_metrics(known[query], top[query].tolist())
        assert {name: value[query] for name, value in found.items()} == pytest.approx(expected)


def distance(one, other):
    """Of Damerau and Levenshtein, adjacent swaps counted as one."""
    table = [[max(i, j) if not i * j else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            cost = one[i - 1] != other[j - 1]
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + cost)
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


def test_a_typing_error_is_one_error_in_one_long_word():
    texts = np.asarray([*WORDS, "mississippi", "bookkeeper", "aaaa"], object)
    for seed in range(20):
        wrong = lib.with_typo(texts, seed)
        assert wrong.tolist() == lib.with_typo(texts, seed).tolist()
        for before, after in zip(texts, wrong, strict=True):
            words, others = before.split(), after.split()
            changed = [place for place in range(len(words)) if words[place] != others[place]]
            if before == "a":
                assert after == before
                continue
            assert (len(changed), len(words)) == (1, len(others)), (before, after)
            word = words[changed[0]]
            assert distance(word, others[changed[0]]) == 1
            assert others[changed[0]][0] == word[0]
            if any(len(each) >= 4 and each.isalpha() for each in words):
                assert len(word) >= 4


def test_division_is_by_words_alone_and_keeps_the_shares():
    texts = np.asarray([f"word {number}" for number in range(4000)], object)
    split = lib.divided(texts, 0.2, 0.3)
    share = {name: (split == name).mean() for name in lib.SETS}
    assert share == pytest.approx({"train": 0.5, "eval": 0.2, "test": 0.3}, abs=0.03)
    other = lib.divided(np.asarray([f"  WORD   {number} " for number in range(4000)], object)[::-1], 0.2, 0.3)
    assert other[::-1].tolist() == split.tolist()


def test_known_items_are_asked_in_their_own_words():
    titles = ["Oat milk 1l", "Oat milk 1l", "Dog food with lamb and rice", "", "Boots", "牛奶 巧克力"]
    found = lib.known_items(catalogue(titles, popularity=[5, 0, 1, 9, 0, 2]), 50, 3)
    assert len(found) == 4 == len(set(found.text))
    for query, text in enumerate(found.text):
        right = found.position[found.query == query]
        assert len({titles[item] for item in right}) == 1
        words = titles[right[0]].casefold().split()
        assert not any(word.isdigit() for word in text.split())
        assert text
        assert set(text.split()) <= set(words)
        assert len(text.split()) <= 3
    assert sorted(found.position[found.query == found.query[found.position == 0]]) == [0, 1]
    assert len(lib.known_items(catalogue(titles), 0, 3)) == 0


def test_known_items_are_asked_by_the_beginning_of_a_text():
    name = " ".join(f"name{place}x" for place in range(lib._READ))
    extra = {"description": np.asarray(["far down one", "far down two"], object)}
    found = lib.known_items(catalogue([name, name], extra=extra), 9, 0)
    assert set(found.text[0].split()) <= set(name.split())
    assert found.position.tolist() == [0, 1]
