"""Small charts without a library: rows of text and inline SVG, coloured by the page's style sheet.

A row consists of a label, which wraps like any text, and a drawing with horizontal positions in
percent. It uses the available width, while its text has the same size on every screen and on paper.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

ROW_HEIGHT: Final = 18
_STEPS: Final = 5
_MIDDLE: Final = ROW_HEIGHT // 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """The five-number summary of the scores of a group."""

    label: str
    """Name of the group."""
    tone: str
    """Class of its colour, such as `series-1`."""
    numbers: tuple[float, float, float, float, float]
    """Minimum, lower quartile, median, upper quartile, maximum."""
    count: int
    """Number of scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrow:
    """A value that changes, such as a score before and after calibration."""

    label: str
    """Name of the row."""
    start: float
    """Value before."""
    end: float
    """Value after."""
    low: float | None = None
    """Lower end of the interval of `end`."""
    high: float | None = None
    """Upper end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One stacked bar."""

    label: str
    """Name of the row."""
    counts: Sequence[float]
    """Parts, in the order of the legend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One mark of a scatter plot."""

    x: float
    """Place along the bottom."""
    y: float
    """Place along the side."""
    label: str
    """Shown when the reader points at it."""


def strips(spreads: Sequence[Spread], *, title: str, unit: str) -> Markup:
    """Return one strip per group: a line from minimum to maximum, a box for the middle half."""
    ends = _round_ends([end for one in spreads for end in (one.numbers[0], one.numbers[-1])])
    place = _scale(ends)
    rows = []
    for one in spreads:
        low, lower, median, upper, high = map(place, one.numbers)
        told = (
            f"{one.label}: median {one.numbers[2]:.1f}, {one.numbers[0]:.1f} to "
            f"{one.numbers[-1]:.1f}, n = {one.count:,}"
        )
        drawing = (
            f'<g class="{one.tone}"><title>{escape(told)}</title>'
            f"{_line(low, high, _MIDDLE, _MIDDLE, 2)}"
            f'<rect x="{lower:.2f}%" y="{_MIDDLE - 6}" width="{max(upper - lower, 0.3):.2f}%" '
            f'height="12" fill-opacity="0.45"/>'
            f"{_line(median, median, _MIDDLE - 7, _MIDDLE + 7, 3)}</g>"
        )
        rows.append((one.label, drawing, told))
    return _figure(rows, ends, title=title, unit=unit)


def arrows(entries: Sequence[Arrow], *, title: str, unit: str, ends: tuple[float, float]) -> Markup:
    """Return one arrow per row, from the first value to the second with its interval."""
    place = _scale(ends)
    rows = []
    for one in entries:
        start, end = place(one.start), place(one.end)
        told = f"{one.label}: {one.start:.2f} to {one.end:.2f}"
        drawing = ""
        if one.low is not None and one.high is not None:
            band = _line(place(one.low), place(one.high), _MIDDLE, _MIDDLE, 6)
            drawing = f'<g class="series-5" stroke-opacity="0.3">{band}</g>'
        head = 5 if end >= start else -5
        drawing += (
            f'<g class="series-1"><title>{escape(told)}</title>'
            f"{_line(start, end, _MIDDLE, _MIDDLE, 2)}"
            f'<circle cx="{start:.2f}%" cy="{_MIDDLE}" r="3" fill-opacity="0"/>'
            f'<svg x="{end:.2f}%" y="{_MIDDLE}" overflow="visible" aria-hidden="true">'
            f'<path d="M0 0l{-head} -4v8z"/>'
            "</svg></g>"
        )
        rows.append((one.label, drawing, told))
    return _figure(rows, ends, title=title, unit=unit)


def stacked(
    bars: Sequence[Bar], *, legend: Sequence[str], tones: Sequence[str], title: str
) -> Markup:
    """Return bars of shares that add up to 100 %."""
    rows = []
    for one in bars:
        total, x = sum(one.counts), 0.0
        drawing, told = "", []
        for count, tone, name in zip(one.counts, tones, legend, strict=True):
            share = 100 * count / total if total else 0.0
            words = f"{name} {share:.0f} %"
            drawing += (
                f'<rect class="{tone}" x="{x:.2f}%" y="1" width="{share:.2f}%" '
                f'height="{ROW_HEIGHT - 2}"><title>{escape(one.label)}: {escape(words)}</title>'
                "</rect>"
            )
            told.append(words)
            x += share
        rows.append((one.label, drawing, f"{one.label}: {', '.join(told)}"))
    entries = Markup().join(
        Markup('<li><span class="swatch {}"></span>{}</li>').format(tone, name)
        for tone, name in zip(tones, legend, strict=True)
    )
    listed = Markup('<ul class="legend">{}</ul>').format(entries)
    return _figure(rows, (0, 100), title=title, unit="% of ratings", legend=listed)


