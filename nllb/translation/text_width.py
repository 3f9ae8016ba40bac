"""The width of text in a fixed-width font."""

import unicodedata

from wcwidth import wcwidth


def columns(text: str) -> int:
    """Return the width in columns: two for a CJK character, none for a non-spacing mark.

    Spacing marks of Indic scripts count as one column, as in print; terminals use none.
    """
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) == "Mc":
        return 1
    return max(0, wcwidth(character))
