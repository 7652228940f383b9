"""Two small charts as inline SVG: intervals of lifts, and a confidence sequence over days.

Colours come from the page's CSS variables, so they follow light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape


def percent(value: float) -> str:
    """A share as signed per cent, `+3.1 %`; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:+.1%}".replace("%", " %")


def ticks(low: float, high: float) -> list[float]:
    """Four to nine round values within [low, high], low < high."""
    raw = (high - low) / 5
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(times * magnitude for times in (1, 2, 5, 10) if times * magnitude >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def intervals(title: str, rows: Sequence[tuple[str, float, float, float, bool]]) -> Markup:
    """Lifts with their intervals, one row each, and a line at no effect.

    Args:
      title: what is drawn; also the text for screen readers.
      rows: name, lift, low, high, and whether the interval says that the arm is worse; rows with a NaN
        are drawn as text only.
    """
    ends = [value for _, *values, _ in rows for value in values if math.isfinite(value)]
    low, high = _range(ends)
    name_width, width, row_height = 220, 640, 28
    height = len(rows) * row_height + 24

    def px(value: float) -> float:
        return name_width + (min(max(value, low), high) - low) / (high - low) * (width - name_width - 90)

    parts = [
        f'<line class="grid" x1="{px(tick):.1f}" x2="{px(tick):.1f}" y1="0" y2="{height - 20}"/>'
        f'<text x="{px(tick):.1f}" y="{height - 4}" text-anchor="middle">{tick * 100:g} %</text>'
        for tick in ticks(low, high)
    ]
    parts.append(f'<line class="zero" x1="{px(0):.1f}" x2="{px(0):.1f}" y1="0" y2="{height - 20}"/>')
    for index, (name, lift, bottom, top, worse) in enumerate(rows):
        y = index * row_height + 14
        parts.append(
            f'<text class="name" x="{name_width - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
        )
        colour = _colour(bottom, top, worse)
        if all(map(math.isfinite, (lift, bottom, top))):
            said = f"{name}: {percent(lift)}, {percent(bottom)} to {percent(top)}"
            parts.append(
                f'<g stroke="{colour}" fill="{colour}"><title>{escape(said)}</title>'
                f'<line x1="{px(bottom):.1f}" x2="{px(top):.1f}" y1="{y}" y2="{y}" stroke-width="3"/>'
                f'<circle cx="{px(lift):.1f}" cy="{y}" r="5"/></g>'
            )
        parts.append(f'<text class="value" x="{width - 80}" y="{y + 4}">{escape(percent(lift))}</text>')
    return _figure(title, parts, width, height)


def sequence(
    title: str, days: Sequence[str], path: Sequence[float], band: Sequence[Sequence[float]]
) -> Markup:
    """A lift and its confidence sequence over days.

    Args:
      title: what is drawn; also the text for screen readers.
      days: name of each day, [D].
      path: the lift at the end of each day, [D]; NaN is a gap.
      band: low and high ends, [2, D].
    """
    drawn = [
        (index, *values)
        for index, values in enumerate(zip(path, *band, strict=True))
        if all(map(math.isfinite, values))
    ]
    if not drawn:
        return Markup('<p class="soft">Too few outcomes for a curve so far.</p>')
    width, height, left, right, top, bottom = 640, 240, 56, 16, 12, 30
    # The first days' intervals may be wider than anything of interest: the last one and the path set
    # the scale.
    shown = [value for _, lift, _, _ in drawn for value in (lift,)]
    last = drawn[-1][3] - drawn[-1][2]
    low, high = _range([*shown, drawn[-1][2] - last, drawn[-1][3] + last])

    def px(index: float) -> float:
        return left + (index / (len(days) - 1) if len(days) > 1 else 0.5) * (width - left - right)

    def py(value: float) -> float:
        return top + (high - min(max(value, low), high)) / (high - low) * (height - top - bottom)

    parts = [
        f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>'
        f'<text x="{left - 6}" y="{py(tick) + 4:.1f}" text-anchor="end">{tick * 100:g} %</text>'
        for tick in ticks(low, high)
    ]
    upper = [f"{px(index):.1f},{py(end):.1f}" for index, _, _, end in drawn]
    lower = [f"{px(index):.1f},{py(end):.1f}" for index, _, end, _ in reversed(drawn)]
    parts.append(f'<polygon class="band" points="{" ".join(upper + lower)}"/>')
    parts.append(f'<line class="zero" x1="{left}" x2="{width - right}" y1="{py(0):.1f}" y2="{py(0):.1f}"/>')
    line = " ".join(f"{px(index):.1f},{py(lift):.1f}" for index, lift, _, _ in drawn)
    parts.append(f'<polyline points="{line}" fill="none" stroke="var(--series-1)" stroke-width="2"/>')
    for index, lift, least, most in drawn:
        said = f"{days[index]}: {percent(lift)}, {percent(least)} to {percent(most)}"
        parts.append(
            f'<circle cx="{px(index):.1f}" cy="{py(lift):.1f}" r="3" fill="var(--series-1)">'
            f"<title>{escape(said)}</title></circle>"
        )
    for index in sorted({0, len(days) // 2, len(days) - 1}):
        anchor = "start" if index == 0 else "end" if index == len(days) - 1 else "middle"
        parts.append(
            f'<text x="{px(index):.1f}" y="{height - 8}" text-anchor="{anchor}">{escape(days[index])}</text>'
        )
    return _figure(title, parts, width, height)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis that holds 0 and the values, with a margin."""
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    pad = (high - low) * 0.05 or 0.01
    return low - pad, high + pad


def _colour(low: float, high: float, worse: bool) -> str:
    if low <= 0 <= high:
        return "var(--rest)"
    return "var(--bad)" if worse else "var(--good)"


def _figure(title: str, parts: Sequence[str], width: int, height: int) -> Markup:
    return Markup(
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )
