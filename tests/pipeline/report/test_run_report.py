"""summary.json and report.html from real artifacts and a real metadata store; no TFX."""

import html.parser
import json
import math
import re

import numpy as np
import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from components.common import metrics
from pipeline import record as run_record
from pipeline.record import ArtifactRecord, NodeRecord, RunRecord
from pipeline.report import charts, findings, sections, summary
from pipeline.report import page as report
from pipeline.run.state import cancel_abandoned
from schema.errors import UserError


class Page(html.parser.HTMLParser):
    """Text by section id, and every attribute that could load something."""

    VOID = {"meta", "br", "link", "img", "input", "hr"}

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.open, self.text, self.links, self.ids, self.tags = [], {}, [], [], []
        self.feed(source)
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        self.links += [
            value for name, value in attrs.items() if name in ("src", "href", "srcset", "action", "data")
        ]
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag not in self.VOID:
            self.open.append((tag, attrs.get("id")))

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, identifier in self.open:
            if identifier:
                self.text[identifier] = self.text.get(identifier, "") + data


def _result(**changes):
    result = summary.build(
        name="shop",
        config_path="shop.yaml",
        run_id=None,
        started="2026-01-02T03:04:05+00:00",
        state="complete",
        components=[],
        stages=[],
        total_seconds=61.0,
        peak_memory_bytes=2_000_000_000,
        peak_memory_kind="RSS",
        record=None,
        error=None,
    )
    return {**result, **changes}


def _artifact(identifier, type_name, path, **properties):
    path.mkdir(parents=True, exist_ok=True)
    return ArtifactRecord(identifier, type_name, str(path), properties)


@pytest.fixture
def record(tmp_path):
    """A run whose artifacts are real files of the kinds that the components write."""
    statistics = _artifact(1, "ExampleStatistics", tmp_path / "stats")
    anomalies = _artifact(2, "ExampleAnomalies", tmp_path / "anomalies")
    for split, count in (("train", 200), ("eval", 50)):
        dataset = statistics_pb2.DatasetFeatureStatistics(num_examples=count)
        price = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
        price.path.step.append("price")
        price.num_stats.common_stats.num_non_missing = count
        price.num_stats.common_stats.max_num_values = 3
        price.num_stats.common_stats.avg_num_values = 2.5
        price.num_stats.min, price.num_stats.max, price.num_stats.mean = 1, 9.5, 4.25
        colour = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
        colour.path.step.append("colour")
        # Present but empty in a quarter of the examples: these lack a value all the same.
        colour.string_stats.common_stats.num_non_missing = count
        colour.string_stats.common_stats.tot_num_values = count * 3 // 4
        colour.string_stats.common_stats.max_num_values = 1
        colour.string_stats.unique = 7
        colour.string_stats.top_values.add(value="<red>", frequency=9)
        folder = statistics.path / f"Split-{split}"
        folder.mkdir()
        statistics_list = statistics_pb2.DatasetFeatureStatisticsList(datasets=[dataset])
        (folder / "FeatureStats.pb").write_bytes(statistics_list.SerializeToString())
        found = anomalies_pb2.Anomalies()
        if split == "eval":
            found.anomaly_info["colour"].description = "Unexpected string value: <green>"
        (anomalies.path / f"Split-{split}").mkdir()
        (anomalies.path / f"Split-{split}" / "SchemaDiff.pb").write_bytes(found.SerializeToString())
    model_run = _artifact(3, "ModelRun", tmp_path / "model_run")
    epochs = [
        {"epoch": 1, "loss": 3.0, "val_loss": 3.2, "auc": 0.6},
        {"epoch": 2, "loss": 2.0, "val_loss": math.nan},
    ]
    (model_run.path / "history.json").write_text(json.dumps({"epochs": epochs}))
    evaluation = _artifact(4, "ModelEvaluation", tmp_path / "evaluation")
    metrics = {
        "funnel": {
            "all": {"ndcg@10": 0.25, "ndcg@10_se": 0.004, "recall@100": 0.4},
            "novel": {"ndcg@10": 0.06, "ndcg@10_se": 0.002, "recall@100": 0.2},
        },
        "baselines": {"popularity": {"all": {"ndcg@10": 0.2, "recall@100": 0.5}, "novel": {"ndcg@10": 0.04}}},
        "n_users": {"all": 2000, "novel": 1990},
        "catalogue": 26180,
        "window": {"start": 1512360080, "end": 1514779281},
        "slices": {"income: <50K": {"all": {"ndcg@10": 0.21}, "novel": {"ndcg@10": 0.05}, "n_users": 300}},
        "calibration": {
            "users": 400,
            "candidates": 321987,
            "purchase": {
                "predicted": 0.0412,
                "observed": 0.0399,
                "ece": 0.0123,
                "ece_of_chance": 0.0045,
                "log_loss": 0.1534,
                "log_loss_of_rate": 0.1678,
                "curve": [
                    {"weight": 5.0, "predicted": 0.01, "observed": 0.02},
                    {"weight": 5.0, "predicted": 0.3, "observed": 0.25},
                ],
            },
            "value": {"predicted": 0.187, "observed": 0.179},
        },
        "blessed": True,
        "reasons": ["funnel ndcg@10 of task all 0.2500 > popularity 0.2000"],
    }
    (evaluation.path / "metrics.json").write_text(json.dumps(metrics))
    index = _artifact(5, "Model", tmp_path / "index", summary="26,180 items, exact", index_recall=0.998)
    pushed = _artifact(
        6,
        "PushedModel",
        tmp_path / "pushed",
        pushed=1,
        pushed_version="17",
        pushed_destination="/s/shelfwise/17",
    )
    blessing = _artifact(7, "ModelBlessing", tmp_path / "blessing", blessed=1)
    tfx = "tfx.components."
    nodes = [
        NodeRecord("EventStatistics", tfx + "StatisticsGen", "COMPLETE", 1, {"statistics": [statistics]}),
        NodeRecord("EventValidator", tfx + "ExampleValidator", "COMPLETE", 2, {"anomalies": [anomalies]}),
        NodeRecord("RetrievalTrainer", "components.Trainer", "CACHED", 3, {"model_run": [model_run]}),
        NodeRecord("CandidateIndex", "components.CandidateIndex", "CACHED", 4, {"index": [index]}),
        NodeRecord(
            "FunnelEvaluator",
            "components.F",
            "COMPLETE",
            5,
            {"evaluation": [evaluation], "blessing": [blessing]},
        ),
        NodeRecord("Pusher", tfx + "pusher.component.Pusher", "COMPLETE", 6, {"pushed_model": [pushed]}),
    ]
    return RunRecord("run-1", {node.id: node for node in nodes})


