"""InfraValidator's component spec (no `from __future__ import annotations`: see TFX)."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts

from components.common import artifacts
from components.infra_validator import executor
from components.infra_validator.settings import Settings


@component
def InfraValidator(
    model: InputArtifact[standard_artifacts.Model],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
    config: Parameter[str],
    code_version: Parameter[str],
) -> None:
    """Blesses a servable that a real server loads, and that answers correctly and soon enough.

    TFX's own InfraValidator knows Docker and Kubernetes only; this one starts
    `serving.model_server`, which speaks TensorFlow Serving's gRPC, or a TensorFlow Serving binary.

    Args:
      model: the servable.
      blessing: `blessed` 1 or 0, as Pusher reads it.
      config: JSON of :class:`components.infra_validator.settings.Settings`.
      code_version: part of the cache key.
    """
    del code_version
    passed, found = executor.validate(
        artifacts.model_folder(model.uri), Settings.from_json(config).infra_validator
    )
    blessing.set_int_custom_property("blessed", int(passed))
    fileio.makedirs(blessing.uri)
    with fileio.open(f"{blessing.uri}/{'INFRA_BLESSED' if passed else 'INFRA_NOT_BLESSED'}", "w") as file:
        file.write(found)
    blessing.set_string_custom_property("summary", found if passed else f"NOT blessed: {found}")
