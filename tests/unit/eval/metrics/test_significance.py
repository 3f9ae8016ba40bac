"""Resampling against plain loops, and its error rates on data whose truth is known."""

import numpy as np
import pytest

from eval.metrics.chrf import Chrf
from eval.metrics.significance import (
    benjamini_hochberg,
    bootstrap_p,
    bootstrap_weights,
    intervals,
    randomisation_p_values,
    replicates,
)

CHRF = Chrf()


def synthetic(rng, quality, sentences=200):
    """Integers of a made-up system: each n-gram matches with the given probability."""
    sizes = np.stack([rng.integers(30, 80, sentences) - n for n in range(8)], axis=1)
    match = rng.binomial(sizes, quality)
    return np.stack([sizes, sizes, match], axis=2).reshape(sentences, 24).astype(np.int32)


def test_replicates_are_the_scores_of_resampled_corpora():
    rng = np.random.default_rng(1)
    systems = np.stack([synthetic(rng, quality) for quality in (0.3, 0.6)])
    weights = bootstrap_weights(200, 50, 3)
    assert (weights.sum(axis=1) == 200).all()
    found = replicates(CHRF, systems, weights)
    for system in range(2):
        for draw in (0, 17, 49):
            drawn = np.repeat(systems[system], weights[draw].astype(int), axis=0)
            assert found[system, draw] == pytest.approx(
                float(CHRF.score(drawn.sum(axis=0))), abs=1e-9
            )


def test_more_systems_than_fit_one_product():
    rng = np.random.default_rng(2)
    systems = np.stack([synthetic(rng, 0.4, 40) for _ in range(70)])
    weights = bootstrap_weights(40, 20, 3)
    found = replicates(CHRF, systems, weights)
    assert found.shape == (70, 20)
    assert found[65] == pytest.approx(replicates(CHRF, systems[65:66], weights)[0])


def test_intervals_cover_the_truth():
    rng = np.random.default_rng(3)
    truth = float(CHRF.score(synthetic(rng, 0.45, 20_000).sum(axis=0)))
    systems = np.stack([synthetic(rng, 0.45) for _ in range(200)])
    ends = intervals(replicates(CHRF, systems, bootstrap_weights(200)))
    covered = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
    assert 0.90 <= covered <= 0.985


def test_tests_keep_their_level_and_find_real_differences():
    rng = np.random.default_rng(4)
    first = np.stack([synthetic(rng, 0.45) for _ in range(150)])
    same = np.stack([synthetic(rng, 0.45) for _ in range(150)])
    better = np.stack([synthetic(rng, 0.49) for _ in range(150)])
    weights = bootstrap_weights(200)
    base = replicates(CHRF, first, weights)
    for second, low, high in ((same, 0.0, 0.11), (better, 0.85, 1.0)):
        observed = CHRF.score(second.sum(axis=1)) - CHRF.score(first.sum(axis=1))
        differences = replicates(CHRF, second, weights) - base
        bootstrap = np.array(
            [bootstrap_p(d, float(o)) for d, o in zip(differences, observed, strict=True)]
        )
        shuffled = randomisation_p_values(CHRF, first, second)
        for p_values in (bootstrap, shuffled):
            assert low <= np.mean(p_values <= 0.05) <= high
        assert np.corrcoef(bootstrap, shuffled)[0, 1] > 0.9


def test_equal_systems_are_never_significant():
    rng = np.random.default_rng(5)
    system = synthetic(rng, 0.5)[None]
    assert randomisation_p_values(CHRF, system, system) == pytest.approx([1.0])
    assert bootstrap_p(np.zeros(1000), 0.0) == 1.0


def test_benjamini_hochberg_by_hand():
    p_values = np.array([0.01, 0.04, np.nan, 0.03, 0.005])
    expected = [0.02, 0.04, np.nan, 0.04, 0.02]
    assert benjamini_hochberg(p_values) == pytest.approx(expected, nan_ok=True)


def test_false_discoveries_stay_rare():
    rng = np.random.default_rng(6)
    rates = []
    for _ in range(200):
        p_values = np.concatenate([rng.uniform(size=900), rng.uniform(size=100) * 1e-4])
        found = benjamini_hochberg(p_values) <= 0.05
        rates.append(found[:900].sum() / max(found.sum(), 1))
    assert np.mean(rates) <= 0.055
