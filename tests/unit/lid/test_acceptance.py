import dataclasses

import numpy as np
import pytest

from lid.acceptance import AcceptanceRegression, Evidence

NUM = 400


def evidence(support: float, share: float, *, letters: int = 100, seed: int = 0) -> Evidence:
    """Return texts around one support and one share of known grams."""
    rng = np.random.default_rng(seed)
    ngrams = np.full(NUM, 60)
    return Evidence(
        support=np.clip(rng.normal(support, 0.05, NUM), 0.01, 0.999),
        out_of_set=np.full(NUM, 0.01),
        letters=np.full(NUM, letters),
        known_ngrams=np.clip(rng.normal(share * 60, 4, NUM), 0, 60),
        num_ngrams=ngrams,
        expected_share=np.full(NUM, 0.7),
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
    """Own text is sure and known, foreign text as sure but unknown; short texts are less so."""
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


def test_as_many_own_texts_are_kept_as_asked_for(fitted: AcceptanceRegression) -> None:
    for part in (evidence(0.9, 0.7, seed=1), evidence(0.7, 0.6, letters=30, seed=2)):
        assert np.mean(fitted.score(part) >= 0.5) == pytest.approx(0.95, abs=0.01)


def test_unknown_grams_give_foreign_text_away_at_the_same_support(
    fitted: AcceptanceRegression,
) -> None:
    for part in (evidence(0.9, 0.4, seed=5), evidence(0.7, 0.3, letters=30, seed=6)):
        assert np.mean(fitted.score(part) >= 0.5) < 0.1


def test_without_letters_nothing_is_certain(fitted: AcceptanceRegression) -> None:
    assert not fitted.score(evidence(0.9, 0.7, letters=0)).any()


def test_without_a_fit_the_support_is_the_certainty() -> None:
    part = evidence(0.6, 0.1)
    assert AcceptanceRegression().score(part) == pytest.approx(part.support)


def test_texts_of_which_no_grams_were_looked_up_have_finite_features() -> None:
    part = dataclasses.replace(
        evidence(0.9, 0.5), num_ngrams=np.zeros(NUM), expected_share=np.zeros(NUM)
    )
    features = part.features()
    assert np.isfinite(features).all() and not features[:, 2:5].any()
