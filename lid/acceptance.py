"""The acceptance score: how likely the best label is right, given classifier and n-gram evidence.

The score is computed by a small logistic regression. It is fitted on text that the model was not
trained on: held-out corpora and out-of-set languages.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from nllb.errors import CheckpointError

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LENGTH_BOUNDS: Final = (8, 15, 25, 40, 80)
"""Bounds, in letters, of the length bins; each bin has its own score limit."""

MIN_WEIGHTED_LETTERS: Final = 2
"""A single letter of an alphabet says nothing about the language; a single ideograph may."""

# Models that were trained before word frequencies existed have a weight less.
_NUM_FEATURES: Final = (7, 8)
# A short word is accepted only if its label, or macro group, has this probability. Few languages
# share another script than Latin: there, it is the probability among the labels of the table.
_WORD_LETTERS: Final = 6
_MIN_WORD_SUPPORT: Final = 0.4
_LOGIT_RANGE: Final = (-3.0, 6.0)
_SURPRISE_RANGE: Final = (-8.0, 3.0)
_OUT_OF_SET_RANGE: Final = (1e-6, 1.0)
_NEWTON_STEPS: Final = 30
_RIDGE: Final = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Evidence for the best label of each text in a batch."""

    support: npt.NDArray[Any]
    """Probability of the macro group of the label."""
    is_latin: npt.NDArray[Any]
    """Whether the main script of the text is Latin."""
    out_of_set: npt.NDArray[Any]
    """Total probability of the out-of-set labels."""
    letters: npt.NDArray[Any]
    """Number of letters in the text."""
    weighted_letters: npt.NDArray[Any]
    """The same, where an ideograph or syllable counts as several letters."""
    known_ngrams: npt.NDArray[Any]
    """Number of n-grams of the text that are in the n-gram set of the label."""
    num_ngrams: npt.NDArray[Any]
    """Number of n-grams of the text; 0 if the model has no n-gram sets."""
    expected_share: npt.NDArray[Any]
    """Share of known n-grams that is expected in text of the label."""
    word_score: npt.NDArray[Any]
    """Mean score of the words of a short text in the label; see `WordFrequencies.score`. It is 0
    for longer texts."""

    def features(self) -> Values:
        """Return the inputs of the regression, one row per text."""
        support = _bounded(self.support.astype(np.float64), 1e-9, 1 - 1e-9)
        logit = _bounded(np.log(support / (1 - support)), *_LOGIT_RANGE)
        share = self.known_ngrams / np.maximum(self.num_ngrams, 1)
        has_ngrams = self.num_ngrams > 0
        spread = np.sqrt(self.expected_share * (1 - self.expected_share) + 0.01)
        surprise = _bounded(
            (share - self.expected_share) * np.sqrt(self.num_ngrams) / spread, *_SURPRISE_RANGE
        )
        loss = _bounded(share / np.maximum(self.expected_share, 0.01), 0, 1.2) - 1
        surprise, loss = surprise * has_ngrams, loss * has_ngrams
        features = np.empty((len(support), _NUM_FEATURES[-1]))
        features[:, 0] = logit
        features[:, 1] = np.log1p(self.letters)
        features[:, 2] = surprise
        features[:, 3] = loss
        features[:, 4] = np.minimum(surprise, 0) * logit
        features[:, 5] = np.log(_bounded(self.out_of_set.astype(np.float64), *_OUT_OF_SET_RANGE))
        features[:, 6] = 1
        features[:, 7] = self.word_score
        return features


