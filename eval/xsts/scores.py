"""Scores of one system in one direction, and their uncertainty over items and raters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .calibration import (
    BY_DIRECTION,
    CalibrationSettings,
    Method,
    calibrate,
    rater_severity,
)
from .ratings import Floats, RatingMatrix
from .result import Estimate

MedianKind = Literal["median", "median_low"]


def item_medians(values: Floats, *, kind: MedianKind = "median") -> Floats:
    """Return the median over raters of each item; NaN if nobody rated it.

    Args:
        values: raters x items.
        kind: with an even number of raters `median` may be x.5, and `median_low` is the lower one.
    """
    if not len(values):
        return np.full(values.shape[1], np.nan)
    ordered = np.sort(values, axis=0)  # NaN last
    counts = (~np.isnan(values)).sum(axis=0)
    columns = np.arange(values.shape[1])
    low = ordered[np.maximum(counts - 1, 0) // 2, columns]
    if kind == "median_low":
        return np.asarray(low)
    return np.asarray((low + ordered[np.minimum(counts // 2, len(values) - 1), columns]) / 2)


def mean_score(values: Floats, *, kind: MedianKind = "median") -> float:
    """Return the score of a direction: mean over items of the median over raters."""
    return float(np.nanmean(item_medians(values, kind=kind)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """Point estimates and bootstrap resamples of one system in one direction."""

    score: float
    """H, uncalibrated."""
    resampled: Floats
    """H over resampled items and raters."""
    item_resampled: Floats
    """H over resampled items, raters kept."""
    calibration_score: float | None
    """C, or None without calibration items."""
    calibration_resampled: Floats | None
    """C over the same resampled raters."""
    by_rater: float | None
    """H after removing each rater's severity before the median."""
    by_rater_resampled: Floats | None
    """The same, resampled."""


