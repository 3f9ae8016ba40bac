"""chrF and chrF++, with the same integers as sacrebleu in a fraction of its time."""

import string
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sacrebleu import __version__ as sacrebleu_version

from .clipped_ngrams import Lengths, ReferenceNgrams, Symbols, totals

Statistics = NDArray[np.int32]
"""Integers of each sentence in sacrebleu's order: sentences x columns."""

_BETA_SQUARED: Final = 4
_PUNCTUATION: Final = frozenset(string.punctuation)
_NO_SYMBOL: Final = -2
_LAST_SPACE: Final = 0x3000
_IS_SPACE: Final = np.array([chr(code).isspace() for code in range(_LAST_SPACE + 1)] + [False])


@dataclass(frozen=True, kw_only=True, slots=True)
class ChrfReference:
    """Reference sentences of one language with their n-grams."""

    alphabet: Symbols
    """Code point -> symbol, -1 if no reference has it."""
    words: "_Words"
    """Word -> symbols."""
    character_ngrams: ReferenceNgrams
    """Character n-grams without spaces."""
    word_ngrams: ReferenceNgrams
    """Word n-grams."""


class Chrf:
    """chrF (`word_order` 0) or chrF++ (2) with sacrebleu's defaults.

    Statistics: (hypothesis, reference, match) for each character order, then each word order.
    """

    def __init__(self, *, word_order: int = 2, character_order: int = 6) -> None:
        self.word_order, self.character_order = word_order, character_order
        self.name = "chrf" + "+" * word_order
        self.title = "chrF" + "+" * word_order
        self.num_columns = 3 * (character_order + word_order)
        self.signature = (
            f"nrefs:1|case:mixed|eff:yes|nc:{character_order}|nw:{word_order}|space:no"
            f"|version:{sacrebleu_version}"
        )

    def index(self, sentences: Sequence[str]) -> ChrfReference:
        """Count the n-grams of the references, once for any number of hypotheses."""
        codes, lengths = _characters(sentences)
        points, symbols = np.unique(codes, return_inverse=True)
        alphabet = np.full(0x110000, -1, dtype=np.int32)
        alphabet[points] = np.arange(len(points), dtype=np.int32)
        words = _Words()
        word_symbols, word_lengths = words.read(sentences)
        return ChrfReference(
            alphabet=alphabet,
            words=words.frozen(),
            character_ngrams=ReferenceNgrams(
                symbols.astype(np.int32), lengths, self.character_order
            ),
            word_ngrams=ReferenceNgrams(word_symbols, word_lengths, self.word_order),
        )

    def statistics(self, sentences: Sequence[str], reference: ChrfReference) -> Statistics:
        """Return the statistics of hypothesis sentences, one for each reference sentence."""
        codes, lengths = _characters(sentences)
        result = np.zeros((len(sentences), self.num_columns), dtype=np.int32)
        self._fill(result[:, : 3 * self.character_order], reference.character_ngrams,
                   reference.alphabet[codes], lengths)  # fmt: skip
        if self.word_order:
            self._fill(result[:, 3 * self.character_order :], reference.word_ngrams,
                       *reference.words.read(sentences))  # fmt: skip
        return result

    def multi_statistics(
        self, sentences: Sequence[str], references: Sequence[Sequence[str]]
    ) -> Statistics:
        """Return the statistics against the reference of each sentence that scores best."""
        best: Statistics | None = None
        for texts in zip(*references, strict=True):
            found = self.statistics(sentences, self.index(texts))
            if best is None:
                best = found
                continue
            better = self.score(found) > self.score(best)
            best = np.where(better[:, None], found, best)
        assert best is not None, "at least one reference for each sentence"
        return best

    @staticmethod
    def _fill(
        columns: Statistics, reference: ReferenceNgrams, symbols: Symbols, lengths: Lengths
    ) -> None:
        theirs = totals(reference.lengths, reference.order)
        # sacrebleu ignores hypothesis n-grams of an order that the reference does not have.
        columns[:, 0::3] = np.where(theirs > 0, totals(lengths, reference.order), 0)
        columns[:, 1::3] = theirs
        columns[:, 2::3] = reference.matches(symbols, lengths)

    def score(self, counts: NDArray[Any]) -> NDArray[np.float64]:
        """Return the score, 0 to 100, of summed statistics; any leading axes are kept."""
        counts = np.asarray(counts, dtype=np.float64)
        precision = np.zeros(counts.shape[:-1])
        recall, orders = precision.copy(), precision.copy()
        for column in range(0, self.num_columns, 3):
            mine, theirs, match = np.moveaxis(counts[..., column : column + 3], -1, 0)
            usable = (mine > 0) & (theirs > 0)
            precision += np.divide(match, mine, out=np.zeros_like(match), where=usable)
            recall += np.divide(match, theirs, out=np.zeros_like(match), where=usable)
            orders += usable
        orders = np.maximum(orders, 1)
        precision, recall = precision / orders, recall / orders
        below = _BETA_SQUARED * precision + recall
        above = (1 + _BETA_SQUARED) * precision * recall
        share = np.divide(above, below, out=np.zeros_like(below), where=below > 0)
        return np.asarray(np.minimum(100 * share, 100.0))

    def pack(self, statistics: Statistics) -> Statistics:
        """Return the columns that do not follow from the others and the reference."""
        return statistics[..., self._packed_columns()]

    def unpack(self, packed: NDArray[Any], reference_columns: Statistics) -> Statistics:
        """Return the statistics again; `reference_columns` is `statistics[:, 1::3]`."""
        result = np.zeros((*packed.shape[:-1], self.num_columns), dtype=np.int32)
        result[..., 1::3] = reference_columns
        result[..., self._packed_columns()] = packed
        for begin, order in ((0, self.character_order), (self.character_order, self.word_order)):
            for n in range(1, order):
                column = 3 * (begin + n)
                derived = np.maximum(result[..., 3 * begin] - n, 0)
                result[..., column] = np.where(result[..., column + 1] > 0, derived, 0)
        return result

    def reference_columns(self, statistics: Statistics) -> Statistics:
        """Return the columns that depend on the reference alone."""
        return statistics[..., 1::3]

    def _packed_columns(self) -> list[int]:
        firsts = [0, 3 * self.character_order] if self.word_order else [0]
        return firsts + list(range(2, self.num_columns, 3))


