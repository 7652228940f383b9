"""Recommendations from files, as the funnel benchmark reads them."""

import types

import numpy as np
import pandas as pd
import pytest

from benchmarks import funnel
from schema.errors import UserError

LOG = types.SimpleNamespace(
    users=np.asarray(["7", "8", "9"], object), items=np.asarray(["10", "11", "12"], object)
)
# item 11 is not in the catalogue
OURS = types.SimpleNamespace(protocol=types.SimpleNamespace(log=LOG, catalogue=np.asarray([0, 2])))


def written(path, rows, columns=("user_id", "rank", "item_id")):
    pd.DataFrame(rows, columns=list(columns)).to_parquet(path)
    return path


def test_lists_are_placed_by_user_and_rank(tmp_path):
    rows = [(9, 2, 10), (9, 1, 12), (7, 1, 11), (5, 1, 10), (7, 3, 12), (9, 101, 10)]
    top = funnel.lists_of(written(tmp_path / "a.all.parquet", rows), OURS, np.asarray([2, 0]))
    assert top.shape == (2, 100)
    assert top[0, :3].tolist() == [1, 0, -1]  # user 9
    assert top[1, :4].tolist() == [-1, -1, 1, -1]  # user 7: 11 wastes its place
    assert (top[:, 4:] == -1).all()


def test_a_file_of_another_window_or_form_is_refused(tmp_path):
    strange = written(tmp_path / "a.all.parquet", [(1, 1, 10)])
    with pytest.raises(UserError, match=r"a\.all\.parquet: none of the 2 users"):
        funnel.lists_of(strange, OURS, np.asarray([0, 1]))
    short = written(tmp_path / "b.all.parquet", [(1, 1)], ("user_id", "rank"))
    with pytest.raises(UserError, match="no column item_id"):
        funnel.lists_of(short, OURS, np.asarray([0, 1]))