def score_direction(
    rated: RatingMatrix,
    calibration: RatingMatrix | None,
    *,
    kind: MedianKind = "median",
    centre: float = 3.0,
    strata: Mapping[str, int | None] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Scored:
    """Score one system in one direction and resample it.

    Items are resampled with all their ratings, and raters with everything they rated, calibration
    items included, so that a rater's severity enters and leaves with the rater.

    Args:
        rated: ratings of the translations.
        calibration: ratings of the calibration items; None if withheld.
        kind: which median.
        centre: expected score of the calibration items, for the severity of raters.
        strata: quality level of the calibration items, which are resampled within their level:
            the composition of the set is fixed.
        resamples: bootstrap resamples.
        seed: seed of the resampling.
    """
    random = np.random.default_rng(seed)
    values = rated.values
    names = rated.raters
    anchors = None if calibration is None else _rows_of(calibration, names)
    severity = None if anchors is None else rater_severity(anchors, centre=centre)
    adjusted = None
    if severity is not None and not np.isnan(severity).all():
        adjusted = values + np.where(np.isnan(severity), 0.0, severity)[:, None]
    draws = _item_weights(random, values.shape[1], resamples)
    anchor_draws = None
    if calibration is not None:
        steps = [(strata or {}).get(item) for item in calibration.items]
        anchor_draws = _stratified_weights(random, steps, resamples)
    rater_draws = random.multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=resamples
    )
    resampled = np.full(resamples, np.nan)
    by_rater_resampled = np.full(resamples, np.nan)
    calibration_resampled = np.full(resamples, np.nan)
    # Three raters have only ten different resamples: medians are computed once for each.
    patterns, which = np.unique(rater_draws, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        members = np.repeat(np.arange(len(names)), pattern)
        these = np.flatnonzero(which.ravel() == number)
        resampled[these] = _weighted_means(item_medians(values[members], kind=kind), draws[these])
        if anchors is not None and anchor_draws is not None:
            medians = item_medians(anchors[members], kind=kind)
            calibration_resampled[these] = _weighted_means(medians, anchor_draws[these])
        if adjusted is not None and anchors is not None and anchor_draws is not None:
            medians = item_medians(adjusted[members], kind=kind)
            moved = _severity_noise(anchors, anchor_draws[these])[:, members].mean(axis=1)
            by_rater_resampled[these] = _weighted_means(medians, draws[these]) + moved
    medians = item_medians(values, kind=kind)
    has_anchors = anchors is not None and not np.isnan(anchors).all()
    return Scored(
        score=float(np.nanmean(medians)),
        resampled=resampled,
        item_resampled=_weighted_means(medians, draws),
        calibration_score=(
            mean_score(anchors, kind=kind) if has_anchors and anchors is not None else None
        ),
        calibration_resampled=calibration_resampled if has_anchors else None,
        by_rater=None if adjusted is None else mean_score(adjusted, kind=kind),
        by_rater_resampled=None if adjusted is None else by_rater_resampled,
    )


def calibrated_estimates(
    scored: Scored, *, centre: float, settings: CalibrationSettings
) -> dict[str, Estimate]:
    """Return the calibrated score by every method except `none`, with intervals."""
    if scored.calibration_score is None or scored.calibration_resampled is None:
        return {}
    methods: list[Method] = [method for method in BY_DIRECTION if method != "none"]
    found = {}
    for method in methods:
        value = calibrate(
            scored.score, scored.calibration_score, method=method, centre=centre, settings=settings
        )
        spread = calibrate(
            scored.resampled,
            scored.calibration_resampled,
            method=method,
            centre=centre,
            settings=settings,
        )
        found[str(method)] = estimate(float(value), spread)
    if scored.by_rater is not None and scored.by_rater_resampled is not None:
        found["rater"] = estimate(scored.by_rater, scored.by_rater_resampled)
    return found


def estimate(value: float, resampled: Floats) -> Estimate:
    """Return a value with the 95 % percentile interval of its resamples."""
    usable = resampled[~np.isnan(resampled)]
    if len(usable) < 2:
        return Estimate(value=value)
    low, high = np.quantile(usable, [0.025, 0.975])
    return Estimate(value=value, low=float(low), high=float(high))


def _rows_of(matrix: RatingMatrix, raters: tuple[str, ...]) -> Floats:
    """Return rows in the order of `raters`, NaN for raters without ratings."""
    row_of = {name: row for row, name in enumerate(matrix.raters)}
    empty = np.full(matrix.values.shape[1], np.nan)
    rows = [matrix.values[row_of[name]] if name in row_of else empty for name in raters]
    return np.stack(rows) if rows else np.empty((0, matrix.values.shape[1]))


def _severity_noise(anchors: Floats, draws: Floats) -> Floats:
    """Return how much each rater's severity changes in resamples of the calibration items."""
    moved = [
        np.nanmean(row) - _weighted_means(row, draws)
        if not np.isnan(row).all()
        else 0 * draws[:, 0]
        for row in anchors
    ]
    return np.asarray(np.nan_to_num(np.stack(moved, axis=1)), dtype=np.float64)


def _item_weights(random: np.random.Generator, number: int, resamples: int) -> Floats:
    if number == 0:
        return np.zeros((resamples, 0))
    drawn = random.multinomial(number, np.full(number, 1 / number), size=resamples)
    return drawn.astype(np.float64)


def _stratified_weights(
    random: np.random.Generator, steps: Sequence[int | None], resamples: int
) -> Floats:
    weights = np.zeros((resamples, len(steps)))
    for step in sorted(set(steps), key=str):
        columns = [column for column, one in enumerate(steps) if one == step]
        weights[:, columns] = _item_weights(random, len(columns), resamples)
    return weights


def _weighted_means(medians: Floats, weights: Floats) -> Floats:
    """Return the weighted means of the medians, without items that have no median."""
    known = ~np.isnan(medians)
    total = weights @ known.astype(np.float64)
    sums = weights @ np.where(known, medians, 0.0)
    means = np.full(len(weights), np.nan)
    np.divide(sums, total, out=means, where=total > 0)
    return means
