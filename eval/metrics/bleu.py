"""BLEU and spBLEU, with the same integers as sacrebleu for every sentence."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sacrebleu import __version__ as sacrebleu_version

from .chrf import Statistics
from .clipped_ngrams import Lengths, ReferenceNgrams, Symbols, totals
from .tokenization import Tokenizer, Vocabulary

ORDER: Final = 4
_LOG_OF_ZERO: Final = -9999999999.0
"""The value that sacrebleu uses for log(0)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BleuReference:
    """Reference sentences of one language, tokenized and their n-grams counted."""

    vocabulary: Vocabulary
    """Token -> symbol."""
    ngrams: ReferenceNgrams
    """Token n-grams."""


class Bleu:
    """BLEU with exponential smoothing, as sacrebleu computes it by default.

    Statistics: hypothesis length, reference length, 4 x matches, 4 x hypothesis n-grams.
    """

    def __init__(self, tokenizer: Tokenizer, *, name: str = "bleu", title: str = "BLEU") -> None:
        self.tokenizer, self.name, self.title = tokenizer, name, title
        self.num_columns = 2 + 2 * ORDER
        self.signature = (
            f"nrefs:1|case:mixed|eff:no|tok:{tokenizer.signature}|smooth:exp"
            f"|version:{sacrebleu_version}"
        )

    def index(self, sentences: Sequence[str]) -> BleuReference:
        """Tokenize and count the references once for any number of hypotheses."""
        vocabulary = Vocabulary()
        symbols, lengths = self.tokenizer.symbols(sentences, vocabulary)
        vocabulary.grows = False
        return BleuReference(vocabulary=vocabulary, ngrams=ReferenceNgrams(symbols, lengths, ORDER))

    def statistics(self, sentences: Sequence[str], reference: BleuReference) -> Statistics:
        """Return the statistics of hypothesis sentences, one for each reference sentence."""
        symbols, lengths = self.tokenizer.symbols(sentences, reference.vocabulary)
        result = np.empty((len(sentences), self.num_columns), dtype=np.int32)
        result[:, 0] = lengths
        result[:, 1] = reference.ngrams.lengths
        result[:, 2 : 2 + ORDER] = reference.ngrams.matches(symbols, lengths)
        result[:, 2 + ORDER :] = totals(lengths, ORDER)
        return result

    def multi_statistics(
        self, sentences: Sequence[str], references: Sequence[Sequence[str]]
    ) -> Statistics:
        """Return the statistics against several references for each sentence.

        Matches are clipped by the largest count over the references; the reference length is the
        one nearest to the hypothesis, the shorter of two equally near ones.
        """
        vocabulary = Vocabulary()
        mine = _split(*self.tokenizer.symbols(sentences, vocabulary))
        theirs = [
            _split(*self.tokenizer.symbols(texts, vocabulary))
            for texts in zip(*references, strict=True)
        ]
        result = np.zeros((len(sentences), self.num_columns), dtype=np.int32)
        for number, (tokens, *others) in enumerate(zip(mine, *theirs, strict=True)):
            lengths = [len(other) for other in others]
            result[number, 0] = len(tokens)
            result[number, 1] = min(lengths, key=lambda one: (abs(len(tokens) - one), one))
            for n in range(1, ORDER + 1):
                largest: Counter[tuple[int, ...]] = Counter()
                for other in others:
                    largest |= _ngrams(other, n)
                result[number, 1 + n] = (_ngrams(tokens, n) & largest).total()
                result[number, 1 + ORDER + n] = max(len(tokens) - n + 1, 0)
        return result

    def score(self, counts: NDArray[Any]) -> NDArray[np.float64]:
        """Return the score, 0 to 100, of summed statistics; any leading axes are kept."""
        counts = np.asarray(counts, dtype=np.float64)
        mine, theirs = counts[..., 0], counts[..., 1]
        matches, sizes = counts[..., 2 : 2 + ORDER], counts[..., 2 + ORDER :]
        halves = np.cumsum((matches == 0) & (sizes > 0), axis=-1)
        smoothed = np.where(matches == 0, np.exp2(-halves), matches)
        precision = np.divide(
            100 * smoothed,
            sizes,
            out=np.zeros_like(sizes),
            where=np.cumprod(sizes > 0, axis=-1) > 0,
        )
        logs = np.log(precision, out=np.full_like(precision, _LOG_OF_ZERO), where=precision > 0)
        ratio = np.divide(theirs, mine, out=np.full_like(mine, np.inf), where=mine > 0)
        brevity = np.where(mine < theirs, np.exp(np.minimum(1 - ratio, 0)), 1.0)
        score = brevity * np.exp(logs.sum(axis=-1) / ORDER)
        # Rounding takes a perfect score to 100.00000000000004.
        return np.where(matches.any(axis=-1), np.minimum(score, 100.0), 0.0)

    def pack(self, statistics: Statistics) -> Statistics:
        """Return the columns that do not follow from the others and the reference."""
        return statistics[..., [0, *range(2, 2 + ORDER)]]

    def unpack(self, packed: NDArray[Any], reference_columns: Statistics) -> Statistics:
        """Return the statistics again; `reference_columns` is `statistics[:, 1:2]`."""
        result = np.empty((*packed.shape[:-1], self.num_columns), dtype=np.int32)
        result[..., [0, *range(2, 2 + ORDER)]] = packed
        result[..., 1:2] = reference_columns
        for n in range(ORDER):
            result[..., 2 + ORDER + n] = np.maximum(result[..., 0] - n, 0)
        return result

    def reference_columns(self, statistics: Statistics) -> Statistics:
        """Return the columns that depend on the reference alone."""
        return statistics[..., 1:2]


def _split(symbols: Symbols, lengths: Lengths) -> list[list[int]]:
    """Return the symbols of each sentence."""
    bounds = np.cumsum(lengths)[:-1]
    return [part.tolist() for part in np.split(symbols, bounds)]


def _ngrams(symbols: list[int], n: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(symbols[at : at + n]) for at in range(len(symbols) - n + 1))
