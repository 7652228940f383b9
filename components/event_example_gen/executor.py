"""Sessions, histories and time windows from an events table, in columns.

The data flow, in Beam::

    survey:  read ids and times -> checks -> last event, smallest user digests -> Plan
    main:    read -> normalise and filter by the Plan (side input) -> parts by user hash
             -> per part: sort, sessions, histories (index arithmetic) -> tf.Examples

The shuffle carries serialized Arrow batches, so no Python code runs per row.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from components.common import beam_io, matching, tables
from components.common.artifacts import SPLITS
from components.common.columns import MICROS, deserialize
from components.common.tables import Chunk
from components.event_example_gen.roles import roles
from components.event_example_gen.rows import normalise
from components.event_example_gen.sessions import sessions
from components.event_example_gen.settings import Settings
from components.event_example_gen.survey import Plan, Survey, empty_window, merge_surveys, plan, survey
from schema.errors import DataError


def run(
    pipeline: beam.Pipeline, settings: Settings, output_dir: str, items_dir: str | None = None
) -> dict[str, Any]:
    """Writes the sessions of every split under `output_dir`/Split-<name>/.

    Args:
      pipeline: an unstarted Beam pipeline; it is run here.
      settings: what to read and how.
      output_dir: folder or URL of the Examples artifact.
      items_dir: folder or URL of CatalogExampleGen's items; without it no event is looked up there.

    Returns:
      {"splits": {name: sessions}, "events", "users", "rows", "guests" (rows without a user), "unmatched"
      (events whose item the catalogue lacks), "train_end", "eval_end", "data_end" (unix seconds)};
      also written to summary.json in `output_dir`.

    Raises:
      DataError: files, columns, values, unknown event types, unknown items or empty windows.
    """
    path = settings.data.resolve(settings.events.path)
    units = tables.open_table(path, "events.path", roles(settings.events), settings.data.csv)
    known = None if items_dir is None else matching.catalogue(items_dir)
    beam_io.run(pipeline, lambda p: _build(p, units, settings, output_dir, known))
    summary = beam_io.read_json(f"{output_dir}/{beam_io.SUMMARY_FILE}")
    if known is not None:
        matching.check_share(
            *(summary["unmatched"], summary["events"], settings.quality.max_unmatched),
            *(summary["unmatched_ids"], known, path, "events"),
        )
    for split in SPLITS:
        if not summary["splits"][split]:
            if settings.split.strategy == "leave_one_out":
                raise DataError(
                    f"{path}: no user has {len(SPLITS)} sessions, so leave-one-out leaves {split} empty; "
                    "change split.strategy or events.session_gap_minutes"
                )
            raise DataError(f"{path}: {empty_window(split, summary['train_end'], summary['eval_end'])}")
    return summary


def _build(
    pipeline: beam.Pipeline,
    units: Sequence[tables.Unit],
    settings: Settings,
    output_dir: str,
    known: pa.StringArray | None,
) -> None:
    wanted = roles(settings.events)
    sample = settings.data.sample_users
    path = units[0].path
    # The first pass checks what must be there; contexts and values may be missing and stay on disk.
    checked = [role for role in wanted if role.required or role.name in ("user_id", "quantity")]
    found = (
        pipeline
        | "Survey" >> beam_io.ReadTable(units, checked)
        | "SurveyChunk" >> beam.Map(survey, settings)
        | "MergeSurveys" >> beam.CombineGlobally(merge_surveys, sample_users=sample)
    )
    chosen = beam.pvalue.AsSingleton(found | "Plan" >> beam.Map(plan, settings, path))
    counts = (
        pipeline
        | "Events" >> beam_io.ReadTable(units, wanted)
        | "Normalise" >> beam.FlatMap(_parts, chosen, settings)
        | "ByUser" >> beam.GroupByKey()
        | "WriteSessions" >> beam.Map(_write_part, chosen, settings, output_dir, known)
    )
    (
        counts
        | "Count" >> beam.CombineGlobally(beam_io.merge_counts)
        | "WriteSummary" >> beam.Map(_write_summary, chosen, beam.pvalue.AsSingleton(found), output_dir)
    )


def _parts(chunk: Chunk, chosen: Plan, settings: Settings) -> Iterator[tuple[int, bytes]]:
    batch = normalise(chunk, chosen, settings)
    if batch is not None:
        yield from beam_io.keyed_parts(batch, "user_id")


def _write_part(
    element: tuple[int, Iterable[bytes]],
    chosen: Plan,
    settings: Settings,
    output_dir: str,
    known: pa.StringArray | None,
) -> dict[str, int]:
    part, batches = element
    table = deserialize(list(batches))
    counts = {"events": table.num_rows, "users": len(pc.unique(table.column("user_id")))}
    if known is not None:
        counts |= matching.strangers(table.column("item_id"), known)
    with contextlib.ExitStack() as files:
        writers = {}
        for split, batch in sessions(table, chosen, settings):
            if split not in writers:
                path = beam_io.example_file(output_dir, split, part)
                writers[split] = files.enter_context(beam_io.example_writer(path))
            writers[split](batch)
            counts[split] = counts.get(split, 0) + batch.num_rows
    return counts


def _write_summary(counts: dict[str, int], chosen: Plan, found: Survey, output_dir: str) -> None:
    counts, ids = matching.take_strangers(counts)
    summary = {
        "splits": {split: counts.get(split, 0) for split in SPLITS},
        "events": counts.get("events", 0),
        "users": counts.get("users", 0),
        "rows": found.rows,
        "guests": found.guests,
        "unmatched": counts.get("unmatched", 0),
        "unmatched_ids": ids,
        "train_end": chosen.train_end,
        "eval_end": chosen.eval_end,
        "data_end": chosen.data_end // MICROS,
    }
    beam_io.write_json(summary, f"{output_dir}/{beam_io.SUMMARY_FILE}")
