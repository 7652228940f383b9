"""The reviewed schemas describe exactly the features that the ExampleGens write."""

from pathlib import Path

import pytest
from google.protobuf import text_format

pytest.importorskip("apache_beam")

from tensorflow_metadata.proto.v0 import schema_pb2

from components.catalog_example_gen import executor as catalog
from schema.config import load

SHOPS = ["complete_journey", "movielens_100k"]


@pytest.fixture(params=SHOPS)
def config(request):
    return load(f"pipeline/configs/{request.param}.yaml")


def schema(config, table):
    text = (Path(config.schema_dir) / f"{table}.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, schema_pb2.Schema())


def test_features_are_those_of_the_configuration(config):
    items = {role.name for role in catalog.item_roles(config.items)}
    if config.exposures:
        items |= {"exposure_week", *(f"exposure_{name}" for name in config.exposures.channels)}
    assert {feature.name for feature in schema(config, "items").feature} == items
    users = {role.name for role in catalog.user_roles(config.users)}
    assert {feature.name for feature in schema(config, "users").feature} == users
    events = {feature.name for feature in schema(config, "events").feature}
    assert {name for name in events if name.startswith("context_")} == {
        f"context_{c}" for c in config.events.context
    }


@pytest.mark.parametrize("table", ["items", "users", "events"])
def test_review_rules(config, table):
    found = schema(config, table)
    domains = {domain.name: set(domain.value) for domain in found.string_domain}
    for feature in found.feature:
        assert feature.HasField("presence"), feature.name
        assert feature.presence.min_count <= 1, feature.name
        if feature.type == schema_pb2.FLOAT:
            assert feature.float_domain.disallow_nan, feature.name
            assert feature.float_domain.min < feature.float_domain.max, feature.name
        if feature.domain:
            assert domains[feature.domain], feature.name


def test_event_types_are_those_with_a_weight(config):
    (domain,) = schema(config, "events").string_domain
    assert set(domain.value) == set(config.events.event_weights)
