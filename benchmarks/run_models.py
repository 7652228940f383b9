"""The models of a finished run, put together in this process with settings of one's own."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf  # noqa: E402

from components.common import artifacts, catalogue  # noqa: E402
from components.common.retriever_inputs import RetrieverFactory, RetrieverInputs  # noqa: E402
from components.common.sections import RetrieverSettings  # noqa: E402
from components.common.windows import Windows  # noqa: E402
from models.data import example_io  # noqa: E402
from models.data.event_log import EventLog  # noqa: E402
from models.funnel.servable import Funnel  # noqa: E402
from pipeline import record as run_record  # noqa: E402
from schema.config import Config, EventKinds, load  # noqa: E402
from schema.config.loading import parse_settings  # noqa: E402
from schema.errors import UserError  # noqa: E402


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which run, and with which settings."""
    parser.add_argument("--run", type=Path, default=Path("runs/complete_journey"), help="folder of a run")
    parser.add_argument("--config", default="pipeline/configs/complete_journey.yaml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="as for the run, e.g. split.evaluate_on=eval; repeat for more",
    )


@dataclasses.dataclass(frozen=True)
class RunModels:
    """Artifacts of a run, read.

    Attributes:
      config: the shop, with the settings asked for.
      windows: past and future.
      factory: retrievers of the index's moments.
      log: events up to the end of the evaluation window.
      folders: split folders of the sessions, in the order of `windows.splits`.
      transformed_folders: split folders of the past's sessions as the towers learn from them.
      item_vocabulary: items that have an index of their own in those.
      users_uri: folder of the raw users table, None without one.
      ranker: the RankingTrainer's SavedModel; None if it was not asked for.
      lists: CandidateSampler's folder; None if the run did not come so far.
    """

    config: Config
    windows: Windows
    factory: RetrieverFactory
    log: EventLog
    folders: list[str]
    transformed_folders: list[str]
    item_vocabulary: list[str]
    users_uri: str | None
    ranker: Any
    lists: str | None

    @classmethod
    def read(cls, options: argparse.Namespace, with_ranker: bool = True) -> RunModels:
        """From the arguments of :func:`add_arguments`.

        Args:
          options: run, config and settings.
          with_ranker: read the ranker too, else what comes before it suffices.

        Raises:
          UserError: a wrong setting, or the folder holds no run that came so far.
        """
        config = load(options.config, parse_settings(options.set))
        with tempfile.TemporaryDirectory() as folder:
            # a copy: opening the store writes to it, and a run may be using it
            store = Path(folder) / "metadata.sqlite"
            if not (options.run / store.name).is_file():
                raise UserError(f"--run: {options.run} holds no metadata.sqlite; give the folder of a run")
            shutil.copy(options.run / store.name, store)
            record = run_record.read_run(store)
        last = "RankingTrainer" if with_ranker else "CandidateIndex"
        if record is None or last not in record.nodes:
            raise UserError(f"--run: the latest run in {options.run} did not reach {last}; run it again")

        def artifact(node: str, key: str) -> run_record.ArtifactRecord | None:
            return record.nodes[node].first(key) if node in record.nodes else None

        def uri(node: str, key: str) -> str | None:
            found = artifact(node, key)
            return found.uri if found else None

        events = artifact("EventExampleGen", "examples")
        windows = Windows.of(_Properties(events.properties), config.split)
        folders = [example_io.split_folder(events.uri, name) for name in windows.splits]
        # as the components read them: keys in their canonical order, which is that of the features
        # that the ranker learned from
        settings = RetrieverSettings.from_json(RetrieverSettings.of(config).to_json())
        ranker = artifacts.model_folder(uri("RankingTrainer", "model")) if with_ranker else None
        return cls(
            config,
            windows,
            RetrieverInputs(
                session_graph=uri("EventTransform", "transform_graph"),
                items=uri("ItemTransform", "transformed_examples"),
                item_graph=uri("ItemTransform", "transform_graph"),
                retrieval_model=uri("RetrievalTrainer", "model"),
                index=uri("CandidateIndex", "index"),
                users=uri("UserTransform", "transformed_examples"),
                user_graph=uri("UserTransform", "transform_graph"),
            ).factory(settings),
            EventLog.read(folders, EventKinds.of(config), list(config.events.context)),
            folders,
            [
                example_io.split_folder(uri("EventTransform", "transformed_examples"), name)
                for name in windows.past
            ],
            catalogue.item_vocabulary(uri("EventTransform", "transform_graph")),
            uri("CatalogExampleGen", "users"),
            tf.saved_model.load(ranker) if ranker else None,
            uri("CandidateSampler", "candidates"),
        )

    def funnel(self, serving: dict[str, Any] | None = None) -> Funnel:
        """The funnel as of the cut-off, without its text encoder.

        Args:
          serving: settings of the section `serving` that replace the configuration's.
        """
        section = type(self.config.serving).model_validate(self.config.serving.model_dump() | (serving or {}))
        return Funnel(
            self.factory.at(self.windows.cutoff),
            self.ranker,
            None,
            None,
            self.factory.items,
            self.config.model_copy(update={"serving": section}),
        )


@dataclasses.dataclass(frozen=True)
class _Properties:
    values: dict[str, Any]

    def get_int_custom_property(self, name: str) -> int:
        return self.values[name]
