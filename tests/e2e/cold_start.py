"""What a pushed model does for somebody, or something, it knows nothing of.

    python -m tests.e2e.cold_start runs/complete_journey     # a run on the whole data, with its figures

`test_whole_pipeline` holds the model of its small run to the same checks.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_text  # noqa: F401  (its ops are in the servable)

from schema import names as F
from schema.config import Config, load

K = 20
UNKNOWN = "somebody never seen"


@dataclasses.dataclass(frozen=True)
class Model:
    """A pushed model and the data it was made from.

    Attributes:
      signatures: of the SavedModel.
      products: item id -> category, "" for none.
      past, future: events before and in the evaluation window: user_id, item_id, store.
      as_of: unix seconds of the model.
    """

    signatures: Mapping[str, tf.types.experimental.ConcreteFunction]
    products: pd.Series
    past: pd.DataFrame
    future: pd.DataFrame
    as_of: int

    @classmethod
    def of_run(cls, run: Path, config: Config) -> Model:
        """The newest pushed version of a run on the Complete Journey or a part of it."""
        version = max((run / "serving" / "shelfwise").iterdir(), key=lambda path: int(path.name))
        evaluations = (run / "artifacts/FunnelEvaluator/evaluation").glob("*/metrics.json")
        metrics = max(evaluations, key=lambda path: int(path.parent.name))
        window = json.loads(metrics.read_text())["window"]
        columns = config.events.columns
        frame = pd.read_parquet(
            config.data.resolve(config.events.path),
            columns=[columns.user_id, columns.item_id, columns.timestamp, *config.events.context.values()],
        )
        frame.columns = ["user_id", "item_id", "time", *config.events.context]
        frame["time"] = frame["time"].astype("datetime64[s]").astype(np.int64)
        text = ["user_id", "item_id", *config.events.context]
        frame[text] = frame[text].astype(str)
        items = pd.read_parquet(config.data.resolve(config.items.path))
        category = items[config.items.categorical[config.items.category]].fillna("").astype(str)
        return cls(
            tf.saved_model.load(str(version)).signatures,
            pd.Series(category.to_numpy(), items[config.items.item_id].astype(str)),
            frame[frame["time"] < window["start"]],
            frame[frame["time"].between(window["start"], window["end"] - 1)],
            window["start"],
        )

    def recommend(self, events: Sequence[tuple[str, float]] = (), **context: str) -> dict[str, list]:
        """Outputs of `recommend` for somebody unknown who did this (item, days ago)."""
        events = list(events) or [("", 0.0)]
        spec = self.signatures["recommend"].structured_input_signature[1]
        given = {
            F.USER_ID: [UNKNOWN],
            F.HISTORY_ITEM_ID: [[item for item, _ in events]],
            F.HISTORY_AGE_DAYS: [[age for _, age in events]],
            F.HISTORY_EVENT_TYPE: [["purchase" if item else "" for item, _ in events]],
            F.CONTEXT_TIMESTAMP: [self.as_of],
            F.K: [K],
            F.DIVERSITY: [-1.0],
            F.DROP_BOUGHT_DAYS: [-1.0],
        } | {F.context(name): [value] for name, value in context.items()}
        inputs = {
            name: tf.constant(given[name], shape.dtype)
            if name in given
            else tf.fill([1] * shape.shape.rank, tf.zeros([], shape.dtype))
            for name, shape in spec.items()
        }
        answer = {name: value[0].numpy() for name, value in self.signatures["recommend"](**inputs).items()}
        return {
            name: [value.decode() for value in values] if values.dtype == object else values.tolist()
            for name, values in answer.items()
        }

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """float32 [N, D], unit item vectors."""
        found = self.signatures["embed_item"](item_id=tf.constant(list(ids)))[F.EMBEDDING].numpy()
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)

    def popular(self, days: float, k: int) -> list[str]:
        """The items that most users bought in the last days."""
        recent = self.past[self.past["time"] >= self.as_of - days * F.SECONDS_PER_DAY]
        return recent.groupby("item_id")["user_id"].nunique().nlargest(k).index.tolist()

    def buyers(self, items: Sequence[str]) -> float:
        """Mean number of users who buy an item of the list in the evaluation window."""
        bought = self.future.groupby("item_id")["user_id"].nunique()
        return float(bought.reindex(items).fillna(0).mean())


def unknown_user(model: Model) -> str:
    """Somebody unknown without a history gets what sells, by where and when they shop."""
    stores = model.past["store_id"].value_counts().index[:5]
    lists = [model.recommend(store_id=store) for store in stores]
    for answer in lists:
        assert all(answer[F.ITEM_ID]), "the list is full"
        assert len(set(answer[F.ITEM_ID])) == K
        assert set(answer[F.SOURCE]) <= {F.TRENDING, F.TWO_TOWER, F.EXPLORATION}
        assert all(answer[F.REASON])
    ranked = [
        item
        for answer in lists
        for item, source in zip(answer[F.ITEM_ID], answer[F.SOURCE], strict=True)
        if source != F.EXPLORATION
    ]
    ours, best = model.buyers(ranked), model.buyers(model.popular(28, K))
    catalogue = model.past["item_id"].unique()
    random = model.buyers(catalogue)
    assert ours > 0.5 * best, (ours, best)
    assert ours > 5 * random, (ours, random)
    assert len({tuple(answer[F.ITEM_ID]) for answer in lists}) > 1, "the context changes the list"
    return f"buyers of a listed item: {ours:.1f}; of the most popular {best:.1f}, of any {random:.2f}"


def first_purchase(model: Model) -> str:
    """After one purchase the list changes, towards what was bought: more items of its category, or
    nearer ones, by two standard errors."""
    before = model.recommend()[F.ITEM_ID]
    chosen, seen = [], set()
    for item in model.popular(90, 400):  # one item a category
        if model.products.get(item, "") not in seen | {""}:
            seen.add(model.products[item])
            chosen.append(item)
    chosen = chosen[:40]
    vectors = model.vectors(chosen)
    nearer, share = [], []
    for item, vector in zip(chosen, vectors, strict=True):
        after = [other for other in model.recommend([(item, 1.0)])[F.ITEM_ID] if other != item]
        assert after != before
        nearer.append((model.vectors(after) @ vector).mean() - (model.vectors(before) @ vector).mean())
        of_category = [
            np.mean(model.products.reindex(ids) == model.products[item]) for ids in (before, after)
        ]
        share.append(of_category[1] - of_category[0])
    mean = np.mean([nearer, share], 1)
    error = np.std([nearer, share], 1) / np.sqrt(len(chosen))
    assert (mean > 2 * error).any(), (mean, error)
    return (
        f"{len(chosen)} first purchases: cosine of the list to the item {mean[0]:+.3f} (s.e. "
        f"{error[0]:.3f}), share of its category {mean[1]:+.1%} (s.e. {error[1]:.1%})"
    )


def new_items(model: Model) -> str:
    """Items that nobody bought yet have neighbours that are like them; and are shown to explore."""
    fresh = sorted(set(model.products.index) - set(model.past["item_id"]))
    fresh = [item for item in fresh if model.products[item]][:: max(len(fresh) // 40, 1)][:40]
    assert fresh, "every product was bought before"
    answer = model.signatures["similar"](
        item_id=tf.constant(fresh), k=tf.fill([len(fresh)], tf.constant(10, tf.int32))
    )
    same, general = [], model.products[model.products.index.isin(model.past["item_id"])]
    for place, item in enumerate(fresh):
        ids = [other.decode() for other in answer[F.ITEM_ID][place].numpy()]
        assert all(ids)
        assert {source.decode() for source in answer[F.SOURCE][place].numpy()} == {F.SIMILAR}
        same.append(np.mean(model.products.reindex(ids) == model.products[item]))
    chance = np.mean([np.mean(general == model.products[item]) for item in fresh])
    assert np.mean(same) > 5 * chance, (np.mean(same), chance)
    shown = model.recommend([(model.popular(28, 1)[0], 1.0)])
    explored = [
        item
        for item, source in zip(shown[F.ITEM_ID], shown[F.SOURCE], strict=True)
        if source == F.EXPLORATION
    ]
    return (
        f"{len(fresh)} new items: {np.mean(same):.0%} of their neighbours are of their category "
        f"({chance:.1%} by chance); {len(explored)} of {K} places explore"
    )


CHECKS = (unknown_user, first_purchase, new_items)


def main() -> None:
    """Checks the model of a finished run."""
    run = Path(sys.argv[1])
    config = load(sys.argv[2] if len(sys.argv) > 2 else "pipeline/configs/complete_journey.yaml")
    model = Model.of_run(run, config)
    for check in CHECKS:
        print(f"{check.__name__}: {check(model)}")


if __name__ == "__main__":
    main()
