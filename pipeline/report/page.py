"""`report.html`: one self-contained page about one run.

    python -m pipeline.report.page --run runs/complete_journey

writes it anew from the run's summary.json and the artifacts that its metadata store names.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import jinja2

from pipeline.formats import format_bytes, format_seconds
from pipeline.record import RunRecord, read_run
from pipeline.report import charts, search, sections, summary
from schema.errors import UserError

TEMPLATES = Path(__file__).parent / "templates"


def write(run_dir: str | Path) -> Path:
    """Writes ``report.html`` into a run's folder.

    Args:
      run_dir: folder with summary.json and, if the run came that far, metadata.sqlite.

    Returns:
      The path of the page.

    Raises:
      UserError: there is no readable summary.json.
    """
    run_dir = Path(run_dir)
    path = run_dir / "summary.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); "
            "give the folder of a finished run, e.g. runs/complete_journey"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); run the pipeline again") from error
    record = None
    if result.get("run_id"):
        record = read_run(run_dir / "metadata.sqlite", result["run_id"])
    summary.write_atomically(run_dir / "report.html", render(result, record, run_dir))
    return run_dir / "report.html"


def render(result: dict[str, Any], record: RunRecord | None, run_dir: Path) -> str:
    """The page as HTML.

    Args:
      result: content of summary.json.
      record: the run in the metadata store, None if it did not reach its first component.
      run_dir: folder of the run.

    Returns:
      One HTML document without any reference to another file or the network.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["seconds"] = format_seconds
    environment.filters["bytes"] = format_bytes
    environment.filters["num"] = charts.number
    missing = sections.Missing(result)
    return environment.get_template("report.html.j2").render(
        run=result,
        run_dir=str(run_dir),
        tiles=sections.tiles(result),
        quality=sections.quality(result, record, missing),
        search=search.section(record, missing),
        ranking=sections.ranking(result, missing),
        index=sections.index(record, missing),
        data=sections.data(record, missing),
        training=sections.training(record, missing),
        stages=sections.stages(result),
        push=sections.push(record, missing),
    )


def main(argv: list[str] | None = None, *, prog: str = "python -m pipeline.report.page") -> int:
    """The command, called `prog` in its help; returns the exit status."""
    parser = argparse.ArgumentParser(prog=prog, description="Writes a run's report.html anew.")
    parser.add_argument(
        "--run", required=True, metavar="DIR", help="folder of the run, e.g. runs/complete_journey"
    )
    args = parser.parse_args(argv)
    try:
        print(os.path.relpath(write(args.run)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
