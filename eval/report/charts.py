"""Small charts as inline SVG: no library, colours from the page's style sheet, text that prints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

WIDTH: Final = 760
_LABEL: Final = 210
_ROW: Final = 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """The five numbers of a strip: where the scores of a group lie."""

    label: str
    """What the group is."""
    tone: str
    """Class of its colour, such as `series-1`."""
    numbers: tuple[float, float, float, float, float]
    """Least, lower quartile, median, upper quartile, largest."""
    count: int
    """How many scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrow:
    """A value that moves, such as a score before and after calibration."""

    label: str
    """What it belongs to."""
    start: float
    """Before."""
    end: float
    """After."""
    low: float | None = None
    """Lower end of the interval of `end`."""
    high: float | None = None
    """Upper end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One stacked bar."""

    label: str
    """What it belongs to."""
    counts: Sequence[float]
    """Parts, in the order of the legend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One mark of a scatter."""

    x: float
    """Place along the bottom."""
    y: float
    """Place along the side."""
    label: str
    """Shown when a reader points at it."""


def strips(spreads: Sequence[Spread], *, title: str, unit: str) -> Markup:
    """Return one strip a group: a line from least to largest, a box of the middle half."""
    ends = [number for spread in spreads for number in (spread.numbers[0], spread.numbers[-1])]
    low, high = _nice(ends)
    body = []
    for number, spread in enumerate(spreads):
        y = 30 + number * _ROW
        least, lower, middle, upper, most = (_place(value, low, high) for value in spread.numbers)
        body.append(
            f"{_text(_LABEL - 8, y + 4, spread.label, 'end')}"
            f'<g class="{spread.tone}"><title>{escape(spread.label)}: median '
            f"{spread.numbers[2]:.1f}, {spread.numbers[0]:.1f} to {spread.numbers[-1]:.1f}, "
            f"n = {spread.count:,}</title>"
            f'<line x1="{least:.1f}" x2="{most:.1f}" y1="{y}" y2="{y}" stroke-width="2"/>'
            f'<rect x="{lower:.1f}" y="{y - 6}" width="{max(upper - lower, 1):.1f}" height="12" '
            'fill-opacity="0.45"/>'
            f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{y - 7}" y2="{y + 7}" '
            'stroke-width="3"/></g>'
        )
    return _figure(body, (low, high), rows=len(spreads), title=title, unit=unit)


def arrows(entries: Sequence[Arrow], *, title: str, unit: str, ends: tuple[float, float]) -> Markup:
    """Return one arrow a row, from the first value to the second with its interval."""
    low, high = ends
    body = []
    for number, entry in enumerate(entries):
        y = 30 + number * _ROW
        start, end = _place(entry.start, low, high), _place(entry.end, low, high)
        head = 5 if end >= start else -5
        if entry.low is not None and entry.high is not None:
            body.append(
                f'<line class="series-5" x1="{_place(entry.low, low, high):.1f}" '
                f'x2="{_place(entry.high, low, high):.1f}" y1="{y}" y2="{y}" stroke-width="6" '
                'stroke-opacity="0.3"/>'
            )
        body.append(
            f"{_text(_LABEL - 8, y + 4, entry.label, 'end')}"
            f'<g class="series-1"><title>{escape(entry.label)}: {entry.start:.2f} to '
            f"{entry.end:.2f}</title>"
            f'<line x1="{start:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}" stroke-width="2"/>'
            f'<circle cx="{start:.1f}" cy="{y}" r="3" fill-opacity="0"/>'
            f'<path d="M{end:.1f} {y}l{-head} -4v8z"/></g>'
        )
    return _figure(body, (low, high), rows=len(entries), title=title, unit=unit)


def stacked(
    bars: Sequence[Bar], *, legend: Sequence[str], tones: Sequence[str], title: str
) -> Markup:
    """Return bars of shares that add up to 100 %."""
    body = []
    for number, bar in enumerate(bars):
        y, x = 30 + number * _ROW, float(_LABEL)
        total = sum(bar.counts)
        body.append(_text(_LABEL - 8, y + 4, bar.label, "end"))
        for count, tone, name in zip(bar.counts, tones, legend, strict=True):
            width = (WIDTH - _LABEL - 30) * count / total if total else 0.0
            body.append(
                f'<rect class="{tone}" x="{x:.1f}" y="{y - 8}" width="{width:.1f}" height="16">'
                f"<title>{escape(bar.label)}: {escape(name)} "
                f"{100 * count / total if total else 0:.0f} %</title></rect>"
            )
            x += width
    entries = Markup().join(
        Markup('<li><span class="swatch {}"></span>{}</li>').format(tone, name)
        for tone, name in zip(tones, legend, strict=True)
    )
    listed = Markup('<ul class="legend">{}</ul>').format(entries)
    return _figure(body, (0, 100), rows=len(bars), title=title, unit="% of ratings", legend=listed)


def scatter(points: Sequence[Point], *, title: str, x_title: str, y_title: str) -> Markup:
    """Return marks over two scales."""
    size, left, bottom = 360, 50, 40
    x_low, x_high = _nice([point.x for point in points])
    y_low, y_high = _nice([point.y for point in points])

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
        body.append(_text(x, size - bottom + 15, f"{x_low + share * (x_high - x_low):g}", "middle"))
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
        '<figure><svg viewBox="0 0 {s} {s}" width="{s}" height="{s}" role="img" aria-label="{t}">'
        "{body}</svg><figcaption>{t}</figcaption></figure>"
    ).format(s=size, t=title, body=Markup("".join(body)))


def _figure(
    body: Sequence[str],
    ends: tuple[float, float],
    *,
    rows: int,
    title: str,
    unit: str,
    legend: Markup | None = None,
) -> Markup:
    low, high = ends
    height = 50 + rows * _ROW
    grid = []
    for step in range(6):
        value = low + step * (high - low) / 5
        x = _place(value, low, high)
        grid.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{height - 28}"/>'
            f"{_text(x, height - 12, f'{value:g}', 'middle', 'soft')}"
        )
    if low < 0 < high:
        zero = _place(0, low, high)
        grid.append(
            f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="16" y2="{height - 28}"/>'
        )
    return Markup(
        '<figure><figcaption>{title} ({unit})</figcaption>{legend}<div class="scroll" tabindex="0" '
        'role="region" aria-label="{title}"><svg viewBox="0 0 {width} {height}" width="{width}" '
        'height="{height}" role="img" aria-label="{title}">{grid}{body}</svg></div></figure>'
    ).format(
        title=title, unit=unit, width=WIDTH, height=height, legend=legend or Markup(),
        grid=Markup("".join(grid)), body=Markup("".join(body)),
    )  # fmt: skip


def _place(value: float, low: float, high: float) -> float:
    return _LABEL + (value - low) / (high - low) * (WIDTH - _LABEL - 30)


def _nice(values: Sequence[float]) -> tuple[float, float]:
    """Return round ends of a scale around the values."""
    low, high = min(values), max(values)
    for step in (0.1, 0.5, 1, 5, 10, 50, 100):
        if high - low <= 10 * step:
            break
    bottom, top = step * (low // step), step * -(-high // step)
    return (round(bottom, 6), round(top if top > bottom else bottom + step, 6))


def _text(x: float, y: float, text: str, anchor: str, tone: str = "") -> str:
    tone = f' class="{tone}"' if tone else ""
    return f'<text{tone} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
