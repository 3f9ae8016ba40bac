"""A self-contained HTML page: frame, tables, notices and heat maps.

Style, script and data are inside the file, and a strict content security policy allows only these:
the page sends no requests. Text is escaped unless it is `Markup`.
"""

import base64
import hashlib
import json
import re
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from numpy.typing import NDArray

from nllb import __version__

from .atomic import atomic_text

Cell: TypeAlias = str | float | int | Markup | None
MISSING_SCORE: Final = 65535
SCORE_SCALE: Final = 100
"""Scores are stored as hundredths in 16 bits: 0.00 to 655.34."""

_HOME = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    """Head of the column."""
    kind: Literal["text", "code", "number", "interval"] = "text"
    """How cells are aligned, typeset and sorted."""
    digits: int = 1
    """Decimals of a number."""
    signed: bool = False
    """Whether a number is shown with its sign and coloured as better or worse."""
    lower_is_better: bool = False
    """Whether a negative number is better, as for TER."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatMapLayer:
    """One matrix of scores in a heat map."""

    name: str
    """Name that the reader chooses, such as `chrF++, baseline`."""
    values: NDArray[np.floating[Any]]
    """Square matrix, source by target; NaN where there is no score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """The languages along both sides of a heat map."""

    labels: Sequence[str]
    """Code of each language."""
    titles: Sequence[str]
    """Name of each language."""
    levels: Sequence[Literal["high", "low", "very-low"]]
    """Resource level of each language, drawn as a strip along both sides."""
    groups: Mapping[str, Sequence[str]]
    """Further orders: title -> the group of each language."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSection:
    """A titled part of a page."""

    title: str
    """Heading and link in the navigation."""
    identifier: str
    """Anchor."""
    body: Markup
    """Content."""


class Page:
    """Collects sections and writes one file."""

    def __init__(
        self, title: str, *, subtitle: str = "", footer: str = "", language: str = "en"
    ) -> None:
        self.title, self.subtitle, self.language = title, subtitle, language
        self.footer = footer or f"Written by nllb {__version__}. This file sends no network "
        "requests."
        self.sections: list[PageSection] = []

    def add(self, title: str, *parts: str) -> None:
        """Append a section; parts that are not `Markup` become paragraphs."""
        body = Markup("\n").join(
            part if isinstance(part, Markup) else paragraph(part) for part in parts if part
        )
        taken = {section.identifier for section in self.sections}
        identifier = stem = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        number = 2
        while identifier in taken:
            identifier, number = f"{stem}-{number}", number + 1
        self.sections.append(PageSection(title=title, identifier=identifier, body=body))

    def render(self) -> str:
        """Return the HTML."""
        style, script = _source("page.css"), _source("page.js")
        policy = (
            f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        )
        html: str = _template().render(
            title=self.title,
            subtitle=self.subtitle,
            language=self.language,
            footer=self.footer,
            sections=self.sections,
            policy=Markup(policy),
            style=Markup(style),
            script=Markup(script),
            version=__version__,
        )
        return html

    def save(self, path: Path) -> int:
        """Write the file atomically and return its size in bytes."""
        html = self.render()
        with atomic_text(path) as stream:
            stream.write(html)
        return len(html.encode("utf-8"))


def paragraph(text: str, *, kind: str = "") -> Markup:
    """Return a paragraph; `kind` is a class such as `verdict` or `soft`."""
    return (
        Markup('<p class="{}">{}</p>').format(kind, text)
        if kind
        else Markup("<p>{}</p>").format(text)
    )


def heading(text: str) -> Markup:
    """Return a heading inside a section."""
    return Markup("<h3>{}</h3>").format(text)


def notice(
    text: str, items: Iterable[str] = (), *, kind: Literal["warning", "error", "good", ""] = ""
) -> Markup:
    """Return a box with a text and perhaps a list under it."""
    entries = Markup().join(Markup("<li>{}</li>").format(item) for item in items)
    listed = Markup("<ul>{}</ul>").format(entries) if entries else Markup()
    return Markup('<div class="notice {}">{}{}</div>').format(kind, text, listed)


def details(summary: str, *parts: str) -> Markup:
    """Return a part that is collapsed until the reader opens it."""
    body = Markup("\n").join(parts)
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, body)


def definitions(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Return a two-column list of names and values."""
    rows = Markup().join(Markup("<dt>{}</dt><dd>{}</dd>").format(*pair) for pair in pairs)
    return Markup("<dl>{}</dl>").format(rows)


