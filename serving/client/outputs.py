"""What a signature answered, as results; each answer is a batch of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schema import names as F
from serving.client.types import (
    Explanation,
    FoundItem,
    RankedItem,
    Recommendation,
    SearchResult,
    Suggestion,
)


def ranked(candidates: Sequence[str], outputs: Mapping[str, Any]) -> list[RankedItem]:
    """Outputs of `rank` for `candidates`, in their order."""
    rows = zip(candidates, outputs[F.SCORE][0], outputs[F.P_PURCHASE][0], strict=True)
    return [RankedItem(item, float(score), float(probability)) for item, score, probability in rows]


def explained(candidates: Sequence[str], outputs: Mapping[str, Any]) -> list[Explanation]:
    """Outputs of `explain` for `candidates`, in their order."""
    groups, names = ([name.decode() for name in outputs[key][0]] for key in (F.GROUP, F.FEATURE_NAME))
    columns = (outputs[name][0].tolist() for name in (F.LOG_ODDS, F.BASELINE, F.ATTRIBUTION, F.FEATURE))
    return [
        Explanation(
            item,
            log_odds,
            baseline,
            dict(zip(groups, shares, strict=True)),
            dict(zip(names, values, strict=True)),
        )
        for item, log_odds, baseline, shares, values in zip(candidates, *columns, strict=True)
    ]


def vector(outputs: Mapping[str, Any]) -> list[float]:
    """Output of the `embed_` signatures."""
    return outputs[F.EMBEDDING][0].tolist()


def recommendations(outputs: Mapping[str, Any]) -> list[Recommendation]:
    """Outputs of `recommend` and `similar`, best first."""
    return [Recommendation(rank, **row) for rank, row in enumerate(_listed(outputs), 1)]


def found(outputs: Mapping[str, Any]) -> SearchResult:
    """Outputs of `search`."""
    rows = _listed(outputs, F.PRICE)
    low, high = (_price(value) for value in outputs[F.PRICE_RANGE][0])
    facets: dict[str, dict[str, int]] = {}
    columns = (outputs[name][0] for name in (F.FACET_NAME, F.FACET_VALUE, F.FACET_COUNT))
    for name, value, count in zip(*columns, strict=True):
        if name:
            facets.setdefault(_text(name), {})[_text(value)] = int(count)
    return SearchResult(
        items=[FoundItem(rank, **row | {F.PRICE: _price(row[F.PRICE])}) for rank, row in enumerate(rows, 1)],
        total=int(outputs[F.TOTAL][0]),
        notice=_text(outputs[F.NOTICE][0]),
        corrected_query=_text(outputs[F.CORRECTED_QUERY][0]),
        relaxed=bool(outputs[F.RELAXED][0]),
        relaxed_query=_text(outputs[F.RELAXED_QUERY][0]),
        price_range=(low, high),
        facets=facets,
        categories=_named(outputs[F.INTENT_CATEGORY][0], outputs[F.INTENT_SCORE][0]),
        brands=_named(outputs[F.INTENT_BRAND][0], outputs[F.INTENT_BRAND_SCORE][0]),
    )


def suggestions(outputs: Mapping[str, Any]) -> list[Suggestion]:
    """Outputs of `suggest`, best first."""
    return [
        Suggestion(text, score)
        for text, score in _named(outputs[F.COMPLETION][0], outputs[F.SCORE][0]).items()
    ]


def _listed(outputs: Mapping[str, Any], *more: str) -> list[dict[str, Any]]:
    """The outputs that every list has, and further ones, of each item by name; the empty places at the
    end are left out.
    """
    names = (F.ITEM_ID, F.ITEM_TEXT, F.SCORE, F.SOURCE, F.REASON, *more)
    columns = [
        [_text(cell) if isinstance(cell, bytes) else float(cell) for cell in outputs[name][0]]
        for name in names
    ]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return [row for row in rows if row[F.ITEM_ID]]


def _named(names: Sequence[bytes], scores: Sequence[float]) -> dict[str, float]:
    return {_text(name): float(score) for name, score in zip(names, scores, strict=True) if name}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _price(value: float) -> float | None:
    return float(value) if value >= 0 else None
