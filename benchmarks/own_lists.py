"""The ranker's own lists and features with another learner, or with promotions known another time ahead."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.retrieval import Ours, Result
from benchmarks.run_models import RunModels
from components.common.candidate_lists import tensor
from components.common.labelled_features import load_features
from components.common.protocol import TASKS
from models.data import example_io
from models.funnel.retriever import Retriever
from models.ranking import training
from models.ranking.losses import PURCHASE
from schema import names as F
from schema.errors import UserError

_BATCH = 32
_DEPTH = 100
# Of LightGBM: tuned on the validation window of the Complete Journey with other features of the same kind.
_TREES = {"objective": "binary", "num_leaves": 31, "learning_rate": 0.06, "min_data_in_leaf": 100}
_ROUNDS = 200
_SHARES = {"all": (0.35, 0.6), "novel": (0.2, 0.4)}  # of the negatives, and of a tree's features

# (features float32 [B, N, F], category codes name -> int32 [B, N]) to scores [B, N]
Score = Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray]


class OwnLists:
    """Labelled lists of a run with their features.

    Args:
      run: its models and events.
      known_ahead: days before the end of a week at which its promotions are known; those of the
        configuration if None.

    Raises:
      UserError: the run did not reach CandidateSampler.
    """

    def __init__(self, run: RunModels, known_ahead: float | None = None) -> None:
        if run.lists is None:
            raise UserError("--run: the latest run did not reach CandidateSampler; run it again")
        at = functools.partial(run.factory.at, known_ahead=known_ahead)
        folder = example_io.split_folder(run.lists, "train")
        self.data, _ = load_features(folder, at, tuple(run.config.events.context))
        self.task = example_io.first(example_io.read_table(folder, ["slice_task"]), "slice_task", "")
        self.retriever: Retriever = at(run.windows.cutoff)
        self._config = run.config.ranking

    def network(self) -> dict[str, Score]:
        """The ranker, trained as RankingTrainer does it; the same for all tasks."""
        features = self.retriever.pair_features
        model = training.fit(self.data, features.code_sizes, self._config, features.item_width).model

        @tf.function(reduce_retracing=True, autograph=False)
        def logits(values: tf.Tensor, codes: Mapping[str, tf.Tensor]) -> tf.Tensor:
            return model({"features": values, "codes": codes})[PURCHASE]

        return dict.fromkeys(TASKS, lambda values, codes: logits(values, codes).numpy())

    def trees(self) -> dict[str, Score]:
        """LightGBM on the same rows, one model a task.

        Ke et al., "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS 2017.

        Raises:
          UserError: it is not installed.
        """
        try:
            import lightgbm
        except ImportError as error:
            raise UserError("--trees needs LightGBM; run `pip install lightgbm`") from error
        return {task: self._grown(lightgbm, task) for task in TASKS}

    def _grown(self, lightgbm: Any, task: str) -> Score:
        kept, of_features = _SHARES[task]
        rng = np.random.default_rng(self._config.seed)
        weight, label = self.data["weight"], self.data[F.LABEL] > 0
        chosen = (weight > 0) & (self.task == task)[:, None]
        chosen &= label | (rng.random(weight.shape) < kept)
        row, place = np.nonzero(chosen)
        columns = [self.data["features"].picked(row, place)]
        columns += [code[row, place][:, None] for code in self.data["codes"].values()]
        of_row = np.where(label, weight, weight / kept)[row, place]
        rows = lightgbm.Dataset(np.concatenate(columns, 1), label[row, place], weight=of_row)
        settings = _TREES | {"feature_fraction": of_features, "seed": self._config.seed, "verbose": -1}
        model = lightgbm.train(settings, rows, _ROUNDS)

        def score(values: np.ndarray, codes: Mapping[str, np.ndarray]) -> np.ndarray:
            every = np.concatenate([values, *(code[..., None] for code in codes.values())], -1)
            return model.predict(every.reshape(-1, every.shape[-1])).reshape(values.shape[:2])

        return score

    def recommend(self, ours: Ours, users: np.ndarray, task: str, score: Score) -> np.ndarray:
        """The best of each user's candidates, in the order of their scores alone.

        Args:
          ours: the protocol, whose users ask.
          users: int [U], indices of the log.
          task: "all" or "novel".
          score: from :meth:`network` or :meth:`trees`.

        Returns:
          int [U, 100] catalogue columns, -1 = none.
        """

        @tf.function(reduce_retracing=True, autograph=False)
        def describe(inputs: Mapping[str, tf.Tensor], allowed: tf.Tensor) -> tuple[tf.Tensor, ...]:
            found, features, codes = self.retriever.describe(inputs, allowed)
            return found.position, features, codes

        out = np.full((len(users), _DEPTH), -1)
        for start in range(0, len(users), _BATCH):
            batch = users[start : start + _BATCH]
            position, features, codes = describe(ours.inputs(batch), tensor(ours.allowed(batch, task)))
            codes = {name: code.numpy() for name, code in codes.items()}
            scores = score(features.numpy(), codes)
            empty = position.numpy() == self.retriever.sources.count
            order = np.argsort(np.where(empty, np.inf, -scores), 1, kind="stable")[:, :_DEPTH]
            out[start : start + len(batch), : order.shape[1]] = ours.columns(
                np.take_along_axis(position.numpy(), order, 1)
            )
        return out


def results(run: RunModels, ours: Ours, trees: bool, horizons: list[float]) -> dict[str, list[Result]]:
    """What other learners and other horizons make of the run's lists.

    Args:
      run: its models and events.
      ours: its protocol.
      trees: whether LightGBM is asked.
      horizons: values of `exposures.known_ahead` with which the ranker is trained again.

    Returns:
      Task -> lists of each.
    """
    out: dict[str, list[Result]] = {task: [] for task in TASKS}

    def add(name: str, lists: OwnLists, scores: Mapping[str, Score]) -> None:
        for task in TASKS:
            top = lists.recommend(ours, ours.protocol.users(task), task, scores[task])
            out[task].append(Result(name, top))

    exposures = run.config.exposures
    own = OwnLists(run) if trees else None
    if own is not None:
        add("lightgbm on our features", own, own.trees())
    for days in horizons:
        same = own is not None and exposures is not None and days == exposures.known_ahead
        # features of all lists take minutes, and those of the configured horizon are there already
        lists = own if same else OwnLists(run, days)
        add(f"ranker, {days:g} days ahead", lists, lists.network())
    return out
