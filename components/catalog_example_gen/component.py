"""CatalogExampleGen's component spec.

This module must not use `from __future__ import annotations`: the decorator reads the
annotations as objects.
"""

import apache_beam as beam
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.catalog_example_gen import executor
from components.catalog_example_gen.settings import Settings


@component(use_beam=True)
def CatalogExampleGen(
    items: OutputArtifact[standard_artifacts.Examples],
    users: OutputArtifact[standard_artifacts.Examples],
    config: Parameter[str],
    data_version: Parameter[str],
    code_version: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Reads the catalogue, the users and the exposures and writes them as tf.Examples.

    Args:
      items: split items, every item of the catalogue; custom properties `summary` and, with exposures,
        `unmatched`, the number of promoted item-weeks whose item the catalogue lacks.
      users: split users; without a users table it has no split.
      config: JSON of :class:`components.catalog_example_gen.settings.Settings`.
      data_version: :func:`components.common.fingerprint.data_version` of the tables' files.
      code_version: :func:`components.common.fingerprint.code_version` of this component.
      beam_pipeline: given by TFX.
    """
    del data_version, code_version  # only part of the cache key
    settings = Settings.from_json(config)
    found = executor.run(beam_pipeline, settings, items.uri, users.uri)
    for artifact, splits in ((items, ["items"]), (users, ["users"] if settings.users else [])):
        artifact.split_names = artifact_utils.encode_split_names(splits)
        artifact.span = 0
        examples_utils.set_payload_format(artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    summary = f"{found['items']:,} items"
    if settings.exposures:
        summary += f", {found['items_exposed']:,} of them promoted in {found['weeks_exposed']:,} item-weeks"
        items.set_int_custom_property("unmatched", found.get("unmatched", 0))
        if found.get("unmatched"):
            summary += f" ({found['unmatched']:,} more are of items that the catalogue lacks)"
    summary += f", {found['users']:,} users with attributes" if settings.users else ", no users table"
    items.set_string_custom_property("summary", summary)
    users.set_string_custom_property("summary", f"{found.get('users', 0):,} users")
