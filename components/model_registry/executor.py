"""Asks the registry of pushed models, and keeps the answer out of the cache's way.

What a node here answers depends on a folder that no cache key knows. On this machine a driver asks
first and puts the answer into the key: the node is cached if and only if it would say the same thing
again. On Kubeflow, where drivers of our own do not run, the node is compiled without caching and the
executor asks. What follows gets the answer as a parameter and is cached by its value in both places.
"""

from __future__ import annotations

import abc
import os
from typing import Any

from tfx.dsl.components.base import base_driver, base_executor
from tfx.dsl.io import fileio
from tfx.orchestration import metadata
from tfx.orchestration.portable import base_driver as portable_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils

from components.common import artifacts, registry
from components.common.windows import Windows
from components.model_registry.settings import Settings

MODEL, SESSIONS, VERSION = "model", "raw_sessions", "version"
DESTINATION, CONFIG = "destination", "config"
_ANSWER = "answer"  # the driver's; part of the cache key


class _Executor(base_executor.BaseExecutor, abc.ABC):
    """Writes what `ask` finds to the output `version`."""

    @staticmethod
    @abc.abstractmethod
    def ask(inputs: dict[str, list[Any]], properties: dict[str, Any]) -> registry.Reference | None:
        """The version of this node's question, None if there is none."""

    def Do(
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: Any
    ) -> None:
        """See TFX's base class."""
        answer = exec_properties.get(_ANSWER)
        if answer is None:
            answer = registry.write_reference(self.ask(input_dict, exec_properties))
        found = registry.read_reference(answer)
        version = artifact_utils.get_single_instance(output_dict[VERSION])
        fileio.makedirs(os.path.dirname(version.uri))
        version.write(answer)
        version.set_string_custom_property(
            "summary", f"pushed version {found.version}" if found else "no earlier model"
        )


class _Driver(base_driver.BaseDriver, portable_driver.BaseDriver):
    """Adds the answer to the parameters by which the node is cached."""

    EXECUTOR: type[_Executor]

    def __init__(self, handle: metadata.Metadata) -> None:
        base_driver.BaseDriver.__init__(self, handle)
        portable_driver.BaseDriver.__init__(self, handle)

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """See TFX's base class."""
        found = self.EXECUTOR.ask(execution_info.input_dict, execution_info.exec_properties)
        output = driver_output_pb2.DriverOutput()
        output.exec_properties[_ANSWER].string_value = registry.write_reference(found)
        return output


class BaselineExecutor(_Executor):
    """See `components.model_registry.component.BaselineModel`."""

    @staticmethod
    def ask(inputs: dict[str, list[Any]], properties: dict[str, Any]) -> registry.Reference | None:
        """The latest other version."""
        model = artifact_utils.get_single_instance(inputs[MODEL])
        own = registry.identity(artifacts.model_folder(model.uri))
        found = registry.baseline(registry.read(properties[DESTINATION]), own)
        return registry.Reference(folder=found.folder, standing=found.record.standing) if found else None


class BaselineDriver(_Driver):
    """Of BaselineModel."""

    EXECUTOR = BaselineExecutor


class WarmStartExecutor(_Executor):
    """See `components.model_registry.component.WarmStartModel`."""

    @staticmethod
    def ask(inputs: dict[str, list[Any]], properties: dict[str, Any]) -> registry.Reference | None:
        """The version with the latest data of those with earlier data."""
        settings = Settings.from_json(properties[CONFIG])
        sessions = artifact_utils.get_single_instance(inputs[SESSIONS])
        until = Windows.of(sessions, settings.split).label_starts(settings.ranking)[0]
        found = registry.warm_start(registry.read(properties[DESTINATION]), until)
        return registry.Reference(folder=found.folder) if found else None


class WarmStartDriver(_Driver):
    """Of WarmStartModel."""

    EXECUTOR = WarmStartExecutor
