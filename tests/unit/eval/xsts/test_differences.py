"""Paired differences of systems: level, power and interval."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eval.xsts.differences import sign_flip_p_value
from eval.xsts.evaluation import evaluate
from eval.xsts.ingestion import read_ratings
from eval.xsts.markdown_tables import as_markdown
from eval.xsts.validation import ScoreSettings

Rows = list[dict[str, Any]]


def test_the_test_keeps_its_level_and_has_the_planned_power() -> None:
    random = np.random.default_rng(3)
    equal = [sign_flip_p_value(random.normal(0, 1, 60), trials=400) for _ in range(300)]
    assert 0.02 < np.mean(np.array(equal) <= 0.05) < 0.09
    # 80 % power: the difference is (1.96 + 0.84) standard errors.
    shift = 2.8 / np.sqrt(60)
    apart = [sign_flip_p_value(random.normal(shift, 1, 60), trials=400) for _ in range(300)]
    assert 0.72 < np.mean(np.array(apart) <= 0.05) < 0.88


def test_two_systems_of_a_study_are_compared(study: Rows, save: Callable[..., Path]) -> None:
    result = evaluate([read_ratings(save(study))], ScoreSettings(resamples=200))
    [one] = result.differences
    scores = {each.system: each.score.value for each in result.directions}
    assert (one.first, one.second, one.items, one.raters) == ("base", "big", 120, 3)
    assert abs(one.difference.value - (scores["big"] - scores["base"])) < 1e-9
    assert one.difference.low is not None and one.difference.low < one.difference.value
    assert one.p_value < 0.05 and one.q_value == one.p_value
    assert "Paired differences" in as_markdown(result)


def test_only_common_items_count(study: Rows, save: Callable[..., Path]) -> None:
    kept = [row for row in study if row["system"] != "big" or row["item_id"] > "s5"]
    [one] = evaluate([read_ratings(save(kept))], ScoreSettings(resamples=50)).differences
    assert one.items == len({row["item_id"] for row in kept if row["system"] == "big"})
