"""Agreement coefficients against published and hand-made values."""

import numpy as np
import pytest

from eval.xsts.agreement import (
    krippendorff_alpha,
    pairwise_kappas,
    relative_severity,
    weighted_kappa,
)
from eval.xsts.ratings import ranks, spearman

N = np.nan
# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C: 4 observers, 12 units.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
)


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_published_example(level: str, alpha: float) -> None:
    assert krippendorff_alpha(PUBLISHED, level=level) == pytest.approx(alpha, abs=5e-4)  # type: ignore[arg-type]


def test_ends_of_alpha() -> None:
    assert krippendorff_alpha(np.array([[1, 2, 3, 4], [1, 2, 3, 4]], dtype=float)) == 1.0
    assert krippendorff_alpha(np.array([[1, 2, N], [N, N, 3]])) is None
    assert krippendorff_alpha(np.full((3, 5), 4.0)) is None
    random = np.random.default_rng(0).integers(1, 6, (3, 4000)).astype(float)
    assert abs(krippendorff_alpha(random) or 1) < 0.03


def test_weighted_kappa_against_its_definition() -> None:
    random = np.random.default_rng(1)
    left = random.integers(1, 6, 300).astype(float)
    right = np.clip(left + random.integers(-1, 2, 300), 1, 5)
    table = np.zeros((5, 5))
    for a, b in zip(left, right, strict=True):
        table[int(a) - 1, int(b) - 1] += 1 / 300
    weights = (np.arange(5)[:, None] - np.arange(5)) ** 2
    chance = np.outer(table.sum(axis=1), table.sum(axis=0))
    expected = 1 - (weights * table).sum() / (weights * chance).sum()
    assert weighted_kappa(left, right) == pytest.approx(expected)
    assert weighted_kappa(left, np.full(300, N)) is None
    assert weighted_kappa(np.full(5, 3.0), np.full(5, 3.0)) is None


def test_kappas_of_pairs_are_weighted_by_common_items() -> None:
    first = np.array([[1, 2, 3, 4], [1, 2, 3, 4]], dtype=float)
    second = np.array([[1.0, 5.0], [5.0, 1.0]])
    kappas = pairwise_kappas([(("a", "b"), first), (("a", "b"), second)])
    assert kappas == {("a", "b"): (pytest.approx((4 * 1 + 2 * -1) / 6), 6)}


def test_severity_compares_on_common_items_only() -> None:
    values = np.array([[1, 2, N], [2, 3, 5], [3, 4, N]])
    assert relative_severity(values).tolist() == [1.5, 0.0, -1.5]
    assert np.isnan(relative_severity(np.array([[1.0, 2.0]]))).all()


def test_ranks_and_spearman() -> None:
    assert ranks(np.array([10.0, 20.0, 20.0, 5.0])).tolist() == [2.0, 3.5, 3.5, 1.0]
    # By hand: d = 0, 1, 1, 0, so 1 - 6 * 2 / (4 * 15).
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2], [1, 2]) is None and spearman([1, 1, 1], [1, 2, 3]) is None
