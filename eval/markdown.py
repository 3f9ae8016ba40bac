"""Markdown: escaping of text, and tables that are also aligned as plain text."""

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))")
_LINE_START = re.compile(r"^(?=[-+=#>])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escape(text: str) -> str:
    """Return a text escaped for Markdown: without markup, HTML and line breaks."""
    marked = _SPECIAL.sub(r"\\\1", _LINE_START.sub("\u200b", " ".join(text.split())))
    return "".join(_HTML.get(character, character) for character in marked)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are also aligned as plain text."""
    cells = [list(head), *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| "
        + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _cell(text: str) -> str:
    """Return a cell without line breaks or cell borders, and without HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
