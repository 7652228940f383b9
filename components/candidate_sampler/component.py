"""CandidateSampler's component spec (no `from __future__ import annotations`: see TFX)."""

from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.candidate_sampler import executor
from components.common import artifact_types as shop_types
from components.common import retriever_inputs as retrieval_setup
from components.common import slicing
from components.common.windows import Windows
from models.data import example_io
from models.data.event_log import EventLog
from schema.config import load_sections


@component
def CandidateSampler(
    raw_sessions: InputArtifact[standard_artifacts.Examples],
    session_graph: InputArtifact[standard_artifacts.TransformGraph],
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    retrieval_model: InputArtifact[standard_artifacts.Model],
    index: InputArtifact[shop_types.CandidateIndex],
    candidates: OutputArtifact[standard_artifacts.Examples],
    config: Parameter[str],
    code_version: Parameter[str],
    raw_users: InputArtifact[standard_artifacts.Examples] = None,
    users: InputArtifact[standard_artifacts.Examples] = None,
    user_graph: InputArtifact[standard_artifacts.TransformGraph] = None,
) -> None:
    """Writes candidate lists of past requests, labelled by what happened next.

    Args:
      raw_sessions: EventExampleGen's artifact.
      session_graph: EventTransform's graph.
      items, item_graph: ItemTransform's outputs.
      retrieval_model: the towers.
      index: item vectors and as-of tables.
      candidates: splits train (label windows before the cutoff), eval (the window after) and full
        (the same window, every candidate of some users).
      config: the sections of `components.common.retriever_inputs` and `quality.item_slices`.
      code_version: part of the cache key.
      raw_users: the users table, for slices.
      users, user_graph: UserTransform's outputs.
    """
    del code_version
    settings = load_sections(config)
    windows = Windows.of(raw_sessions, settings.split)
    factory = retrieval_setup.factory(
        settings,
        items.uri,
        item_graph.uri,
        session_graph.uri,
        users.uri if users else None,
        user_graph.uri if user_graph else None,
        retrieval_model.uri,
        index.uri,
    )
    folders = [example_io.split_folder(raw_sessions.uri, split) for split in windows.splits]
    past, future = windows.divide(EventLog.read(folders, list(settings.events.context)))
    starts = windows.label_starts(settings.ranking)
    last = factory.at(windows.cutoff)
    counts, found = executor.run(
        training=[
            executor.Request.window(past, start, end, factory.at(start), factory.items)
            for start, end in zip(starts, [*starts[1:], windows.cutoff], strict=True)
        ],
        evaluation=executor.Request(
            windows.cutoff,
            past,
            future,
            windows.moments(future),
            last,
            executor.promotions(factory.items, last, windows.cutoff, windows.end),
        ),
        slices=slicing.user_slices(past, settings.users, raw_users.uri if raw_users else None),
        item_slices=slicing.item_slices(past, factory.items, settings.quality.item_slices),
        history_length=settings.candidates.history_length,
        config=settings.ranking,
        output=candidates.uri,
    )
    candidates.split_names = artifact_utils.encode_split_names(list(counts))
    candidates.span = 0
    examples_utils.set_payload_format(candidates, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    candidates.set_string_custom_property("summary", found)
