"""Runs `init` on exports, and reads what it wrote."""

import dataclasses

import pyarrow.parquet as pq
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.catalog_example_gen import executor as catalog
from components.catalog_example_gen import exposures
from components.common import tables
from components.event_example_gen.roles import roles
from components.event_example_gen.rows import normalise
from components.event_example_gen.settings import Settings
from components.event_example_gen.survey import merge_surveys, plan, survey
from pipeline.onboarding import command
from schema import config as configuration

_TABLES = ("items", "users", "events")


@dataclasses.dataclass
class Shop:
    """What `init` made.

    Attributes:
      config: the proposed configuration.
      tables: name -> rows.
      schemas: name -> schema.
      said: what was shown.
    """

    config: configuration.Config
    tables: dict
    schemas: dict
    said: str

    def events(self, *columns, kind=None):
        """Rows of the events as tuples, of the predicted type by default."""
        kind = kind or self.config.events.default_event_type
        rows = [row for row in self.tables["events"] if row.get("event_type", kind) == kind]
        return [tuple(row[name] for name in columns) for row in rows]

    def items(self, *columns):
        """Rows of the items as tuples, by id."""
        rows = sorted(self.tables["items"], key=lambda row: row["item_id"])
        return [tuple(row[name] for name in columns) for row in rows]


def write(folder, files):
    """Writes texts to files; a byte string as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def init(tmp_path, capsys, *answers, **given):
    """Runs `init --yes` on files.

    Args:
      tmp_path: an empty folder.
      capsys: of pytest.
      answers: KEY=VALUE.
      given: table -> {file name: content}.
    """
    arguments = ["--yes", "--output", str(tmp_path / "shop.yaml")]
    for table, files in given.items():
        arguments += [f"--{table}", str(write(tmp_path / f"in_{table}", files))]
    for answer in answers:
        arguments += ["--answer", answer]
    if (tmp_path / "shop.yaml").exists():
        arguments += ["--answer", "overwrite=yes"]
    status = command.main(arguments)
    out, err = capsys.readouterr()
    assert status == 0, err
    config = configuration.load(tmp_path / "shop.yaml")
    read_as_a_run_does(config)
    there = [name for name in _TABLES if (tmp_path / "shop" / f"{name}.parquet").exists()]
    return Shop(
        config,
        {name: pq.read_table(tmp_path / "shop" / f"{name}.parquet").to_pylist() for name in there},
        {
            name: text_format.Parse(
                (tmp_path / "shop" / "schema" / f"{name}.pbtxt").read_text(), schema_pb2.Schema()
            )
            for name in there
        },
        out,
    )


def read_as_a_run_does(config):
    """Reads the prepared tables with the readers of the ExampleGens, which refuse what they cannot use."""

    def chunks(section, key, wanted):
        units = tables.open_table(config.data.resolve(section.path), key, wanted, config.data.csv)
        return [chunk for unit in units for chunk in tables.read(unit, wanted)]

    wanted = catalog.item_roles(config.items)
    assert [catalog.attributes(chunk, wanted) for chunk in chunks(config.items, "items.path", wanted)]
    if config.users:
        wanted = catalog.user_roles(config.users)
        assert [catalog.attributes(chunk, wanted) for chunk in chunks(config.users, "users.path", wanted)]
    if config.exposures:
        wanted = exposures.exposure_roles(config.exposures)
        found = chunks(config.exposures, "exposures.path", wanted)
        assert any(exposures.exposed(chunk, config.exposures).num_rows for chunk in found)
    if config.events:
        settings = Settings.of(config)
        found = chunks(config.events, "events.path", roles(config.events))
        chosen = plan(
            merge_surveys([survey(chunk, settings) for chunk in found], None), settings, "events.parquet"
        )
        for chunk in found:
            batch = normalise(chunk, chosen, settings)
            guests = chunk.batch.column("user_id").null_count if config.events.guests == "drop" else 0
            assert (batch.num_rows if batch else 0) == chunk.batch.num_rows - guests


def fail(tmp_path, capsys, *answers, **given):
    """Runs `init --yes` where it cannot; its error."""
    arguments = ["--yes", "--output", str(tmp_path / "shop.yaml")]
    for table, files in given.items():
        arguments += [f"--{table}", str(write(tmp_path / f"in_{table}", files))]
    for answer in answers:
        arguments += ["--answer", answer]
    assert command.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "shop.yaml").exists()
    return error
