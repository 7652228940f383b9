"""EventExampleGen's component spec.

This module must not use `from __future__ import annotations`: the decorator reads the
annotations as objects.
"""

import apache_beam as beam
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.common.artifacts import SPLITS
from components.event_example_gen import executor
from components.event_example_gen.settings import Settings
from components.event_example_gen.survey import iso


@component(use_beam=True)
def EventExampleGen(
    examples: OutputArtifact[standard_artifacts.Examples],
    config: Parameter[str],
    data_version: Parameter[str],
    code_version: Parameter[str],
    items: InputArtifact[standard_artifacts.Examples] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Reads the events table and writes one tf.Example a session, split by time.

    Args:
      examples: splits train, eval, test. Custom properties: `summary`, and the window limits
        `train_end`, `eval_end`, `data_end` in unix seconds, and `unmatched`, the number of events
        whose item the catalogue lacks.
      config: JSON of :class:`components.event_example_gen.settings.Settings`.
      data_version: :func:`components.common.fingerprint.data_version` of the events files.
      code_version: :func:`components.common.fingerprint.code_version` of this component.
      items: CatalogExampleGen's items; events of others are counted.
      beam_pipeline: given by TFX.
    """
    del data_version, code_version  # only part of the cache key
    settings = Settings.from_json(config)
    found = executor.run(beam_pipeline, settings, examples.uri, items.uri if items else None)
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    examples.span = 0
    examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    for name in ("train_end", "eval_end", "data_end"):
        examples.set_int_custom_property(name, found[name])
    examples.set_int_custom_property("unmatched", found["unmatched"])
    unmatched = f" ({found['unmatched']:,} of items that the catalogue lacks)" if found["unmatched"] else ""
    if found["guests"]:
        unmatched += f" ({found['guests']:,} rows of guests: {settings.events.guests})"
    splits = found["splits"]
    eval_start, test_start = iso(found["train_end"]), iso(found["eval_end"])
    counts = ", ".join(f"{split} {splits[split]:,}" for split in SPLITS)
    by_time = settings.split.strategy == "time"
    held_out = f"eval from {eval_start}, test from {test_start}" if by_time else "the last two of each user"
    examples.set_string_custom_property(
        "summary",
        f"{sum(splits.values()):,} sessions ({counts}) of {found['users']:,} users, "
        f"{found['events']:,} events{unmatched}; {held_out}",
    )
