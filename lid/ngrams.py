"""The most frequent character 5-grams of each language, stored in one Bloom filter.

The classifier only compares languages with each other: it cannot detect that a text is in none of
them, and it is overconfident on texts of a few words. The share of a text's 5-grams that are
frequent in a language corrects both. The 5-grams of a word are those of `<word>`; a word that is
shorter than that has a single n-gram.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from nllb.errors import CheckpointError
from nllb.io.atomic import atomic_path
from nllb.languages.normalization import normalize_for_detection

from .characters import character_classes, fold, simple_folds
from .kernel_module import load_kernel

MAX_CHARACTERS: Final = 2000
"""Maximum number of characters of a text whose n-grams are looked up."""

_NGRAM_LENGTH: Final = 5
_BLOCK_BYTES: Final = 64
_PROBES: Final = 3
_UINT64_MASK: Final = (1 << 64) - 1

Counts = npt.NDArray[np.int32]


class NgramSets:
    """The most frequent n-grams of each label."""

    def __init__(
        self, labels: Sequence[str], bits: npt.NDArray[np.uint8], *, prefer_kernel: bool = True
    ) -> None:
        """Wrap an existing filter; use `build` or `load` to create one.

        Args:
            labels: The codes, in the order with which the filter was built.
            bits: The Bloom filter; its size is a multiple of 64 bytes.
            prefer_kernel: Use the C kernel for look-ups if it is built.
        """
        self.index = {label: number for number, label in enumerate(labels)}
        self._bits = bits
        self._kernel = _kernel_ngrams(bits) if prefer_kernel else None

    @classmethod
    def build(
        cls, lines: Mapping[str, Mapping[str, Sequence[str]]], *, max_ngrams: int, size_bytes: int
    ) -> Self:
        """Build the filter from the most frequent n-grams of each label.

        Args:
            lines: Label -> domain -> lines, normalised by `normalize_for_detection`.
            max_ngrams: Maximum number of n-grams per label.
            size_bytes: Size of the filter; with one byte per n-gram, about 1 of 30 unknown
                n-grams is reported as known.
        """
        labels = sorted(lines)
        bits = np.zeros(size_bytes // _BLOCK_BYTES * _BLOCK_BYTES, np.uint8)
        for number, label in enumerate(labels):
            words = Counter(
                word for texts in lines[label].values() for text in texts for word in text.split()
            )
            counts: Counter[str] = Counter()
            for word, count in words.items():
                for ngram in set(character_ngrams(word)):
                    counts[ngram] += count
            ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:max_ngrams]
            hashes = np.array([_hash(ngram) for ngram, _ in ranked], np.uint64)
            places, masks = _probes(hashes, np.full(len(hashes), number), len(bits))
            np.bitwise_or.at(bits, places.ravel(), masks.ravel())
        return cls(labels, bits)

    @classmethod
    def load(cls, path: Path, labels: Sequence[str], *, prefer_kernel: bool = True) -> Self:
        """Read a filter that was written by `save`.

        Raises:
            CheckpointError: The file is missing or damaged.
        """
        try:
            bits = np.fromfile(path, np.uint8)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
        if not len(bits) or len(bits) % _BLOCK_BYTES:
            raise CheckpointError(
                f"{path} is truncated or damaged: its size, {len(bits):,} bytes, is not a multiple "
                f"of {_BLOCK_BYTES}; download it again, or retrain the model with 'nllb lid train'"
            )
        return cls(labels, bits, prefer_kernel=prefer_kernel)

    def save(self, path: Path) -> None:
        """Write the filter; its labels are stored in the model card."""
        with atomic_path(path) as temporary:
            self._bits.tofile(temporary)

    def count(self, texts: Sequence[str], labels: Counts) -> tuple[Counts, Counts]:
        """Count the n-grams of each text, and those that are in the sets of the given labels.

        Args:
            texts: The texts.
            labels: Label indices (see `index`), shape (texts, candidates); -1 marks no candidate.

        Returns:
            The number of known n-grams, shape (texts, candidates), and of all n-grams, (texts,).
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
    """Return the n-grams of one word."""
    word = f"<{word}>"
    return [word[at : at + _NGRAM_LENGTH] for at in range(max(1, len(word) - _NGRAM_LENGTH + 1))]


@lru_cache(maxsize=1 << 18)
def _hash(ngram: str) -> int:
    """Return the 64-bit FNV-1a hash of an n-gram."""
    value = 14695981039346656037
    for byte in ngram.encode("utf-8", "replace"):
        value = (value ^ byte) * 1099511628211 & _UINT64_MASK
    return value


def _probes(
    hashes: npt.NDArray[np.uint64], labels: npt.NDArray[np.integer[Any]], size: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint8]]:
    """Return the byte positions and bit masks of n-grams of labels, shape (n-grams, probes)."""
    mixed = hashes + (labels.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    block = (mixed >> np.uint64(32)) % np.uint64(size // _BLOCK_BYTES) * np.uint64(_BLOCK_BYTES)
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
