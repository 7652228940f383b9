"""Which rows of the re-ranking benchmark are measured."""

import pytest

from benchmarks.reranking import Setting, chosen
from schema.errors import UserError

ROWS = [Setting("none", {}), Setting("diversity 1", {"diversity": 1.0}), Setting("cap 1, far", {})]


def test_rows_are_chosen_by_name_and_compared_with_none():
    assert chosen(ROWS, []) == ROWS
    assert chosen(ROWS, ["cap 1, far"]) == [ROWS[0], ROWS[2]]
    with pytest.raises(UserError, match="^--row cap: there is no such row; known: none; diversity 1; cap 1"):
        chosen(ROWS, ["cap"])
