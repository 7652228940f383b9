"""DataQualityGate's component spec.

This module must not use `from __future__ import annotations`: the decorator reads the
annotations as objects.
"""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.types.experimental import simple_artifacts

from components.data_quality_gate import executor


@component
def DataQualityGate(
    items: InputArtifact[standard_artifacts.ExampleAnomalies],
    # A standard type: Kubeflow Pipelines refuses artifact classes of our own.
    quality: OutputArtifact[simple_artifacts.Metrics],
    schema_dir: Parameter[str],
    code_version: Parameter[str],
    events: InputArtifact[standard_artifacts.ExampleAnomalies] = None,
    users: InputArtifact[standard_artifacts.ExampleAnomalies] = None,
) -> None:
    """Fails the run, with the reasons, when a table does not fit its reviewed schema.

    Args:
      items: ExampleValidator's findings on the items.
      quality: quality.json; what must wait for the gate takes this artifact or names the
        gate as an upstream node.
      schema_dir: folder of the reviewed schemas, which the reasons name.
      code_version: :func:`components.common.fingerprint.code_version` of this component.
      events: ... on the sessions; left out when the shop has no events.
      users: ... on the users; left out when the shop has no users table.
    """
    del code_version  # only part of the cache key
    anomalies = {"items": items, "users": users, "events": events}
    uris = {table: artifact.uri for table, artifact in anomalies.items() if artifact}
    found = executor.run(uris, schema_dir, quality.uri)
    splits = sum(len(splits) for splits in found["tables"].values())
    quality.set_string_custom_property(
        "summary", f"no anomalies in {len(found['tables'])} tables ({splits} splits)"
    )
