"""Small charts as inline SVG. Colours come from CSS variables, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

_LABEL_WIDTH = 44.0  # of an axis label, in units of the chart
_SERIES = ("var(--series-1)", "var(--series-2)", "var(--series-3)", "var(--series-4)")


def number(value: float | None, digits: int = 4) -> str:
    """A number as short text: ``0.1234``, ``1,234``, ``1.2e-05``; a dash for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value != 0 and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.{digits}f}"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) from about `low` to about `high`.

    Args:
      low: smallest value of the data.
      high: largest value of the data, >= low.
      count: about how many intervals.

    Returns:
      Ascending values, at least two, the first <= low and the last >= high.
    """
    if not high > low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def line_chart(
    title: str, series: dict[str, Sequence[tuple[float, float]]], x_label: str = "epoch"
) -> Markup:
    """A line chart.

    Args:
      title: what is drawn; also the text for screen readers.
      series: up to four lines of (x, y) points; points that are not finite are left out.
      x_label: name of the x axis.
    """
    lines = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for name, points in series.items()
    }
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return Markup("")
    width, height, left, right, top, bottom = 320, 190, 46, 12, 14, 34
    xs = [x for points in lines.values() for x, _ in points]
    y_ticks = ticks(
        min(y for points in lines.values() for _, y in points),
        max(y for points in lines.values() for _, y in points),
    )
    x_low, x_high = min(xs), max(xs)

    def px(x: float) -> float:
        share = (x - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        return left + share * (width - left - right)

    def py(y: float) -> float:
        return top + (y_ticks[-1] - y) / (y_ticks[-1] - y_ticks[0]) * (height - top - bottom)

    parts = []
    for tick in y_ticks:
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>'
            f'<text x="{left - 6}" y="{py(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for tick in _x_ticks(sorted(set(xs)), px):
        parts.append(
            f'<text x="{px(tick):.1f}" y="{height - bottom + 16}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(
        f'<text x="{(left + width - right) / 2:.0f}" y="{height - 3}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    for (name, points), colour in zip(lines.items(), _SERIES, strict=False):
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in points:
            parts.append(
                f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}">'
                f"<title>{escape(name)}, {escape(x_label)} {x:g}: {number(y)}</title></circle>"
            )
    legend = ""
    if len(lines) > 1:
        legend = "".join(
            f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
            for name, colour in zip(lines, _SERIES, strict=False)
        )
        legend = f'<span class="legend">{legend}</span>'
    return Markup(
        f"<figure><figcaption>{escape(title)}{legend}</figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def bars(rows: Sequence[tuple[str, float, float, str, str]], label: str) -> Markup:
    """Horizontal bars with error whiskers.

    Args:
      rows: (name, value >= 0, standard error or 0, text of the value, CSS class).
      label: what is drawn, for screen readers.
    """
    rows = [row for row in rows if math.isfinite(row[1])]
    if not rows:
        return Markup("")
    top = max(value + 2 * error for _, value, error, _, _ in rows) or 1.0
    row_height, name_width, bar_width, text_width = 26, 150, 300, 90
    parts = []
    for index, (name, value, error, text, css) in enumerate(rows):
        y = index * row_height
        length = value / top * bar_width
        parts.append(
            f'<text x="{name_width - 8}" y="{y + 17}" text-anchor="end">{escape(_cut(name, 24))}</text>'
            f'<rect class="track" x="{name_width}" y="{y + 5}" width="{bar_width}" height="16" rx="3"/>'
            f'<rect class="bar {escape(css)}" x="{name_width}" y="{y + 5}" width="{max(length, 1):.1f}" '
            f'height="16" rx="3"><title>{escape(name)}: {escape(text)}</title></rect>'
        )
        if error > 0:
            low, high = (name_width + max(value + sign * 2 * error, 0) / top * bar_width for sign in (-1, 1))
            parts.append(
                f'<path class="whisker" d="M{low:.1f} {y + 13}H{high:.1f}'
                f'M{low:.1f} {y + 9}v8M{high:.1f} {y + 9}v8"/>'
            )
        parts.append(
            f'<text class="value" x="{name_width + bar_width + 8}" y="{y + 17}">{escape(text)}</text>'
        )
    width, height = name_width + bar_width + text_width, len(rows) * row_height
    return Markup(
        f'<svg class="bars" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _x_ticks(xs: Sequence[float], px: Callable[[float], float]) -> list[float]:
    """Where the x axis has labels: at the points themselves if they are few whole numbers (epochs),
    at round values otherwise; never so close to each other that labels of six characters overlap.
    """
    low, high = xs[0], xs[-1]
    whole = len(xs) <= 12 and all(float(x).is_integer() for x in xs)
    chosen: list[float] = []
    for tick in xs if whole else [tick for tick in ticks(low, high) if low <= tick <= high]:
        if not chosen or px(tick) - px(chosen[-1]) >= _LABEL_WIDTH:
            chosen.append(tick)
    return chosen


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