def test_describe(record, tmp_path):
    describe = {name: findings.describe(node) for name, node in record.nodes.items()}
    assert describe["EventStatistics"] == "train 200, eval 50 examples; 2 features"
    assert describe["EventValidator"] == "1 anomaly: eval.colour: Unexpected string value: <green>"
    assert describe["CandidateIndex"] == "26,180 items, exact"
    assert describe["Pusher"] == "pushed version 17 to /s/shelfwise/17"
    assert describe["RetrievalTrainer"] == ""
    (tmp_path / "stats" / "Split-train" / "FeatureStats.pb").write_bytes(b"\xff\xff not a message")
    assert findings.describe(record.nodes["EventStatistics"]).startswith("(its output cannot be read")


def test_missing_share_counts_empty_values(record):
    train = findings.read_statistics(record.nodes["EventStatistics"].first("statistics"))[0]
    assert [(f.name, f.missing) for f in train.features] == [("colour", 0.25), ("price", 0.0)]
    assert train.features[1].detail == "1 to 9.5, mean 4.25"


def test_summary_has_what_the_issue_names(record, tmp_path):
    stages = [summary.Stage("EventStatistics", 1.23456, True, "cached", "x", 10, 2.34567)]
    result = summary.build(
        name="shop",
        config_path=None,
        run_id="run-1",
        started="now",
        state="failed",
        components=["EventStatistics", "Pusher"],
        stages=stages,
        total_seconds=2.0,
        peak_memory_bytes=10,
        peak_memory_kind="RSS",
        record=record,
        error={"component": "Pusher", "message": "no space left"},
    )
    summary.write(tmp_path / "summary.json", result)
    read = json.loads((tmp_path / "summary.json").read_text())
    assert read["stages"][0]["name"] == "EventStatistics"
    assert (read["stages"][0]["seconds"], read["stages"][0]["cached"]) == (1.235, True)
    assert read["stages"][0]["processor_seconds"] == 2.346
    assert read["not_run"] == ["Pusher"]
    assert read["metrics"]["funnel"]["novel"]["ndcg@10"] == 0.06
    assert read["metrics"]["baselines"]["popularity"]["all"]["recall@100"] == 0.5
    assert (read["blessed"], read["pushed_version"]) == (True, "17")
    assert read["error"]["message"] == "no space left"
    assert read["versions"]["tfx"].startswith("1.")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["summary.json"]


