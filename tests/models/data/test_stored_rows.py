"""Rows in a file against the same array in memory."""

import numpy as np
import pytest

from models.data.stored_rows import StoredRows


@pytest.fixture
def stored():
    """(in the file, in memory), written in an order of its own and in two parts."""
    values = np.random.default_rng(0).normal(size=(11, 4, 3)).astype(np.float32)
    rows = StoredRows(values.shape, np.float32)
    order = np.random.default_rng(1).permutation(11)
    rows[order[:7]] = values[order[:7]]
    rows[order[7:]] = values[order[7:]]
    return rows, values


def test_rows_are_read_as_they_were_written(stored):
    rows, values = stored
    assert (len(rows), rows.shape, rows.dtype) == (11, (11, 4, 3), np.float32)
    for chosen in ([3], [10, 0, 0, 5], [], list(range(11))):
        np.testing.assert_array_equal(rows[np.asarray(chosen, int)], values[np.asarray(chosen, int)])


@pytest.mark.parametrize("block", [1, 2, 100])
def test_entries_are_those_of_the_array(stored, block):
    rows, values = stored
    rng = np.random.default_rng(2)
    row, place = rng.integers(0, 11, 40), rng.integers(0, 4, 40)
    np.testing.assert_array_equal(rows.picked(row, place, block), values[row, place])


def test_what_was_not_written_is_zero():
    rows = StoredRows((5, 2), np.float32)
    rows[np.asarray([1])] = np.ones((1, 2))
    np.testing.assert_array_equal(rows[np.arange(5)], [[0, 0], [1, 1], [0, 0], [0, 0], [0, 0]])


def test_rows_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"values of shape \(2, 3\) for 2 rows of \(4,\)"):
        StoredRows((5, 4), np.float32)[np.arange(2)] = np.zeros((2, 3))
