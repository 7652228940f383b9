"""The whole configuration of one shop: all sections, and what they say about each other."""

from __future__ import annotations

import pydantic

from schema.config.base import Name, Section
from schema.config.data import Data, Events, Exposures, Items, Split, Users
from schema.config.kubeflow import Kubeflow
from schema.config.quality import InfraValidation, Quality
from schema.config.ranking import Ranking
from schema.config.retrieval import Candidates, Retrieval
from schema.config.serving import Serving
from schema.config.text import TextEncoder


class Config(Section):
    """A shop, its data, its models and what they must reach."""

    name: Name
    """Name of the pipeline and of its folder below the runs folder."""
    data: Data
    events: Events
    items: Items
    users: Users | None = None
    exposures: Exposures | None = None
    schema_dir: str = "schema/default"
    """Folder of the reviewed schemas: items.pbtxt, users.pbtxt, events.pbtxt."""
    split: Split = Split()
    text_encoder: TextEncoder = TextEncoder()
    retrieval: Retrieval = Retrieval()
    candidates: Candidates = Candidates()
    ranking: Ranking = Ranking()
    serving: Serving = Serving()
    quality: Quality = Quality()
    infra_validator: InfraValidation = InfraValidation()
    kubeflow: Kubeflow = Kubeflow()
    beam_args: list[str] = ["--runner=FnApiRunner"]
    """Command-line arguments of Beam."""

    @pydantic.model_validator(mode="after")
    def _references(self) -> Config:
        attributes = sorted(self.items.categorical)
        for role in ("category", "brand"):
            name = getattr(self.items, role)
            if name is not None and name not in attributes:
                raise ValueError(f"items.{role}: '{name}' is not one of items.categorical {attributes}")
        for place, boost in enumerate(self.serving.boosts):
            if boost.attribute not in (*attributes, "item_id"):
                raise ValueError(
                    f"serving.boosts.{place}.attribute: '{boost.attribute}' is neither item_id nor one of "
                    f"items.categorical {attributes}"
                )
        # the ranking head is evaluated on whole lists, through `serving_default`
        sizes = self.candidates
        longest = sizes.two_tower + sizes.buy_again + sizes.co_purchased + sizes.trending + sizes.new_items
        longest = max(longest, self.ranking.eval_list_size)
        if self.serving.max_candidates < longest:
            raise ValueError(
                f"serving.max_candidates: {self.serving.max_candidates} is less than the {longest} "
                "candidates of a list that the model is evaluated with; raise it, or lower the sizes in "
                "candidates or ranking.eval_list_size"
            )
        if self.serving.category_cap is not None and self.items.category is None:
            raise ValueError("serving.category_cap: there are no categories; name one as items.category")
        for name in self.quality.item_slices:
            if name not in attributes:
                raise ValueError(
                    f"quality.item_slices: '{name}' is not one of items.categorical {attributes}"
                )
        self._measured()
        self._event_types()
        if self.users is not None:
            for name in self.users.sensitive:
                if name not in self.users.categorical:
                    raise ValueError(
                        f"users.sensitive: '{name}' is not one of users.categorical "
                        f"{sorted(self.users.categorical)}"
                    )
        return self

    def _measured(self) -> None:
        """Whether what is scored can be answered, and spans what the ranker speaks of."""
        longest = max(self.quality.ks)
        if longest > self.serving.max_k:
            raise ValueError(
                f"quality.ks: {longest} is above serving.max_k {self.serving.max_k}, the longest "
                "list that the servable gives; leave it out or raise serving.max_k"
            )
        window = f"{self.split.evaluate_on}_days"
        days = getattr(self.split, window)
        if self.split.strategy == "time" and self.ranking.window_days > days:
            raise ValueError(
                f"ranking.window_days: {self.ranking.window_days:g} days are more than the {days:g} of "
                f"split.{window}, so that what the ranker predicts could not be observed; lower the one or "
                "raise the other"
            )

    def _event_types(self) -> None:
        """Whether the types that something is said of can occur."""
        known = sorted(self.events.event_weights)
        if len(known) > 1:
            raise ValueError(
                f"events.event_weights: {known} are {len(known)} types, and every event counts as a purchase "
                "in labels, metrics and prices, whatever its type; give one type, and a table of such events"
            )
        if self.events.default_event_type not in known:
            raise ValueError(
                f"events.default_event_type: '{self.events.default_event_type}' has no weight in "
                f"events.event_weights {known}; name the same type in both"
            )
        for name in self.serving.purchase_types or ():
            if name not in known:
                raise ValueError(
                    f"serving.purchase_types: '{name}' is not one of events.event_weights {known}, so that "
                    "nothing would ever count as bought"
                )
