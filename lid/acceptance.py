"""How sure an answer is: from what the classifier and the gram sets say to one number.

A small logistic regression. It is fitted on text that its model has never seen the like of: corpora
that were left out from training, and languages outside the table.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from nllb.errors import CheckpointError

Values = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]

LENGTH_BOUNDS: Final = (8, 15, 25, 40, 80)
"""Numbers of letters between which a text's length has its own limit."""

_NUM_FEATURES: Final = 7
_LOGIT_RANGE: Final = (-3.0, 6.0)
_SURPRISE_RANGE: Final = (-8.0, 3.0)
_OUT_OF_SET_RANGE: Final = (1e-6, 1.0)
_STEPS: Final = 30
_RIDGE: Final = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What is known about the best label of each text of a batch."""

    support: npt.NDArray[Any]
    """Probability of the label's macro group."""
    out_of_set: npt.NDArray[Any]
    """Probability of all foreign languages."""
    letters: npt.NDArray[Any]
    """Letters of the text."""
    known: npt.NDArray[Any]
    """Grams of the text that are frequent in the label."""
    grams: npt.NDArray[Any]
    """Grams of the text; 0 where none were looked up."""
    expected: npt.NDArray[Any]
    """Share of grams that is known in text of the label."""

    def features(self) -> Values:
        """Return the regression's inputs, one row per text, a constant last."""
        support = np.clip(self.support.astype(np.float64), 1e-9, 1 - 1e-9)
        logit = np.clip(np.log(support / (1 - support)), *_LOGIT_RANGE)
        share = self.known / np.maximum(self.grams, 1)
        asked = self.grams > 0
        spread = np.sqrt(self.expected * (1 - self.expected) + 0.01)
        surprise = np.where(
            asked,
            np.clip((share - self.expected) * np.sqrt(self.grams) / spread, *_SURPRISE_RANGE),
            0,
        )
        loss = np.where(asked, np.clip(share / np.maximum(self.expected, 0.01), 0, 1.2) - 1, 0)
        columns = (
            logit,
            np.log1p(self.letters),
            surprise,
            loss,
            np.minimum(surprise, 0) * logit,
            np.log(np.clip(self.out_of_set.astype(np.float64), *_OUT_OF_SET_RANGE)),
            np.ones(len(support)),
        )
        return np.stack(columns, axis=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptanceRegression:
    """A fitted regression."""

    weights: list[float] = field(default_factory=list)
    """Of `Evidence.features`; empty: the support itself is the certainty."""
    limits: list[float] = field(default_factory=list)
    """Length, by `LENGTHS` -> score that counts as a certainty of one half."""

    def __post_init__(self) -> None:
        sizes = (len(self.weights), len(self.limits))
        if sizes not in ((0, 0), (_NUM_FEATURES, len(LENGTH_BOUNDS) + 1)):
            raise CheckpointError(
                f"the acceptance of a model has {sizes[0]} weights and {sizes[1]} limits; it needs "
                f"{_NUM_FEATURES} and {len(LENGTH_BOUNDS) + 1}, or none"
            )

    @classmethod
    def fit(
        cls, evidence: Evidence, right: Truths, own: Truths, *, kept: float, kept_short: float
    ) -> Self:
        """Fit the weights, then the limits.

        Args:
            evidence: of text of the table's languages and of foreign ones.
            right: texts whose best label is right or a sibling of the right one; their certainty is
                to be high, that of foreign texts low.
            own: texts of the table's languages, right or not; the others are foreign.
            kept: part of the right texts of a length that gets a certainty above one half.
            kept_short: the same for the texts of the two shortest lengths.
        """
        features = evidence.features()
        chosen = right | ~own
        weight = np.where(right, 1 / max(1, right.sum()), 1 / max(1, (~own).sum())) * len(own) / 2
        weights = _regress(features[chosen], right[chosen], weight[chosen])
        scores = features @ weights
        place = np.searchsorted(LENGTH_BOUNDS, evidence.letters, side="right")
        limits: list[float] = []
        for length in range(len(LENGTH_BOUNDS) + 1):
            part = kept_short if length < 2 else kept
            of_length = scores[right & (place == length)]
            if len(of_length) == 0:
                of_length = scores[right] if right.any() else scores
            limits.append(round(float(np.quantile(of_length, 1 - part)), 6))
        return cls(weights=[round(float(value), 6) for value in weights], limits=limits)

    def score(self, evidence: Evidence) -> npt.NDArray[np.float32]:
        """Return what thresholds are compared with, in [0, 1]; 0 for texts without letters."""
        if not self.weights:
            certain = evidence.support
        else:
            place = np.searchsorted(LENGTH_BOUNDS, evidence.letters, side="right")
            scores = evidence.features() @ np.array(self.weights) - np.array(self.limits)[place]
            certain = 1 / (1 + np.exp(-np.clip(scores, -50, 50)))
        return np.where(evidence.letters > 0, certain, 0).astype(np.float32)


def _regress(features: Values, truth: Truths, weight: Values) -> Values:
    """Return the weights of a ridge logistic regression, by Newton's method."""
    scale = np.maximum(np.abs(features).max(axis=0), 1e-9)
    scaled = features / scale
    weights = np.zeros(features.shape[1])
    for _ in range(_STEPS):
        rng = 1 / (1 + np.exp(-np.clip(scaled @ weights, -50, 50)))
        slope = scaled.T @ (weight * (rng - truth)) + _RIDGE * weights
        curve = (scaled * (weight * rng * (1 - rng))[:, None]).T @ scaled
        weights -= np.linalg.solve(curve + _RIDGE * np.eye(len(weights)), slope)
    result: Values = weights / scale
    return result
