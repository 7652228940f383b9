"""From the gates to the record: FunnelEvaluator and Pusher, as TFX calls them, on the tiny shop."""

import os

import pytest
from tfx.types import standard_artifacts

from components.common import artifacts, registry
from components.funnel_evaluator.component import FunnelEvaluator
from components.funnel_evaluator.settings import Settings
from components.pusher.component import Pusher
from models.data import arrays
from models.retrieval.warm_start import Weights
from schema.errors import UserError
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, END, LABEL_START, TRAIN_END

pytestmark = pytest.mark.slow

RANKING = registry.Line(figures={"auc": 0.8}, standing={"auc": 0.99})


def call(component, inputs, outputs, **parameters):
    """Runs a component's executor; `outputs` are the artifacts that it fills."""
    executor = component.EXECUTOR_SPEC.executor_class()
    executor.Do(
        {name: [artifact] for name, artifact in inputs.items()},
        {name: [artifact] for name, artifact in outputs.items()},
        parameters | {"code_version": "1"},
    )
    return outputs


def artifact(kind, uri, **properties):
    made = kind()
    made.uri = str(uri)
    for name, value in properties.items():
        made.set_int_custom_property(name, value)
    return made


def released(folder, serving, baseline, weights=True):
    """(FunnelEvaluator's line, the pushed version) of the tiny shop's servable."""
    built = tiny_shop.built()
    sessions = artifact(
        *(standard_artifacts.Examples, os.path.dirname(tiny_shop.session_folders()["train"])),
        **{"train_end": TRAIN_END, "eval_end": CUTOFF, "data_end": END - 1},
    )
    model = artifact(standard_artifacts.Model, folder / "model")
    if not (folder / "model").exists():
        (folder / "model").mkdir(parents=True)
        os.symlink(artifacts.model_folder(built.servable), artifacts.model_folder(model.uri))
    if weights:
        source = Weights.load(os.path.join(built.retrieval, artifacts.WEIGHTS))
        source.save(os.path.join(model.uri, artifacts.WEIGHTS))
    ranking = artifact(standard_artifacts.ModelBlessing, folder / "ranking", blessed=1)
    registry.set_line(ranking, RANKING)
    quality = CONFIG.quality.model_copy(update={"must_beat": [], "max_ece": 1.0})
    config = CONFIG.model_copy(update={"quality": quality, "users": None})
    judged = call(
        FunnelEvaluator,
        {
            "raw_sessions": sessions,
            "candidates": artifact(standard_artifacts.Examples, built.candidates),
            "model": model,
            "ranking_blessing": ranking,
        },
        {
            "evaluation": artifact(standard_artifacts.ModelEvaluation, folder / "evaluation"),
            "blessing": artifact(standard_artifacts.ModelBlessing, folder / "blessing"),
        },
        baseline=registry.write_reference(baseline),
        config=Settings.of(config).to_json(),
    )
    pushed = call(
        Pusher,
        {
            "model": model,
            "model_blessing": judged["blessing"],
            "ranking_blessing": ranking,
            "infra_blessing": artifact(standard_artifacts.InfraBlessing, folder / "infra", blessed=1),
        },
        {"pushed_model": artifact(standard_artifacts.PushedModel, folder / "pushed")},
        destination=str(serving),
    )["pushed_model"]
    assert pushed.get_int_custom_property("pushed") == 1
    found = registry.read(str(serving))[-1]
    assert pushed.get_string_custom_property("pushed_version") == str(found.version)
    return registry.line_of(judged["blessing"]), found


def test_the_record_of_a_release_and_of_the_next_one(tmp_path):
    metric = CONFIG.quality.primary_metric
    figures = {f"all/{metric}", f"novel/{metric}"}
    line, first = released(tmp_path / "first", tmp_path / "serving", None)
    assert set(line.figures) == {*figures, "ece"}
    assert line.standing == dict.fromkeys(figures, 1.0)
    record = first.record
    assert record.figures == RANKING.figures | line.figures
    assert record.standing == RANKING.standing | line.standing
    assert (record.window, record.baseline) == ((CUTOFF, END), None)
    assert record.learned_until == LABEL_START
    assert record.model == str(tmp_path / "first" / "model")
    assert record.software["tensorflow"]
    assert record.identity == registry.identity(artifacts.model_folder(tiny_shop.built().servable))
    weights = registry.Reference(folder=first.folder).weights
    assert "learned_until" in arrays.load(weights)

    last = registry.Reference(folder=first.folder, standing=dict.fromkeys(figures, 0.985))
    line, second = released(tmp_path / "second", tmp_path / "serving", last, weights=False)
    assert line.standing == pytest.approx(last.standing)  # the same model: a ratio of 1
    assert (second.record.baseline, second.record.learned_until) == (str(first.version), None)
    assert second.version > first.version


def test_what_one_gate_refuses_is_not_pushed(tmp_path):
    for refused in ("model_blessing", "infra_blessing", "search_blessing"):
        kinds = {
            "model_blessing": standard_artifacts.ModelBlessing,
            "ranking_blessing": standard_artifacts.ModelBlessing,
            "search_blessing": standard_artifacts.ModelBlessing,
            "infra_blessing": standard_artifacts.InfraBlessing,
        }
        inputs = {name: artifact(kind, tmp_path / name, blessed=1) for name, kind in kinds.items()}
        inputs[refused].set_int_custom_property("blessed", 0)
        inputs["model"] = artifact(standard_artifacts.Model, tmp_path / "model")
        outputs = {"pushed_model": artifact(standard_artifacts.PushedModel, tmp_path / "pushed")}
        call(Pusher, inputs, outputs, destination=str(tmp_path / "serving"))
        assert outputs["pushed_model"].get_int_custom_property("pushed") == 0
        assert registry.versions(str(tmp_path / "serving")) == []


def test_what_nobody_judged_is_not_pushed(tmp_path):
    inputs = {
        "model": artifact(standard_artifacts.Model, tmp_path / "model"),
        "infra_blessing": artifact(standard_artifacts.InfraBlessing, tmp_path / "infra", blessed=1),
    }
    outputs = {"pushed_model": artifact(standard_artifacts.PushedModel, tmp_path / "pushed")}
    with pytest.raises(UserError, match="no evaluator judged the model"):
        call(Pusher, inputs, outputs, destination=str(tmp_path / "serving"))
    assert registry.versions(str(tmp_path / "serving")) == []
