"""BLEU and spBLEU: sacrebleu's integers for every sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sacrebleu import __version__ as sacrebleu_version

from eval.metrics.chrf import Statistics
from eval.metrics.clipped_ngrams import ReferenceNgrams, totals
from eval.metrics.tokenization import Tokenizer, Vocabulary

ORDER: Final = 4
_LOG_OF_ZERO: Final = -9999999999.0
"""What sacrebleu takes for log(0)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BleuReference:
    """Reference sentences of one language, tokenized and their n-grams counted."""

    vocabulary: Vocabulary
    """Token -> symbol."""
    ngrams: ReferenceNgrams
    """Token n-grams."""


class Bleu:
    """BLEU with exponential smoothing and one reference, as sacrebleu has it by default.

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
        """Tokenize and count the references, once for any number of hypotheses."""
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
        return np.where(matches.any(axis=-1), score, 0.0)

    def pack(self, statistics: Statistics) -> Statistics:
        """Return the columns that cannot be derived from the others and the reference."""
        return statistics[..., [0, *range(2, 2 + ORDER)]]

    def unpack(self, packed: NDArray[Any], reference_columns: Statistics) -> Statistics:
        """Return what `pack` was given; `reference_columns` is `statistics[:, 1:2]`."""
        result = np.empty((*packed.shape[:-1], self.num_columns), dtype=np.int32)
        result[..., [0, *range(2, 2 + ORDER)]] = packed
        result[..., 1:2] = reference_columns
        for n in range(ORDER):
            result[..., 2 + ORDER + n] = np.maximum(result[..., 0] - n, 0)
        return result

    def reference_columns(self, statistics: Statistics) -> Statistics:
        """Return the columns that depend on the reference alone."""
        return statistics[..., 1:2]
