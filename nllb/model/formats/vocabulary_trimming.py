"""Chooses the pieces of a vocabulary that text of many languages uses.

A piece is worth its share of a language's tokens, summed over the languages; a language weighs as
much as the square root of its tokens, so that small ones are heard and large ones keep their words.
Special tokens and every single character that occurs are always kept, so that trimming makes no
character unknown that occurs in the text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nllb.errors import DataError
from nllb.model.encoder_tokenizer import SPACE, EncoderTokenizer

_BATCH_LINES = 500
_WEIGHT_EXPONENT = 0.5
"""A language weighs as much as its tokens to this power."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceCounts:
    """How often text uses the pieces of a vocabulary."""

    by_language: Mapping[str, NDArray[np.int64]]
    """Uses of each piece, by language."""
    characters: frozenset[str]
    """The characters of the normalised text."""
    lines: Mapping[str, int]
    """Lines that were counted, by language."""
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
    """Count the pieces of texts, each given with its language."""
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
    """Return the ids of at most `limit` pieces to keep, rising.

    Args:
        pieces: all pieces by id.
        counts: how often text uses them.
        always: ids that are kept in any case.
        limit: the most that are kept.

    Raises:
        DataError: the limit is too low for what must be kept.
    """
    characters = counts.characters | {SPACE}
    kept = {number for number, piece in enumerate(pieces) if piece in characters} | set(always)
    if len(kept) > limit:
        raise DataError(
            f"{len(kept):,} special tokens and single characters must be kept, but the limit is "
            f"{limit:,} pieces; raise the limit, or give less text"
        )
    worth = np.zeros(len(pieces))
    for uses in counts.by_language.values():
        worth += uses * max(int(uses.sum()), 1) ** (_WEIGHT_EXPONENT - 1)
    for number in np.argsort(-worth, kind="stable"):
        if len(kept) == limit or worth[number] == 0:
            break
        kept.add(int(number))
    return sorted(kept)