def test_summary_writes_nan_as_null(tmp_path):
    summary.write(tmp_path / "s.json", {"a": math.nan, "b": [math.inf, 1.5], "c": {"d": "NaN"}})
    assert json.loads((tmp_path / "s.json").read_text()) == {"a": None, "b": [None, 1.5], "c": {"d": "NaN"}}


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        summary.write(path, {"a": object()})
    with pytest.raises(UnicodeEncodeError):
        summary.write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("evaluator", "funnel", "expected"),
    [(1, True, True), (0, True, False), (1, False, False), (None, True, True), (None, None, None)],
)
def test_blessed_only_if_all_evaluators_bless(tmp_path, evaluator, funnel, expected):
    nodes = {}
    if evaluator is not None:
        blessing = _artifact(1, "ModelBlessing", tmp_path / "b", blessed=evaluator)
        nodes["Evaluator"] = NodeRecord("Evaluator", "tfx.Evaluator", "COMPLETE", 1, {"blessing": [blessing]})
    if funnel is not None:
        evaluation = _artifact(2, "ModelEvaluation", tmp_path / "e")
        (evaluation.path / "metrics.json").write_text(json.dumps({"blessed": funnel}))
        nodes["F"] = NodeRecord("F", "components.F", "COMPLETE", 2, {"evaluation": [evaluation]})
    earlier = _artifact(3, "ModelBlessing", tmp_path / "old", blessed=1)
    nodes["R"] = NodeRecord("R", "tfx.Resolver", "COMPLETE", 3, {"blessing": [earlier]})
    assert summary.blessed(RunRecord("r", nodes)) is expected
    assert summary.blessed(None) is None


def test_a_model_that_infra_validator_refused(record, tmp_path):
    """Blessed by the evaluators, and not served: the summary, the last lines and the page say why."""
    slow = "p99 of recommend 812 ms, above 500 ms"
    verdict = _artifact(20, "InfraBlessing", tmp_path / "infra", blessed=0, summary=f"NOT blessed: {slow}")
    node = NodeRecord("InfraValidator", "components.InfraValidator", "COMPLETE", 20, {"blessing": [verdict]})
    push = _artifact(21, "PushedModel", tmp_path / "not_pushed", pushed=0)
    pusher = NodeRecord("Pusher", "components.Pusher", "COMPLETE", 21, {"pushed_model": [push]})
    record = RunRecord("r", {**record.nodes, "InfraValidator": node, "Pusher": pusher})
    assert summary.infra_refusal(record) == slow
    result = _result(
        blessed=summary.blessed(record), infra_refusal=summary.infra_refusal(record), pushed_version=None
    )
    assert result["blessed"] is True
    lines = summary.closing_lines(result, None)
    assert f"model refused by InfraValidator ({slow}): nothing new is served" in lines
    assert not any("model blessed" in line for line in lines)
    page = report.render(result, record, tmp_path)
    assert '<b class="bad">refused</b><span class="">by InfraValidator; nothing pushed</span>' in page
    assert f"Nothing was pushed: InfraValidator refused the model: {slow}." in Page(page).text["serve"]
    verdict.properties["blessed"] = 1
    assert summary.infra_refusal(record) is None
    assert summary.infra_refusal(None) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (1e300, "1e+300"),
        (-2e20, "-2e+20"),
        (1234567.0, "1,234,567"),
        (0.125, "0.125"),
    ],
)
def test_statistics_of_any_number_can_be_shown(tmp_path, value, shown):
    """A shop's file may hold inf or 1e300: the statistics that say so must not stop the run."""
    statistics = _artifact(1, "ExampleStatistics", tmp_path / "stats")
    dataset = statistics_pb2.DatasetFeatureStatistics(num_examples=3)
    price = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
    price.path.step.append("value")
    common = price.num_stats.common_stats
    common.num_non_missing = common.tot_num_values = 3
    common.max_num_values, common.avg_num_values = 1, 1.0
    price.num_stats.min, price.num_stats.max, price.num_stats.mean = 1, value, value
    (statistics.path / "Split-train").mkdir()
    (statistics.path / "Split-train" / "FeatureStats.pb").write_bytes(
        statistics_pb2.DatasetFeatureStatisticsList(datasets=[dataset]).SerializeToString()
    )
    node = NodeRecord("S", "tfx.StatisticsGen", "COMPLETE", 1, {"statistics": [statistics]})
    assert findings.describe(node) == "train 3 examples; 1 features"
    ((feature,),) = [split.features for split in findings.read_statistics(statistics)]
    assert feature.detail == f"1 to {shown}, mean {shown}"


