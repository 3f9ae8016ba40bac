import dataclasses

import numpy as np
import pytest

from lid.acceptance import AcceptanceRegression, Evidence

NUM = 400


def evidence(support: float, share: float, *, letters: int = 100, seed: int = 0) -> Evidence:
    """Return evidence with a given mean support and mean share of known n-grams."""
    rng = np.random.default_rng(seed)
    ngrams = np.full(NUM, 60)
    return Evidence(
        support=np.clip(rng.normal(support, 0.05, NUM), 0.01, 0.999),
        out_of_set=np.full(NUM, 0.01),
        letters=np.full(NUM, letters),
        weighted_letters=np.full(NUM, letters),
        known_ngrams=np.clip(rng.normal(share * 60, 4, NUM), 0, 60),
        num_ngrams=ngrams,
        expected_share=np.full(NUM, 0.7),
        word_score=np.zeros(NUM),
        is_latin=np.ones(NUM, bool),
    )


def together(*parts: Evidence) -> Evidence:
    return Evidence(
        **{
            item.name: np.concatenate([getattr(part, item.name) for part in parts])
            for item in dataclasses.fields(Evidence)
        }
    )


@pytest.fixture(scope="module")
def fitted() -> AcceptanceRegression:
    """Fit on in-set and out-of-set texts that only differ in their known n-grams."""
    parts = [
        evidence(0.9, 0.7, seed=1),
        evidence(0.7, 0.6, letters=30, seed=2),
        evidence(0.9, 0.4, seed=3),
        evidence(0.7, 0.3, letters=30, seed=4),
    ]
    own = np.repeat([True, True, False, False], NUM)
    return AcceptanceRegression.fit(
        together(*parts), own, own, target_recall=0.95, target_recall_short=0.5
    )


def test_target_recall_is_reached(fitted: AcceptanceRegression) -> None:
    for part in (evidence(0.9, 0.7, seed=1), evidence(0.7, 0.6, letters=30, seed=2)):
        assert np.mean(fitted.score(part) >= 0.5) == pytest.approx(0.95, abs=0.01)


def test_out_of_set_text_with_the_same_support_is_rejected(
    fitted: AcceptanceRegression,
) -> None:
    for part in (evidence(0.9, 0.4, seed=5), evidence(0.7, 0.3, letters=30, seed=6)):
        assert np.mean(fitted.score(part) >= 0.5) < 0.1


def test_text_without_letters_has_a_score_of_zero(fitted: AcceptanceRegression) -> None:
    assert not fitted.score(evidence(0.9, 0.7, letters=0)).any()


def test_score_without_a_fit_is_the_support() -> None:
    part = evidence(0.6, 0.1)
    assert AcceptanceRegression().score(part) == pytest.approx(part.support)


def test_features_without_ngrams_are_finite() -> None:
    part = dataclasses.replace(
        evidence(0.9, 0.5), num_ngrams=np.zeros(NUM), expected_share=np.zeros(NUM)
    )
    features = part.features()
    assert np.isfinite(features).all() and not features[:, 2:5].any()


def test_single_letters_and_doubtful_words_are_not_accepted(fitted: AcceptanceRegression) -> None:
    assert not fitted.score(evidence(0.9, 0.7, letters=1)).any()
    assert fitted.score(evidence(0.9, 0.7, letters=5)).mean() > 0
    assert not fitted.score(evidence(0.2, 0.7, letters=5)).any()
