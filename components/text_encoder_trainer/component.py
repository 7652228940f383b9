"""TextEncoderTrainer's component spec (no `from __future__ import annotations`: see TFX)."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components import shop
from components.text_encoder_trainer import executor
from pipeline.config import load_sections


@component
def TextEncoderTrainer(
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    model: OutputArtifact[standard_artifacts.Model],
    config: Parameter[str],
    code_version: Parameter[str],
) -> None:
    """Prepares the shop's BERT text encoder and encodes the whole catalogue once.

    Args:
      items: transformed items.
      item_graph: ItemTransform's graph.
      model: SavedModel from raw strings, and the catalogue's vectors.
      config: sections `items`, `exposures`, `text_encoder`.
      code_version: part of the cache key.
    """
    del code_version
    shop_config = load_sections(config)
    table = shop.load_items(items.uri, item_graph.uri, shop_config.items, exposure_channels=[])
    model.set_string_custom_property("summary", executor.run(table, shop_config.text_encoder, model.uri))
