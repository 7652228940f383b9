"""Same data, seed and machine, same lists: Beam writes its records in an order of its own in every run."""

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.candidate_index import executor as index_executor
from components.candidate_sampler import executor as sampler_executor
from components.candidate_sampler.label_window import LabelWindow
from components.common import artifacts
from components.common.retriever_inputs import RetrieverFactory
from components.ranking_trainer import executor as ranking_executor
from components.retrieval_trainer import executor as retrieval_executor
from models.data import arrays, example_io
from models.data.event_log import EventLog
from schema import names as F
from tests.shops import records, tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, END, LABEL_START, USERS, WINDOWS

pytestmark = pytest.mark.slow


class Run:
    """The chain from the sessions to the ranked lists, as the components' executors make it.

    Args:
      folder: gets what they write.
      seed: of the order in which the records lie; None as they were written.
    """

    def __init__(self, folder: Path, seed: int | None) -> None:
        def given(folders: dict[str, str], kind: str) -> dict[str, str]:
            if seed is None:
                return folders
            return {
                split: records.shuffled(source, folder / kind / split, seed)
                for split, source in folders.items()
            }

        self._folder = folder
        self._sessions = given(tiny_shop.session_folders(), "sessions")
        self._transformed = given(tiny_shop.transformed_folders(), "transformed")

    def outputs(self) -> dict[str, dict[str, np.ndarray]]:
        """What each component says, by name, in the order in which they run."""
        out, folders = {}, {}
        for name in ("RetrievalTrainer", "CandidateIndex", "CandidateSampler", "RankingTrainer", "lists"):
            folders[name] = str(self._folder / name)
            out[name] = getattr(self, f"_{name}")(folders)
        return out

    def _log(self, splits: tuple[str, ...]) -> EventLog:
        return EventLog.read([self._sessions[split] for split in splits], tiny_shop.EVENT_KINDS, ["store_id"])

    def _factory(self, folders: dict[str, str]) -> RetrieverFactory:
        return RetrieverFactory(
            CONFIG,
            tiny_shop.items(),
            tiny_shop.vocabularies(),
            folders["RetrievalTrainer"],
            folders["CandidateIndex"],
        )

    def _RetrievalTrainer(self, folders: dict[str, str]) -> dict[str, np.ndarray]:
        retrieval_executor.run(
            retrieval_executor.Inputs(
                [self._transformed[split] for split in WINDOWS.past],
                tiny_shop.items(),
                tiny_shop.item_vocabulary(),
                tiny_shop.vocabularies(),
                tiny_shop.EVENT_KINDS,
                os.path.join(tiny_shop.text_encoder()[0], artifacts.TEXT_VECTORS),
                LABEL_START,
            ),
            CONFIG.retrieval,
            CONFIG.candidates.collaborative,
            folders["RetrievalTrainer"],
            str(self._folder / "run"),
        )
        return {
            f"{name}/{key}": values
            for name in (artifacts.WEIGHTS, artifacts.ITEM_VECTORS, artifacts.QUERY_VECTORS)
            for key, values in arrays.load(os.path.join(folders["RetrievalTrainer"], name)).items()
        }

    def _CandidateIndex(self, folders: dict[str, str]) -> dict[str, np.ndarray]:
        items, towers = tiny_shop.items(), folders["RetrievalTrainer"]
        index_executor.run(
            self._log(WINDOWS.past),
            tiny_shop.event_types(),
            items,
            arrays.load(os.path.join(towers, artifacts.ITEM_VECTORS))["vectors"],
            index_executor.load_queries(towers, items, items),
            np.zeros(0, np.int32),
            [LABEL_START, CUTOFF],
            CONFIG.candidates,
            0.95,
            folders["CandidateIndex"],
            CONFIG.exposures,
            CONFIG.items.category,
        )
        return {
            f"{moment}/{name}": values
            for moment in (LABEL_START, CUTOFF)
            for name, values in arrays.load(
                artifacts.snapshot_path(folders["CandidateIndex"], moment)
            ).items()
        }

    def _CandidateSampler(self, folders: dict[str, str]) -> dict[str, np.ndarray]:
        window, makes, items = LabelWindow.between, self._factory(folders), tiny_shop.items()
        sampler_executor.run(
            [window(self._log(WINDOWS.past), LABEL_START, CUTOFF, makes.at(LABEL_START), items)],
            window(self._log(WINDOWS.splits), CUTOFF, END, makes.at(CUTOFF), items),
            {},
            {},
            CONFIG.candidates.history_length,
            CONFIG.ranking,
            folders["CandidateSampler"],
        )
        table = example_io.read_table(example_io.split_folder(folders["CandidateSampler"], "train"))
        return {name: example_io.flat(table, name) for name in sorted(table.column_names)}

    def _RankingTrainer(self, folders: dict[str, str]) -> dict[str, np.ndarray]:
        ranking_executor.run(
            example_io.split_folder(folders["CandidateSampler"], "train"),
            self._factory(folders).at,
            ("store_id",),
            CONFIG.ranking,
            folders["RankingTrainer"],
            str(self._folder / "run"),
        )
        model = tf.saved_model.load(artifacts.model_folder(folders["RankingTrainer"]))
        return {str(at): each.numpy() for at, each in enumerate(model.parameters)}

    def _lists(self, folders: dict[str, str]) -> dict[str, np.ndarray]:
        retriever = self._factory(folders).at(CUTOFF)
        ranker = tf.saved_model.load(artifacts.model_folder(folders["RankingTrainer"]))
        asked = tiny_shop.request(USERS[:12], tiny_shop.random_histories(12))
        allowed = tf.ones([1, retriever.sources.count], tf.bool)
        found, features, codes = retriever.describe(asked, allowed)
        return {"position": found.position.numpy(), "score": ranker.score(features, codes).numpy()}


def test_runs_on_records_in_another_order_give_the_same_lists(tmp_path):
    one, other = (Run(tmp_path / str(seed), seed).outputs() for seed in (None, 8))
    assert one.keys() == other.keys()
    for component, outputs in one.items():
        assert outputs.keys() == other[component].keys()
        for name, values in outputs.items():
            message = f"{component} is the first component whose output differs: {name}"
            np.testing.assert_array_equal(values, other[component][name], err_msg=message)
    assert len(np.unique(one["lists"]["score"])) > 20
    assert (one["CandidateSampler"][F.LABEL] > 0).any()
