"""SchemaImporter's component spec (no `from __future__ import annotations`: see TFX)."""

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.schema_importer import executor


@component
def SchemaImporter(
    schema: OutputArtifact[standard_artifacts.Schema],
    schema_file: Parameter[str],
    schema_version: Parameter[str],
    code_version: Parameter[str],
) -> None:
    """Imports a reviewed schema.

    Like TFX's ImportSchemaGen, whose cache key holds only the file's path: an edited schema
    would not be read again.

    Args:
      schema: the schema.
      schema_file: text proto.
      schema_version: `executor.schema_version` of the file.
      code_version: part of the cache key.
    """
    del schema_version, code_version  # only part of the cache key
    features = executor.run(schema_file, schema.uri)
    schema.set_string_custom_property("summary", f"{features} features in the reviewed schema")
