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

# Standard errors of a paired difference that chance explains.
_CHANCE = 2.0

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

    What is compared query by query (with BM25F, and with the same queries after a typing error) refuses a
    model only if it falls short by more than chance: two standard errors of the paired difference. A shop
    with few known items would otherwise be refused by the draw of its queries.

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
            apart = ours - words
            reached, by = _keeps(ours, quality.min_of_lexical * words)
            text = (
                f"{said}, BM25F alone {words.mean():.4f} ({apart.mean():+.4f}, s.e. "
                f"{standard_error(apart):.4f}), {'at least' if reached else 'below'} "
                f"{quality.min_of_lexical:.0%} of it{by}"
            )
            found.append(Check(f"lexical.{name}", reached, text))
        typed = values[name + TYPOS][SEARCH][metric]
        within, by = _keeps(typed, (1 - quality.max_typo_loss) * ours)
        text = f"one typing error costs {typo_loss(values, name, SEARCH):.1%} of {metric} of {name} queries"
        text += f", {'within' if within else 'above'} {quality.max_typo_loss:.0%}{by}"
        found.append(Check(f"typos.{name}", within, text))
    return found


def _keeps(ours: np.ndarray, least: np.ndarray) -> tuple[bool, str]:
    """Whether a figure is not below another by more than chance, query by query; and what to say of that.

    Args:
      ours: float [Q].
      least: float [Q].
    """
    apart = ours - least
    reached = bool(apart.mean() + _CHANCE * standard_error(apart) >= 0)
    return reached, " within chance" if reached and apart.mean() < 0 else ""


def typo_loss(values: Values, name: str, system: str) -> float:
    """The share of a set's figure that one typing error in every query costs; 0 where there is none."""
    clean, typo = (values[of][system][FIGURE[name]].mean() for of in (name, name + TYPOS))
    return float(1 - typo / clean) if clean > 0 else 0.0


def _least(name: str, value: float, least: float, said: str) -> Check:
    reached = bool(value >= least)
    return Check(name, reached, f"{said}, {'at least' if reached else 'below'} {least:.4f}")
