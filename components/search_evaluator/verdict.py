"""What a search must reach to be pushed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from components.common.metrics import standard_error
from schema.config import SearchQuality

JUDGED, KNOWN, PERSONAL, TYPOS = "judged", "known_item", "personal", "_typos"
SEARCH, LEXICAL, NOT_PERSONAL = "search", "bm25f", "not_personal"
# The figure that each set is judged by.
FIGURE = {JUDGED: "ndcg@10", KNOWN: "mrr", PERSONAL: "ndcg@10"}

# set -> system -> metric -> float [Q]
Values = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Check:
    """One condition of the blessing: its name, whether it holds, and what was found."""

    name: str
    passed: bool
    text: str


def checks(values: Values, quality: SearchQuality) -> list[Check]:
    """Every condition; a model is blessed if all of them hold.

    Args:
      values: of the sets `judged` and `known_item` and of the same with typing errors (`judged_typos`); a
        set that the shop does not have has no condition.
      quality: the thresholds.
    """
    found = []
    for name, least in ((JUDGED, quality.min_ndcg), (KNOWN, quality.min_known_item)):
        if name not in values:
            continue
        metric = FIGURE[name]
        ours, words = (values[name][system][metric] for system in (SEARCH, LEXICAL))
        said = f"{metric} of {len(ours):,} {name} queries {ours.mean():.4f}"
        found.append(_least(f"least.{name}", ours.mean(), least, said))
        # a known item's own words are what BM25F is best at: judgements say more, where there are any
        if name == JUDGED or JUDGED not in values:
            bound = quality.min_of_lexical * words.mean()
            apart = ours - words
            against = (
                f"BM25F alone {words.mean():.4f} ({apart.mean():+.4f}, s.e. {standard_error(apart):.4f})"
            )
            found.append(_least(f"lexical.{name}", ours.mean(), bound, f"{said}, {against}"))
        loss = typo_loss(values, name, SEARCH)
        within = loss <= quality.max_typo_loss
        text = f"one typing error costs {loss:.1%} of {metric} of {name} queries"
        text += f", {'within' if within else 'above'} {quality.max_typo_loss:.0%}"
        found.append(Check(f"typos.{name}", bool(within), text))
    return found


def typo_loss(values: Values, name: str, system: str) -> float:
    """The share of a set's figure that one typing error in every query costs; 0 where there is none."""
    clean, typo = (values[of][system][FIGURE[name]].mean() for of in (name, name + TYPOS))
    return float(1 - typo / clean) if clean > 0 else 0.0


def _least(name: str, value: float, least: float, said: str) -> Check:
    reached = bool(value >= least)
    return Check(name, reached, f"{said}, {'at least' if reached else 'below'} {least:.4f}")
