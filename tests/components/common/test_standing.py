"""A tolerated loss does not add up, whatever the scale of the figure."""

import itertools
import operator

import pytest

from components.common import standing

TOLERANCE = 0.02


def release(before, new, baseline, lower_is_better=False):
    """(whether it may be pushed, its standing)."""
    if lower_is_better:
        passed = (new - baseline) / baseline <= standing.most_change(before, TOLERANCE)
    else:
        passed = new >= standing.floor(baseline, before, TOLERANCE)
        change = (new - baseline) / baseline
        if abs(change - standing.least_change(before, TOLERANCE)) > 1e-12:
            assert passed == (change >= standing.least_change(before, TOLERANCE))
    return passed, standing.after(before, standing.ratio(new, baseline, lower_is_better))


def line(changes, lower_is_better=False):
    """Quality of each pushed release relative to the first, of releases that change it by a factor each.

    Every release is measured on other data: another scale, the same for it and its baseline.
    """
    pushed, quality, before = [1.0], 1.0, standing.START
    for step, change in enumerate(changes):
        scale = 0.05 * (1 + step % 7)
        new, baseline = quality * change, quality
        figures = (1 / new, 1 / baseline) if lower_is_better else (new, baseline)
        passed, after = release(before, *(scale * figure for figure in figures), lower_is_better)
        if passed:
            quality, before = new, after
            pushed.append(quality)
            assert before == pytest.approx(quality / max(pushed))
    return pushed


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_releases_that_lose_one_and_a_half_percent_each(lower_is_better):
    assert line([0.985] * 10, lower_is_better) == pytest.approx([1, 0.985])


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_what_was_lost_can_be_won_back(lower_is_better):
    first, *later = pushed = [0.985, 1.01, 0.99, 1.10, 0.985]
    refused = 0.98  # after 0.985 more than is tolerated
    expected = itertools.accumulate([1.0, *pushed], operator.mul)
    assert line([first, refused, *later, refused], lower_is_better) == pytest.approx(list(expected))


def test_the_best_sets_the_floor_and_not_the_first():
    pushed = line([1.1, 0.985, 0.985])
    assert pushed == pytest.approx([1, 1.1, 1.1 * 0.985])


def test_one_release_is_judged_as_without_a_line():
    assert standing.floor(0.2, standing.START, TOLERANCE) == 0.2 * (1 - TOLERANCE)
    assert standing.least_change(standing.START, TOLERANCE) == -TOLERANCE
    assert standing.most_change(standing.START, TOLERANCE) == TOLERANCE


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_a_loss_that_was_accepted_on_purpose_begins_a_new_line(lower_is_better):
    """Pushed under a wider tolerance than this run's; at the limit itself it was not."""
    limit = 1 / (1 + TOLERANCE) if lower_is_better else 1 - TOLERANCE
    for stands, counts in ((0.9, 1.0), (limit - 1e-4, 1.0), (limit - 1e-9, limit), (0.99, 0.99), (1.0, 1.0)):
        found = standing.before({"auc": stands}, "auc", TOLERANCE, lower_is_better)
        assert found == pytest.approx(counts)
    assert standing.before({"auc": 0.99}, "ndcg", TOLERANCE, lower_is_better) == 1


def test_figures_of_zero():
    assert standing.ratio(0.1, 0.0) == 1
    assert standing.ratio(0.0, 0.1, lower_is_better=True) == 1
    lost = standing.after(standing.START, standing.ratio(0.0, 0.1))  # gates wide open
    assert standing.after(lost, standing.ratio(0.2, 0.1)) > lost > 0
