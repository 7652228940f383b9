"""Recommendations from files, as the funnel benchmark reads them."""

import re
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import funnel, own_lists, run_models
from benchmarks.retrieval import Ours
from schema.errors import ConfigError, UserError
from tests.shops import tiny_shop

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


@pytest.mark.parametrize("setting", ["candidates={trending: 1, trending: 2}", "split.evaluate_on", "a=[1"])
def test_settings_are_read_as_strictly_as_the_run_s(setting):
    """Before anything of the run: a benchmark of other settings than asked for would mislead."""
    options = types.SimpleNamespace(
        set=[setting], config="pipeline/configs/complete_journey.yaml", run=Path("none")
    )
    with pytest.raises(ConfigError, match=re.escape(f"--set {setting}: ")):
        run_models.RunModels.read(options)


def test_a_file_of_another_window_or_form_is_refused(tmp_path):
    strange = written(tmp_path / "a.all.parquet", [(1, 1, 10)])
    with pytest.raises(UserError, match=r"a\.all\.parquet: none of the 2 users"):
        funnel.lists_of(strange, OURS, np.asarray([0, 1]))
    short = written(tmp_path / "b.all.parquet", [(1, 1)], ("user_id", "rank"))
    with pytest.raises(UserError, match="no column item_id"):
        funnel.lists_of(short, OURS, np.asarray([0, 1]))


@pytest.fixture(scope="module")
def own():
    """(run, protocol) of the tiny shop, as the benchmark reads them of a finished one."""
    built = tiny_shop.built()
    run = types.SimpleNamespace(
        config=tiny_shop.CONFIG,
        windows=tiny_shop.WINDOWS,
        factory=built.factory,
        log=tiny_shop.log(),
        lists=built.candidates,
    )
    return run, Ours(run, tiny_shop.folder())


@pytest.mark.slow
def test_the_ranker_is_trained_again_with_another_horizon(own):
    run, ours = own
    lists = own_lists.OwnLists(run, 0)
    names = lists.retriever.pair_features.names
    assert not any("next" in name for name in names)
    assert any("next" in name for name in own_lists.OwnLists(run).retriever.pair_features.names)
    score = lists.network()["novel"]
    users = ours.protocol.users("novel")[:20]
    top = lists.recommend(ours, users, "novel", score)
    assert top.shape == (len(users), 100)
    for user, row in zip(users, top, strict=True):
        shown = row[row >= 0]
        assert len(shown) > 3
        assert len(set(shown)) == len(shown)
        assert not ours.protocol.seen[user, shown].any()


@pytest.mark.slow
def test_lists_stand_in_the_order_of_the_scores(own):
    """Here of the first feature, whose values are read again."""
    run, ours = own
    lists = own_lists.OwnLists(run)
    users, place = ours.protocol.users("all")[:5], lists.retriever.pair_features.names.index("own_count")
    top = lists.recommend(ours, users, "all", lambda values, codes: values[..., place])
    lines = np.zeros((len(users), len(ours.protocol.catalogue) + 1))
    past, length = ours.protocol.past, tiny_shop.CONFIG.candidates.history_length
    for row, user in enumerate(users):
        events = np.flatnonzero(past.user == user)[-length:]
        bought = events[past.bought[events]]
        np.add.at(lines[row], ours.protocol.column[past.item[bought]], 1)
    for row, shown in zip(lines, top, strict=True):
        assert (np.diff(row[shown[shown >= 0]]) <= 0).all()


def test_a_run_without_lists_is_refused():
    with pytest.raises(UserError, match="did not reach CandidateSampler"):
        own_lists.OwnLists(types.SimpleNamespace(lists=None))
