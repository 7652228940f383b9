"""The reviewed schemas describe exactly the features that the ExampleGens write."""

from pathlib import Path

import pytest
from google.protobuf import text_format

pytest.importorskip("apache_beam")

from tensorflow_metadata.proto.v0 import schema_pb2

from components.catalog_example_gen import executor as catalog
from pipeline.config import load

CONFIG = load("pipeline/configs/complete_journey.yaml")


def schema(table):
    text = (Path(CONFIG.schema_dir) / f"{table}.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, schema_pb2.Schema())


def test_features_are_those_of_the_configuration():
    items = {role.name for role in catalog.item_roles(CONFIG.items)} | {"exposure_week"}
    items |= {f"exposure_{name}" for name in CONFIG.exposures.channels}
    assert {feature.name for feature in schema("items").feature} == items
    users = {role.name for role in catalog.user_roles(CONFIG.users)}
    assert {feature.name for feature in schema("users").feature} == users
    events = {feature.name for feature in schema("events").feature}
    assert {name for name in events if name.startswith("context_")} == {
        f"context_{c}" for c in CONFIG.events.context
    }


@pytest.mark.parametrize("table", ["items", "users", "events"])
def test_review_rules(table):
    found = schema(table)
    domains = {domain.name: set(domain.value) for domain in found.string_domain}
    for feature in found.feature:
        assert feature.HasField("presence"), feature.name
        assert feature.presence.min_count <= 1, feature.name
        if feature.type == schema_pb2.FLOAT:
            assert feature.float_domain.disallow_nan, feature.name
            assert feature.float_domain.min < feature.float_domain.max, feature.name
        if feature.domain:
            assert domains[feature.domain], feature.name


def test_event_types_are_those_with_a_weight():
    (domain,) = schema("events").string_domain
    assert set(domain.value) == set(CONFIG.events.event_weights)
