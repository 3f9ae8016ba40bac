"""Computes how many items and raters a given precision requires.

A score is a mean over items of a median over raters. Its variance has a part from items (they
differ, and raters err on each) and a part from raters (each has a severity). The calibration items
remove the second part, apart from their own noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, pi, sqrt
from statistics import NormalDist

import numpy as np

from eval.markdown import table
from nllb.errors import ConfigError, DataError

from .ingestion import RatingsFile
from .ratings import Floats, RatingMatrix, group, rating_matrix
from .row_checks import parse_rows
from .scores import item_medians

RATERS = (1, 2, 3, 4, 5, 7)
_MEDIAN_SHARES = (1.0, 0.5, 0.4487, 0.2982, 0.2868, 0.2147, 0.2104)
_Z_95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spreads:
    """Standard deviations, in points of the scale."""

    item: float = 0.85
    """Of the quality of items."""
    noise: float = 0.63
    """Of the error of one rater on one item."""
    severity: float = 0.40
    """Of the severities of raters."""
    system_correlation: float = 0.5
    """Correlation of the quality of the same items under two systems."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The items and ratings that a number of raters needs."""

    raters: int
    """Raters per item."""
    items: int | None
    """Items per direction; None if no number of items is enough."""
    calibration_items: int
    """Calibration items per rater; 0 if none are rated."""
    ratings: int | None
    """Ratings per direction and system, calibration items included."""
    half_width: float | None
    """Half of the 95 % interval of one score under this plan."""


def plans(
    spreads: Spreads,
    *,
    half_width: float | None = None,
    difference: float | None = None,
    power: float = 0.8,
    paired: bool = True,
    calibrated: bool = True,
    calibration_items: int = 500,
) -> list[Plan]:
    """Return a plan for one to seven raters per item.

    Args:
        spreads: measured or typical spreads.
        half_width: half of the 95 % interval of one score to plan for.
        difference: difference to detect between two systems that the same raters rate.
        power: probability of detecting that difference at the 5 % level.
        paired: whether both systems are rated on the same items.
        calibrated: whether raters rate calibration items.
        calibration_items: number of calibration items per rater.
    """
    if (half_width is None) == (difference is None):
        raise ConfigError("give either a half-width or a difference to plan for")
    aim = half_width if half_width is not None else difference
    if aim is None or not 0 < aim < 4:
        raise ConfigError(
            f"{aim} is not a width or difference on a scale from 1 to 5; valid: more than 0 and "
            "less than 4"
        )
    if not 0 < power < 1:
        raise ConfigError(f"power {power} is not between 0 and 1; a usual value is 0.8")
    anchors = calibration_items if calibrated else 0
    found = []
    for raters in RATERS:
        if half_width is not None:
            rest = (half_width / _Z_95) ** 2 - rater_variance(spreads, raters, anchors)
            items = ceil(item_variance(spreads, raters) / rest) if rest > 0 else None
        else:
            needed = (_Z_95 + NormalDist().inv_cdf(power)) ** 2 / aim**2
            items = ceil(needed * difference_variance(spreads, raters, paired=paired))
        found.append(
            Plan(
                raters=raters,
                items=items,
                calibration_items=anchors,
                ratings=None if items is None else raters * (items + anchors),
                half_width=(
                    None if items is None else _Z_95 * sqrt(
                        item_variance(spreads, raters) / items
                        + rater_variance(spreads, raters, anchors)
                    )
                ),
            )
        )  # fmt: skip
    return found


def item_variance(spreads: Spreads, raters: int) -> float:
    """Return the variance per item: of its quality, and of the median's error."""
    return spreads.item**2 + median_share(raters) * spreads.noise**2


def rater_variance(spreads: Spreads, raters: int, calibration_items: int) -> float:
    """Return the variance that no number of items removes."""
    if calibration_items == 0:
        return median_share(raters) * spreads.severity**2
    return median_share(raters) * spreads.noise**2 / calibration_items