def test_report_of_a_finished_run(record, tmp_path):
    stages = [summary.Stage(name, 2.0, False, "complete", f"found {name}") for name in record.nodes]
    result = _result(
        stages=[summary._stage(stage) for stage in stages],
        metrics={
            "funnel": {"all": {"ndcg@10": 0.25}, "novel": {"ndcg@10": 0.06}},
            "baselines": {"popularity": {"all": {"ndcg@10": 0.2}, "novel": {"ndcg@10": 0.08}}},
            "ranking": {"auc": 0.81, "example_count": 5000.0},
            "ranking_slices": {"department: GROCERY": {"auc": 0.79, "example_count": 100.0}},
        },
        blessed=True,
        pushed_version="17",
    )
    source = report.render(result, record, tmp_path)
    page = Page(source)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not re.search(r"https?://|@import|url\(|<script", source)
    text = {name: " ".join(value.split()) for name, value in page.text.items()}
    for wanted in ("0.2500 ± 0.0040", "0.2000", "2,000 users", "26,180 items", "income: <50K", "0.0500"):
        assert wanted in text["quality"], wanted
    heads = "purchase0.04120.03990.01230.00450.15340.1678", "value0.18700.1790––––"
    for wanted in ("321,987", "400 users", *heads):
        assert wanted in text["quality"], wanted
    assert "Why the model is blessed" in text["quality"]
    assert "0.8100" in text["ranking"]
    assert "department: GROCERY" in text["ranking"]
    assert "index recall: 0.9980" in text["ranking"]
    assert "held out, epoch 1: 3.2000" in text["training"]
    assert "held out, epoch 2" not in text["training"]  # NaN is not drawn
    assert "25.0%" in text["data"]
    assert "Unexpected string value: <green>" in text["data"]
    assert "most often “<red>”" in text["data"]
    assert "found CandidateIndex" in text["stages"]
    assert "--model_base_path=/s/shelfwise" in text["serve"]
    assert "error" not in page.ids
    assert "+25.0% against popularity" in source
    assert "-25.0% against popularity" in source
    assert page.tags.count("svg") == 2 + 1 + 2  # bars of two tasks, reliability, curves of loss and auc


def test_report_of_a_run_that_stopped_says_what_is_missing(tmp_path):
    stages = [summary.Stage("EventExampleGen", 3.0, False, "failed")]
    result = _result(
        state="failed",
        stages=[summary._stage(stage) for stage in stages],
        not_run=["EventStatistics", "EventValidator", "RetrievalTrainer", "FunnelEvaluator", "Pusher"],
        error={"component": "EventExampleGen", "message": "t.csv: no column <user_id>"},
    )
    page = Page(report.render(result, RunRecord("r", {}), tmp_path))
    assert "EventExampleGen stopped the run" in page.text["error"]
    assert "no column <user_id>" in page.text["error"]
    for section, component in (
        ("quality", "FunnelEvaluator"),
        ("data", "EventStatistics"),
        ("training", "RetrievalTrainer"),
        ("serve", "Pusher"),
    ):
        assert f"the run stopped at EventExampleGen, before {component}." in page.text[section]
    assert "the pipeline has no CandidateIndex" in page.text["ranking"]
    assert "Not run: EventStatistics" in page.text["stages"]


