"""The whole configuration of one shop: all sections, and what they say about each other."""

from __future__ import annotations

import pydantic

from schema.config.base import Name, Section
from schema.config.data import Data, Events, Exposures, Items, Split, Users
from schema.config.gateway import Gateway
from schema.config.kinds import EventKinds
from schema.config.kubeflow import Kubeflow
from schema.config.quality import InfraValidation, Quality
from schema.config.ranking import Ranking
from schema.config.retrieval import Candidates, Retrieval
from schema.config.search import Search
from schema.config.search_training import QueryEncoder, SearchTraining
from schema.config.serving import EVALUATED_ROWS, Serving
from schema.config.text import TextEncoder

_TFMA_ROWS = 1000  # lists at most that TFMA asks for at once


class Config(Section):
    """A shop, its data, its models and what they must reach."""

    name: Name
    """Name of the pipeline and of its folder below the runs folder."""
    data: Data
    items: Items
    events: Events | None = None
    """What users did; without it the shop has search and similar items, and no recommendations."""
    users: Users | None = None
    exposures: Exposures | None = None
    schema_dir: str = "schema/default"
    """Folder of the reviewed schemas: items.pbtxt, users.pbtxt, events.pbtxt."""
    split: Split = Split()
    text_encoder: TextEncoder = TextEncoder()
    retrieval: Retrieval = Retrieval()
    candidates: Candidates = Candidates()
    ranking: Ranking = Ranking()
    search: Search = Search()
    query_encoder: QueryEncoder = QueryEncoder()
    search_training: SearchTraining = SearchTraining()
    serving: Serving = Serving()
    gateway: Gateway = Gateway()
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
        within = self.exposures.compared_within if self.exposures else None
        if within is not None and within not in attributes:
            raise ValueError(
                f"exposures.compared_within: '{within}' is not one of items.categorical {attributes}"
            )
        for place, boost in enumerate(self.serving.boosts):
            if boost.attribute not in (*attributes, "item_id"):
                raise ValueError(
                    f"serving.boosts.{place}.attribute: '{boost.attribute}' is neither item_id nor one of "
                    f"items.categorical {attributes}"
                )
        # the ranking head is evaluated on whole lists, through `serving_default`
        sizes = self.candidates.sizes
        if not EventKinds.of(self).others:
            del sizes["viewed"]  # there is nothing but purchases
        given = sum(sizes.values())
        longest = max(given, self.ranking.eval_list_size)
        if self.candidates.planned and not (self.exposures and self.exposures.known_ahead):
            raise ValueError(
                "candidates.planned: no promotion is known ahead; say in exposures.known_ahead how long "
                "ahead, or set it to 0"
            )
        if self.serving.max_candidates < longest:
            raise ValueError(
                f"serving.max_candidates: {self.serving.max_candidates} is less than the {longest} "
                "candidates of a list that the model is evaluated with; raise it, or lower the sizes in "
                "candidates or ranking.eval_list_size"
            )
        self._pairs(given, longest)
        if self.serving.category_cap is not None and self.items.category is None:
            raise ValueError("serving.category_cap: there are no categories; name one as items.category")
        for name in self.quality.item_slices:
            if name not in attributes:
                raise ValueError(
                    f"quality.item_slices: '{name}' is not one of items.categorical {attributes}"
                )
        self._searched()
        self._measured()
        if self.events is None:
            self._without_events()
        else:
            self._event_types(self.events)
        if self.users is not None:
            for name in self.users.sensitive:
                if name not in self.users.categorical:
                    raise ValueError(
                        f"users.sensitive: '{name}' is not one of users.categorical "
                        f"{sorted(self.users.categorical)}"
                    )
        return self

    def _searched(self) -> None:
        """Whether the fields of the search are texts of the items."""
        known = [*self.items.text, *(role for role in ("brand", "category") if getattr(self.items, role))]
        for name in self.search.fields:
            if name not in known:
                raise ValueError(
                    f"search.fields: '{name}' is not one of {known} (items.text, brand, category)"
                )
        if self.search.title is not None and self.search.title not in known:
            raise ValueError(f"search.title: '{self.search.title}' is not one of {known}")

    def _pairs(self, given: int, longest: int) -> None:
        """`given`, `longest`: candidates that the sources give, and of the longest list of the evaluation."""
        serving, ranking = self.serving, self.ranking
        rows = min(ranking.eval_users, _TFMA_ROWS)
        needed = {
            f"{EVALUATED_ROWS} requests of `recommend`": EVALUATED_ROWS * serving.pairs_of(given),
            f"{EVALUATED_ROWS} lists of {longest}": EVALUATED_ROWS * longest,
            f"{rows} lists of ranking.eval_list_size": rows * ranking.eval_list_size,
        }
        what, pairs = max(needed.items(), key=lambda one: one[1])
        if serving.max_pairs < pairs:
            raise ValueError(
                f"serving.max_pairs: {serving.max_pairs} is less than the {pairs} candidates of {what}, with "
                "which the model is evaluated; raise it, or lower serving.max_k, the sizes in candidates, "
                "ranking.eval_list_size or ranking.eval_users"
            )

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

    def _without_events(self) -> None:
        """Whether nothing is asked for that only events can give."""
        needs = {
            "users": self.users is not None,
            "exposures": self.exposures is not None,
            "data.sample_users": self.data.sample_users is not None,
            f"text_encoder.mode: {self.text_encoder.mode}": self.text_encoder.mode != "frozen",
            "serving.purchase_types": self.serving.purchase_types is not None,
        }
        for name, given in needs.items():
            if given:
                raise ValueError(f"{name}: means nothing without events; remove it, or give the events table")
        if not self.search.enabled:
            raise ValueError(
                "search.enabled: false leaves a shop without events nothing to answer with; set it to true, "
                "or give the events table"
            )

    def _event_types(self, events: Events) -> None:
        """Whether the types that something is said of can occur."""
        known = sorted(events.event_weights)
        if len(known) > 1 and not events.columns.event_type:
            raise ValueError(
                f"events.event_weights: {known} are {len(known)} types, and no column says which an event is "
                "of; name it as events.columns.event_type, or give one type"
            )
        if events.default_event_type not in known:
            raise ValueError(
                f"events.default_event_type: '{events.default_event_type}' has no weight in "
                f"events.event_weights {known}; name the same type in both"
            )
        for name in self.serving.purchase_types or ():
            if name not in known:
                raise ValueError(
                    f"serving.purchase_types: '{name}' is not one of events.event_weights {known}, so that "
                    "nothing would ever count as bought"
                )
