"""TextEncoderTrainer's component spec (no `from __future__ import annotations`: see TFX)."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import catalogue
from components.common.searches import Searches
from components.common.windows import Windows
from components.text_encoder_trainer import executor
from components.text_encoder_trainer.settings import Settings
from models.data import example_io
from models.data.event_log import EventLog
from models.text.strategy import make_strategy


@component
def TextEncoderTrainer(
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    model: OutputArtifact[standard_artifacts.Model],
    model_run: OutputArtifact[standard_artifacts.ModelRun],
    config: Parameter[str],
    code_version: Parameter[str],
    raw_sessions: InputArtifact[standard_artifacts.Examples] = None,
) -> None:
    """Fine-tunes the shop's BERT text encoder and encodes the whole catalogue once.

    Args:
      items: transformed items.
      item_graph: ItemTransform's graph.
      model: SavedModel from raw strings, and the catalogue's vectors.
      model_run: the training curves.
      config: JSON of :class:`components.text_encoder_trainer.settings.Settings`.
      code_version: part of the cache key.
      raw_sessions: EventExampleGen's artifact, from which the encoder learns what the two
        towers learn from too: the sessions before the ranker's label windows. None for mode
        "frozen", so that new events do not encode the catalogue again.
    """
    del code_version
    settings = Settings.from_json(config)
    # first of all: a strategy over several machines must find TensorFlow untouched
    strategy = make_strategy(settings.text_encoder.strategy)
    log, searches, until = None, None, 0.0
    if raw_sessions:
        windows = Windows.of(raw_sessions, settings.split)
        folders = [example_io.split_folder(raw_sessions.uri, split) for split in windows.past]
        log, searches = EventLog.read(folders, None), Searches.read(folders)
        until = windows.label_starts(settings.ranking)[0]
    found = executor.run(
        items=catalogue.load_items(items.uri, item_graph.uri, settings.items, exposure_channels=[]),
        log=log,
        searches=searches,
        until=until,
        config=settings.text_encoder,
        strategy=strategy,
        output=model.uri,
        run_folder=model_run.uri,
    )
    model.set_string_custom_property("summary", found)
