"""Windows: batches of lines that are read and translated together.

The sizes of windows depend only on the text, never on the duration of a translation, so that the
same input is always batched in the same way.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from .code_blocks import Verbatim

LOOK_AHEAD_LINES: Final = 2048
"""Maximum number of lines in a window."""
LOOK_AHEAD_CHARACTERS: Final = 1 << 15
"""Maximum number of characters in a window, unless its last line is longer."""
FIRST_LINES: Final = 4
"""Number of lines in the first window of a stream; each later window may be twice as large."""


def growing_windows(
    lines: Iterable[str],
    *,
    look_ahead: int = LOOK_AHEAD_LINES,
    first: int = FIRST_LINES,
    max_characters: int = LOOK_AHEAD_CHARACTERS,
) -> Iterator[list[str]]:
    """Yield lines in windows of `first` lines, then of twice as many each time, up to the limits.

    Small windows at the beginning let output start early. A line that reaches `max_characters`
    ends a window.
    """
    size = min(first, look_ahead)
    window: list[str] = []
    characters = 0
    for line in lines:
        window.append(line)
        characters += len(line)
        if len(window) >= size or characters >= max_characters:
            yield window
            size = min(2 * size, look_ahead)
            window, characters = [], 0
    if window:
        yield window


def join_paragraphs(windows: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the same text in windows of paragraphs, each with the blank lines that follow it.

    Lines of code blocks are not joined.
    """
    paragraph: list[str] = []
    for window in windows:
        paragraphs = []
        for line in window:
            if isinstance(line, Verbatim):
                paragraphs += ["".join(paragraph)] if paragraph else []
                paragraphs.append(line)
                paragraph = []
                continue
            if paragraph and line.strip() and not paragraph[-1].strip():
                paragraphs.append("".join(paragraph))
                paragraph = []
            paragraph.append(line)
        if paragraphs:
            yield paragraphs
    if paragraph:
        yield ["".join(paragraph)]
