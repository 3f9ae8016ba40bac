"""Chooses the pieces of a vocabulary that text in many languages uses.

All languages have the same weight, however much text they have: the value of a piece is its highest
relative frequency in any language. Special tokens and all single characters that occur in the text
are always kept, so that trimming does not make any of these characters unknown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nllb.errors import DataError
from nllb.model.encoder_tokenizer import SPACE, EncoderTokenizer

_BATCH_LINES = 500
_SMOOTHING_TOKENS = 10_000
"""Added to each language's token count, so that languages with little text do not dominate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceCounts:
    """Frequencies of the pieces of a vocabulary in text."""

    by_language: Mapping[str, NDArray[np.int64]]
    """Count of each piece, by language."""
    characters: frozenset[str]
    """The characters of the normalised text."""
    lines: Mapping[str, int]
    """Number of lines that were counted, by language."""
    samples: Mapping[str, Sequence[str]]
    """The first lines of each language."""


@dataclass(slots=True)
class _Counter:
    tokenizer: EncoderTokenizer
    max_samples: int
    by_language: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    characters: set[str] = field(default_factory=set)
    lines: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, language: str, texts: list[str]) -> None:
        size = self.tokenizer.config.vocabulary_size
        ids = [number for row in self.tokenizer.encode_batch(texts) for number in row]
        counts = np.bincount(ids, minlength=size) if ids else np.zeros(size, np.int64)
        if language in self.by_language:
            self.by_language[language] += counts
        else:
            self.by_language[language] = counts
        self.characters.update(*map(self.tokenizer.normalize, texts))
        self.lines[language] = self.lines.get(language, 0) + len(texts)
        kept = self.samples.setdefault(language, [])
        kept += texts[: self.max_samples - len(kept)]


def count_pieces(
    tokenizer: EncoderTokenizer, texts: Iterable[tuple[str, str]], *, max_samples: int = 2
) -> PieceCounts:
    """Count the pieces in pairs of language and text."""
    counter = _Counter(tokenizer, max_samples)
    waiting: dict[str, list[str]] = {}
    for language, text in texts:
        batch = waiting.setdefault(language, [])
        batch.append(text)
        if len(batch) == _BATCH_LINES:
            counter.add(language, batch)
            waiting[language] = []
    for language, batch in waiting.items():
        if batch:
            counter.add(language, batch)
    return PieceCounts(
        by_language=counter.by_language,
        characters=frozenset(counter.characters),
        lines=counter.lines,
        samples=counter.samples,
    )


def choose_pieces(
    pieces: Sequence[str], counts: PieceCounts, always: Iterable[int], *, limit: int
) -> list[int]:
    """Return the ids of the pieces to keep, in ascending order.

    Args:
        pieces: all pieces by id.
        counts: frequencies of the pieces in text.
        always: ids that are always kept.
        limit: the maximum number of pieces to keep.

    Raises:
        DataError: more than `limit` pieces must be kept.
    """
    characters = counts.characters | {SPACE}
    kept = {number for number, piece in enumerate(pieces) if piece in characters} | set(always)
    if len(kept) > limit:
        raise DataError(
            f"{len(kept):,} special tokens and single characters must be kept, but the limit is "
            f"{limit:,} pieces; raise the limit, or provide less text"
        )
    values = np.zeros(len(pieces))
    for uses in counts.by_language.values():
        np.maximum(values, uses / (uses.sum() + _SMOOTHING_TOKENS), out=values)
    for number in np.argsort(-values, kind="stable"):
        if len(kept) == limit or values[number] == 0:
            break
        kept.add(int(number))
    return sorted(kept)
