"""Which character 5-grams are frequent in a language: a Bloom filter for all labels together.

The classifier compares languages with each other; it cannot say that a text is like none of them,
and of a few words it is too sure. How many of a text's 5-grams are among a label's most frequent
ones says both. A word's 5-grams are those of `<word>`; a shorter word is one gram.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from lid.characters import character_classes, fold, simple_folds
from lid.kernel_module import load_kernel
from nllb.errors import CheckpointError
from nllb.io.atomic import atomic_path
from nllb.languages.normalization import normalize_for_detection

MAX_CHARACTERS: Final = 2000
"""Characters of a text whose grams are looked up."""

_LENGTH: Final = 5
_BLOCK: Final = 64
_PROBES: Final = 3
_WORD: Final = (1 << 64) - 1

Counts = npt.NDArray[np.int32]


class NgramSets:
    """The most frequent grams of each label."""

    def __init__(
        self, labels: Sequence[str], bits: npt.NDArray[np.uint8], *, prefer_kernel: bool = True
    ) -> None:
        """Wrap a filter; `build` and `load` are the usual ways.

        Args:
            labels: codes, in the order that the filter was built with.
            bits: the filter, a multiple of 64 bytes.
            prefer_kernel: look up in C where the kernel is built.
        """
        self.index = {label: number for number, label in enumerate(labels)}
        self._bits = bits
        self._kernel = _kernel_ngrams(bits) if prefer_kernel else None

    @classmethod
    def build(
        cls, lines: Mapping[str, Mapping[str, Sequence[str]]], *, most: int, size_bytes: int
    ) -> Self:
        """Collect the `most` most frequent grams of each label's lines (label -> domain -> lines).

        Args:
            lines: text in the form of `normalize_for_detection`.
            most: grams of one label.
            size_bytes: size of the filter; a byte per gram makes one of 30 unknown grams known.
        """
        labels = sorted(lines)
        bits = np.zeros(size_bytes // _BLOCK * _BLOCK, np.uint8)
        for number, label in enumerate(labels):
            words = Counter(
                word for texts in lines[label].values() for text in texts for word in text.split()
            )
            counts: Counter[str] = Counter()
            for word, count in words.items():
                for gram in set(character_ngrams(word)):
                    counts[gram] += count
            ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
            hashes = np.array([_hash(gram) for gram, _ in ranked], np.uint64)
            places, masks = _probes(hashes, np.full(len(hashes), number), len(bits))
            np.bitwise_or.at(bits, places.ravel(), masks.ravel())
        return cls(labels, bits)

    @classmethod
    def load(cls, path: Path, labels: Sequence[str], *, prefer_kernel: bool = True) -> Self:
        """Read a filter that `save` wrote.

        Raises:
            CheckpointError: naming the file where it is missing or damaged.
        """
        try:
            bits = np.fromfile(path, np.uint8)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
        if not len(bits) or len(bits) % _BLOCK:
            raise CheckpointError(
                f"{path}: {len(bits):,} bytes, not a multiple of {_BLOCK}: truncated or damaged; "
                "fetch it again, or train the model anew with 'nllb lid train'"
            )
        return cls(labels, bits, prefer_kernel=prefer_kernel)

    def save(self, path: Path) -> None:
        """Write the filter atomically; the labels stand in the model's card."""
        with atomic_path(path) as beside:
            self._bits.tofile(beside)

    def count(self, texts: Sequence[str], labels: Counts) -> tuple[Counts, Counts]:
        """Return how many grams of each text are known to which label, and how many it has.

        Args:
            texts: any texts.
            labels: text x candidate: positions in `index`, or -1 for none.
        """
        labels = np.ascontiguousarray(labels, np.int32)
        known, total = np.zeros(labels.shape, np.int32), np.zeros(len(texts), np.int32)
        if self._kernel is not None:
            self._kernel.count(list(texts), labels, known, total)
            return known, total
        for row, text in enumerate(texts):
            words = normalize_for_detection(text[:MAX_CHARACTERS]).split()
            hashes = np.array(
                [_hash(g) for word in words for g in character_ngrams(word)], np.uint64
            )
            total[row] = len(hashes)
            for column, label in enumerate(labels[row].tolist()):
                if label >= 0 and len(hashes):
                    places, masks = _probes(hashes, np.full(len(hashes), label), len(self._bits))
                    known[row, column] = ((self._bits[places] & masks) > 0).all(axis=1).sum()
        return known, total


def character_ngrams(word: str) -> list[str]:
    """Return the grams of one word."""
    word = f"<{word}>"
    return [word[at : at + _LENGTH] for at in range(max(1, len(word) - _LENGTH + 1))]


@lru_cache(maxsize=1 << 18)
def _hash(gram: str) -> int:
    """FNV-1a, 64 bits."""
    value = 14695981039346656037
    for byte in gram.encode("utf-8", "replace"):
        value = (value ^ byte) * 1099511628211 & _WORD
    return value


def _probes(
    hashes: npt.NDArray[np.uint64], labels: npt.NDArray[np.integer[Any]], size: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint8]]:
    """Return the bytes and the bits in them that stand for grams of labels: gram x probe."""
    mixed = hashes + (labels.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    block = (mixed >> np.uint64(32)) % np.uint64(size // _BLOCK) * np.uint64(_BLOCK)
    shifts = np.arange(_PROBES, dtype=np.uint64) * np.uint64(9)
    bit = (mixed[:, None] >> shifts) & np.uint64(511)
    places = (block[:, None] + (bit >> np.uint64(3))).astype(np.intp)
    return places, (np.uint8(1) << (bit & np.uint64(7)).astype(np.uint8))


def _kernel_ngrams(bits: npt.NDArray[np.uint8]) -> Any:
    kernel = load_kernel()
    if kernel is None:
        return None
    return kernel.Grams(
        bits=bits,
        classes=character_classes(normalised=True),
        folds=simple_folds(),
        fold=fold,
        longest_text=MAX_CHARACTERS,
    )


GramSets = NgramSets  # the old name, for this release
