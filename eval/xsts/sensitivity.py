"""Comparison of all calibration methods, and their agreement with automatic scores."""

from collections.abc import Collection, Sequence

import numpy as np

from .ratings import Direction, Grouped, rating_matrix, spearman
from .result import METHODS, Correlation, DirectionScore, Estimate, Sensitivity
from .scores import MedianKind, estimate, item_medians


def shown(one: DirectionScore, method: str) -> float:
    """Return the score for a table: calibrated by `method` if possible, otherwise uncalibrated."""
    return (one.calibrated.get(method) or one.score).value


def compare_methods(
    directions: Sequence[DirectionScore],
    groups: Grouped,
    flagged: Collection[str],
    *,
    median: MedianKind = "median",
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[tuple[Sensitivity, ...], tuple[Correlation, ...]]:
    """Return a row per method, one without the flagged raters, and all correlations.

    Args:
        directions: scores with their calibrated and automatic values.
        groups: the ratings on which they are based.
        flagged: raters that the last row excludes.
        median: kind of median over raters.
        resamples: bootstrap resamples of directions.
        seed: seed of the bootstrap.
    """
    table: list[Sensitivity] = []
    correlations: list[Correlation] = []
    metrics = sorted({name for one in directions for name in one.automatic})
    variants: list[tuple[str, list[DirectionScore], list[float]]] = []
    for method in METHODS:
        having = [one for one in directions if method == "none" or method in one.calibrated]
        if having:
            variants.append((method, having, [shown(one, method) for one in having]))
    if flagged:
        having, values = [], []
        for one in directions:
            direction = Direction(study=one.study, source=one.source, target=one.target)
            matrix = rating_matrix(groups.evaluated[direction, one.system])
            rest = matrix.of_raters(set(matrix.raters) - set(flagged))
            if rest.items:
                having.append(one)
                medians = item_medians(rest.values, kind=median)
                values.append(float(np.nanmean(medians)))
        if having:
            variants.append(("without flagged raters", having, values))
    for method, having, values in variants:
        raw = [one.score.value for one in having]
        shifts = [value - before for value, before in zip(values, raw, strict=True)]
        found = {}
        for metric in metrics:
            pairs = [(one.automatic[metric], value)
                     for one, value in zip(having, values, strict=True)
                     if metric in one.automatic]  # fmt: skip
            one_correlation = _correlation(pairs, resamples=resamples, seed=seed)
            if one_correlation is None:
                continue
            found[metric] = one_correlation.value
            if method in METHODS:
                correlations.append(
                    Correlation(metric=metric, method=method, spearman=one_correlation,
                                directions=len(pairs))
                )  # fmt: skip
        table.append(
            Sensitivity(
                method=method,
                directions=len(having),
                mean=float(np.mean(values)),
                mean_shift=float(np.mean(shifts)),
                largest_shift=max(shifts, key=abs),
                rank_correlation=spearman(raw, values),
                correlations=found,
            )
        )
    return tuple(table), tuple(correlations)


def _correlation(
    pairs: Sequence[tuple[float, float]], *, resamples: int, seed: int
) -> Estimate | None:
    values = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    found = spearman(values[:, 0], values[:, 1])
    if found is None:
        return None
    random = np.random.default_rng(seed)
    resampled = []
    for _ in range(resamples):
        drawn = values[random.integers(len(values), size=len(values))]
        again = spearman(drawn[:, 0], drawn[:, 1])
        resampled.append(np.nan if again is None else again)
    return estimate(found, np.array(resampled))