def test_report_of_a_run_without_any_component(tmp_path, capsys):
    summary.write(tmp_path / "summary.json", _result(state="failed", error={"message": "no TFX here"}))
    assert report.main(["--run", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    page = Page((tmp_path / "report.html").read_text())
    assert "No component ran." in page.text["stages"]
    assert "the run stopped before its first component" in page.text["quality"]


def test_report_command_without_a_run(tmp_path, capsys):
    assert report.main(["--run", str(tmp_path)]) == 1
    assert re.fullmatch(r"error: .*summary\.json: cannot be read .*\n", capsys.readouterr().err)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        report.write(tmp_path)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.123, 0.127), (-3, 8), (2, 2), (0, 0), (1e-7, 3e-7), (0, 12345), (-5, -5)]
)
def test_ticks_are_round_and_cover_the_data(low, high):
    found = charts.ticks(low, high)
    assert 2 <= len(found) <= 8
    assert found == sorted(set(found))
    assert found[0] <= low + 1e-12
    assert found[-1] >= high - 1e-12
    step = found[1] - found[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert any(math.isclose(mantissa, m, rel_tol=1e-4) for m in (1, 2, 5))


def test_charts_escape_names_and_leave_out_what_is_not_finite():
    assert charts.bars([], "x") == ""
    assert charts.line_chart("x", {"a": [(1.0, math.nan)]}) == ""
    chart = charts.bars([("<b>", 0.5, 0.1, "0.5", "own"), ("nan", math.nan, 0, "", "")], 'say "x"')
    assert "<b>" not in chart
    assert chart.count('class="bar ') == 1
    assert chart.count("whisker") == 1
    single = charts.line_chart("loss", {"training": [(1.0, 2.0)]})
    assert single.count("<circle") == 1
    assert "legend" not in single


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.25, "0.2500"),
        (0.0, "0.0000"),
        (12345.6, "12,346"),
        (1.2e-5, "1.2e-05"),
        (7, "7"),
    ],
)
def test_number(value, text):
    assert charts.number(value) == text


@pytest.fixture
def store(tmp_path):
    """A store with two runs of component Rows: one complete, one that was killed."""
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "metadata.sqlite")
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = metadata_store.MetadataStore(config)
    types = {n: store.put_context_type(mlmd.ContextType(name=n)) for n in ("pipeline_run", "node")}
    execution_type = store.put_execution_type(mlmd.ExecutionType(name="tfx.components.Rows"))
    artifact_type = store.put_artifact_type(mlmd.ArtifactType(name="Examples"))
    node_context = mlmd.Context(type_id=types["node"], name="tiny.Rows")
    for run, state in (("run-1", mlmd.Execution.COMPLETE), ("run-2", mlmd.Execution.RUNNING)):
        execution = mlmd.Execution(type_id=execution_type, last_known_state=state)
        run_context = mlmd.Context(type_id=types["pipeline_run"], name=run)
        pairs = []
        if state == mlmd.Execution.COMPLETE:
            artifact = mlmd.Artifact(type_id=artifact_type, uri="/a/1")
            artifact.custom_properties["summary"].string_value = "two\n lines"
            artifact.custom_properties["blessed"].int_value = 1
            event = mlmd.Event(type=mlmd.Event.OUTPUT)
            event.path.steps.add(key="table")
            event.path.steps.add(index=0)
            pairs = [(artifact, event)]
        store.put_execution(
            execution, pairs, [run_context, node_context], reuse_context_if_already_exist=True
        )
    return store


def test_read_run(store, tmp_path):
    latest = run_record.read_run(tmp_path / "metadata.sqlite")
    assert (latest.run_id, latest.nodes["Rows"].state) == ("run-2", "RUNNING")
    first = run_record.read_run(tmp_path / "metadata.sqlite", "run-1").nodes["Rows"]
    assert (first.kind, first.state, first.first("table").uri) == ("Rows", "COMPLETE", "/a/1")
    assert first.first("table").properties["blessed"] == 1
    assert findings.describe(first) == "two lines"
    assert run_record.read_run(tmp_path / "metadata.sqlite", "run-3") is None
    assert run_record.read_run(tmp_path / "none.sqlite") is None
    assert not (tmp_path / "none.sqlite").exists()
    assert run_record.previous_outputs(store, "run-2", "Rows") == {first.first("table").id}
    assert run_record.previous_outputs(store, "run-1", "Rows") is None


