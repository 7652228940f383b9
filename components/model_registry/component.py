"""The specs of the nodes that ask the registry (no `from __future__ import annotations`: see TFX)."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.model_registry import executor


class BaselineModelSpec(ComponentSpec):
    """Of BaselineModel."""

    PARAMETERS = {
        executor.DESTINATION: ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {executor.MODEL: ChannelParameter(type=standard_artifacts.Model)}
    OUTPUTS = {executor.VERSION: ChannelParameter(type=standard_artifacts.String)}


class BaselineModel(base_component.BaseComponent):
    """The pushed version that a new model must not fall behind: the latest other one.

    Its output is a value for a parameter of what follows (`components.common.registry.Reference`):
    ``baseline.outputs["version"].future()[0].value``. It is the empty reference for the first model.

    Args:
      model: the new servable.
      destination: folder of the pushed versions.
      code_version: part of the cache key.
    """

    SPEC_CLASS = BaselineModelSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.BaselineExecutor)
    DRIVER_CLASS = executor.BaselineDriver

    def __init__(self, model: types.BaseChannel, destination: str, code_version: str) -> None:
        version = types.Channel(type=standard_artifacts.String)
        super().__init__(
            spec=BaselineModelSpec(
                model=model, destination=destination, code_version=code_version, version=version
            )
        )


class WarmStartModelSpec(ComponentSpec):
    """Of WarmStartModel."""

    PARAMETERS = {
        executor.DESTINATION: ExecutionParameter(type=str),
        executor.CONFIG: ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {executor.SESSIONS: ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {executor.VERSION: ChannelParameter(type=standard_artifacts.String)}


class WarmStartModel(base_component.BaseComponent):
    """The pushed version whose towers the new ones start from; its output is used like BaselineModel's.

    Args:
      raw_sessions: EventExampleGen's artifact (its properties hold the windows).
      destination: folder of the pushed versions.
      config: JSON of :class:`components.model_registry.settings.Settings`.
      code_version: part of the cache key.
    """

    SPEC_CLASS = WarmStartModelSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.WarmStartExecutor)
    DRIVER_CLASS = executor.WarmStartDriver

    def __init__(
        self, raw_sessions: types.BaseChannel, destination: str, config: str, code_version: str
    ) -> None:
        version = types.Channel(type=standard_artifacts.String)
        super().__init__(
            spec=WarmStartModelSpec(
                raw_sessions=raw_sessions,
                destination=destination,
                config=config,
                code_version=code_version,
                version=version,
            )
        )
