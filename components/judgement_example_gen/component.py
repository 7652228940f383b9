"""JudgementExampleGen's component spec (no `from __future__ import annotations`: see TFX)."""

from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.common import artifacts
from components.common.queries import SETS
from components.judgement_example_gen import executor
from components.judgement_example_gen.settings import Settings
from models.data import example_io
from schema import names as F


@component
def JudgementExampleGen(
    items: InputArtifact[standard_artifacts.Examples],
    judgements: OutputArtifact[standard_artifacts.Examples],
    config: Parameter[str],
    data_version: Parameter[str],
    code_version: Parameter[str],
) -> None:
    """Reads the judgements of a search and divides them by query.

    Args:
      items: CatalogExampleGen's items.
      judgements: splits train, eval and test, one example a query.
      config: JSON of :class:`components.judgement_example_gen.settings.Settings`.
      data_version: :func:`components.common.fingerprint.data_version` of the table's files.
      code_version: part of the cache key.
    """
    del data_version, code_version
    raw = example_io.read_table(example_io.split_folder(items.uri, artifacts.ITEMS_SPLIT), [F.ITEM_ID])
    found = executor.run(Settings.from_json(config), example_io.flat(raw, F.ITEM_ID), judgements.uri)
    judgements.split_names = artifact_utils.encode_split_names(list(SETS))
    judgements.span = 0
    examples_utils.set_payload_format(judgements, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    judgements.set_string_custom_property("summary", found)
