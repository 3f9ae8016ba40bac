"""Intervals and tests from per-sentence integers, where resampling is one matrix product.

The weights of a bootstrap depend only on the number of sentences and the seed, so that all
directions and systems have the same resamples: they are paired, across groups as well.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval.extras import scipy_module

from .registry import SummedScore

RESAMPLES: Final = 1000
SEED: Final = 12345
LEVEL: Final = 0.95
_EXACT_FLOAT32: Final = 1 << 23
"""Sums of integers below this value are exact in float32, which is twice as fast."""
_SYSTEMS_AT_ONCE: Final = 32


@lru_cache(maxsize=4)
def bootstrap_weights(
    num_sentences: int, resamples: int = RESAMPLES, seed: int = SEED
) -> NDArray[np.float32]:
    """Return how often each resample draws each sentence, resamples x sentences."""
    rng = np.random.default_rng(seed)
    even = np.full(num_sentences, 1 / num_sentences)
    weights = rng.multinomial(num_sentences, even, size=resamples).astype(np.float32)
    weights.flags.writeable = False
    return weights


def replicates(
    metric: SummedScore, statistics: NDArray[Any], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the corpus scores of all resamples, systems x resamples.

    Args:
        metric: computes the score of summed integers.
        statistics: systems x sentences x columns.
        weights: resamples x sentences.
    """
    parts = [
        metric.score(_weighted_sums(statistics[at : at + _SYSTEMS_AT_ONCE], weights)).T
        for at in range(0, len(statistics), _SYSTEMS_AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, len(weights)))


def interval(samples: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval along the last axis of one row of samples."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def intervals(samples: NDArray[np.float64], level: float = LEVEL) -> NDArray[np.float64]:
    """Return the percentile intervals of many rows, rows x 2."""
    ends = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return np.asarray(ends.T, dtype=np.float64)


def bootstrap_p(differences: NDArray[np.float64], observed: float) -> float:
    """Return the two-sided p-value: how often a centred resample differs as much as observed.

    Source: Koehn 2004 with the shift of sacrebleu's `--paired-bs`.
    """
    centred = np.abs(differences - differences.mean())
    return float((np.count_nonzero(centred >= abs(observed)) + 1) / (len(differences) + 1))


def randomisation_p_values(
    metric: SummedScore,
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    trials: int = RESAMPLES,
    seed: int = SEED,
) -> NDArray[np.float64]:
    """Return the p-values of approximate randomisation: each sentence swaps sides by a coin flip.

    Args:
        metric: computes the score of summed integers.
        first: directions x sentences x columns of one system.
        second: the same of the other.
        trials: shuffles.
        seed: of the coin flips.

    Source: Riezler and Maxwell 2005.
    """
    swaps = coin_flips(first.shape[1], trials, seed)
    found = []
    for at in range(0, len(first), _SYSTEMS_AT_ONCE):
        a, b = first[at : at + _SYSTEMS_AT_ONCE], second[at : at + _SYSTEMS_AT_ONCE]
        moved = _weighted_sums(b - a, swaps)
        a_sums, b_sums = a.sum(axis=1), b.sum(axis=1)
        observed = np.abs(metric.score(b_sums) - metric.score(a_sums))
        shuffled = np.abs(metric.score(b_sums - moved) - metric.score(a_sums + moved))
        # Sums of integers are exact, so that equal sums give equal scores; the margin is for log.
        extreme = np.count_nonzero(shuffled >= observed - 1e-9, axis=0)
        found.append((extreme + 1) / (trials + 1))
    return np.concatenate(found) if found else np.zeros(0)


def benjamini_hochberg(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return q-values: the false discovery rate at which each test would count as significant.

    Source: Benjamini and Hochberg 1995, as scipy has it. NaN stays NaN and counts as no test.

    Raises:
        ResourceError: if scipy is not installed.
    """
    stats = scipy_module("stats", purpose="tests of many directions")
    q_values = np.full(len(p_values), np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        q_values[tested] = stats.false_discovery_control(p_values[tested], method="bh")
    return q_values


@lru_cache(maxsize=4)
def coin_flips(num_sentences: int, trials: int, seed: int) -> NDArray[np.float32]:
    """Return 0 or 1 for each trial and sentence: whether the sentence swaps sides."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, size=(trials, num_sentences)).astype(np.float32)


def _weighted_sums(statistics: NDArray[Any], weights: NDArray[np.float32]) -> NDArray[Any]:
    """Return resamples x systems x columns; exact, as all terms are integers."""
    systems, sentences, columns = statistics.shape
    largest = float(np.abs(statistics).sum(axis=1).max(initial=0)) * float(weights.max(initial=1))
    kind = np.float32 if largest < _EXACT_FLOAT32 else np.float64
    table = np.moveaxis(statistics, 1, 0).reshape(sentences, systems * columns).astype(kind)
    sums: NDArray[Any] = np.matmul(weights.astype(kind, copy=False), table)
    return sums.reshape(len(weights), systems, columns)
