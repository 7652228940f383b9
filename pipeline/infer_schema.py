"""Proposes schemas for a shop's tables, to be reviewed and committed.

Reads the tables that a configuration names as the pipeline does, and writes what TFDV infers
from all of it to items.pbtxt, users.pbtxt and events.pbtxt, with what was seen of every
feature as comments. A proposal only describes this data; a reviewed schema says what the data
must be. See schema/README.md.

    python -m pipeline.infer_schema --config pipeline/configs/my_shop.yaml --output schema/my_shop
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from components.common import tables
from schema import config as configuration
from schema.errors import UserError


def observed(statistics: Any) -> dict[str, str]:
    """What was seen of each feature, one line each.

    Args:
      statistics: a TFDV DatasetFeatureStatisticsList with one data set.
    """
    seen = {}
    dataset = statistics.datasets[0]
    for feature in dataset.features:
        numeric = feature.WhichOneof("stats") == "num_stats"
        common = feature.num_stats.common_stats if numeric else feature.string_stats.common_stats
        share = common.num_non_missing / max(dataset.num_examples, 1)
        line = (
            f"in {share:.2%} of {dataset.num_examples:,} examples, "
            f"{common.min_num_values} to {common.max_num_values} values"
        )
        if numeric:
            line += f" from {feature.num_stats.min:g} to {feature.num_stats.max:g}"
        else:
            line += f", {feature.string_stats.unique:,} distinct"
        seen[feature.path.step[0]] = line
    return seen


def propose(config: configuration.Config, output: Path) -> None:
    """Writes one proposal a table into a folder.

    Args:
      config: the shop.
      output: folder of the proposals.

    Raises:
      DataError: the tables cannot be read.
    """
    # TFX first: it supplies a module that this TFDV still imports (see docs of the lock).
    import tfx  # noqa: F401, I001
    import apache_beam as beam
    import tensorflow_data_validation as tfdv
    from google.protobuf import text_format

    from components.catalog_example_gen import executor as catalog
    from components.catalog_example_gen.settings import Settings as CatalogSettings
    from components.event_example_gen import executor as events
    from components.event_example_gen.settings import Settings as EventSettings

    def pipeline() -> beam.Pipeline:
        return beam.Pipeline(argv=config.beam_args)

    with tempfile.TemporaryDirectory() as folder:
        catalog.run(pipeline(), CatalogSettings.of(config), f"{folder}/items", f"{folder}/users")
        if config.events is not None:
            events.run(pipeline(), EventSettings.of(config), f"{folder}/events", f"{folder}/items")
        for table in ("items", "users", "events"):
            pattern = f"{folder}/{table}/Split-*/*"
            if getattr(config, table) is None:
                continue
            statistics = tfdv.generate_statistics_from_tfrecord(pattern)
            seen = observed(statistics)
            lines = ["# Proposed from the data; review every line (schema/README.md)."]
            for feature in text_format.MessageToString(tfdv.infer_schema(statistics)).splitlines():
                name = feature.strip().removeprefix('name: "').removesuffix('"')
                if feature.startswith('  name: "') and name in seen:
                    lines.append(f"  # {seen[name]}")
                lines.append(feature)
            (output / f"{table}.pbtxt").write_text("\n".join(lines) + "\n", encoding="utf-8")
            print(f"{output / table}.pbtxt: {len(seen)} features")
            for name, line in sorted(seen.items()):
                print(f"  {name}: {line}")


def _make(folder: Path) -> None:
    """Makes the folder of the proposals, before minutes of reading.

    Raises:
      UserError: it cannot be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--output {folder}: cannot be written ({error.strerror}); name another") from error


def main(arguments: list[str] | None = None, *, prog: str = "python -m pipeline.infer_schema") -> int:
    """The command line, called `prog` in its help; returns the exit status."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="the shop's YAML configuration")
    parser.add_argument(
        "--output", type=Path, default=Path("schema/proposed"), help="folder of the proposals"
    )
    parser.add_argument("--sample", type=int, help="read the sessions of this many users only")
    options = parser.parse_args(arguments)
    try:
        overrides = {"data.sample_users": options.sample} if options.sample else {}
        config = configuration.load(options.config, overrides)
        of_table = {"items.path": config.items, "events.path": config.events}
        for key, section in of_table.items():  # before TFX is imported
            if section is not None:
                tables.match(config.data.resolve(section.path), key)
        _make(options.output)
        propose(config, options.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
