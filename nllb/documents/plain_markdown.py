"""A new Markdown document of headings and paragraphs, for formats that cannot be written back."""

import re
from collections.abc import Iterable
from typing import Final

from .markdown_writing import escape_block_start, escape_inline

_BULLET: Final = re.compile(r"[•‣◦▪–—*-]\s+(?=\S)")
_NUMBER: Final = re.compile(r"\d{1,3}[.)]\s+(?=\S)")
_LAST_SIGNS: Final = re.compile(r"#+$")


def plain_markdown(paragraphs: Iterable[tuple[int, str]]) -> bytes:
    """Return a Markdown document; nothing in the texts is taken for a mark, except of lists.

    Args:
        paragraphs: level and text of each paragraph; the level is 0 for text and 1 to 6 for
            headings. Bullets and numbers at the start of a text make it an item of a list.
    """
    blocks: list[str] = []
    after_item = False
    for level, text in paragraphs:
        block, is_item = _block(level, " ".join(text.split()))
        if block:
            # Items of a list follow each other without a blank line.
            blocks += [] if not blocks else ["\n"] if is_item and after_item else ["\n\n"]
            blocks.append(block)
            after_item = is_item
    return ("".join(blocks) + "\n").encode()


def _block(level: int, text: str) -> tuple[str, bool]:
    """Return a paragraph as a block of Markdown, and whether it is an item of a list."""
    if level:
        # Number signs at the end of a heading would be taken for a part of its mark.
        written = _LAST_SIGNS.sub(r"\\\g<0>", escape_inline(text))
        return f"{'#' * level} {written}", False
    if mark := _BULLET.match(text):
        return f"- {_paragraph(text[mark.end() :])}", True
    if mark := _NUMBER.match(text):
        return f"{mark[0].strip()} {_paragraph(text[mark.end() :])}", True
    return _paragraph(text), False


def _paragraph(text: str) -> str:
    return escape_block_start(escape_inline(text))