def test_cancel_abandoned_closes_open_executions_and_removes_their_outputs(store, tmp_path):
    killed = next(e for e in store.get_executions() if e.last_known_state == mlmd.Execution.RUNNING)
    finished = next(e for e in store.get_executions() if e.id != killed.id)
    half, whole = (tmp_path / "artifacts" / "Rows" / "table" / str(e.id) for e in (killed, finished))
    for folder in (half, whole):
        folder.mkdir(parents=True)
        (folder / "data").write_text("x")
    assert cancel_abandoned(store, tmp_path / "artifacts") == ["Rows"]
    assert not half.exists()
    assert (whole / "data").read_text() == "x"
    states = {e.id: e.last_known_state for e in store.get_executions()}
    assert states == {killed.id: mlmd.Execution.CANCELED, finished.id: mlmd.Execution.COMPLETE}
    assert cancel_abandoned(store, tmp_path / "artifacts") == []


@pytest.mark.slow
def test_ranking_metrics_of_a_real_evaluation(tmp_path):
    pd = pytest.importorskip("pandas")
    import tensorflow_model_analysis as tfma
    from google.protobuf import text_format
    from tensorflow_model_analysis.proto import config_pb2

    rows = pd.DataFrame(
        {"label": [0, 1, 1, 0], "prediction": [0.2, 0.9, 0.4, 0.6], "source": ["a", "a", "b", "b"]}
    )
    config = text_format.Parse(
        """
        model_specs { label_key: "label" prediction_key: "prediction" }
        metrics_specs { metrics { class_name: "AUC" } metrics { class_name: "ExampleCount" } }
        slicing_specs {}
        slicing_specs { feature_keys: "source" }
        """,
        config_pb2.EvalConfig(),
    )
    tfma.analyze_raw_data(rows, config, output_path=str(tmp_path / "evaluation"))
    artifact = ArtifactRecord(1, "ModelEvaluation", str(tmp_path / "evaluation"), {})
    node = NodeRecord("Evaluator", "tfx.Evaluator", "COMPLETE", 1, {"evaluation": [artifact]})
    overall, slices = summary.ranking_metrics(RunRecord("r", {"Evaluator": node}))
    assert overall["auc"] == pytest.approx(0.75, abs=1e-3)  # three of the four pairs are in order
    assert overall["example_count"] == 4
    assert slices["source: a"]["auc"] == pytest.approx(1, abs=1e-3)
    assert slices["source: b"]["auc"] == pytest.approx(0, abs=1e-3)


@pytest.mark.slow
def test_unreadable_evaluation_costs_only_its_own_figures(tmp_path):
    artifact = ArtifactRecord(1, "ModelEvaluation", str(tmp_path / "nothing"), {})
    node = NodeRecord("Evaluator", "tfx.Evaluator", "COMPLETE", 1, {"evaluation": [artifact]})
    assert summary.ranking_metrics(RunRecord("r", {"Evaluator": node})) == ({}, {})


def test_metrics_are_ordered_by_names_that_lists_are_measured_by():
    top, relevant = np.array([[0, 1]]), np.array([[True, False, True]])
    found = metrics.per_user(top, relevant, [10, 2]) | metrics.of_lists(
        top, np.eye(3, dtype=np.float32), np.full(3, 0.5), np.ones(1), [10, 2]
    )
    names = [name for name in metrics.summarise(found, top, 3, [10, 2]) if not name.endswith("_se")]
    ordered = sorted(["ece", *names], key=sections.metric_key)
    families = list(dict.fromkeys(name.partition("@")[0] for name in ordered))
    assert families == [
        *("ndcg", "recall", "recall_cap", "hr", "mrr", "coverage", "diversity", "novelty", "popularity_lift"),
        "ece",
    ]
    assert ordered[:2] == ["ndcg@2", "ndcg@10"]
