"""From the shop's tables to checked and transformed examples."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfx.components import ExampleValidator, StatisticsGen, Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import transform_pb2
from tfx.types import BaseChannel

from components.catalog_example_gen import settings as catalog_settings
from components.catalog_example_gen.component import CatalogExampleGen
from components.common import artifacts, catalogue
from components.common.fingerprint import code_version
from components.data_quality_gate.component import DataQualityGate
from components.data_version import executor as data_version
from components.data_version.component import DataVersion
from components.event_example_gen import settings as event_settings
from components.event_example_gen.component import EventExampleGen
from components.schema_importer import executor as schema_executor
from components.schema_importer.component import SchemaImporter
from pipeline.stages.nodes import rebuilt
from schema.config import Config

# Of files by their configuration keys, taken as the pipeline is built; None: by a step of each run.
Fingerprint = Callable[[Mapping[str, str]], str] | None


@dataclass(frozen=True)
class Tables:
    """The shop's tables as Examples.

    Attributes:
      nodes: the components, in order.
      items: one example an item.
      events: one example a session; None for a shop without events.
      users: one example a user; None for a shop without a users table.
    """

    nodes: list[BaseNode]
    items: BaseChannel
    events: BaseChannel | None
    users: BaseChannel | None

    @property
    def by_name(self) -> dict[str, BaseChannel]:
        """Those that the shop has, by "Item", "Event" and "User"."""
        tables = {"Item": self.items, "Event": self.events, "User": self.users}
        return {name: channel for name, channel in tables.items() if channel is not None}

    @property
    def raw_sessions(self) -> dict[str, BaseChannel]:
        """The input of components that need the events themselves, or their windows; empty without events."""
        return {"raw_sessions": self.events} if self.events is not None else {}

    @property
    def raw_users(self) -> dict[str, BaseChannel]:
        """The input of components that need the users' own attributes; empty without a users table."""
        return {"raw_users": self.users} if self.users is not None else {}


@dataclass(frozen=True)
class Checked:
    """What the check of the tables gives.

    Attributes:
      nodes: the components, in order.
      schemas: the reviewed schemas by table, see `Tables.by_name`.
      gate: the component that stops a run whose data does not fit.
    """

    nodes: list[BaseNode]
    schemas: dict[str, BaseChannel]
    gate: BaseNode


@dataclass(frozen=True)
class Features:
    """Transformed tables, each with its TransformGraph.

    Attributes:
      nodes: the components, in order.
      sessions: transformed examples; None for a shop without events.
      session_graph, item_inputs, user_inputs: inputs by name, as model components take them; empty for a
        shop without that table.
    """

    nodes: list[BaseNode]
    sessions: BaseChannel | None
    session_graph: dict[str, BaseChannel]
    item_inputs: dict[str, BaseChannel]
    user_inputs: dict[str, BaseChannel]


@dataclass(frozen=True)
class Version:
    """The fingerprint of files, for the cache key of the component that reads them.

    Attributes:
      nodes: the step that takes it in each run; none if it was taken as the pipeline was built.
      value: for that component's parameter `data_version`.
    """

    nodes: list[BaseNode]
    value: Any

    @classmethod
    def of(cls, name: str, config: Config, paths: Mapping[str, str], fingerprint: Fingerprint) -> Version:
        """The fingerprint of files.

        Args:
          name: of the table; the step's id begins with it.
          config: the shop.
          paths: the files by their configuration keys, as the configuration has them.
          fingerprint: takes it here, of full paths; None: in each run.
        """
        if fingerprint is not None:
            return cls([], fingerprint({key: config.data.resolve(path) for key, path in paths.items()}))
        step = DataVersion(
            files=data_version.files_json(config.data, paths),
            code_version=code_version("components.data_version"),
        ).with_id(f"{name}{DataVersion.__name__}")
        return cls([rebuilt(step)], step.outputs["version"].future()[0].value)


def read(config: Config, fingerprint: Fingerprint) -> Tables:
    """Reads the shop's files, of whose state `fingerprint` tells."""
    version = Version.of("Catalog", config, _files(config, "items", "users", "exposures"), fingerprint)
    catalog = CatalogExampleGen(
        config=catalog_settings.Settings.of(config).to_json(),
        data_version=version.value,
        code_version=code_version("components.catalog_example_gen"),
    )
    tables = Tables(
        nodes=[*version.nodes, rebuilt(catalog)],
        items=catalog.outputs["items"],
        events=None,
        users=catalog.outputs["users"] if config.users is not None else None,
    )
    if config.events is None:
        return tables
    version = Version.of("Event", config, _files(config, "events"), fingerprint)
    events = EventExampleGen(
        config=event_settings.Settings.of(config).to_json(),
        data_version=version.value,
        code_version=code_version("components.event_example_gen"),
        items=catalog.outputs["items"],
    )
    nodes = [*tables.nodes, *version.nodes, events]
    return dataclasses.replace(tables, nodes=nodes, events=events.outputs["examples"])


