"""The report of an experiment: figures against plain sums, verdicts, and the page."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from schema.config.experiments import Experiment
from schema.errors import DataError, UserError
from serving.experiments import page
from serving.experiments.columns import Exposures
from serving.experiments.report import analyse

DAY = 86_400
START = 20_000 * DAY


def experiment(**settings):
    given = {
        "name": "canary",
        "arms": [{"name": "stable"}, {"name": "canary"}],
        "primary_metric": "ctr",
        "guardrails": [{"metric": "fallback_share", "margin": 0.1}],
        "expected_lift": 0.2,
    }
    return Experiment.model_validate(given | settings)


def log(seed=0, lift=1.0, fallback=(0.05, 0.05), users=(600, 600), arms=("stable", "canary"), days=10):
    """A log of users who see Poisson lists of 10 items."""
    random = np.random.default_rng(seed)
    arm = np.repeat(np.arange(len(arms)), users)
    lists = 1 + random.poisson(3, len(arm))
    row = np.repeat(np.arange(len(arm)), lists)
    keen = random.gamma(3, 1 / 3, len(arm))[row]
    count = len(row)
    rate = 0.1 * np.minimum(keen * np.where(arm[row] == 0, 1, lift), 3)
    clicked = random.binomial(10, rate).astype(float)
    converted = random.binomial(clicked.astype(int), 0.3).astype(float)
    return Exposures(
        unit=np.array([f"u{number}" for number in row], object),
        arm=np.array(arms, object)[arm[row]],
        time=START + random.uniform(0, days * DAY - 1, count),
        values={
            "shown": np.full(count, 10.0),
            "clicked": clicked,
            "converted": converted,
            "revenue": converted * random.lognormal(1, 0.5, count),
            "fallback": (random.random(count) < np.asarray(fallback)[np.minimum(arm[row], 1)]).astype(float),
        },
        covariate=np.where(random.random(len(arm)) < 0.8, random.gamma(1, 1, len(arm)), np.nan)[row],
    )


def of(report, metric, arm="canary"):
    return next(one for one in report.comparisons if one.metric.name == metric and one.arm == arm)


def test_without_a_covariate_values_are_ratios_of_sums():
    exposures = log()
    plain = Exposures(exposures.unit, exposures.arm, exposures.time, exposures.values)
    report = analyse(plain, experiment())
    for arm in ("stable", "canary"):
        rows = exposures.arm == arm
        users = len(set(exposures.unit[rows].tolist()))
        assert (report.users[arm], report.lists[arm]) == (users, rows.sum())
        expected = {
            "ctr": exposures.values["clicked"][rows].sum() / (10 * rows.sum()),
            "revenue_per_user": exposures.values["revenue"][rows].sum() / users,
            "lists_per_user": rows.sum() / users,
        }
        for metric, value in expected.items():
            one = of(report, metric)
            assert (one.value if arm == "canary" else one.control_value) == pytest.approx(value)
            assert one.lift == pytest.approx(one.value / one.control_value - 1)
    assert len(report.days) == 10
    assert report.days[0].toordinal() == 20_000 + 719_163
    assert report.missing == ["latency, ms"]


def test_nothing_changed_and_nothing_is_said():
    report = analyse(log(), experiment())
    assert report.verdict == "open"
    assert "not told apart" in report.findings[0]
    assert report.mismatch > 0.05
    one = of(report, "ctr")
    assert one.sequence.shape == (2, 10)
    assert one.interval[0] < one.lift < one.interval[1]
    low, high = one.sequence
    assert low[-1] < 0 < high[-1]
    assert (np.diff(low) >= 0).all()  # intervals of later days lie in those of earlier ones
    assert (np.diff(high) <= 0).all()
    assert of(report, "fallback_share").guardrail == "open"


def test_a_better_arm_is_found_and_a_worse_one():
    better = analyse(log(lift=1.5), experiment())
    assert better.verdict == "better"
    assert of(better, "ctr").p_value < 0.05
    assert of(better, "ctr").sequence[0, -1] > 0
    worse = analyse(log(lift=0.6), experiment())
    assert worse.verdict == "worse"
    assert "worse than stable's" in worse.findings[0]
    # of a metric of which less is better, the sign is the other way round
    fallbacks = experiment(primary_metric="fallback_share", guardrails=[])
    assert analyse(log(fallback=(0.3, 0.1)), fallbacks).verdict == "better"
    assert analyse(log(fallback=(0.1, 0.3)), fallbacks).verdict == "worse"


def test_a_breached_guardrail_overrules_a_better_metric_and_a_mismatch_overrules_both():
    breached = analyse(log(lift=1.5, fallback=(0.05, 0.2)), experiment())
    assert breached.verdict == "breached"
    assert of(breached, "fallback_share").guardrail == "breached"
    held = analyse(log(fallback=(0.4, 0.2)), experiment())
    assert of(held, "fallback_share").guardrail == "held"
    lossy = analyse(log(lift=1.5, users=(800, 500)), experiment())
    assert lossy.verdict == "invalid"
    assert "sizes are not what their weights say" in lossy.findings[0]
    # the same sizes are right where the weights say so
    weighted = experiment(arms=[{"name": "stable", "weight": 8}, {"name": "canary", "weight": 5}])
    assert analyse(log(lift=1.5, users=(800, 500)), weighted).verdict == "better"


def test_users_of_several_arms_are_left_out_and_many_of_them_end_it():
    exposures = log()
    exposures.arm[0] = "stable" if exposures.arm[0] == "canary" else "canary"
    few = analyse(exposures, experiment())
    assert few.crossed == 1
    assert sum(few.users.values()) == 1199
    exposures.arm[:] = np.random.default_rng(1).choice(["stable", "canary"], len(exposures))
    assert analyse(exposures, experiment()).verdict == "invalid"


def test_several_arms_share_the_level():
    three = experiment(arms=[{"name": "stable"}, {"name": "canary"}, {"name": "third"}])
    exposures = log(users=(400, 400, 400), arms=("stable", "canary", "third"))
    found = analyse(exposures, three)
    assert [one.arm for one in found.comparisons[:2]] == ["canary", "third"]
    two = exposures.arm != "third"
    pair = Exposures(
        exposures.unit[two],
        exposures.arm[two],
        exposures.time[two],
        {name: column[two] for name, column in exposures.values.items()},
    )
    width = np.ptp(of(analyse(pair, experiment()), "ctr").interval)
    assert np.ptp(of(found, "ctr").interval) > 1.05 * width


def test_the_first_lists_are_too_few_to_say_anything():
    report = analyse(log(users=(15, 15)), experiment())
    assert "too few outcomes" in report.findings[0]
    assert np.isnan(of(report, "ctr").lift)
    assert "–" in page.as_text(report)
    assert "Too few outcomes" in page.render(report)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"arms": [{"name": "a"}, {"name": "canary"}]}, "the log has arm 'stable', the configuration"),
        ({"primary_metric": "joy"}, "'joy' is no metric; known are ctr"),
        ({"primary_metric": "latency_ms"}, "metric 'latency_ms' needs 'latency_ms' and 'lists'"),
    ],
)
def test_a_log_that_does_not_fit_is_refused(settings, said):
    with pytest.raises(DataError, match=re.escape(said)):
        analyse(log(), experiment(**settings))
    empty = {name: column[:0] for name, column in log().values.items()}
    with pytest.raises(DataError, match="no list was shown in the period"):
        analyse(Exposures(*(np.array([]) for _ in range(3)), empty), experiment())


class Page(HTMLParser):
    """Collects tags, and fails on one that is closed and was not open."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_one_file_with_its_charts(tmp_path):
    report = analyse(log(lift=1.5), experiment())
    path = page.write(report, tmp_path / "new" / "canary.html")
    text = path.read_text(encoding="utf-8")
    found = Page()
    found.feed(text)
    assert (found.open, found.addresses) == ([], [])
    assert found.tags.count("svg") == 3  # lifts, and days of the primary metric and of the guardrail
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S)
    assert "Better: can be rolled out" in text
    assert [file.name for file in path.parent.iterdir()] == ["canary.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        page.write(report, tmp_path / "file" / "x.html")


def test_the_table_has_a_line_for_each_metric():
    report = analyse(log(lift=1.5), experiment())
    lines = page.as_text(report).splitlines()
    assert lines[0] == "canary: Better: can be rolled out"
    assert sum(line.startswith(one.metric.title + " ") for one in report.comparisons for line in lines) >= 6
    assert lines[-1] == "not in the log: latency, ms"
