"""The ordinal model: it finds what was simulated, and says how sure it is."""

import numpy as np
import pytest

from eval.xsts import ordinal
from eval.xsts.ordinal import fit_ordinal
from eval.xsts.ratings import RatingMatrix
from eval.xsts.simulation import SimulatedStudy, simulate_study
from nllb.errors import DataError


@pytest.fixture(scope="module")
def study() -> SimulatedStudy:
    return simulate_study(0, directions=8)


def fitted(study: SimulatedStudy):
    return fit_ordinal(study.populations, study.calibration, centre=study.centre)


def error(found: dict[str, float], truth: dict[str, float]) -> float:
    return float(np.sqrt(np.mean([(found[name] - truth[name]) ** 2 for name in truth])))


def test_scores_are_better_than_raw_and_linear_ones(study: SimulatedStudy) -> None:
    from eval.xsts.scores import mean_score

    raw = {name: mean_score(one.values) for name, one in study.populations.items()}
    anchors = np.hstack([one.values for one in study.calibration.values()])
    linear = {
        name: raw[name] - mean_score(anchors[3 * row : 3 * row + 3]) + study.centre
        for row, name in enumerate(raw)
    }
    found = {name: one.value for name, one in fitted(study).scores.items()}
    assert error(raw, study.truth) > 0.2
    assert error(found, study.truth) < error(raw, study.truth) / 2
    assert error(found, study.truth) < 1.1 * error(linear, study.truth)


def test_severity_and_spread_are_recovered() -> None:
    study = simulate_study(3, directions=4, items=400, calibration_items=500, rater_spread=0.4)
    # The same draws as in the simulation, in its order.
    random = np.random.default_rng(3)
    severity = random.normal(0, 0.6, (4, 1)) + random.normal(0, 0.5, (4, 3))
    spread = np.exp(random.normal(0, 0.4, (4, 3)))
    fit = fitted(study)
    names = sorted(fit.severity)
    for found, drawn in ((fit.severity, severity), (fit.spread, spread)):
        assert np.corrcoef([found[name] for name in names], drawn.ravel())[0, 1] > 0.95
    assert fit.severity_deviation == pytest.approx(float(severity.std()), rel=0.25)


@pytest.mark.slow
def test_intervals_cover_the_truth() -> None:
    """60 intervals here; `python -m tests.bench.xsts` counts enough to tell 93 from 97 %."""
    hits = []
    for seed in range(6):
        study = simulate_study(100 + seed, directions=10, items=100, calibration_items=50)
        for name, one in fitted(study).scores.items():
            assert one.low is not None and one.high is not None
            hits.append(one.low <= study.truth[name] <= one.high)
    assert 0.88 <= np.mean(hits) < 1


def test_intervals_shrink_with_items() -> None:
    def width(items: int) -> float:
        study = simulate_study(5, directions=4, items=items, calibration_items=200)
        return float(np.mean([one.high - one.low for one in fitted(study).scores.values()]))

    assert width(600) < 0.75 * width(150)


def test_missing_ratings_and_the_order_of_raters_do_not_matter(study: SimulatedStudy) -> None:
    turned = {
        name: RatingMatrix(raters=one.raters[::-1], items=one.items, values=one.values[::-1])
        for name, one in study.populations.items()
    }
    first = fitted(study)
    again = fit_ordinal(turned, study.calibration, centre=study.centre)
    for name in turned:
        assert again.scores[name].value == pytest.approx(first.scores[name].value, abs=1e-4)
    thinned = {}
    random = np.random.default_rng(1)
    for name, one in study.populations.items():
        values = one.values.copy()
        values[0, random.random(values.shape[1]) < 0.3] = np.nan
        thinned[name] = RatingMatrix(raters=one.raters, items=one.items, values=values)
    found = fit_ordinal(thinned, study.calibration, centre=study.centre)
    for name in thinned:
        assert found.scores[name].value == pytest.approx(first.scores[name].value, abs=0.15)


def test_one_category_never_used_does_not_break_it(study: SimulatedStudy) -> None:
    def without_ones(matrices):
        return {
            name: RatingMatrix(
                raters=one.raters, items=one.items, values=np.maximum(one.values, 2.0)
            )
            for name, one in matrices.items()
        }

    fit = fit_ordinal(without_ones(study.populations), without_ones(study.calibration), centre=3.2)
    assert all(2 < one.value < 5 for one in fit.scores.values())


def test_no_anchors_no_model(study: SimulatedStudy) -> None:
    with pytest.raises(DataError, match="needs ratings and calibration items"):
        fit_ordinal(study.populations, {}, centre=3.0)


def test_information_is_the_curvature_of_the_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newton steps and intervals rest on it: it is held against differences of the gradient."""
    study = simulate_study(0, directions=2, items=40, calibration_items=25)
    evaluate, seen = ordinal._evaluate, []

    def spy(blocks, layout, nodes, parameters, prior):
        found = evaluate(blocks, layout, nodes, parameters, prior)
        seen.append(found)
        if len(seen) == 3:
            for column in range(layout.size):
                above, below = parameters.copy(), parameters.copy()
                above[column] += 1e-4
                below[column] -= 1e-4
                values = [evaluate(blocks, layout, list(nodes), p, prior) for p in (above, below)]
                slope = (values[0][0] - values[1][0]) / 2e-4
                assert slope == pytest.approx(found[1][column], abs=1e-3)
                curvature = (values[1][1] - values[0][1]) / 2e-4
                np.testing.assert_allclose(curvature, found[2][column], atol=1e-3)
        return found

    monkeypatch.setattr(ordinal, "_evaluate", spy)
    fitted(study)
    assert len(seen) > 3
