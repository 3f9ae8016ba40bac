"""Bootstrap and randomisation over a stream of sentences: memory does not grow with their number.

A bootstrap draws N of N sentences. The number of draws that fall into a block of sentences is drawn
first (binomial, given the remaining draws) and then distributed over the block's sentences: the
result has exactly the distribution of drawing from all sentences at once. Only resamples x block
numbers are in memory. Up to one block, the weights are those of `bootstrap_weights`, shared with
`eval flores`.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .registry import SummedScore
from .significance import RESAMPLES, SEED, bootstrap_weights, coin_flips

BLOCK: Final = 2048
"""Sentences whose weights are drawn at once: with 1,000 resamples 8 MB."""


class ResampledSums:
    """Sums of per-sentence statistics over bootstrap resamples, added block by block."""

    def __init__(self, num_sentences: int, *, resamples: int = RESAMPLES, seed: int = SEED) -> None:
        self.num_sentences, self.resamples, self.seed = num_sentences, resamples, seed
        self._random = np.random.default_rng(seed)
        self._drawn_left = np.full(resamples, num_sentences, dtype=np.int64)
        self._sentences_left = num_sentences
        self._sums: dict[str, NDArray[np.float64]] = {}

    def add(self, statistics: dict[str, NDArray[Any]]) -> None:
        """Add a block: by name, sentences x columns of the next sentences.

        Blocks must be of at most `BLOCK` sentences and come in the order of the sentences.
        """
        size = len(next(iter(statistics.values())))
        weights = self._weights(size)
        for name, columns in statistics.items():
            sums = weights.astype(np.float64) @ columns.astype(np.float64)
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def _weights(self, size: int) -> NDArray[np.float32]:
        if self.num_sentences <= BLOCK:
            return bootstrap_weights(self.num_sentences, self.resamples, self.seed)
        share = size / self._sentences_left
        draws = self._random.binomial(self._drawn_left, min(share, 1.0))
        self._drawn_left -= draws
        self._sentences_left -= size
        rows = np.repeat(np.arange(self.resamples, dtype=np.int64), draws)
        places = rows * size + self._random.integers(0, size, size=len(rows))
        counts = np.bincount(places, minlength=self.resamples * size)
        return counts.reshape(self.resamples, size).astype(np.float32)

    def scores(self, metric: SummedScore) -> NDArray[np.float64]:
        """Return the corpus score of each resample."""
        return metric.score(self._sums[metric.name])


class SwappedSums:
    """Sums that approximate randomisation needs, added block by block."""

    def __init__(self, *, trials: int = RESAMPLES, seed: int = SEED, whole: int = 0) -> None:
        self.trials, self.seed = trials, seed
        self._whole = whole
        self._random = np.random.default_rng(seed)
        self._moved: dict[str, NDArray[np.float64]] = {}
        self._sums: dict[str, list[NDArray[np.float64]]] = {}

    def add(self, first: dict[str, NDArray[Any]], second: dict[str, NDArray[Any]]) -> None:
        """Add a block of two systems: by name, sentences x columns."""
        size = len(next(iter(first.values())))
        if self._whole <= BLOCK:
            flips = coin_flips(size, self.trials, self.seed).astype(np.float64)
        else:
            flips = self._random.integers(0, 2, size=(self.trials, size)).astype(np.float64)
        for name, columns in first.items():
            before, after = columns.astype(np.float64), second[name].astype(np.float64)
            moved = flips @ (after - before)
            self._moved[name] = self._moved[name] + moved if name in self._moved else moved
            sums = [before.sum(axis=0), after.sum(axis=0)]
            old = self._sums.get(name)
            self._sums[name] = [a + b for a, b in zip(old, sums, strict=True)] if old else sums

    def sums(self, name: str) -> list[NDArray[np.float64]]:
        """Return the sums of both systems' statistics."""
        return self._sums[name]

    def p_value(self, metric: SummedScore) -> float:
        """Return the two-sided p-value: how often swapped systems differ at least as much."""
        before, after = self._sums[metric.name]
        moved = self._moved[metric.name]
        observed = abs(float(metric.score(after) - metric.score(before)))
        shuffled = np.abs(metric.score(after - moved) - metric.score(before + moved))
        extreme = int(np.count_nonzero(shuffled >= observed - 1e-9))
        return (extreme + 1) / (self.trials + 1)