def scatter(points: Sequence[Point], *, title: str, x_title: str, y_title: str) -> Markup:
    """Return marks over two scales."""
    size, left, bottom = 340, 50, 40
    x_low, x_high = _round_ends([point.x for point in points])
    y_low, y_high = _round_ends([point.y for point in points])

    def at(point: Point) -> tuple[float, float]:
        x = left + (point.x - x_low) / (x_high - x_low) * (size - left - 10)
        return x, size - bottom - (point.y - y_low) / (y_high - y_low) * (size - bottom - 10)

    body = [
        f'<rect class="axis" x="{left}" y="10" width="{size - left - 10}" '
        f'height="{size - bottom - 10}"/>'
    ]
    for share in (0.0, 0.5, 1.0):
        x = left + share * (size - left - 10)
        y = size - bottom - share * (size - bottom - 10)
        anchor = "end" if share == 1.0 else "middle"
        body.append(_text(x, size - bottom + 15, f"{x_low + share * (x_high - x_low):g}", anchor))
        body.append(_text(left - 6, y + 4, f"{y_low + share * (y_high - y_low):g}", "end"))
    for point in points:
        x, y = at(point)
        body.append(
            f'<circle class="series-1" cx="{x:.1f}" cy="{y:.1f}" r="4" fill-opacity="0.6">'
            f"<title>{escape(point.label)}: {point.x:.2f}, {point.y:.2f}</title></circle>"
        )
    body.append(_text((size + left) / 2, size - 6, x_title, "middle"))
    body.append(
        f'<text x="14" y="{size / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {size / 2:.0f})">{escape(y_title)}</text>'
    )
    return Markup(
        '<figure class="scatter"><figcaption>{t}</figcaption><svg viewBox="0 0 {s} {s}" '
        'width="{s}" height="{s}" role="img" aria-label="{t}">{body}</svg></figure>'
    ).format(s=size, t=title, body=Markup("".join(body)))


def _figure(
    rows: Sequence[tuple[str, str, str]],
    ends: tuple[float, float],
    *,
    title: str,
    unit: str,
    legend: Markup | None = None,
) -> Markup:
    """Return rows of (label, drawing, words for screen readers) over one scale."""
    low, high = ends
    place = _scale(ends)
    values = [low + step * (high - low) / _STEPS for step in range(_STEPS + 1)]
    grid = "".join(
        f'<line class="grid" x1="{place(v):.2f}%" x2="{place(v):.2f}%" y1="0" y2="100%"/>'
        for v in values
    )
    if low < 0 < high:
        grid += f'<line class="zero" x1="{place(0):.2f}%" x2="{place(0):.2f}%" y1="0" y2="100%"/>'
    parts = [
        Markup(
            '<div class="row"><span class="label" dir="auto">{label}</span><svg class="plot" '
            'width="100%" height="{height}" role="img" aria-label="{told}">{drawing}</svg></div>'
        ).format(label=label, told=told, height=ROW_HEIGHT, drawing=Markup(grid + drawing))
        for label, drawing, told in rows
    ]
    ticks = "".join(
        f'<text class="soft" x="{place(v):.2f}%" y="13" text-anchor="{_anchor(n)}">{v:g}</text>'
        for n, v in enumerate(values)
    )
    axis = Markup(
        '<div class="row" aria-hidden="true"><span class="label"></span>'
        '<svg class="plot" width="100%" height="18" aria-hidden="true">{}</svg></div>'
    ).format(Markup(ticks))
    return Markup(
        '<figure><figcaption>{title} ({unit})</figcaption>{legend}<div class="chart">{rows}{axis}'
        "</div></figure>"
    ).format(
        title=title, unit=unit, legend=legend or Markup(), rows=Markup().join(parts), axis=axis
    )


def _anchor(step: int) -> str:
    return "start" if step == 0 else "end" if step == _STEPS else "middle"


def _scale(ends: tuple[float, float]) -> Callable[[float], float]:
    """Return the function from a value to its place in percent of the width."""
    low, high = ends
    return lambda value: 100 * (value - low) / (high - low)


def _line(x1: float, x2: float, y1: float, y2: float, width: int) -> str:
    return f'<line x1="{x1:.2f}%" x2="{x2:.2f}%" y1="{y1}" y2="{y2}" stroke-width="{width}"/>'


def _round_ends(values: Sequence[float]) -> tuple[float, float]:
    """Return round ends of a scale around the values."""
    low, high = min(values), max(values)
    for step in (0.1, 0.5, 1, 5, 10, 50, 100):
        if high - low <= 10 * step:
            break
    bottom, top = step * (low // step), step * -(-high // step)
    return (round(bottom, 6), round(top if top > bottom else bottom + step, 6))


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
