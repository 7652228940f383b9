"""What `create_pipeline` puts together; nothing runs. Edges: `tests/kubeflow/test_compile.py`."""

import functools

import pytest

from pipeline.stages.nodes import rebuilt, rebuilt_ids
from schema import config as config_lib

SHOP = "pipeline/configs/complete_journey.yaml"
LOCAL = {"pipeline_root": "/a", "metadata_path": "/m.sqlite", "serving_dir": "/s"}


@functools.cache
def pipeline(**settings):
    from pipeline.pipeline import create_pipeline

    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    return create_pipeline(config_lib.load(SHOP, overrides), **LOCAL)


def test_nodes_of_the_stages_are_all_there_and_once():
    found = [node.id for node in pipeline().components]
    assert len(found) == len(set(found))
    tables = [f"{table}{step}" for table in ("Item", "Event", "User") for step in ("Statistics", "Validator")]
    tables += [f"{table}{step}" for table in ("Item", "Event", "User") for step in ("Schema", "Transform")]
    assert set(found) == {
        *("CatalogExampleGen", "EventExampleGen", *tables, "DataQualityGate", "TextEncoderTrainer"),
        *("WarmStartModel", "RetrievalTrainer", "CandidateIndex", "CandidateSampler", "RankingTrainer"),
        *("ServableBuilder", "BaselineModel", "Evaluator", "FunnelEvaluator", "InfraValidator", "Pusher"),
        *("QueryEncoderTrainer", "SearchTrainer", "SearchEvaluator"),
    }


def test_a_shop_without_events_has_what_search_needs_and_no_more():
    from pipeline.pipeline import create_pipeline

    shop = config_lib.load("pipeline/configs/esci_us.yaml")
    found = create_pipeline(shop, **LOCAL, fingerprint=lambda files: ",".join(files))
    assert sorted(node.id for node in found.components) == sorted(
        [
            *("CatalogExampleGen", "ItemStatistics", "ItemSchema", "ItemValidator", "DataQualityGate"),
            *("ItemTransform", "JudgementExampleGen", "TextEncoderTrainer", "QueryEncoderTrainer"),
            *("SearchTrainer", "CatalogueServableBuilder", "SearchEvaluator", "InfraValidator", "Pusher"),
        ]
    )


@pytest.mark.parametrize(
    ("settings", "added", "gone"),
    [
        ({"retrieval__warm_start": False}, set(), {"WarmStartModel"}),
        ({"ranking__tune": True}, {"RankingTuner"}, set()),
        ({"search__enabled": False}, set(), {"QueryEncoderTrainer", "SearchTrainer", "SearchEvaluator"}),
    ],
)
def test_nodes_that_a_setting_adds_or_takes_away(settings, added, gone):
    usual, found = ({node.id for node in one.components} for one in (pipeline(), pipeline(**settings)))
    assert (found - usual, usual - found) == (added, gone)


def test_a_refresh_rebuilds_the_catalogue_and_what_is_served_and_trains_nothing():
    assert rebuilt_ids(pipeline()) == {
        *("CatalogExampleGen", "ItemStatistics", "ItemValidator", "DataQualityGate"),
        *("CandidateIndex", "ServableBuilder", "Evaluator", "FunnelEvaluator", "InfraValidator", "Pusher"),
        *("BaselineModel", "SearchEvaluator"),
    }
    node = pipeline().components[0]
    assert rebuilt(node) is node


def test_every_component_of_ours_has_the_version_of_its_own_code():
    from components.common.fingerprint import code_version

    seen = {}
    for node in pipeline().components:
        module = type(node).__module__
        if module.startswith("components."):
            package = module.removesuffix(".component")
            seen[node.id] = node.exec_properties["code_version"]
            assert seen[node.id] == code_version(package), node.id
    assert {"RankingTrainer", "Pusher", "ItemSchema", "Evaluator"} <= set(seen)
