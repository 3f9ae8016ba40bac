"""Fenced code blocks, whose lines are not translated.

A fence is a line of three or more backticks or tildes. A block counts only if it is closed, so that
a stray fence never prevents the rest of a document from being translated.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import regex

MAX_BLOCK_LINES: Final = 10_000
"""A block that is not closed within this many lines is translated like other text."""

_LINE: Final = regex.compile(r"[^\r\n]*+(?:\r\n|[\r\n])|[^\r\n]++\Z")
_FENCE: Final = regex.compile(r"[\s>]*+(?P<fence>`{3,}+|~{3,}+)(?P<rest>[^\r\n]*+)")


class Verbatim(str):
    """A line that is not translated."""

    __slots__ = ()


def split_lines(text: str) -> list[str]:
    r"""Split a text at `\n`, `\r\n` and `\r`; the lines keep their ends."""
    return [match[0] for match in _LINE.finditer(text)]


def has_fence(text: str) -> bool:
    """Return whether a text may contain a fenced block."""
    return "```" in text or "~~~" in text


def mark_code_blocks(windows: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the same lines in windows; the lines of closed code blocks are `Verbatim`.

    A window in which a block begins is yielded when the block ends.
    """
    open_block: list[str] = []
    fence = ""
    for window in windows:
        ready: list[str] = []
        for line in window:
            match = _FENCE.match(line)
            if not open_block:
                if match is None:
                    ready.append(line)
                else:
                    open_block, fence = [line], match["fence"]
                continue
            open_block.append(line)
            if match and match["fence"].startswith(fence) and not match["rest"].strip():
                ready += map(Verbatim, open_block)
                open_block = []
            elif len(open_block) >= MAX_BLOCK_LINES:
                ready += open_block
                open_block = []
        if ready:
            yield ready
    if open_block:
        yield open_block