def _bounded(values: Values, low: float, high: float) -> Values:
    """Return `np.clip(values, low, high)`, which is several times slower on a single value."""
    bounded: Values = np.minimum(np.maximum(values, low), high)
    return bounded


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptanceRegression:
    """A fitted logistic regression with a score limit per length bin."""

    weights: list[float] = field(default_factory=list)
    """Weights of `Evidence.features`; if empty, the acceptance score is the support."""
    limits: list[float] = field(default_factory=list)
    """Regression score per length bin (see `LENGTH_BOUNDS`) that maps to an acceptance of 0.5."""

    def __post_init__(self) -> None:
        sizes = (len(self.weights), len(self.limits))
        valid = [(0, 0), *((number, len(LENGTH_BOUNDS) + 1) for number in _NUM_FEATURES)]
        if sizes not in valid:
            raise CheckpointError(
                f"the acceptance regression of the model has {sizes[0]} weights and {sizes[1]} "
                f"limits; it must have {_NUM_FEATURES[-1]} weights and {len(LENGTH_BOUNDS) + 1} "
                "limits, or neither"
            )

    @classmethod
    def fit(
        cls,
        evidence: Evidence,
        right: Mask,
        in_set: Mask,
        *,
        target_recall: float,
        target_recall_short: float,
    ) -> Self:
        """Fit the weights, then the limits.

        Args:
            evidence: Evidence for in-set and out-of-set texts.
            right: Mask of the texts whose best label is in the macro group of the right one. The
                regression separates these from the out-of-set texts.
            in_set: Mask of the texts in languages of the table; the others are out-of-set.
            target_recall: Fraction of the right texts in each length bin whose score must be at
                least 0.5.
            target_recall_short: The same for the two shortest length bins.
        """
        features = evidence.features()
        chosen = right | ~in_set
        weight = (
            np.where(right, 1 / max(1, right.sum()), 1 / max(1, (~in_set).sum())) * len(in_set) / 2
        )
        weights = _regress(features[chosen], right[chosen], weight[chosen])
        scores = features @ weights
        bin_of_text = np.searchsorted(LENGTH_BOUNDS, evidence.letters, side="right")
        limits: list[float] = []
        for length in range(len(LENGTH_BOUNDS) + 1):
            recall = target_recall_short if length < 2 else target_recall
            of_length = scores[right & (bin_of_text == length)]
            if len(of_length) == 0:
                of_length = scores[right] if right.any() else scores
            limits.append(round(float(np.quantile(of_length, 1 - recall)), 6))
        return cls(weights=[round(float(value), 6) for value in weights], limits=limits)

    def score(self, evidence: Evidence) -> npt.NDArray[np.float32]:
        """Return the acceptance scores, in [0, 1]; 0 for single letters and doubtful words."""
        if not self.weights:
            score = evidence.support
        else:
            bin_of_text = np.searchsorted(LENGTH_BOUNDS, evidence.letters, side="right")
            scores = (
                evidence.features()[:, : len(self.weights)] @ np.array(self.weights)
                - np.array(self.limits)[bin_of_text]
            )
            score = 1 / (1 + np.exp(-_bounded(scores, -50, 50)))
        of_all = np.where(evidence.is_latin, 1, 1 - evidence.out_of_set)
        is_doubtful = evidence.support < _MIN_WORD_SUPPORT * of_all
        is_doubtful &= evidence.letters <= _WORD_LETTERS
        is_text = (evidence.weighted_letters >= MIN_WEIGHTED_LETTERS) & ~is_doubtful
        return np.where(is_text, score, 0).astype(np.float32)


def _regress(features: Values, is_right: Mask, weight: Values) -> Values:
    """Fit a logistic regression with an L2 penalty by Newton's method and return its weights."""
    scale = np.maximum(np.abs(features).max(axis=0), 1e-9)
    scaled = features / scale
    weights = np.zeros(features.shape[1])
    for _ in range(_NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-_bounded(scaled @ weights, -50, 50)))
        gradient = scaled.T @ (weight * (probability - is_right)) + _RIDGE * weights
        hessian = (scaled * (weight * probability * (1 - probability))[:, None]).T @ scaled
        weights -= np.linalg.solve(hessian + _RIDGE * np.eye(len(weights)), gradient)
    result: Values = weights / scale
    return result
