"""Plans against simulation: the predicted precision is the one that is found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.xsts.ingestion import read_ratings
from eval.xsts.planning import (
    Spreads,
    as_markdown,
    difference_variance,
    median_share,
    plans,
    spreads_of,
)
from eval.xsts.scores import mean_score
from nllb.errors import ConfigError, DataError


@pytest.mark.parametrize("raters", [1, 2, 3, 4, 5, 6, 7, 9])
def test_variance_of_a_median(raters: int) -> None:
    drawn = np.median(np.random.default_rng(0).normal(size=(raters, 200_000)), axis=0)
    assert median_share(raters) == pytest.approx(drawn.var(), rel=0.02)


def test_the_planned_half_width_is_what_simulation_finds() -> None:
    spreads = Spreads(item=0.9, noise=0.6, severity=0.3)
    plan = next(one for one in plans(spreads, half_width=0.1, calibrated=True) if one.raters == 3)
    assert plan.items is not None and plan.half_width == pytest.approx(0.1, abs=0.001)
    random = np.random.default_rng(1)
    scores = [
        mean_score(random.normal(0, 0.9, plan.items) + random.normal(0, 0.6, (3, plan.items)))
        - mean_score(random.normal(0, 0.6, (3, plan.calibration_items)))
        for _ in range(600)
    ]
    assert 1.96 * np.std(scores) == pytest.approx(0.1, rel=0.1)


def test_the_planned_power_is_what_simulation_finds() -> None:
    spreads = Spreads(item=0.9, noise=0.6, system_correlation=0.6)
    plan = next(one for one in plans(spreads, difference=0.15, power=0.8) if one.raters == 3)
    assert plan.items is not None
    random = np.random.default_rng(2)
    found = 0
    for _ in range(600):
        shared = random.normal(0, 0.9 * np.sqrt(0.6), plan.items)
        one, other = (
            np.median(
                shared + gain + random.normal(0, 0.9 * np.sqrt(0.4), plan.items)
                + random.normal(0, 0.6, (3, plan.items)), axis=0,
            )
            for gain in (0.0, 0.15)
        )  # fmt: skip
        gap = other - one
        found += gap.mean() / (gap.std(ddof=1) / np.sqrt(plan.items)) > 1.96
    assert found / 600 == pytest.approx(0.8, abs=0.05)


def test_known_setting_of_the_paper() -> None:
    """500 items, three raters: a half-width of about 0.083, as simulated for the specification."""
    found = plans(Spreads(severity=0.0), half_width=0.083, calibrated=False)
    assert next(one.items for one in found if one.raters == 3) == pytest.approx(500, rel=0.02)


def test_pairing_and_raters_help() -> None:
    spreads = Spreads()
    assert difference_variance(spreads, 3, paired=True) < difference_variance(
        spreads, 3, paired=False
    )
    items = [one.items for one in plans(spreads, difference=0.1)]
    assert None not in items and items == sorted(items, key=float, reverse=True)


def test_without_calibration_items_do_not_help_enough() -> None:
    uncalibrated = plans(Spreads(severity=0.5), half_width=0.2, calibrated=False)
    assert all(one.items is None and one.ratings is None for one in uncalibrated)
    text = as_markdown(uncalibrated, Spreads(), measured=False)
    assert "no number suffices" in text and "typical values, not of your data" in text


@pytest.mark.parametrize(
    "aim",
    [
        {},
        {"half_width": 0.1, "difference": 0.1},
        {"half_width": -1},
        {"difference": 0.1, "power": 2},
    ],
)
def test_bad_aims(aim: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        plans(Spreads(), **aim)


def test_spreads_are_estimated_from_earlier_ratings(
    make_study: Callable[..., list[dict[str, Any]]], save: Callable[..., Path]
) -> None:
    rows = make_study(items=800, severity=(0.4, 0.0, -0.4))
    spreads = spreads_of([read_ratings(save(rows))])
    # The fixture draws items with 0.9 and errors with 0.5; rounding adds 1/12 to the error.
    assert spreads.item == pytest.approx(0.85, abs=0.1)
    assert spreads.noise == pytest.approx(0.58, abs=0.07)
    assert spreads.severity == pytest.approx(0.4, abs=0.06)
    assert spreads.system_correlation < 0.1
    with pytest.raises(DataError, match="no direction has ten items"):
        spreads_of([read_ratings(save(rows[:6]))])
