"""Simulated studies with known true scores, drawn from the ordinal model, to test calibrations."""

from dataclasses import dataclass

import numpy as np

from .ratings import Floats, RatingMatrix
from .scores import mean_score

THRESHOLDS = np.array([-1.5, 0.0, 1.6, 3.4])
STRATA = np.array([-2.5, -0.8, 0.8, 2.4, 4.2])
_TRUTH_ITEMS = 60_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedStudy:
    """Ratings by raters of random severity, and the scores of standard raters."""

    populations: dict[str, RatingMatrix]
    """Ratings of each direction, by three raters of its own."""
    calibration: dict[int, RatingMatrix]
    """Ratings of the calibration items by stratum, by all raters."""
    centre: float
    """Score of the calibration set by standard raters."""
    truth: dict[str, float]
    """Score of each direction by standard raters, over the population of its items."""


def simulate_study(
    seed: int,
    *,
    directions: int = 12,
    items: int = 150,
    calibration_items: int = 100,
    direction_severity: float = 0.6,
    rater_severity: float = 0.5,
    rater_spread: float = 0.15,
) -> SimulatedStudy:
    """Return a random study; severities and spreads are in logits."""
    random = np.random.default_rng(seed)
    severity = random.normal(0, direction_severity, (directions, 1)) + random.normal(
        0, rater_severity, (directions, 3)
    )
    spread = np.exp(random.normal(0, rater_spread, (directions, 3)))
    anchors = [random.normal(mean, 0.6, calibration_items // len(STRATA)) for mean in STRATA]
    populations, truth = {}, {}
    for direction in range(directions):
        mean = random.uniform(0, 2.5)
        name = f"direction {direction:03}"
        truth[name] = _standard(random, random.normal(mean, 1.6, _TRUTH_ITEMS))
        rated = _rate(
            random, random.normal(mean, 1.6, items), severity[direction], spread[direction]
        )
        populations[name] = _matrix(rated, first=3 * direction)
    return SimulatedStudy(
        populations=populations,
        calibration={
            step: _matrix(_rate(random, worth, severity.ravel(), spread.ravel()), first=0)
            for step, worth in enumerate(anchors, 1)
        },
        centre=float(np.mean([_standard(random, np.tile(worth, 400)) for worth in anchors])),
        truth=truth,
    )


def _standard(random: np.random.Generator, worth: Floats) -> float:
    return mean_score(_rate(random, worth, np.zeros(3), np.ones(3)))


def _rate(random: np.random.Generator, worth: Floats, severity: Floats, spread: Floats) -> Floats:
    """Return random ratings, raters x items."""
    standing = THRESHOLDS + severity[:, None, None] - worth[:, None]
    below = 1 / (1 + np.exp(-spread[:, None, None] * standing))
    drawn = random.random((len(severity), len(worth), 1))
    return np.asarray(1.0 + (drawn > below).sum(axis=-1))


def _matrix(values: Floats, *, first: int) -> RatingMatrix:
    return RatingMatrix(
        raters=tuple(f"r{first + row:04}" for row in range(len(values))),
        items=tuple(f"i{column:05}" for column in range(values.shape[1])),
        values=values,
    )
