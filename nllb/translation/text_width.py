"""The width of text in a fixed-width font."""

from wcwidth import wcwidth


def columns(text: str) -> int:
    """Return the number of terminal columns: two for a CJK character, none for a combining mark."""
    if text.isascii():
        return len(text)
    return sum(max(0, wcwidth(character)) for character in text)