class _Words(dict[str, int]):
    """Number of each word, with its one or two symbols: chrF splits off one punctuation mark.

    A dictionary with `__missing__` keeps the loop over words inside the interpreter's C code.
    """

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {}
        self.grows = True
        self.symbols = array("i")
        """Two symbols per word number; the second is `_NO_SYMBOL` if the word is not split."""

    def frozen(self) -> "_Words":
        """Stop learning: words that the references do not have become -1 from now on."""
        self.grows = False
        return self

    def __missing__(self, word: str) -> int:
        parts: tuple[str, ...] = (word,)
        if len(word) > 1 and word[-1] in _PUNCTUATION:
            parts = (word[:-1], word[-1])
        elif len(word) > 1 and word[0] in _PUNCTUATION:
            parts = (word[0], word[1:])
        for part in parts:
            if self.grows:
                self.vocabulary.setdefault(part, len(self.vocabulary))
            self.symbols.append(self.vocabulary.get(part, -1))
        if len(parts) == 1:
            self.symbols.append(_NO_SYMBOL)
        number = self[word] = len(self)
        return number

    def read(self, sentences: Sequence[str]) -> tuple[Symbols, Lengths]:
        """Return the symbols of all sentences, and the number of symbols of each."""
        lines = [sentence.split() for sentence in sentences]
        numbers = np.array(
            array("i", map(self.__getitem__, chain.from_iterable(lines))), dtype=np.int32
        )
        symbols = np.array(self.symbols, dtype=np.int32).reshape(-1, 2)[numbers]
        present = symbols != _NO_SYMBOL
        ends = np.cumsum(np.fromiter(map(len, lines), dtype=np.int64, count=len(lines)))
        sizes = np.concatenate(([0], np.cumsum(present.sum(axis=1))))[np.concatenate(([0], ends))]
        return symbols[present], np.diff(sizes).astype(np.int32)


def _characters(sentences: Sequence[str]) -> tuple[NDArray[np.uint32], Lengths]:
    """Return the code points of all sentences without white space, and the number of each."""
    text = "\n".join(sentences) + "\n" if sentences else ""
    if text.count("\n") != len(sentences):
        text = "".join(sentence.replace("\n", " ") + "\n" for sentence in sentences)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    kept = ~_IS_SPACE[np.minimum(codes, _LAST_SPACE + 1)]
    ends = np.cumsum(kept)[codes == ord("\n")]
    return codes[kept], np.diff(ends, prepend=0).astype(np.int32)