def check(config: Config, tables: Tables) -> Checked:
    """Compares every table with its reviewed schema and stops the run where one does not fit."""
    statistics, schemas, validators = {}, {}, {}
    for name, examples in tables.by_name.items():
        refreshed = name == "Item"  # a refresh reads the catalogue anew, and no event
        statistics[name] = rebuilt(StatisticsGen(examples=examples).with_id(f"{name}Statistics"), refreshed)
        schemas[name] = _schema(config, name)
        validator = ExampleValidator(
            statistics=statistics[name].outputs["statistics"], schema=schemas[name].outputs["schema"]
        )
        validators[name] = rebuilt(validator.with_id(f"{name}Validator"), refreshed)
    gate = DataQualityGate(
        **{f"{name.lower()}s": validator.outputs["anomalies"] for name, validator in validators.items()},
        schema_dir=config.schema_dir,
        code_version=code_version("components.data_quality_gate"),
    )
    return Checked(
        nodes=[*statistics.values(), *schemas.values(), *validators.values(), rebuilt(gate)],
        schemas={name: schema.outputs["schema"] for name, schema in schemas.items()},
        gate=gate,
    )


def transform(config: Config, tables: Tables, checked: Checked) -> Features:
    """Vocabularies and transformed examples; nothing learns from data that failed the check."""
    transforms = {}
    for name, (analyze, transformed) in _transform_splits(config).items():
        if name in tables.by_name:
            transforms[name] = Transform(
                examples=tables.by_name[name],
                schema=checked.schemas[name],
                preprocessing_fn=f"models.data.preprocessing.{name.lower()}s_preprocessing_fn",
                splits_config=transform_pb2.SplitsConfig(analyze=analyze, transform=transformed),
                disable_statistics=True,  # the model components check what they read
                custom_config=_transform_config(config)[name]
                | {"code_version": code_version("models.data.preprocessing")},
            ).with_id(f"{name}Transform")
            transforms[name].add_upstream_node(checked.gate)

    def inputs(name: str, table: str) -> dict[str, BaseChannel]:
        if table not in transforms:
            return {}
        outputs = transforms[table].outputs
        return {f"{name}s": outputs["transformed_examples"], f"{name}_graph": outputs["transform_graph"]}

    sessions = inputs("session", "Event")
    return Features(
        nodes=list(transforms.values()),
        sessions=sessions.pop("sessions", None),
        session_graph=sessions,
        item_inputs=inputs("item", "Item"),
        user_inputs=inputs("user", "User"),
    )


def _schema(config: Config, table: str) -> SchemaImporter:
    path = os.path.join(config.schema_dir, f"{table.lower()}s.pbtxt")
    return SchemaImporter(
        schema_file=path,
        schema_version=schema_executor.schema_version(path),
        code_version=code_version("components.schema_importer"),
    ).with_id(f"{table}Schema")


def _files(config: Config, *sections: str) -> dict[str, str]:
    """The sections' files by their configuration key."""
    named = {name: getattr(config, name) for name in sections}
    return {f"{name}.path": section.path for name, section in named.items() if section is not None}


def _transform_splits(config: Config) -> dict[str, tuple[list[str], list[str]]]:
    """Table -> (splits whose values make the vocabularies, splits that are transformed)."""
    past = ["train", "eval"] if config.split.evaluate_on == "test" else ["train"]
    return {
        "Item": ([artifacts.ITEMS_SPLIT], [artifacts.ITEMS_SPLIT]),
        "User": ([artifacts.USERS_SPLIT], [artifacts.USERS_SPLIT]),
        "Event": (past, past),
    }


def _transform_config(config: Config) -> dict[str, dict[str, object]]:
    return {
        "Item": {
            "text": list(config.items.text),
            "categorical": list(config.items.categorical),
            "channels": catalogue.channels(config.exposures),
        },
        "User": {"categorical": list(config.users.categorical) if config.users else []},
        "Event": {
            "contexts": list(config.events.context) if config.events else [],
            "min_item_events": config.retrieval.min_item_events,
        },
    }
