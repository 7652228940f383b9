"""QueryEncoderTrainer's component spec (no `from __future__ import annotations`: see TFX)."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import artifacts, search_inputs
from components.common import catalogue as item_tables
from components.common.queries import Queries
from components.query_encoder_trainer import executor
from components.query_encoder_trainer.settings import Settings


@component
def QueryEncoderTrainer(
    catalog: InputArtifact[standard_artifacts.Examples],
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    text_encoder: InputArtifact[standard_artifacts.Model],
    model: OutputArtifact[standard_artifacts.Model],
    model_run: OutputArtifact[standard_artifacts.ModelRun],
    config: Parameter[str],
    code_version: Parameter[str],
    judgements: InputArtifact[standard_artifacts.Examples] = None,
) -> None:
    """Trains the encoder of queries, for the item vectors that there are.

    Args:
      catalog: CatalogExampleGen's items, with every text column.
      items: transformed items.
      item_graph: ItemTransform's graph.
      text_encoder: TextEncoderTrainer's, with the items' vectors.
      model: SavedModel from raw strings.
      model_run: history.json.
      config: JSON of :class:`components.query_encoder_trainer.settings.Settings`.
      code_version: part of the cache key.
      judgements: JudgementExampleGen's; None in a shop without, whose queries come from the catalogue.
    """
    del code_version
    settings = Settings.from_json(config)
    train = valid = Queries.none()
    lexical = None
    if settings.query_encoder.mode != "text_encoder":
        table = item_tables.load_items(items.uri, item_graph.uri, settings.items, exposure_channels=[])
        catalogue = search_inputs.catalogue(search_inputs.raw_items(catalog.uri), table, settings.items)
        judged = judgements.uri if judgements else None
        train, valid = executor.queries(catalogue, judged, settings.search_training)
        lexical = executor.found_by_words(catalogue, train, settings.search)
    summary = executor.run(
        train=train,
        valid=valid,
        lexical=lexical,
        items=search_inputs.text_vectors(text_encoder.uri),
        encoder_folder=artifacts.model_folder(text_encoder.uri),
        text=settings.text_encoder,
        config=settings.query_encoder,
        seed=settings.search_training.seed,
        output=model.uri,
        run_folder=model_run.uri,
    )
    model.set_string_custom_property("summary", summary)
