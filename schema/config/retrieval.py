"""How candidates are found: the towers, the closed form and the sources of the funnel."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

from schema.config.base import Section


class Retrieval(Section):
    """The two towers and their training."""

    min_item_events: int = Field(5, ge=1)
    """Times an item must be a target to have an embedding of its own."""
    embedding_dim: int = Field(64, ge=4)
    """Width of the towers' vectors."""
    batch_sessions: int = Field(512, ge=1)
    """Sessions in a batch."""
    targets: Literal["first", "all"] = "first"
    """Which events of a session are learned: "first" only items that the user has not had.

    The others are the work of the source `buy_again`.
    """
    targets_per_session: int = Field(2, ge=1)
    """Targets drawn from each session."""
    uniform_negatives: int = Field(1024, ge=0)
    """Negatives drawn from all known items, in addition to the other targets of the batch."""
    hard_negatives: int | None = Field(None, ge=1)
    """Number of negatives that are learned from, those with the highest scores; all if not given."""
    mined_negatives: int = Field(0, ge=0)
    """Further negatives of a batch, mined from item vectors.

    They are the best-scored rows that a sample of the batch's users never had, by the vectors of the
    last epoch or, in the first one, of the last model.
    """
    epochs: int = Field(2, ge=1)
    """Passes over the sessions."""
    learning_rate: float = Field(3e-3, gt=0)
    """Learning rate of Adam."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of the softmax over target and negatives."""
    item_id_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of item ids hidden in training, so that the content alone must do."""
    user_id_dropout: float = Field(0.3, ge=0, lt=1)
    """Share of user ids hidden in training, so that the history alone must do."""
    history_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of history events that are hidden in training."""
    history_length: int = Field(64, ge=1)
    """Latest events that the query tower reads."""
    holdout_share: float = Field(0.02, ge=0, lt=0.5)
    """Share of the sessions, the latest, kept out of training to measure it."""
    warm_start: bool = True
    """Whether training starts from the last blessed model that learned from earlier events."""
    seed: int = 17
    """Seed of everything that is drawn."""


class Collaborative(Section):
    """The closed-form part of the two towers (see `models.retrieval.collaborative`)."""

    rank: int = Field(128, ge=0)
    """Width of its vectors; 0 leaves it out."""
    regularization: float = Field(500.0, gt=0)
    """Weight of the ridge term."""
    half_life_days: float = Field(120.0, gt=0)
    """Age in days at which an event has half its weight."""
    half_life_events: float | None = Field(None, gt=0)
    """Number of later events of the history that halve a weight; only days count if not given."""
    least_weight: float = Field(0.0, ge=0)
    """Weight that an event keeps, however old it is."""
    power: float = Field(0.5, gt=0, le=1)
    """Exponent of the summed weight of an item."""
    window_events: float | None = Field(None, gt=0)
    """Distance in events that halves a co-occurrence; if not given, order does not matter."""
    exact_cells: int = Field(100_000_000, ge=0)
    """Largest dense matrix, in numbers, for which the fit is exact: users x items, or items x items.

    100 million take 3 GB. Larger shops get a form of low rank, of a cost that is linear in the events.
    """
    spectrum: int = Field(256, ge=1)
    """Eigenvectors of the items' co-occurrence that the form of low rank keeps."""
    trend_days: float = Field(14.0, gt=0)
    """Length in days of the last window, whose popularity is compared with that of the whole history."""
    trend_power: float = Field(0.5, ge=0)
    """Exponent of that comparison; 0 takes popularity as it was over the whole history."""


# Names of the settings that say how many candidates a source gives.
SOURCES = ("two_tower", "buy_again", "co_purchased", "trending", "new_items", "planned", "viewed")


class Candidates(Section):
    """Candidate sources of the funnel and how many candidates each gives."""

    collaborative: Collaborative = Collaborative()
    min_events: int = Field(10, ge=1)
    """Training events, of any type, that an item needs to be a candidate."""
    index: Literal["auto", "exact", "int8", "ivf", "ivf_int8"] = "auto"
    """How item vectors are searched; "auto" is exact, or ivf where there are many items."""
    index_recall: float = Field(0.98, gt=0, le=1)
    """Recall@20 that a partitioned index is tuned to reach."""
    two_tower: int = Field(300, ge=0)
    """Candidates of the two towers."""
    buy_again: int = Field(250, ge=0)
    """Candidates from the items that the user has had."""
    co_purchased: int = Field(150, ge=0)
    """Candidates that are bought together with the items that the user has had."""
    trending: int = Field(150, ge=0)
    """Candidates that are popular of late."""
    new_items: int = Field(0, ge=0)
    """Best-scored candidates out of the items without an event older than `new_days`."""
    planned: int = Field(0, ge=0)
    """Candidates that the chain promotes in weeks that are known ahead, of kinds that the user buys.

    It needs `exposures.known_ahead`.
    """
    viewed: int = Field(100, ge=0)
    """Candidates that the user viewed or put in the cart, and has not bought since.

    Only where `events.event_weights` has types that are no purchase.
    """
    neighbours: int = Field(50, ge=1)
    """Co-purchased items kept for each item."""
    history_length: int = Field(512, ge=1)
    """Events of a request that are read."""
    trending_days: float = Field(28, gt=0)
    """Length in days of the window that `trending` counts."""
    new_days: float = Field(28, gt=0)
    """Age in days of an item's first event up to which it is new."""
    half_life_days: float = Field(90, gt=0)
    """Age in days at which an event has half its weight, in `buy_again` and `co_purchased`."""

    @pydantic.model_validator(mode="after")
    def _some_source(self) -> Candidates:
        everywhere = [name for name in SOURCES if name != "viewed"]
        if not any(getattr(self, name) for name in everywhere):
            raise ValueError(f"{', '.join(everywhere)} are all 0, so that nothing is a candidate; raise one")
        return self

    @property
    def sizes(self) -> dict[str, int]:
        """Source -> candidates that it gives."""
        return {name: getattr(self, name) for name in SOURCES}
