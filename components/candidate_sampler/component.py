"""CandidateSampler's component spec (no `from __future__ import annotations`: see TFX)."""

import itertools

from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.candidate_sampler import executor
from components.candidate_sampler.label_window import LabelWindow, promotions
from components.candidate_sampler.settings import Settings
from components.common import slicing
from components.common.retriever_inputs import RetrieverInputs
from components.common.retriever_spec import takes_retriever
from components.common.windows import Windows
from models.data import example_io
from models.data.event_log import EventLog
from schema.config import EventKinds


@component
@takes_retriever
def CandidateSampler(
    raw_sessions: InputArtifact[standard_artifacts.Examples],
    retriever: RetrieverInputs,
    candidates: OutputArtifact[standard_artifacts.Examples],
    config: Parameter[str],
    code_version: Parameter[str],
    raw_users: InputArtifact[standard_artifacts.Examples] = None,
) -> None:
    """Writes candidate lists of past requests, labelled by what happened next.

    Args:
      raw_sessions: EventExampleGen's artifact.
      retriever: towers, index and catalogue.
      candidates: splits train (label windows before the cutoff), eval (the window after) and full
        (the same window, every candidate of some users).
      config: JSON of :class:`components.candidate_sampler.settings.Settings`.
      code_version: part of the cache key.
      raw_users: the users table, for slices.
    """
    del code_version
    settings = Settings.from_json(config)
    windows = Windows.of(raw_sessions, settings.split)
    factory = retriever.factory(settings)
    folders = [example_io.split_folder(raw_sessions.uri, split) for split in windows.splits]
    kinds = EventKinds.of(settings)
    past, future = windows.divide(EventLog.read(folders, kinds, list(settings.events.context)))
    bought = future.purchases
    tasks = windows.tasks_by_start(settings.ranking)
    last = factory.at(windows.cutoff)
    end = windows.label_end(settings.ranking)
    counts, found = executor.run(
        # one after another: each retriever has tables of its own
        training=(
            LabelWindow.between(past, start, end, factory.at(start), factory.items, tasks[start])
            for start, end in itertools.pairwise([*tasks, windows.cutoff])
        ),
        evaluation=LabelWindow(
            windows.cutoff,
            past,
            bought.where(bought.timestamp < end),
            windows.moments(bought),
            last,
            promotions(factory.items, last, windows.cutoff, end),
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
