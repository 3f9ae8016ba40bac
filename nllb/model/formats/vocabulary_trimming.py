"""Chooses the pieces of a vocabulary that text in many languages uses.

The importance of a piece is a mean of two estimates of how often it is used. The first is its share
of a language's tokens in the given text, summed over the languages. Languages are weighted by the
square root of their numbers of tokens, so that small languages count and large ones keep their
words. The second is the piece's own unigram score, the logarithm of its probability in the web text
of a hundred languages that the tokenizer was trained on; it covers the registers that the given
text lacks. Special tokens and every single character of the text are always kept, so that trimming
makes no character of the text unknown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nllb.errors import DataError
from nllb.model.encoder_tokenizer import SPACE, EncoderTokenizer

_BATCH_LINES = 500
_WEIGHT_EXPONENT = 0.5
"""A language is weighted by its number of tokens to this power."""
_SCORE_SHARE = 0.65
"""Weight of the unigram scores; chosen by the number of tokens per line of TICO-19 and XQuAD."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceCounts:
    """How often text uses the pieces of a vocabulary.

    Attributes:
        by_language: uses of each piece, by language.
        characters: the characters of the normalized text.
        lines: lines that were counted, by language.
        samples: the first lines of each language.
    """

    by_language: Mapping[str, NDArray[np.int64]]
    characters: frozenset[str]
    lines: Mapping[str, int]
    samples: Mapping[str, Sequence[str]]


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


def measure_importance(counts: PieceCounts, scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the importance of each piece from its uses and score; special tokens have score 0."""
    by_text = np.zeros(len(scores))
    for uses in counts.by_language.values():
        by_text += uses * max(int(uses.sum()), 1) ** (_WEIGHT_EXPONENT - 1)
    by_score = np.where(scores < 0, np.exp(np.minimum(scores.astype(np.float64), 0)), 0)
    by_text, by_score = (uses / max(uses.sum(), 1e-30) for uses in (by_text, by_score))
    importance: NDArray[np.float64] = (1 - _SCORE_SHARE) * by_text + _SCORE_SHARE * by_score
    return importance


def choose_pieces(
    pieces: Sequence[str],
    characters: Iterable[str],
    importance: NDArray[np.float64],
    always: Iterable[int],
    *,
    limit: int,
) -> list[int]:
    """Return the ids of at most `limit` pieces to keep, ascending.

    Args:
        pieces: all pieces by id.
        characters: the characters of the text, which are kept.
        importance: the importance of each piece; pieces with importance 0 are not kept.
        always: ids that are always kept.
        limit: maximum number of pieces.

    Raises:
        DataError: the limit is below the number of pieces that must be kept.
    """
    characters = {*characters, SPACE}
    kept = {number for number, piece in enumerate(pieces) if piece in characters} | set(always)
    if len(kept) > limit:
        raise DataError(
            f"{len(kept):,} special tokens and single characters must be kept, but the limit is "
            f"{limit:,} pieces; raise the limit, or provide less text"
        )
    for number in np.argsort(-importance, kind="stable"):
        if len(kept) == limit or importance[number] == 0:
            break
        kept.add(int(number))
    return sorted(kept)
