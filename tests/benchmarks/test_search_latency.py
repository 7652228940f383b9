"""What the benchmark of searches asks: words of the catalogue, some of them misspelt."""

import numpy as np

from benchmarks import search_latency


def distance(one, other):
    """Edits, a swap of neighbours being one (optimal string alignment)."""
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    table[:, 0], table[0] = range(len(one) + 1), range(len(other) + 1)
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return table[-1, -1]


def test_a_typo_is_one_edit():
    rng = np.random.default_rng(0)
    words = search_latency.vocabulary(200, rng)
    assert len(set(words)) == 200
    edits = [distance(word, search_latency.with_typo(word, rng)) for word in words]
    assert set(edits) <= {0, 1}  # a letter may be replaced by itself
    assert np.mean(edits) > 0.8


def test_queries_are_words_of_titles_in_order():
    rng = np.random.default_rng(1)
    titles = [" ".join(f"word{number}{place}" for place in range(5)) for number in range(50)]
    asked = search_latency.queries(titles, 300, rng)
    whole = [query for query in asked if any(f" {query} " in f" {title} " for title in titles)]
    assert len(asked) == 300
    assert 0.5 < len(whole) / 300 < 0.9  # the others have a typo
    assert {len(query.split()) for query in whole} == {1, 2, 3, 4}
