"""The ranker: the lists that it learns from, how it learns, and the search for its settings."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from pydantic import Field

from schema.config.base import Name, Section


class Span(Section):
    """A range that the tuner draws numbers from; whole numbers where the setting is one."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Draw as many values between 1 and 2 as between 10 and 20."""

    @pydantic.model_validator(mode="after")
    def _ascends(self) -> Span:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError("a span with log: true must begin above 0")
        return self


class Tuning(Section):
    """The search for the ranker's settings, when `ranking.tune` is on."""

    trials: int = Field(12, ge=1)
    """Settings that are tried."""
    epochs: int = Field(1, ge=1)
    """Epochs of a trial."""
    space: dict[Name, Span | list[Any]] = {
        "learning_rate": Span(low=3e-4, high=5e-3, log=True),
        "batch_size": [8, 16, 32],
        "cross_layers": Span(low=1, high=3),
        "experts": Span(low=2, high=6),
        "hidden": [[32], [64, 32], [128, 64]],
        "dropout": Span(low=0.0, high=0.3),
        "list_loss_weight": Span(low=0.01, high=1.0, log=True),
        "pair_loss_weight": [0.0, 0.01, 0.03, 0.1],
    }
    """Setting of `ranking` -> span, or list of values."""


class LabelWindows(Section):
    """The label windows: each ends where the next, and at last the evaluation window, begins."""

    windows: int = Field(1, ge=1)
    """Label windows before the evaluation window."""
    novel_windows: int | None = Field(None, ge=1)
    """Label windows of the lists of first purchases, if they are to be others than `windows`.

    First purchases are few, so that more windows can pay. The towers learn from what was before all windows.
    """
    window_days: float = Field(28, gt=0)
    """Length of a label window in days."""

    @property
    def windows_of_tasks(self) -> dict[str, int]:
        """Label windows by task: `all` of every purchase, `novel` of first purchases."""
        return {"all": self.windows, "novel": self.novel_windows or self.windows}


class Lists(LabelWindows):
    """What the ranker's lists are; `Ranking` adds how the ranker learns from them."""

    soon_days: float = Field(7, gt=0)
    """`label_soon` is 1 for items bought within this many days of the request."""
    list_size: int = Field(256, ge=8)
    """Candidates of one training list."""
    promoted_share: float = Field(0.1, ge=0, lt=1)
    """Share of a list's negatives that the shop promoted and the user passed over."""
    eval_users: int = Field(250, ge=1)
    """Users in the sample that TFMA evaluates, as it handles every candidate in Python."""
    eval_list_size: int = Field(32, ge=8)
    """Candidates of one list of that sample."""
    full_users: int = Field(400, ge=1)
    """Users whose candidates are all kept, to measure calibration."""
    seed: int = 17
    """Seed of everything that is drawn, for the lists and for the ranker."""


class Ranking(Lists):
    """The ranker, its label windows and its training."""

    epochs: int = Field(3, ge=1)
    """Passes over the lists."""
    batch_size: int = Field(16, ge=1)
    """Lists in a batch."""
    holdout_share: float = Field(0.05, gt=0, lt=0.5)
    """Share of the users kept out of training, to calibrate and to measure it."""
    learning_rate: float = Field(1e-3, gt=0)
    """Initial learning rate of Adam; it decays as a cosine."""
    cross_layers: int = Field(2, ge=1)
    """Cross layers of DCN-v2."""
    experts: int = Field(2, ge=1)
    """Experts that the tasks share (MMoE)."""
    hidden: list[Annotated[int, Field(ge=1)]] = Field([64, 32], min_length=1)
    """Units of each layer of an expert."""
    list_loss_weight: float = Field(0.1, ge=0)
    """Weight of the listwise loss; the cross-entropy of purchases has weight 1."""
    pair_loss_weight: float = Field(0.0, ge=0)
    """Weight of the pairwise loss."""
    repeat_loss_weight: float = Field(0.1, ge=0)
    """Weight of the cross-entropy of repeated purchases."""
    value_loss_weight: float = Field(0.1, ge=0)
    """Weight of the loss of the money spent."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of units dropped after each layer of an expert."""
    trees: int = Field(100, ge=0)
    """Boosted trees whose log-odds are added to the network's; 0 for the network alone."""
    tree_leaves: int = Field(16, ge=2, le=64)
    """Leaves of a tree at most."""
    tune: bool = False
    """Whether to search `tuning.space` first and to train with the best settings found."""
    tuning: Tuning = Tuning()

    @pydantic.model_validator(mode="after")
    def _searches_its_settings(self) -> Ranking:
        tunable = set(Ranking.model_fields) - {*Lists.model_fields, "tune", "tuning"}
        unknown = set(self.tuning.space) - tunable
        if unknown:
            raise ValueError(f"tuning.space: {sorted(unknown)} cannot be tuned; {sorted(tunable)} can")
        for name, values in self.tuning.space.items():
            if not isinstance(values, Span) and not values:
                raise ValueError(f"tuning.space.{name}: the list is empty; give the values to try")
            for value in (values.low, values.high) if isinstance(values, Span) else values:
                try:
                    Ranking.model_validate({name: value, "tuning": Tuning(space={})})
                except pydantic.ValidationError as error:
                    said = error.errors()[0]["msg"]
                    raise ValueError(f"tuning.space.{name}: {value} is no value of it: {said}") from error
        return self
