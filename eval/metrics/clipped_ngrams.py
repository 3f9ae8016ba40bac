"""Clipped n-gram matches of whole corpora in numpy: exact integers, no loop over sentences.

An n-gram of a hypothesis can match only if all its symbols are in the reference sentence. Symbols
are therefore numbered *within each reference sentence* (1, 2, ...; 0 = not in it), and a few small
numbers fit one 64-bit key together with the number of the sentence:

    key = sentence (16 bits) | code of symbol 1 | ... | code of symbol n     (48 bits for codes)

Two n-grams are equal exactly if their keys are equal. The keys of the reference are in a hash table
with a range of slots per sentence, so that a hypothesis that is read in order accesses nearby
memory. An n-gram is looked up only if both (n-1)-grams inside it were found. Sentences with too
many distinct symbols for the bits (over 255 characters at order 6) are counted with a dictionary.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

KEY_BITS: Final = 48
BLOCK: Final = 256
"""Sentences that are counted at once, so that they fit the processor's cache."""
TABLE_CELLS: Final = 1 << 24
"""Largest table of sentence x symbol; beyond it codes are searched in a sorted list."""

Symbols = NDArray[np.int32]
Lengths = NDArray[np.int32]
Keys = NDArray[np.uint64]

_SENTENCE_SHIFT: Final = np.uint64(KEY_BITS)
_PAIR_SHIFT: Final = np.uint64(32)
_NO_KEY: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


class ReferenceNgrams:
    """The n-grams of reference sentences, for matching with any number of hypotheses."""

    def __init__(self, symbols: Symbols, lengths: Lengths, order: int) -> None:
        self.lengths, self.order = lengths, order
        self._blocks = [
            _Block(part, lengths[at : at + BLOCK], order) for at, part in _cut(symbols, lengths)
        ]

    def matches(self, symbols: Symbols, lengths: Lengths) -> NDArray[np.int32]:
        """Return the clipped matches, sentences x orders.

        Args:
            symbols: symbols of all sentences, one after the other, numbered as the reference's;
                negative numbers are symbols that the references do not have.
            lengths: number of symbols per sentence.
        """
        assert len(lengths) == len(self.lengths), "one hypothesis sentence for each reference"
        parts = [
            block.matches(part, lengths[at : at + BLOCK])
            for block, (at, part) in zip(self._blocks, _cut(symbols, lengths), strict=True)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.order), dtype=np.int32)


def totals(lengths: Lengths, order: int) -> NDArray[np.int32]:
    """Return the number of n-grams of each sentence, sentences x orders."""
    return np.maximum(lengths[:, None] - np.arange(order, dtype=np.int32), 0)


