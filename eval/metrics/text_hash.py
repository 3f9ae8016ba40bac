"""The hash of a text that is read in blocks."""

import hashlib
from collections.abc import Iterable


class TextHash:
    """SHA-256 of sentences, each followed by a line feed: `sentences_sha256` in blocks."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, sentences: Iterable[str]) -> None:
        """Add the next sentences."""
        for sentence in sentences:
            self._digest.update(sentence.encode("utf-8"))
            self._digest.update(b"\n")

    def hexdigest(self) -> str:
        """Return the hash in hexadecimal digits."""
        return self._digest.hexdigest()
