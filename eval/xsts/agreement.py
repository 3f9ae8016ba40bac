"""Agreement of raters: Krippendorff's alpha, weighted kappa, severity, self-agreement."""

from collections.abc import Iterable
from itertools import combinations
from typing import Literal

import numpy as np

from .ratings import Floats, Rating

CATEGORIES = 5
Level = Literal["nominal", "ordinal", "interval"]


def krippendorff_alpha(
    values: Floats, *, level: Level = "ordinal", categories: int = CATEGORIES
) -> float | None:
    """Return Krippendorff's alpha of raw ratings (it is meaningless for medians).

    Args:
        values: raters x items, whole numbers from 1, NaN where not rated.
        level: the distance of two values; ordinal counts the ratings between them.
        categories: the largest value.

    Returns:
        1 for perfect agreement, 0 for chance; None if nothing was rated twice or all ratings are
        equal.

    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability".
    """
    counts_IK = np.stack(
        [(values == step).sum(axis=0) for step in range(1, categories + 1)], axis=1
    )
    sums_I = counts_IK.sum(axis=1)
    counts_IK, sums_I = counts_IK[sums_I > 1].astype(float), sums_I[sums_I > 1]
    weights_I = 1.0 / (sums_I - 1)
    seen_KK = counts_IK.T @ (counts_IK * weights_I[:, None])
    seen_KK -= np.diag((counts_IK * weights_I[:, None]).sum(axis=0))
    totals_K = seen_KK.sum(axis=0)
    distance_KK = _distances(totals_K, level)
    expected = totals_K @ distance_KK @ totals_K
    if len(sums_I) == 0 or expected == 0:
        return None
    observed = float((seen_KK * distance_KK).sum())
    return float(1.0 - (totals_K.sum() - 1) * observed / expected)


def weighted_kappa(left: Floats, right: Floats, *, categories: int = CATEGORIES) -> float | None:
    """Return Cohen's kappa with quadratic weights over the items that both rated.

    Returns:
        None where fewer than two items are common, or chance agreement is perfect.
    """
    both = ~np.isnan(left) & ~np.isnan(right)
    if both.sum() < 2:
        return None
    first, second = left[both], right[both]
    observed = float(((first - second) ** 2).mean())
    expected = float(first.var() + second.var() + (first.mean() - second.mean()) ** 2)
    return None if expected == 0 else 1.0 - observed / expected


def pairwise_kappas(
    matrices: Iterable[tuple[tuple[str, ...], Floats]],
) -> dict[tuple[str, str], tuple[float, int]]:
    """Return (kappa, common items) of each pair of raters, over several matrices.

    A pair with several directions in common has the mean kappa, weighted by common items.
    """
    sums: dict[tuple[str, str], tuple[float, int]] = {}
    for raters, values in matrices:
        for row, other in combinations(range(len(raters)), 2):
            kappa = weighted_kappa(values[row], values[other])
            if kappa is None:
                continue
            common = int((~np.isnan(values[row]) & ~np.isnan(values[other])).sum())
            pair = (raters[row], raters[other])
            total, number = sums.get(pair, (0.0, 0))
            sums[pair] = (total + kappa * common, number + common)
    return {pair: (total / number, number) for pair, (total, number) in sums.items()}


def relative_severity(values: Floats) -> Floats:
    """Return how far each rater is below the others on the same items; NaN without others."""
    rated = ~np.isnan(values)
    filled = np.where(rated, values, 0.0)
    others = rated.sum(axis=0) - rated
    sums = filled.sum(axis=0) - filled
    usable = rated & (others > 0)
    gaps = np.where(usable, sums / np.maximum(others, 1) - filled, 0.0)
    counts = usable.sum(axis=1)
    means = np.full(len(values), np.nan)
    np.divide(gaps.sum(axis=1), counts, out=means, where=counts > 0)
    return means


def self_agreement(repeated: Iterable[tuple[Rating, Rating]]) -> dict[str, tuple[int, int]]:
    """Return (equal repeats, all repeats) for each rater who rated items again."""
    found: dict[str, tuple[int, int]] = {}
    for first, again in repeated:
        equal, number = found.get(first.rater, (0, 0))
        found[first.rater] = (equal + (first.score == again.score), number + 1)
    return found


def _distances(totals_K: Floats, level: Level) -> Floats:
    steps = np.arange(len(totals_K), dtype=np.float64)
    if level == "nominal":
        return np.asarray(steps[:, None] != steps[None, :], dtype=np.float64)
    if level == "interval":
        return np.asarray((steps[:, None] - steps[None, :]) ** 2)
    # Ratings up to the middle of each category: differences count the ratings in between.
    middle = np.cumsum(totals_K) - totals_K / 2
    return np.asarray((middle[:, None] - middle[None, :]) ** 2)
