"""A pipeline of the real BaselineModel, WarmStartModel and Pusher around components that take no time."""

import os

import numpy as np
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model, ModelBlessing

from components.common import artifacts, registry
from components.model_registry.component import BaselineModel, WarmStartModel
from components.model_registry.settings import Settings
from components.pusher.component import Pusher
from models.retrieval.warm_start import Weights
from schema.config import LabelWindows, Split
from tests.shops.tiny_shop import DAY, START

SETTINGS = Settings(split=Split(), ranking=LabelWindows(window_days=10))


@component
def Sessions(examples: OutputArtifact[Examples], days: Parameter[int]) -> None:
    """Data that end after some days."""
    ends = {"train_end": days - 30, "eval_end": days - 15, "data_end": days}
    for name, day in ends.items():
        examples.set_int_custom_property(name, START + day * DAY)


@component
def Trainer(
    examples: InputArtifact[Examples],
    model: OutputArtifact[Model],
    layers: Parameter[str],
    last_model: Parameter[str],
) -> None:
    """A "model" that is its settings, and the weights that it started from."""
    last = registry.read_reference(last_model)
    folder = artifacts.model_folder(model.uri)
    os.makedirs(folder)
    with open(os.path.join(folder, registry.SAVED_MODEL), "w") as file:
        file.write(f"{layers}, {examples.get_int_custom_property('data_end')}, {model.uri}")
    until = examples.get_int_custom_property("eval_end") - 10 * DAY
    Weights({"w": np.ones(1, np.float32)}, {}, until).save(os.path.join(model.uri, artifacts.WEIGHTS))
    model.set_string_custom_property("started_from", last.version if last else "")


@component
def Judge(
    model: InputArtifact[Model],
    blessing: OutputArtifact[ModelBlessing],
    infra: OutputArtifact[InfraBlessing],
    baseline: Parameter[str],
) -> None:
    """Blesses everything; the model has 98.5 % of its baseline's quality."""
    last = registry.read_reference(baseline)
    standing = last.standing["auc"] * 0.985 if last else 1.0
    line = registry.Line(
        figures={"auc": 0.8},
        standing={"auc": standing},
        window=(1, 2),
        baseline=last.version if last else None,
    )
    registry.set_line(blessing, line)
    for verdict in (blessing, infra):
        verdict.set_int_custom_property("blessed", 1)


def create(folder, days=130, layers="small"):
    """The pipeline in a folder."""
    serving, store = str(folder / "serving"), str(folder / "metadata.sqlite")
    sessions = Sessions(days=days)
    examples = sessions.outputs["examples"]
    warm_start = WarmStartModel(
        raw_sessions=examples, destination=serving, config=SETTINGS.to_json(), code_version="1"
    )
    trainer = Trainer(
        examples=examples, layers=layers, last_model=warm_start.outputs["version"].future()[0].value
    )
    baseline = BaselineModel(model=trainer.outputs["model"], destination=serving, code_version="1")
    judge = Judge(model=trainer.outputs["model"], baseline=baseline.outputs["version"].future()[0].value)
    pusher = Pusher(
        model=trainer.outputs["model"],
        model_blessing=judge.outputs["blessing"],
        ranking_blessing=judge.outputs["blessing"],
        infra_blessing=judge.outputs["infra"],
        destination=serving,
        code_version="1",
    )
    return tfx_pipeline.Pipeline(
        pipeline_name="registry",
        pipeline_root=str(folder / "artifacts"),
        components=[sessions, warm_start, trainer, baseline, judge, pusher],
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(store),
    )
