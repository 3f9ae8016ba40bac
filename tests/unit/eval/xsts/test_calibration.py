"""Calibration: the properties of each method, and what it does to severe raters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.xsts.calibration import (
    BY_DIRECTION,
    CalibrationSettings,
    best_strength,
    calibrate,
    rater_severity,
)
from eval.xsts.ratings import RatingMatrix, spearman
from eval.xsts.scores import calibrated_estimates, item_medians, mean_score, score_direction
from nllb.errors import ConfigError

SETTINGS = CalibrationSettings()
scores = st.floats(min_value=1, max_value=5)


def calibrated(method: str, score: float, anchor: float, **settings: float) -> float:
    chosen = CalibrationSettings(**settings)
    return float(calibrate(score, anchor, method=method, centre=3.0, settings=chosen))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "expected"),
    [("none", 4.2), ("linear", 3.5), ("alpha", 3.85), ("clip", 3.7),
     ("moderated", 4.2 - np.tanh(0.7))],
)  # fmt: skip
def test_known_values(method: str, expected: float) -> None:
    assert calibrated(method, 4.2, 3.7, strength=0.5) == pytest.approx(expected)


@given(scores, scores, st.floats(min_value=0.05, max_value=1.9))
def test_moderated_stays_on_the_scale_and_shifts_less(
    score: float, anchor: float, tau: float
) -> None:
    one = calibrated("moderated", score, anchor, tau=tau, rho=2.0)
    assert 1 <= one <= 5
    assert abs(one - score) <= abs(anchor - 3) + 1e-12
    assert abs(one - score) <= tau + 1e-12
    assert (one - score) * (anchor - 3) <= 1e-12


@given(scores, scores, scores)
def test_every_method_keeps_the_order_under_the_same_raters(
    a: float, b: float, anchor: float
) -> None:
    for method in BY_DIRECTION:
        low, high = (calibrated(method, value, anchor) for value in sorted((a, b)))
        assert low <= high + 1e-12


@pytest.mark.parametrize("method", ["none", "moderated"])
def test_ends_of_the_scale_are_fixed(method: str) -> None:
    for anchor in (1.0, 2.4, 3.0, 4.1, 5.0):
        for end in (1.0, 5.0):
            inward = (anchor > 3) == (end == 5.0) and anchor != 3.0
            if method == "none" or not inward:
                assert calibrated(method, end, anchor) == end


def test_settings_are_checked_together() -> None:
    with pytest.raises(ConfigError, match=r"centre 7.*strength 2.*limit.*tau 3 and rho 2"):
        CalibrationSettings(centre=7, strength=2, limit=-1, tau=3, rho=2)
    with pytest.raises(ConfigError, match="not a calibration method for H and C"):
        calibrate(3.0, 3.0, method="rater", centre=3.0, settings=SETTINGS)


def test_severity_of_raters_ignores_what_they_did_not_rate() -> None:
    values = np.array([[1, 2, np.nan, 3], [4, 4, 4, 4], [np.nan] * 4])
    severity = rater_severity(values, centre=3.0)
    assert severity[:2].tolist() == [1.0, -1.0] and np.isnan(severity[2])


def test_strength_is_fitted_to_what_severity_explains() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(3.5, 0.5, 40)
    shift = random.normal(0, 0.5, 40)
    automatic = 10 * truth
    assert best_strength(truth + 0.6 * shift, 3 + shift, automatic) == pytest.approx(0.6, abs=0.06)
    assert best_strength(truth, 3 + shift, automatic) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize(
    ("column", "median", "low"),
    [
        ([1, 2, 5], 2, 2),
        ([1, 2], 1.5, 1),
        ([4], 4, 4),
        ([1, 2, 3, 5], 2.5, 2),
        ([], np.nan, np.nan),
    ],
)
def test_medians(column: list[int], median: float, low: float) -> None:
    values = np.array([*column, *[np.nan] * (4 - len(column))])[:, None]
    np.testing.assert_equal(item_medians(values), [median])
    np.testing.assert_equal(item_medians(values, kind="median_low"), [low])
    assert np.isnan(item_medians(np.empty((0, 2)))).all()


def matrix(values: np.ndarray) -> RatingMatrix:
    return RatingMatrix(
        raters=tuple(f"r{row}" for row in range(len(values))),
        items=tuple(f"i{column:04}" for column in range(values.shape[1])),
        values=values,
    )


def rate(random: np.random.Generator, worth: np.ndarray, severity: np.ndarray) -> np.ndarray:
    noisy = worth[None, :] - severity[:, None] + random.normal(0, 0.6, (len(severity), len(worth)))
    return np.clip(np.round(noisy), 1, 5)


def test_severe_raters_are_corrected_to_a_third_of_the_error() -> None:
    """The simulation of the specification: severity .35 of directions and .25 of raters."""
    random = np.random.default_rng(1)
    anchors_worth = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], 60)
    centre = mean_score(rate(random, np.tile(anchors_worth, 20), np.zeros(3)))
    names = ("none", "linear", "alpha", "clip", "moderated", "rater")
    found: dict[str, list[float]] = {name: [] for name in names}
    truths = []
    for direction in range(60):
        severity = random.normal(0, 0.35) + random.normal(0, 0.25, 3)
        worth = np.clip(random.normal(random.uniform(2.3, 4.3), 0.9, 300), 1, 5)
        scored = score_direction(
            matrix(rate(random, worth, severity)),
            matrix(rate(random, anchors_worth, severity)),
            centre=centre,
            resamples=20,
            seed=direction,
        )
        truths.append(mean_score(rate(random, np.tile(worth, 10), np.zeros(3))))
        found["none"].append(scored.score)
        for method, one in calibrated_estimates(scored, centre=centre, settings=SETTINGS).items():
            found[method].append(one.value)
    errors = {
        name: float(np.sqrt(np.mean((np.array(found[name]) - truths) ** 2))) for name in names
    }
    assert errors["none"] > 0.25
    assert errors["linear"] <= errors["none"] / 3, errors
    assert errors["rater"] <= errors["none"] / 3, errors
    assert max(errors["clip"], errors["moderated"]) < errors["none"] / 2, errors
    order = {name: spearman(found[name], truths) or 0.0 for name in names}
    assert order["linear"] > 0.98 > order["none"]


def test_intervals_widen_with_raters_and_shrink_with_items() -> None:
    random = np.random.default_rng(2)
    severity = np.array([0.5, 0.0, -0.5])

    def width(items: int) -> tuple[float, float]:
        worth = random.normal(3.2, 0.9, items)
        scored = score_direction(matrix(rate(random, worth, severity)), None, resamples=300)
        return tuple(float(np.diff(np.quantile(one, [0.025, 0.975]))[0])
                     for one in (scored.resampled, scored.item_resampled))  # type: ignore[return-value]  # fmt: skip

    both, items_only = width(200)
    assert both > 1.5 * items_only
    assert width(800)[1] == pytest.approx(items_only / 2, rel=0.2)


def test_item_interval_covers_the_truth() -> None:
    random = np.random.default_rng(3)
    hits = 0
    for trial in range(200):
        worth = np.clip(random.normal(3.3, 0.9, 150), 1, 5)
        scored = score_direction(
            matrix(rate(random, worth, np.zeros(3))), None, resamples=200, seed=trial
        )
        low, high = np.quantile(scored.item_resampled, [0.025, 0.975])
        hits += bool(low <= TRUTH_OF_COVER <= high)
    assert 0.90 <= hits / 200 <= 0.99


TRUTH_OF_COVER = mean_score(
    rate(
        np.random.default_rng(4),
        np.clip(np.random.default_rng(5).normal(3.3, 0.9, 200_000), 1, 5),
        np.zeros(3),
    )
)


def test_the_same_seed_gives_the_same_resamples() -> None:
    random = np.random.default_rng(5)
    rated = matrix(rate(random, random.normal(3, 1, 50), np.zeros(3)))
    first, again = (score_direction(rated, None, resamples=20, seed=7) for _ in range(2))
    assert first.resampled.tolist() == again.resampled.tolist()
    other = score_direction(rated, None, resamples=20, seed=8)
    assert other.resampled.tolist() != first.resampled.tolist()