def difference_variance(spreads: Spreads, raters: int, *, paired: bool) -> float:
    """Return the variance per item of the difference of two systems rated by the same people."""
    shared = spreads.system_correlation if paired else 0.0
    return 2 * (
        (1 - shared) * spreads.item**2 + median_share(raters) * spreads.noise**2
    )  # fmt: skip


def median_share(raters: int) -> float:
    """Return the variance of the median of normal errors, relative to the variance of one.

    It is exact (order statistics of the normal distribution) up to seven raters, and the usual
    approximation beyond.
    """
    if raters <= len(_MEDIAN_SHARES):
        return _MEDIAN_SHARES[raters - 1]
    return pi / (2 * (raters - 1) + pi)


def spreads_of(files: Sequence[RatingsFile]) -> Spreads:
    """Estimate the spreads from earlier ratings by analysis of variance.

    Raises:
        DataError: if no direction has ten items with two raters.
    """
    ratings = parse_rows([row for one in files for row in one.rows]).ratings
    groups = group(ratings)
    matrices = {key: rating_matrix(rows) for key, rows in groups.evaluated.items()}
    parts = [
        found
        for one in matrices.values()
        if len(one.raters) > 1 and (found := _variances(one.values)) is not None
    ]
    if not parts:
        raise DataError("no direction has ten items with two raters: spreads cannot be estimated")
    item, noise, severity = np.sqrt(np.maximum(np.mean(parts, axis=0), 0.0))
    correlations = []
    for (key, one), (other_key, other) in combinations(matrices.items(), 2):
        if key[0] == other_key[0]:
            correlation = _item_correlation(one, other)
            correlations += [] if correlation is None else [correlation]
    default = Spreads()
    return Spreads(
        item=float(item),
        noise=float(noise),
        severity=float(severity),
        system_correlation=(
            float(np.clip(np.mean(correlations), 0.0, 0.95))
            if correlations
            else default.system_correlation
        ),
    )


def as_markdown(rows: Sequence[Plan], spreads: Spreads, *, measured: bool) -> str:
    """Return the plans as a table, with the spreads on which they are based."""
    body = [
        [
            str(row.raters),
            "no number suffices" if row.items is None else str(row.items),
            str(row.calibration_items),
            "-" if row.ratings is None else str(row.ratings),
            "-" if row.half_width is None else f"{row.half_width:.3f}",
        ]
        for row in rows
    ]
    head = ["raters per item", "items", "calibration items", "ratings", "half-width"]
    source = "estimated from the ratings given" if measured else "typical values, not of your data"
    return (
        table(head, body)
        + f"\n\nSpreads ({source}): items {spreads.item:.2f}, error {spreads.noise:.2f}, severity "
        f"{spreads.severity:.2f}, correlation of systems {spreads.system_correlation:.2f}."
    )


def _variances(values: Floats) -> tuple[float, float, float] | None:
    """Return the variances of items, error and severity, or None for too little data."""
    full = values[:, (~np.isnan(values)).sum(axis=0) > 1]
    if full.shape[1] < 10:
        return None
    severity = np.nanmean(full - np.nanmean(full, axis=0), axis=1)
    rest = full - severity[:, None]
    counts = (~np.isnan(rest)).sum(axis=0)
    within = np.nansum((rest - np.nanmean(rest, axis=0)) ** 2)
    noise = float(within / max(1, (counts - 1).sum() - (len(full) - 1)))
    item = float(np.nanmean(rest, axis=0).var(ddof=1) - noise / counts.mean())
    per_rater = (~np.isnan(full)).sum(axis=1).mean()
    return item, noise, float(severity.var(ddof=1) - noise / per_rater)


def _item_correlation(one: RatingMatrix, other: RatingMatrix) -> float | None:
    """Return the correlation of item scores of two systems; None below ten common items."""
    of_other = dict(zip(other.items, item_medians(other.values), strict=True))
    pairs = [
        (median, of_other[item])
        for item, median in zip(one.items, item_medians(one.values), strict=True)
        if item in of_other
    ]
    if len(pairs) < 10:
        return None
    correlation = float(np.corrcoef(np.array(pairs).T)[0, 1])
    return None if np.isnan(correlation) else correlation
