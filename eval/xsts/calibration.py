"""Calibration: remove the raters' severity from a score, as measured on common items.

Every method maps a direction's score H and its raters' score C on the calibration items to a
calibrated score, given the centre: the expected C. The sensitivity table compares all methods.
Functions accept numbers and arrays (bootstrap resamples).

Source: NLLB Team 2022, 7.2. Only three properties of its moderated method are public: the
result stays in [1, 5], extreme shifts are attenuated, and so are shifts near 1 and 5. Our
`moderated` has these properties; the formula is ours, so numbers differ from the paper's.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from nllb.errors import ConfigError, did_you_mean

from .ratings import Floats

Method = Literal["none", "linear", "alpha", "clip", "moderated", "rater", "ordinal"]
BY_DIRECTION: tuple[Method, ...] = ("none", "linear", "alpha", "clip", "moderated")
"""Methods that need only H and C; `rater` and `ordinal` need the ratings."""
LOWEST, HIGHEST = 1.0, 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationSettings:
    """The free parameters of the methods."""

    centre: float | None = 3.0
    """Expected score of the calibration items; None uses the mean over directions."""
    strength: float = 1.0
    """`alpha`: share of the shift that is removed."""
    limit: float = 0.5
    """`clip`: largest shift."""
    tau: float = 1.0
    """`moderated`: limit of the shift for extreme differences."""
    rho: float = 2.0
    """`moderated`: distance from 1 or 5 within which the shift fades."""

    def __post_init__(self) -> None:
        wrong = []
        if self.centre is not None and not LOWEST <= self.centre <= HIGHEST:
            wrong.append(f"centre {self.centre} is not in [1, 5]")
        if not 0 <= self.strength <= 1:
            wrong.append(f"strength {self.strength} is not in [0, 1]")
        if self.limit < 0:
            wrong.append(f"limit {self.limit} is negative")
        # Otherwise calibration could reverse the order of two scores.
        if not 0 < self.tau < self.rho <= 4:
            wrong.append(f"tau {self.tau} and rho {self.rho} must have 0 < tau < rho <= 4")
        if wrong:
            raise ConfigError("calibration: " + "; ".join(wrong))


def calibrate(
    score: Floats | float,
    calibration_score: Floats | float,
    *,
    method: Method,
    centre: float,
    settings: CalibrationSettings,
) -> Floats:
    """Return the calibrated score or scores by a method of `BY_DIRECTION`."""
    scores = np.asarray(score, dtype=np.float64)
    shift = np.asarray(calibration_score, dtype=np.float64) - centre
    match method:
        case "none":
            return scores + 0.0 * shift
        case "linear":
            return scores - shift
        case "alpha":
            return scores - settings.strength * shift
        case "clip":
            return scores - np.clip(shift, -settings.limit, settings.limit)
        case "moderated":
            gentle = settings.tau * np.tanh(shift / settings.tau)
            room = np.where(shift > 0, scores - LOWEST, HIGHEST - scores)
            return np.asarray(scores - gentle * np.clip(room / settings.rho, 0.0, 1.0))
        case _:
            raise ConfigError(
                f"{method!r} is not a calibration method for H and "
                f"C{did_you_mean(method, BY_DIRECTION)}; valid: {', '.join(BY_DIRECTION)}"
            )


def rater_severity(values: Floats, *, centre: float) -> Floats:
    """Return how far below the centre each rater's mean on the calibration items is.

    Args:
        values: raters x calibration items, NaN where not rated.
        centre: expected score of the items.

    Returns:
        One number per rater: positive if severe, NaN for a rater without calibration items.
    """
    rated = ~np.isnan(values)
    counts = rated.sum(axis=1)
    sums = np.where(rated, values, 0.0).sum(axis=1)
    means = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return np.asarray(centre - means)


def best_strength(scores: Floats, calibration_scores: Floats, automatic: Floats) -> float:
    """Fit the strength of `alpha` to an automatic metric by leaving one direction out each time.

    For each direction the strength is chosen on the others, and the mean is returned. It is used
    only on request, because a calibration that is fitted to a metric agrees with it better by
    construction.
    """
    grid = np.linspace(0.0, 1.0, 21)
    shift = calibration_scores - calibration_scores.mean()
    chosen = []
    for held_out in range(len(scores)):
        rest = np.arange(len(scores)) != held_out
        fits = [
            float(np.corrcoef((scores - strength * shift)[rest], automatic[rest])[0, 1])
            for strength in grid
        ]
        chosen.append(grid[int(np.nanargmax(fits))])
    return float(np.mean(chosen))
