"""Weights carried over: by term, whatever the places; only between models of one architecture."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from models.retrieval.warm_start import Weights, difference, take_over
from schema.errors import DataError

OLD, NEW = ["", "apple", "bread", "cheese"], ["", "dates", "cheese", "apple", "eggs", "never reached"]


def weights(rows, terms, start):
    values = {"table": start + np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)}
    values["dense"] = np.full((3, 2), start, np.float32)
    variables = {name: tf.Variable(value) for name, value in values.items()}
    return variables, Weights.of(variables, {"table": terms}, 1_000)


def test_rows_land_by_term_and_new_terms_keep_their_values(tmp_path):
    _, old = weights(4, OLD, 100.0)
    old.save(str(tmp_path / "weights.npz"))
    variables, new = weights(5, NEW, 0.0)
    old = Weights.load(str(tmp_path / "weights.npz"))
    assert old.learned_until == 1_000
    assert difference(old, new) is None
    assert take_over(old, new, variables) == {"table": (2, 4)}
    before = {term: row.tolist() for term, row in zip(OLD, old.values["table"], strict=True)}
    untouched = dict(zip(NEW, new.values["table"].tolist(), strict=False))
    for term, row in zip(NEW, variables["table"].numpy().tolist(), strict=False):
        assert row == before.get(term, untouched[term]), term
    np.testing.assert_array_equal(variables["dense"], old.values["dense"])


def test_another_architecture_is_named():
    _, old = weights(4, OLD, 1.0)
    _, new = weights(5, NEW, 0.0)

    def changed(**values):
        kept = {name: value for name, value in (dict(old.values) | values).items() if value is not None}
        return difference(dataclasses.replace(old, values=kept), new)

    assert changed(dense=None) == "dense is new"
    assert changed(more=np.zeros(1)) == "more is gone"
    assert changed(dense=np.zeros((3, 4))) == "dense was 3 x 4, is 3 x 2"
    assert changed(table=np.zeros((9, 8))) == "table was 8, is 2"
    assert changed(table=np.zeros((9, 2))) is None
    assert difference(dataclasses.replace(old, terms={}), new) == "table was 4 x 2, is 2"


def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path):
    path = tmp_path / "weights.npz"
    _, good = weights(4, OLD, 1.0)
    good.save(str(path))
    content = path.read_bytes()
    for damaged in (b"", content[:200], content[:-300], b"PK no zip"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"weights.npz: .* cannot be read .*retrieval.warm_start"):
            Weights.load(str(path))
    broken = dict(good.values) | {"dense": np.full((3, 2), np.nan, np.float32)}
    dataclasses.replace(good, values=broken).save(str(path))
    with pytest.raises(DataError, match="dense .* not finite"):
        Weights.load(str(path))