def redacted(word: str) -> Markup:
    """Return a word shown by its first letter only, until it is clicked."""
    mask = word[:1] + "\u2026"
    return Markup(
        '<button type="button" class="redacted" aria-pressed="false" data-word="{}">{}</button>'
    ).format(word, mask)


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    *,
    caption: str,
    sortable: bool = True,
    filterable: bool = False,
    tall: bool = False,
) -> Markup:
    """Return a table.

    Args:
        columns: heads, and how their cells are typeset.
        rows: one cell per column; None or NaN shows as a dash and sorts last.
        caption: what the table shows.
        sortable: whether a click on a head sorts the table.
        filterable: whether a search box above filters the rows.
        tall: whether a long table scrolls inside its own frame.
    """
    heads = Markup().join(
        Markup('<th scope="col" class="{}">{}</th>').format(column.kind, column.title)
        for column in columns
    )
    # Joined as plain text, which is much faster for tables of many thousand cells.
    body = Markup(
        "\n".join(
            f"<tr>{''.join(_cell(c, v) for c, v in zip(columns, row, strict=True))}</tr>"
            for row in rows
        )
    )
    identifier = "table-" + hashlib.sha256((caption + body).encode("utf-8")).hexdigest()[:10]
    box = Markup()
    if filterable:
        box = Markup(
            '<div class="controls"><label hidden>Find in this table'
            '<input type="search" data-filter="{}"></label></div>'
        ).format(identifier)
    return box + Markup(
        '<div class="scroll{}" role="region" aria-label="{}" tabindex="0">'
        '<table id="{}" class="{}"><caption><span>{}</span></caption><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(
        " tall" if tall else "", caption, identifier, "sortable" if sortable else "",
        caption, heads, body,
    )  # fmt: skip


def _cell(column: Column, value: Cell) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return f'<td class="{column.kind}" data-value="">\u2013</td>'
    if column.kind == "number" and not isinstance(value, str):
        number = float(value)
        text = f"{number:{'+' if column.signed else ''},.{column.digits}f}"
        tone = ""
        if column.signed and float(text.replace(",", "")):
            tone = " better" if (number > 0) != column.lower_is_better else " worse"
        return f'<td class="number{tone}" data-value="{number:.6g}">{text}</td>'
    # Markup knows __html__ and stays as it is; a plain string is escaped.
    text = value if isinstance(value, Markup) else Markup(escape(str(value)))
    return f'<td class="{column.kind}" dir="auto">{text}</td>'


def heat_map(axis: Axis, layers: Sequence[HeatMapLayer], *, caption: str) -> Markup:
    """Return a square map of scores with layers, differences, orders and a text for each cell.

    Scores are stored as 16-bit hundredths; browsers without script show a picture of the first
    layer.

    Raises:
        ValueError: if a layer is not square over the axis, or a score does not fit 16 bits.
    """
    size = len(axis.labels)
    for layer in layers:
        if layer.values.shape != (size, size):
            raise ValueError(f"layer {layer.name!r} is {layer.values.shape}, not {(size, size)}")
    specification = {
        "labels": list(axis.labels),
        "titles": list(axis.titles),
        "levels": list(axis.levels),
        "groups": {title: list(groups) for title, groups in axis.groups.items()},
        "scale": SCORE_SCALE,
        "layers": [{"name": layer.name, "data": encode_scores(layer.values)} for layer in layers],
    }
    payload = json_block(specification)
    identifier = "map-" + hashlib.sha256(payload.encode("utf-8")).hexdigest()[:10]
    legend = Markup().join(
        Markup('<li><span class="swatch {}"></span>{}</li>').format(level, title)
        for level, title in (
            ("high", "high-resource language"),
            ("low", "low-resource"),
            ("very-low", "very low-resource"),
        )
    )
    return Markup(
        '<figure class="heat-map" data-spec="{id}"><figcaption>{caption}</figcaption>'
        '<div class="controls" hidden></div>'
        '<canvas class="cells" role="img" tabindex="0" aria-label="{caption}"></canvas>'
        '<div class="ramp"><span></span>'
        '<canvas width="256" height="10" aria-hidden="true"></canvas><span></span></div>'
        '<ul class="legend">{legend}</ul><output aria-live="polite"></output>'
        '<noscript><img alt="{caption}: {first}" src="{picture}"></noscript>'
        '<script type="application/json" id="{id}">{payload}</script></figure>'
    ).format(
        id=identifier,
        caption=caption,
        legend=legend,
        first=layers[0].name,
        picture=picture(layers[0].values),
        payload=Markup(payload),
    )


def encode_scores(values: NDArray[np.floating[Any]]) -> str:
    """Return scores as base64 of little-endian 16-bit hundredths; NaN becomes 65535."""
    scaled = np.round(np.asarray(values, dtype=np.float64) * SCORE_SCALE)
    present = ~np.isnan(scaled)
    if ((scaled[present] < 0) | (scaled[present] >= MISSING_SCORE)).any():
        raise ValueError(f"a score does not fit 0 to {(MISSING_SCORE - 1) / SCORE_SCALE}")
    scaled[~present] = MISSING_SCORE
    return base64.b64encode(scaled.astype("<u2").tobytes()).decode("ascii")


def picture(values: NDArray[np.floating[Any]]) -> str:
    """Return a grey PNG of a matrix as a data URL: dark is low, black is missing."""
    present = np.asarray(values, dtype=np.float64)
    known = present[~np.isnan(present)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    shades = np.nan_to_num(40 + 215 * (present - low) / max(high - low, 1e-9), nan=0.0)
    rows = np.pad(
        shades.astype(np.uint8), ((0, 0), (1, 0))
    )  # each PNG row begins with a filter byte

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", present.shape[1], present.shape[0], 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    png += chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def json_block(value: Any) -> str:
    """Return JSON that is safe inside a script element: no `<` can end the element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


@lru_cache
def _source(name: str) -> str:
    return (_HOME / name).read_text(encoding="utf-8").strip()


@lru_cache
def _template() -> Any:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_source("page.html"))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode(
        "ascii"
    )
