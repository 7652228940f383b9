"""FunnelEvaluator's component spec (no `from __future__ import annotations`: see TFX)."""

from tfx.components.evaluator import constants
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts

from components.common import artifacts, registry
from components.common.windows import Windows
from components.funnel_evaluator import executor, verdict
from components.funnel_evaluator.settings import Settings
from models.data import example_io
from models.data.event_log import EventLog
from schema.config import EventKinds


@component
def FunnelEvaluator(
    raw_sessions: InputArtifact[standard_artifacts.Examples],
    candidates: InputArtifact[standard_artifacts.Examples],
    model: InputArtifact[standard_artifacts.Model],
    ranking_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    evaluation: OutputArtifact[standard_artifacts.ModelEvaluation],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    config: Parameter[str],
    code_version: Parameter[str],
    baseline: Parameter[str] = registry.NOTHING,
    raw_users: InputArtifact[standard_artifacts.Examples] = None,
) -> None:
    """Scores the servable on the whole catalogue; blesses it if it and the Evaluator agree.

    Args:
      raw_sessions: EventExampleGen's artifact.
      candidates: CandidateSampler's lists, of which the split `full` measures calibration.
      model: the servable.
      ranking_blessing: the Evaluator's verdict on the ranking head.
      evaluation: metrics.json and the recommendation lists.
      blessing: positive only if the Evaluator blessed the model too; holds the figures that Pusher
        records.
      config: JSON of :class:`components.funnel_evaluator.settings.Settings`.
      code_version: part of the cache key.
      baseline: the pushed version that the model must not fall behind, if any.
      raw_users: the users table, for slices.
    """
    del code_version
    settings = Settings.from_json(config)
    windows = Windows.of(raw_sessions, settings.split)
    folders = [example_io.split_folder(raw_sessions.uri, split) for split in windows.splits]
    last = registry.read_reference(baseline)
    found = executor.run(
        log=EventLog.read(folders, EventKinds.of(settings), list(settings.events.context)),
        windows=windows,
        model_folder=artifacts.model_folder(model.uri),
        last=last,
        ranking_blessed=ranking_blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY)
        == 1,
        users=settings.users,
        users_uri=raw_users.uri if raw_users else None,
        candidates=settings.candidates,
        quality=settings.quality,
        lists=example_io.split_folder(candidates.uri, "full"),
        output=evaluation.uri,
    )
    blessed = bool(found["blessed"])
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if last:
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, last.folder)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
    marker = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    fileio.makedirs(blessing.uri)
    with fileio.open(f"{blessing.uri}/{marker}", "w") as file:
        file.write("\n".join(found["reasons"]))
    metric = settings.quality.primary_metric
    figures = {verdict.figure(task, metric): values[metric] for task, values in found["funnel"].items()}
    line = registry.Line(
        figures=figures | {"ece": found["calibration"]["purchase"]["ece"]},
        standing=found["standing"],
        window=(found["window"]["start"], found["window"]["end"]),
        baseline=last.version if last else None,
    )
    registry.set_line(blessing, line)
    scores = ", ".join(f"{task} {values[metric]:.4f}" for task, values in found["funnel"].items())
    failed = [check["text"] for check in found["checks"] if not check["passed"]]
    outcome = f"NOT blessed: {'; '.join(failed)}" if failed else "blessed"
    evaluation.set_string_custom_property("summary", f"{metric} {scores}: {outcome}")