class _Block:
    """Reference n-grams of up to `BLOCK` sentences."""

    def __init__(self, symbols: Symbols, lengths: Lengths, order: int) -> None:
        self.num_sentences, self.order, self.bits = len(lengths), order, KEY_BITS // max(order, 1)
        # A dense numbering of the symbols keeps the table small.
        self.known = np.unique(symbols)
        dense = np.searchsorted(self.known, symbols)
        sentence = np.repeat(np.arange(len(lengths)), lengths)
        pairs = sentence.astype(np.uint64) << _PAIR_SHIFT | dense.astype(np.uint64)
        self.pairs, self.pair_counts = np.unique(pairs, return_counts=True)
        owner = (self.pairs >> _PAIR_SHIFT).astype(np.int64)
        self.first = np.searchsorted(owner, np.arange(len(lengths) + 1))
        bounds = np.concatenate(([0], np.cumsum(lengths)))
        self.crowded = {
            int(number): symbols[bounds[number] : bounds[number + 1]].tolist()
            for number in np.flatnonzero(np.diff(self.first) >= 1 << self.bits)
        }
        self.dense = np.full(int(symbols.max(initial=0)) + 2, len(self.known), dtype=np.int32)
        self.dense[self.known] = np.arange(len(self.known))
        width = len(self.known) + 1  # the last column stays 0: symbols in no reference
        self.table: NDArray[np.uint16] | None = None
        if width * len(lengths) <= TABLE_CELLS and not self.crowded:
            self.table = np.zeros((len(lengths), width), dtype=np.uint16)
            column = (self.pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
            self.table[owner, column] = np.arange(len(self.pairs)) - self.first[owner] + 1
        self.lookups: list[_Lookup] = []
        for _ in self._matched(symbols, lengths, building=True):
            pass

    def matches(self, symbols: Symbols, lengths: Lengths) -> NDArray[np.int32]:
        result = np.zeros((self.num_sentences, self.order), dtype=np.int64)
        for n, nodes in enumerate(self._matched(symbols, lengths)):
            counts, first = (
                (self.pair_counts, self.first)
                if n == 0
                else (self.lookups[n - 1].counts, self.lookups[n - 1].first)
            )
            found = np.bincount(nodes, minlength=len(counts))
            sums = np.concatenate(([0], np.cumsum(np.minimum(found, counts))))
            result[:, n] = np.diff(sums[first])
        if self.crowded:
            bounds = np.concatenate(([0], np.cumsum(lengths)))
            for number, theirs_symbols in self.crowded.items():
                mine_symbols = symbols[bounds[number] : bounds[number + 1]].tolist()
                result[number] = _by_dictionary(mine_symbols, theirs_symbols, self.order)
        return result.astype(np.int32)

    def _matched(
        self, symbols: Symbols, lengths: Lengths, *, building: bool = False
    ) -> Iterator[NDArray[np.int64]]:
        """Yield, for each order, the n-grams of the reference that occur, once per occurrence.

        Args:
            symbols: symbols of all sentences.
            lengths: symbols of each sentence.
            building: create the lookups as well; the sentences are the references.
        """
        sentence = np.repeat(np.arange(len(lengths)), lengths)
        # A 0 after each sentence ends n-grams that would reach into the next one.
        size = len(symbols) + len(lengths)
        place = np.arange(len(symbols)) + sentence
        codes = np.zeros(size + self.order, dtype=np.uint64)
        codes[place] = self._codes(symbols, sentence)
        number = np.zeros(size, dtype=np.uint64)
        number[place] = sentence
        alive = codes[:size] != 0
        at = np.flatnonzero(alive)
        yield self.first[number[at].astype(np.int64)] + codes[at].astype(np.int64) - 1
        key = number << np.uint64(self.bits) | codes[:size]
        for n in range(1, self.order):
            key = key << np.uint64(self.bits) | codes[n : n + size]
            alive[:-1] &= alive[1:]
            alive[-1:] = False
            at = np.flatnonzero(alive)
            keys = key[at] << np.uint64(KEY_BITS - self.bits * (n + 1))
            if building:
                self.lookups.append(_Lookup(keys, self.num_sentences))
            nodes = self.lookups[n - 1].find(keys)
            met = nodes >= 0
            alive[at[~met]] = False
            yield nodes[met]

    def _codes(self, symbols: Symbols, sentence: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of each symbol within its reference sentence, 0 if it is not in it."""
        # Negative symbols and those beyond the table map to its last entry: in no reference.
        dense = self.dense[
            np.where(symbols < 0, len(self.dense) - 1, symbols).clip(max=len(self.dense) - 1)
        ]
        if self.table is not None:
            codes: NDArray[np.int64] = self.table[sentence, dense].astype(np.int64)
            return codes
        if not len(self.pairs):
            return np.zeros(len(symbols), dtype=np.int64)
        wanted = sentence.astype(np.uint64) << _PAIR_SHIFT | dense.astype(np.uint64)
        place = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        codes = np.where(self.pairs[place] == wanted, place - self.first[sentence] + 1, 0)
        if self.crowded:
            codes[np.isin(sentence, list(self.crowded))] = 0
        return codes


class _Lookup:
    """The distinct n-grams of one order, with a nearly constant-time lookup."""

    def __init__(self, keys: Keys, num_sentences: int) -> None:
        distinct, self.counts = np.unique(keys, return_counts=True)
        count = len(distinct)
        borders = np.arange(num_sentences + 1, dtype=np.uint64) << _SENTENCE_SHIFT
        self.first = np.searchsorted(distinct, borders)
        self.keys = np.append(distinct, _NO_KEY)
        stretch = 4 * count // max(num_sentences, 1)
        self.stretch_bits = max(stretch.bit_length(), 3)
        slots = self._slots(distinct)
        self.table = np.full(num_sentences << self.stretch_bits, count, dtype=np.int32)
        self.table[slots] = np.arange(count, dtype=np.int32)
        # Of two n-grams with the same slot the later one is there; the others are in a sorted list.
        self.displaced = np.flatnonzero(self.table[slots] != np.arange(count))
        self.displaced_keys = np.append(distinct[self.displaced], _NO_KEY)
        self.shared = np.zeros(len(self.table), dtype=bool)
        self.shared[slots[self.displaced]] = True

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return the number of each n-gram, -1 if the reference does not have it."""
        slots = self._slots(keys)
        nodes = self.table[slots].astype(np.int64)
        met = self.keys[nodes] == keys
        again = np.flatnonzero(~met & self.shared[slots])
        place = np.searchsorted(self.displaced_keys, keys[again])
        equal = self.displaced_keys[place] == keys[again]
        nodes[~met] = -1
        nodes[again[equal]] = self.displaced[place[equal]]
        return nodes

    def _slots(self, keys: Keys) -> NDArray[np.int64]:
        inside = keys * _MIX >> np.uint64(64 - self.stretch_bits)
        stretch = keys >> _SENTENCE_SHIFT << np.uint64(self.stretch_bits)
        return (stretch | inside).astype(np.int64)


def _cut(symbols: Symbols, lengths: Lengths) -> list[tuple[int, Symbols]]:
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    return [
        (at, symbols[bounds[at] : bounds[min(at + BLOCK, len(lengths))]])
        for at in range(0, len(lengths), BLOCK)
    ]


def _by_dictionary(mine: list[int], theirs: list[int], order: int) -> list[int]:
    def ngrams(symbols: list[int], n: int) -> Counter[tuple[int, ...]]:
        return Counter(tuple(symbols[at : at + n]) for at in range(len(symbols) - n + 1))

    return [(ngrams(mine, n) & ngrams(theirs, n)).total() for n in range(1, order + 1)]
