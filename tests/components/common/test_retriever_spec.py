"""Four components declare the retriever's inputs once, and TFX sees them as if each had."""

import dataclasses
import importlib

import pytest
from tfx.types import standard_artifacts

from components.common.artifact_types import CandidateIndex
from components.common.retriever_inputs import RetrieverInputs
from components.common.retriever_spec import TYPES, takes_retriever

EXPECTED = {
    "session_graph": (standard_artifacts.TransformGraph, False),
    "items": (standard_artifacts.Examples, False),
    "item_graph": (standard_artifacts.TransformGraph, False),
    "retrieval_model": (standard_artifacts.Model, False),
    "index": (CandidateIndex, False),
    "users": (standard_artifacts.Examples, True),
    "user_graph": (standard_artifacts.TransformGraph, True),
}
OWN = {
    "CandidateSampler": {"raw_sessions", "raw_users"},
    "RankingTuner": {"candidates"},
    "RankingTrainer": {"candidates", "hyperparameters"},
    "ServableBuilder": {
        "raw_sessions",
        "text_encoder",
        "ranking_model",
        "catalog",
        "query_encoder",
        "search",
    },
}


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("candidate_sampler", "CandidateSampler"),
        ("ranking_tuner", "RankingTuner"),
        ("ranking_trainer", "RankingTrainer"),
        ("servable_builder", "ServableBuilder"),
    ],
)
def test_the_components_have_these_inputs(folder, name):
    module = importlib.import_module(f"components.{folder}.component")
    component = getattr(module, name)
    inputs = component.SPEC_CLASS.INPUTS
    assert set(inputs) == set(EXPECTED) | OWN[name]
    assert {key: (inputs[key].type, inputs[key].optional) for key in EXPECTED} == EXPECTED
    # by these names TFX's containers and the metadata store know the component
    assert f"{component.__module__}.{component.__qualname__}" == f"components.{folder}.component.{name}"
    assert component.EXECUTOR_SPEC.executor_class is getattr(module, f"{name}_Executor")


def test_every_folder_has_a_type():
    assert {field.name for field in dataclasses.fields(RetrieverInputs)} == set(TYPES)


@pytest.mark.parametrize("with_users", [False, True])
def test_the_function_gets_the_folders(with_users):
    given = {}

    @takes_retriever
    def function(retriever: RetrieverInputs, config: str) -> None:
        given.update(retriever=retriever, config=config)

    arguments = {}
    for name, (kind, optional) in EXPECTED.items():
        if with_users or not optional:
            arguments[name] = kind()
            arguments[name].uri = f"/{name}"
    function(config="{}", **arguments)
    wanted = {name: f"/{name}" for name in arguments}
    assert given == {"retriever": RetrieverInputs(**wanted), "config": "{}"}
