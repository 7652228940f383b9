"""The report's section on the search, from what SearchEvaluator writes."""

import copy
import json

import pytest

from pipeline.record import ArtifactRecord, NodeRecord, RunRecord
from pipeline.report import page as report
from pipeline.report import search, sections, summary
from tests.pipeline.report.test_run_report import Page, _result

FIGURES = {
    "sets": {
        "judged": {
            "title": "Judged queries",
            "queries": 30,
            "systems": {
                "search": {"ndcg@10": 0.61, "ndcg@10_se": 0.021, "recall@50": 0.7},
                "bm25f": {"ndcg@10": 0.555, "recall@50": 0.66},
            },
        },
        "known_item_typos": {
            "queries": 1500,
            "systems": {"search": {"mrr": 0.4}, "not_personal": {"mrr": 0.3}},
        },
    },
    "typo_loss": {"search": 0.0712, "bm25f": 0.31},
    "examples": [
        {
            "set": "judged",
            "query": "<b>oat</b> milk",
            "results": [{"item_id": "7", "item_text": "Oat", "gain": 1.0}],
        }
    ],
    "failures": [
        {
            "set": "personal",
            "query": "milk",
            "user_id": "u9",
            "notice": "Showing 'milk'",
            "results": [],
            "wanted": ["Skim"],
        }
    ],
    "blessed": False,
    "reasons": ["ndcg@10 of judged queries 0.6100 < 0.7000 (quality.search.min_ndcg)"],
}


def record_of(folder, figures):
    (folder / "search_metrics.json").write_text(json.dumps(figures))
    artifact = ArtifactRecord(1, "ModelEvaluation", str(folder), {})
    node = NodeRecord("SearchEvaluator", "components.S", "COMPLETE", 1, {"evaluation": [artifact]})
    return RunRecord("r", {"SearchEvaluator": node})


def test_figures_examples_failures_and_verdict(tmp_path):
    record = record_of(tmp_path, FIGURES)
    page = Page(report.render(_result(), record, tmp_path))
    text = " ".join(page.text["search"].split())
    for wanted in (
        "Judged queries: ndcg@10 30 queries",
        "0.6100 ± 0.0210",
        "0.5550",
        "known item typos",
        "1,500",
    ):
        assert wanted in text, wanted
    assert "One typo in every query costs bm25f 31.0 %, search 7.1 %." in text
    assert "<b>oat</b> milk judged" in text  # as text, not as HTML
    assert "1. Oat 1.00" in text
    assert "milk personalu9Showing 'milk'nothingSkim" in text.replace("> ", ">")
    assert "Why the search is not blessed ndcg@10 of judged queries 0.6100" in text
    assert page.tags.count("svg") == 1  # bars of the only set that has NDCG


def test_metrics_stand_in_the_order_of_the_funnel_s(tmp_path):
    found = search.section(record_of(tmp_path, FIGURES), sections.Missing(_result()))
    assert [each["metrics"] for each in found["sets"]] == [["ndcg@10", "recall@50"], ["mrr"]]
    assert [row["own"] for row in found["sets"][0]["rows"]] == [True, False]


def test_only_a_few_examples_are_shown(tmp_path):
    figures = copy.deepcopy(FIGURES)
    figures["examples"] *= 50
    found = search.section(record_of(tmp_path, figures), sections.Missing(_result()))
    assert 1 < len(found["examples"]) < 20


def test_closing_lines_give_the_first_figure_of_each_set(tmp_path):
    record = record_of(tmp_path, FIGURES)
    metrics = {name: values["systems"] for name, values in summary.search_evaluation(record)["sets"].items()}
    result = _result(metrics={"funnel": {}, "baselines": {}, "search": metrics})
    assert summary.closing_lines(result, None)[1] == "ndcg@10 of judged queries: search 0.6100, bm25f 0.5550"
    assert not any("known item" in line for line in summary.closing_lines(result, None))


@pytest.mark.parametrize(
    ("not_run", "reason"),
    [(["SearchEvaluator"], "No figures of the search: the run stopped"), ([], "No figures of the search: ")],
)
def test_a_run_without_an_evaluated_search_says_why(tmp_path, not_run, reason):
    stages = [summary._stage(summary.Stage("EventExampleGen", 3.0, False, "complete"))]
    page = Page(report.render(_result(stages=stages, not_run=not_run), RunRecord("r", {}), tmp_path))
    assert reason in page.text["search"]
