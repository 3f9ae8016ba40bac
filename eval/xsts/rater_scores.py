"""Statistics of each rater, and the agreement of all."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from .agreement import (
    krippendorff_alpha,
    pairwise_kappas,
    relative_severity,
    self_agreement,
)
from .ratings import Floats, Grouped, Rating, RatingMatrix, rating_matrix, spearman
from .result import Agreement, RaterScore

Five = tuple[int, int, int, int, int]


def score_raters(
    groups: Grouped,
    ratings: Sequence[Rating],
    repeated: Sequence[tuple[Rating, Rating]],
    *,
    flagged: Mapping[str, set[str]],
) -> tuple[RaterScore, ...]:
    """Return all raters of translations, the most severe first.

    Args:
        groups: the ratings by direction.
        ratings: the same ratings, in any order.
        repeated: pairs of ratings of one item by one rater.
        flagged: codes of findings by rater.
    """
    rows_of: defaultdict[str, list[Rating]] = defaultdict(list)
    anchors_of: defaultdict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        (anchors_of if rating.set == "calibration" else rows_of)[rating.rater].append(rating)
    gaps: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    matrices = [rating_matrix(rows) for rows in groups.evaluated.values()]
    for matrix in matrices:
        rated = (~np.isnan(matrix.values)).sum(axis=1)
        for rater, gap, number in zip(
            matrix.raters, relative_severity(matrix.values), rated, strict=True
        ):
            if not np.isnan(gap):
                gaps[rater].append((float(gap), int(number)))
    kappas = pairwise_kappas((one.raters, one.values) for one in matrices)
    again = self_agreement(repeated)
    found = []
    for rater in sorted({*rows_of, *anchors_of}):
        rows = [row for row in rows_of[rater] if row.set == "eval"]
        anchors = anchors_of[rater]
        stepped = [(row.stratum, row.score) for row in anchors if row.stratum is not None]
        own = [value for pair, value in kappas.items() if rater in pair]
        equal, repeats = again.get(rater, (0, 0))
        found.append(
            RaterScore(
                rater=rater,
                ratings=len(rows_of[rater]) + len(anchors),
                directions=tuple(sorted({f"{row.source}-{row.target}" for row in rows})),
                mean=float(np.mean([row.score for row in rows])) if rows else float("nan"),
                severity=_weighted(gaps[rater]),
                calibration_mean=(
                    float(np.mean([row.score for row in anchors])) if anchors else None
                ),
                calibration_spearman=spearman([a for a, _ in stepped], [b for _, b in stepped]),
                weighted_kappa=_weighted(own),
                repeated=repeats,
                self_agreement=equal / repeats if repeats else None,
                distribution=distribution_of(rows),
                flags=tuple(sorted(flagged.get(rater, ()))),
            )
        )
    rated_only = [one for one in found if sum(one.distribution)]
    return tuple(sorted(rated_only, key=lambda one: -(one.severity or 0.0)))


def agreement_of(groups: Grouped) -> Agreement:
    """Return the agreement over all directions."""
    evaluated = [rating_matrix(rows) for rows in groups.evaluated.values()]
    anchors = [rating_matrix(rows) for rows in groups.calibration.values() if rows]
    kappas = pairwise_kappas((one.raters, one.values) for one in evaluated)
    return Agreement(
        alpha=krippendorff_alpha(_side_by_side(evaluated)),
        alpha_calibration=krippendorff_alpha(_side_by_side(anchors)),
        weighted_kappa=_weighted(list(kappas.values())),
        pairs=len(kappas),
    )


def distribution_of(rows: Sequence[Rating]) -> Five:
    """Return the numbers of ratings of 1, 2, 3, 4 and 5."""
    counts = Counter(row.score for row in rows)
    return (counts[1], counts[2], counts[3], counts[4], counts[5])


def _side_by_side(matrices: Sequence[RatingMatrix]) -> Floats:
    """Return all items as columns; rows are padded, because alpha ignores the rater."""
    height = max((len(one.values) for one in matrices), default=0)
    padded = [
        np.vstack([one.values, np.full((height - len(one.values), len(one.items)), np.nan)])
        for one in matrices
    ]
    return np.hstack(padded) if padded else np.empty((0, 0))


def _weighted(pairs: Sequence[tuple[float, int]]) -> float | None:
    weight = sum(number for _, number in pairs)
    return sum(value * number for value, number in pairs) / weight if weight else None
