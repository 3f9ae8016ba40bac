"""Paired differences of systems: the same items and the same raters, with interval and p-value.

The interval resamples items and raters. The p-value is of a paired randomisation test: under the
hypothesis that two systems are equal, each item's difference may as well have the other sign. It is
the test that `nllb eval xsts plan --difference` plans for.
"""

from itertools import combinations

import numpy as np

from eval.metrics.significance import benjamini_hochberg

from .ratings import Direction, Floats, Grouped, Rating, RatingMatrix, rating_matrix
from .result import Estimate, SystemDifference
from .scores import MedianKind, estimate, item_medians

MIN_ITEMS = 5
"""Minimum number of common items for a comparison of two systems."""
TRIALS = 10_000
"""Number of random sign changes in the randomisation test."""
_TRIALS_AT_ONCE = 500


def compare_systems(
    groups: Grouped, *, median: MedianKind = "median", resamples: int = 1000, seed: int = 0
) -> tuple[SystemDifference, ...]:
    """Return all pairs of systems of each direction, compared on their common items.

    Args:
        groups: ratings by direction and system.
        median: kind of median over raters that is an item's score.
        resamples: bootstrap resamples.
        seed: seed of the bootstrap and of the test.
    """
    found = []
    for (first, first_rows), (second, second_rows) in combinations(groups.evaluated.items(), 2):
        if first[0] == second[0]:
            one = _difference(
                first[0], (first[1], first_rows), (second[1], second_rows), median=median,
                resamples=resamples, seed=seed,
            )  # fmt: skip
            found += [one] if one else []
    if not found:
        return ()
    q_values = benjamini_hochberg(np.array([one.p_value for one in found]))
    return tuple(
        SystemDifference(
            **{name: getattr(one, name) for name in one.__slots__ if name != "q_value"},
            q_value=float(q),
        )
        for one, q in zip(found, q_values, strict=True)
    )


def _difference(
    direction: Direction,
    first: tuple[str, list[Rating]],
    second: tuple[str, list[Rating]],
    *,
    median: MedianKind,
    resamples: int,
    seed: int,
) -> SystemDifference | None:
    before, after = rating_matrix(first[1]), rating_matrix(second[1])
    items = sorted(set(before.items) & set(after.items))
    raters = sorted(set(before.raters) | set(after.raters))
    if len(items) < MIN_ITEMS:
        return None
    values = [_aligned(one, raters, items) for one in (before, after)]
    medians = [item_medians(one, kind=median) for one in values]
    gaps = medians[1] - medians[0]
    return SystemDifference(
        study=direction.study,
        source=direction.source,
        target=direction.target,
        first=first[0],
        second=second[0],
        items=len(items),
        raters=len(raters),
        difference=_interval(values, float(gaps.mean()), median, resamples, seed),
        p_value=sign_flip_p_value(gaps, seed=seed),
        q_value=float("nan"),
    )


def _interval(
    values: list[Floats], observed: float, median: MedianKind, resamples: int, seed: int
) -> Estimate:
    """Return the difference with its interval over resampled items and raters."""
    random = np.random.default_rng(seed)
    num_raters, num_items = values[0].shape
    item_draws = random.multinomial(
        num_items, np.full(num_items, 1 / num_items), size=resamples
    ).astype(np.float64)
    rater_draws = random.multinomial(
        num_raters, np.full(num_raters, 1 / num_raters), size=resamples
    )
    resampled = np.full(resamples, np.nan)
    patterns, which = np.unique(rater_draws, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        members = np.repeat(np.arange(num_raters), pattern)
        these = np.flatnonzero(which.ravel() == number)
        gaps = item_medians(values[1][members], kind=median) - item_medians(
            values[0][members], kind=median
        )
        known = ~np.isnan(gaps)
        weights = item_draws[these]
        totals = weights @ known.astype(np.float64)
        sums = weights @ np.where(known, gaps, 0.0)
        resampled[these] = np.divide(
            sums, totals, out=np.full(len(these), np.nan), where=totals > 0
        )
    return estimate(observed, resampled)


def sign_flip_p_value(gaps: Floats, *, trials: int = TRIALS, seed: int = 0) -> float:
    """Return the two-sided p-value of a paired randomisation test: signs are changed at random.

    Source: Fisher 1935; Riezler and Maxwell 2005 for its use with translations.
    """
    random = np.random.default_rng(seed)
    observed = abs(float(gaps.sum()))
    extreme = 0
    for begin in range(0, trials, _TRIALS_AT_ONCE):
        count = min(_TRIALS_AT_ONCE, trials - begin)
        signs = 2.0 * random.integers(0, 2, size=(count, len(gaps))) - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ gaps) >= observed - 1e-9))
    return (extreme + 1) / (trials + 1)


def _aligned(one: RatingMatrix, raters: list[str], items: list[str]) -> Floats:
    """Return the ratings with rows and columns in a given order; missing ratings are NaN."""
    row_of = {name: row for row, name in enumerate(one.raters)}
    column_of = {name: column for column, name in enumerate(one.items)}
    columns = [column_of[name] for name in items]
    aligned = np.full((len(raters), len(items)), np.nan)
    for number, name in enumerate(raters):
        if name in row_of:
            aligned[number] = one.values[row_of[name], columns]
    return aligned
