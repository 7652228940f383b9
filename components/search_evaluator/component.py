"""SearchEvaluator's component spec (no `from __future__ import annotations`: see TFX)."""

import os

import numpy as np
from tfx.components.evaluator import constants
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts

from components.common import artifact_types, artifacts, personal_queries, registry, search_inputs
from components.common import catalogue as item_tables
from components.common.windows import Windows
from components.search_evaluator import executor, verdict
from components.search_evaluator.settings import Settings
from models.data import example_io
from models.data.event_log import EventLog
from schema import names as F
from schema.config import EventKinds


@component
def SearchEvaluator(
    catalog: InputArtifact[standard_artifacts.Examples],
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    search: InputArtifact[artifact_types.SearchModel],
    model: InputArtifact[standard_artifacts.Model],
    evaluation: OutputArtifact[standard_artifacts.ModelEvaluation],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    config: Parameter[str],
    code_version: Parameter[str],
    raw_sessions: InputArtifact[standard_artifacts.Examples] = None,
) -> None:
    """Asks the servable's search what is known to be right, and blesses it if it finds enough.

    Args:
      catalog: CatalogExampleGen's items, with every text column.
      items: transformed items.
      item_graph: ItemTransform's graph.
      search: SearchTrainer's, with the queries.
      model: the servable.
      evaluation: search_metrics.json.
      blessing: the verdict, and the figures that Pusher records.
      config: JSON of :class:`components.search_evaluator.settings.Settings`.
      code_version: part of the cache key.
      raw_sessions: EventExampleGen's artifact; None in a shop without events.
    """
    del code_version
    settings = Settings.from_json(config)
    table = item_tables.load_items(items.uri, item_graph.uri, settings.items, exposure_channels=[])
    personal, window = None, None
    if raw_sessions:
        windows = Windows.of(raw_sessions, settings.split)
        window = (windows.cutoff, windows.end)
        # with leave-one-out there is no window in which all users buy
        if windows.by_time:
            catalogue = search_inputs.catalogue(search_inputs.raw_items(catalog.uri), table, settings.items)
            folders = [example_io.split_folder(raw_sessions.uri, split) for split in windows.splits]
            log = EventLog.read(folders, EventKinds.of(settings), list(settings.events.context))
            title = settings.search.title or settings.items.text[0]
            users, seed = settings.quality.personal_users, settings.search_training.seed
            asked = personal_queries.of_purchases(catalogue, title, log, *window, users, seed)
            states = log.histories(asked.user, windows.cutoff, settings.candidates.history_length)
            states[F.CONTEXT_TIMESTAMP] = np.full(len(asked.user), windows.cutoff, np.int64)
            personal = executor.Personal(asked, states)
    found = executor.run(
        model_folder=artifacts.model_folder(model.uri),
        evaluation_queries=os.path.join(search.uri, artifacts.EVALUATION_QUERIES),
        item_ids=table.item_id[1:],
        item_texts=table.text[1:],
        personal=personal,
        contexts=tuple(settings.events.context) if settings.events else (),
        quality=settings.quality,
        output=evaluation.uri,
    )
    blessed = bool(found["blessed"])
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
    marker = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    fileio.makedirs(blessing.uri)
    with fileio.open(f"{blessing.uri}/{marker}", "w") as file:
        file.write("\n".join(found["reasons"]))
    figures = {
        f"search/{name}/{metric}": found["sets"][name]["systems"][verdict.SEARCH][metric]
        for name, metric in verdict.FIGURE.items()
        if name in found["sets"]
    }
    registry.set_line(blessing, registry.Line(figures=figures, standing={}, window=window))
    scores = ", ".join(f"{name.removeprefix('search/')} {value:.4f}" for name, value in figures.items())
    failed = [check["text"] for check in found["checks"] if not check["passed"]]
    outcome = f"NOT blessed: {'; '.join(failed)}" if failed else "blessed"
    evaluation.set_string_custom_property("summary", f"{scores}: {outcome}")
