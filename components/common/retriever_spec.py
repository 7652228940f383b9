"""The retriever's inputs as a part of component specs.

This module must not use `from __future__ import annotations`: TFX reads annotations as objects.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact
from tfx.types import standard_artifacts

from components.common import artifact_types
from components.common.retriever_inputs import RetrieverInputs

# Folder of RetrieverInputs -> type of the artifact.
TYPES = {
    "session_graph": standard_artifacts.TransformGraph,
    "items": standard_artifacts.Examples,
    "item_graph": standard_artifacts.TransformGraph,
    "retrieval_model": standard_artifacts.Model,
    "index": artifact_types.CandidateIndex,
    "users": standard_artifacts.Examples,
    "user_graph": standard_artifacts.TransformGraph,
}


def takes_retriever(function: Callable[..., None]) -> Callable[..., None]:
    """Replaces a component function's parameter `retriever` by the inputs that it is made of.

    It stands below TFX's decorator, which reads the changed signature::

        @component
        @takes_retriever
        def CandidateSampler(retriever: RetrieverInputs, config: Parameter[str], ...) -> None:

    The component has an input for each folder of `RetrieverInputs`; the function gets the folders.
    """

    @functools.wraps(function)
    def with_artifacts(**arguments: Any) -> None:
        given = {name: arguments.pop(name, None) for name in TYPES}
        function(retriever=RetrieverInputs.of(given), **arguments)

    fields = inspect.signature(RetrieverInputs).parameters
    own = inspect.signature(function).parameters.values()
    inputs = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=fields[name].default,
            annotation=InputArtifact[kind],
        )
        for name, kind in TYPES.items()
    ]
    parameters = [*inputs, *(each for each in own if each.name != "retriever")]
    parameters.sort(key=lambda each: each.default is not inspect.Parameter.empty)  # optional ones last
    with_artifacts.__signature__ = inspect.Signature(parameters)
    with_artifacts.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
    return with_artifacts
