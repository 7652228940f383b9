"""What a model must reach before it is blessed and pushed."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from schema.config.base import Name, Section


class Matching(Section):
    """How well the tables must fit each other."""

    max_unmatched: float = Field(0.5, ge=0, le=1)
    """Largest share of events, and of promoted item-weeks, whose item the catalogue lacks."""


class SearchQuality(Section):
    """What search must reach: on the judgements' test queries, where there are any, and on known items.

    A known item is asked for with words of its own text; its rank is the figure. What is compared query by
    query (BM25F, typing errors) refuses only what is worse by more than two standard errors.
    """

    min_ndcg: float = Field(0.0, ge=0, le=1)
    """Least NDCG@10 on the judgements' test queries."""
    min_known_item: float = Field(0.1, ge=0, le=1)
    """Least mean reciprocal rank of known items."""
    min_of_lexical: float = Field(0.95, ge=0)
    """Least figure as a share of what BM25F alone reaches on the judged queries, else on known items."""
    max_typo_loss: float = Field(0.4, ge=0, le=1)
    """Largest share of the figure that one typing error in every query may cost."""
    known_items: int = Field(200, ge=1)
    """Known items that are asked for."""
    personal_users: int = Field(150, ge=1)
    """Users that one-word queries are asked for, where there are events."""


class Quality(Matching):
    """When a model is blessed."""

    search: SearchQuality = SearchQuality()

    ks: list[Annotated[int, Field(ge=1)]] = Field([10, 20, 50, 100], min_length=1)
    """Cut-offs k of the funnel's metrics."""
    primary_metric: str = "ndcg@10"
    """Metric by which the funnel is compared with baselines and with the last blessed model."""
    must_beat: list[Literal["popularity", "popularity_recent", "personal_frequency"]] = [
        "popularity",
        "popularity_recent",
        "personal_frequency",
    ]
    """Baselines that the funnel must beat."""
    min_auc: float = Field(0.6, ge=0, le=1)
    """Least area under the ROC curve of the ranker."""
    max_ece: float = Field(0.05, ge=0)
    """Largest expected calibration error of purchases, whatever their rate."""
    max_relative_ece: float = Field(0.25, gt=0)
    """Largest expected calibration error of purchases as a share of their rate, above that of chance.

    With leave-one-out it is not checked: see `split.strategy` in docs/data.md.
    """
    max_regression: float = Field(0.02, ge=0)
    """Tolerated relative loss against the last blessed model."""
    min_index_recall: float = Field(0.95, ge=0, le=1)
    """Least recall of the index against exact search."""
    item_slices: list[Name] = []
    """Of `items.categorical`: the ranker is also judged for each value of these."""
    max_users: int | None = Field(None, ge=1)
    """Users in the sample that the funnel is scored for; all if not given."""

    @pydantic.model_validator(mode="after")
    def _measured(self) -> Quality:
        known = [f"{name}@{k}" for name in ("ndcg", "recall", "recall_cap", "hr", "mrr") for k in self.ks]
        if self.primary_metric not in known:
            raise ValueError(f"primary_metric '{self.primary_metric}' is not measured; known are {known}")
        return self


class InfraValidation(Section):
    """What a server must do with a model before it is pushed.

    A section of its own, so that a change here does not build the model again.
    """

    server: Literal["model_server", "tensorflow_serving"] = "model_server"
    """Server that is started: Shelfwise's own, or TensorFlow Serving."""
    binary: str = "tensorflow_model_server"
    """Binary of TensorFlow Serving: a path, or a name in PATH."""
    max_p99_ms: float = Field(500.0, gt=0)
    """Largest 99th percentile of latency in milliseconds, of every signature, one request at a time."""
    rounds: int = Field(25, ge=1)
    """How often all warm-up requests are sent to measure the latency, as far as half a minute allows."""
