"""Components of the tiny pipeline. Their faults come from the environment, not from parameters,
so that the cache key of a component is the same with and without its fault."""

import gc
import json
import logging
import os
import signal
import warnings
from pathlib import Path

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation, ModelRun

from components.common import curves
from schema.errors import DataError


@component
def Rows(table: OutputArtifact[Examples], count: Parameter[int]) -> None:
    """Writes `count` rows and noise on every channel that a component can write to."""
    print("noise from print")
    os.write(2, b"noise from file descriptor 2\n")
    warnings.warn("noise from a warning", stacklevel=1)
    logging.getLogger("tiny").error("noise from a logger")
    assert gc.isenabled()
    assert gc.get_freeze_count() > 100_000  # what was imported is not looked through again
    Path(table.uri, "rows.txt").write_text("row\n" * count)
    table.set_string_custom_property("summary", f"{count:,} rows")


@component
def Fragile(
    table: InputArtifact[Examples], model: OutputArtifact[Model], model_run: OutputArtifact[ModelRun]
) -> None:
    """Trains, or breaks as TINY_FAULT says."""
    Path(model.uri, "half").write_text("half")
    fault = os.environ.get("TINY_FAULT", "")
    if fault == "user_error":
        raise DataError("rows.txt: row 7 has no item_id; fill it in or drop the row")
    if fault == "crash":
        raise ValueError("first line of many\nsecond line")
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "terminated_in_beam":

        def wait(path):
            Path(path).write_text("ready")
            signal.pause()

        with beam.Pipeline() as stage:
            stage | beam.Create([os.environ["TINY_READY"]]) | beam.Map(wait)
    if fault == "wait":
        Path(os.environ["TINY_READY"]).write_text("ready")
        signal.pause()
    serving = Path(model.uri, "Format-Serving")
    serving.mkdir()
    (serving / "saved_model.pb").write_bytes(b"weights")
    epochs = [{"epoch": 1, "loss": 2.0, "val_loss": 2.1}, {"epoch": 2, "loss": 1.5, "val_loss": 1.8}]
    curves.write(model_run.uri, epochs)


@component
def FunnelEvaluator(
    model: InputArtifact[Model],
    evaluation: OutputArtifact[ModelEvaluation],
    blessing: OutputArtifact[ModelBlessing],
) -> None:
    metrics = {
        "funnel": {
            "all": {"ndcg@10": 0.3, "ndcg@10_se": 0.01},
            "novel": {"ndcg@10": 0.1, "ndcg@10_se": 0.01},
        },
        "baselines": {"popularity": {"all": {"ndcg@10": 0.2}, "novel": {"ndcg@10": 0.05}}},
        "n_users": {"all": 40, "novel": 38},
        "catalogue": 1200,
        "window": {"start": 1512360080, "end": 1514779281},
        "slices": {"age: 25-34": {"all": {"ndcg@10": 0.31}, "novel": {"ndcg@10": 0.11}, "n_users": 12}},
        "blessed": True,
        "reasons": ["funnel ndcg@10 of task all 0.3000 > popularity 0.2000"],
    }
    Path(evaluation.uri, "metrics.json").write_text(json.dumps(metrics))
    Path(blessing.uri, "BLESSED").write_text("")
    blessing.set_int_custom_property("blessed", 1)
    evaluation.set_string_custom_property("summary", "blessed: ndcg@10 0.3000 against 0.2000")
