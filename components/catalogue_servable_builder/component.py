"""CatalogueServableBuilder's component spec (no `from __future__ import annotations`: see TFX)."""

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.catalogue_servable_builder import executor
from components.catalogue_servable_builder.settings import Settings
from components.common import artifact_types, artifacts, search_inputs
from components.common import catalogue as item_tables


@component
def CatalogueServableBuilder(
    catalog: InputArtifact[standard_artifacts.Examples],
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    text_encoder: InputArtifact[standard_artifacts.Model],
    query_encoder: InputArtifact[standard_artifacts.Model],
    search: InputArtifact[artifact_types.SearchModel],
    model: OutputArtifact[standard_artifacts.Model],
    config: Parameter[str],
    code_version: Parameter[str],
) -> None:
    """Exports search, completions and similar items as one SavedModel of stock ops.

    Args:
      catalog: CatalogExampleGen's items, with every text column.
      items: transformed items.
      item_graph: ItemTransform's graph.
      text_encoder: with the items' text vectors.
      query_encoder: QueryEncoderTrainer's.
      search: SearchTrainer's.
      model: the servable.
      config: JSON of :class:`components.catalogue_servable_builder.settings.Settings`.
      code_version: part of the cache key.
    """
    del code_version
    settings = Settings.from_json(config)
    table = item_tables.load_items(items.uri, item_graph.uri, settings.items, exposure_channels=[])
    raw = search_inputs.raw_items(catalog.uri)
    parts = search_inputs.parts(
        search_inputs.catalogue(raw, table, settings.items),
        search_inputs.text_vectors(text_encoder.uri),
        tf.saved_model.load(artifacts.model_folder(query_encoder.uri)),
        search.uri,
        settings.search,
    )
    encoder = tf.saved_model.load(artifacts.model_folder(text_encoder.uri))
    summary = executor.run(table, encoder, parts, settings, model.uri)
    model.set_string_custom_property("summary", summary)
