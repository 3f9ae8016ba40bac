"""The most frequent words of each language with their frequencies, for texts of a few words.

The classifier sees a text of one to three words as a few n-grams, which many languages share, and
it does not know how frequent a word is. A table of hashed words corrects both.

The file has a header (`_MAGIC`, number of words, number of entries), then four arrays: the hashes
of the words, in ascending order; the number of entries of each word; the label number of each
entry; and its log-frequency in steps of `_STEP`.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import xxhash

from nllb.errors import CheckpointError
from nllb.io.atomic import atomic_path
from nllb.languages.normalization import normalize_for_detection

MAX_LABELS: Final = 256

_MAGIC: Final = 0x4C494457
_STEP: Final = 0.0625
_MIN_LOG_FREQUENCY: Final = -11.0
_MIN_COUNT: Final = 2
_DOMAIN_EXPONENT: Final = 0.5

Floats = npt.NDArray[np.float32]


class WordFrequencies:
    """Log-frequencies of frequent words by label."""

    def __init__(
        self,
        labels: Sequence[str],
        hashes: npt.NDArray[np.uint32],
        counts: npt.NDArray[np.uint8],
        entry_labels: npt.NDArray[np.uint8],
        entry_values: npt.NDArray[np.uint8],
    ) -> None:
        """Wrap existing arrays; use `build` or `load` to create an instance."""
        self.index = {label: number for number, label in enumerate(labels)}
        self._hashes = hashes
        self._counts = counts
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._entry_labels = entry_labels
        self._entry_values = entry_values

    @classmethod
    def build(
        cls,
        lines: Mapping[str, Mapping[str, Sequence[str]]],
        lists: Mapping[str, Mapping[str, float]] | None = None,
        *,
        max_words: int,
        max_listed_words: int = 0,
    ) -> Self:
        """Count the words of each label.

        Args:
            lines: Label -> domain -> lines, normalised by `normalize_for_detection`.
            lists: Label -> word -> relative frequency, from frequency lists; it has half of the
                weight.
            max_words: Number of the most frequent words of a label that are kept.
            max_listed_words: The same for the labels with a frequency list, if greater.
        """
        labels = sorted(lines)
        entries: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, label in enumerate(labels):
            frequencies = _frequencies(lines[label])
            size = max_words
            if lists is not None and label in lists:
                frequencies = _mean(frequencies, lists[label])
                size = max(max_words, max_listed_words)
            ranked = sorted(frequencies.items(), key=lambda item: (-item[1], item[0]))[:size]
            by_hash = {_hash(word): frequency for word, frequency in reversed(ranked)}
            for key, frequency in by_hash.items():
                value = round((np.log(frequency) - _MIN_LOG_FREQUENCY) / _STEP)
                entries[key].append((number, int(np.clip(value, 1, 255))))
        keys = sorted(entries)
        flat = [entry for key in keys for entry in entries[key]]
        return cls(
            labels,
            np.array(keys, np.uint32),
            np.array([len(entries[key]) for key in keys], np.uint8),
            np.array([label for label, _ in flat], np.uint8),
            np.array([value for _, value in flat], np.uint8),
        )

    @classmethod
    def load(cls, path: Path, labels: Sequence[str]) -> Self:
        """Read a table that was written by `save`.

        Raises:
            CheckpointError: The file is missing or damaged.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
        header = np.frombuffer(content[:12].ljust(12, b"\0"), "<u4")
        magic, words, entries = (int(value) for value in header)
        if magic != _MAGIC or len(content) != 12 + 5 * words + 2 * entries:
            raise _damaged(path, f"its size is {len(content):,} bytes")
        hashes = np.frombuffer(content, "<u4", words, 12)
        counts = np.frombuffer(content, np.uint8, words, 12 + 4 * words)
        entry_labels = np.frombuffer(content, np.uint8, entries, 12 + 5 * words)
        values = np.frombuffer(content, np.uint8, entries, 12 + 5 * words + entries)
        if (
            int(counts.sum(dtype=np.int64)) != entries
            or (np.diff(hashes.astype(np.int64)) < 1).any()
        ):
            raise _damaged(path, "its words are not in order")
        if entries and int(entry_labels.max()) >= len(labels):
            raise _damaged(path, f"it has more labels than the card ({len(labels)})")
        return cls(labels, hashes.astype(np.uint32), counts, entry_labels, values)

    def save(self, path: Path) -> None:
        """Write the table; its labels are stored in the model card."""
        header = np.array([_MAGIC, len(self._hashes), len(self._entry_labels)], "<u4")
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            for array in (
                header,
                self._hashes.astype("<u4"),
                self._counts,
                self._entry_labels,
                self._entry_values,
            ):
                stream.write(array.tobytes())

    def score(self, texts: Sequence[str]) -> tuple[Floats, npt.NDArray[np.int32]]:
        """Return how frequent the words of short texts are in each label.

        Returns:
            The sum over the words of a text of log(frequency / minimum frequency), which is 0 for a
            word that a label does not have, shape (texts, labels); and the number of words.
        """
        words = [normalize_for_detection(text).split() for text in texts]
        num_words = np.array([len(split) for split in words], np.int32)
        scores = np.zeros((len(texts), len(self.index)), np.float32)
        keys = np.array([_hash(word) for split in words for word in split], np.uint32)
        if not len(keys) or not len(self._hashes):
            return scores, num_words
        rows = np.repeat(np.arange(len(texts)), num_words)
        places = np.minimum(np.searchsorted(self._hashes, keys), len(self._hashes) - 1)
        for row, place in zip(
            rows[self._hashes[places] == keys].tolist(),
            places[self._hashes[places] == keys].tolist(),
            strict=True,
        ):
            end = int(self._ends[place])
            part = slice(end - int(self._counts[place]), end)
            scores[row, self._entry_labels[part]] += self._entry_values[part] * np.float32(_STEP)
        return scores, num_words


def _frequencies(domains: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return the frequencies of the words of one label; domains are weighted by the root of size.

    Words that occur once are omitted.
    """
    total: dict[str, float] = defaultdict(float)
    all_counts: Counter[str] = Counter()
    weight_sum = sum(len(lines) ** _DOMAIN_EXPONENT for lines in domains.values()) or 1.0
    for lines in domains.values():
        counts = Counter(word for line in lines for word in line.split())
        all_counts.update(counts)
        size = sum(counts.values()) or 1
        weight = len(lines) ** _DOMAIN_EXPONENT / weight_sum
        for word, count in counts.items():
            total[word] += weight * count / size
    return {word: value for word, value in total.items() if all_counts[word] >= _MIN_COUNT}


def _mean(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {
        word: (first.get(word, 0.0) + second.get(word, 0.0)) / 2
        for word in sorted({*first, *second})
    }


def _hash(word: str) -> int:
    return xxhash.xxh3_64_intdigest(word.encode("utf-8", "replace")) & 0xFFFFFFFF


def _damaged(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is truncated or damaged: {problem}; download it again, or retrain the model with "
        "'nllb lid train'"
    )
