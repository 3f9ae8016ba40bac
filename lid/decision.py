"""Turn label scores into decisions.

The steps are the script mask, the softmax, reranking by known n-grams, the group classifiers and
the acceptance score that decides between the best label and `und`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from nllb.languages import languages

from .acceptance import AcceptanceRegression, Evidence
from .characters import scripts, writable_scripts
from .engine import OUT_OF_SET_PREFIX, Engine
from .fasttext_model import Matrix
from .groups import group_of_language
from .ngrams import NgramSets
from .word_frequencies import WordFrequencies

_EXCLUDED: Final = -1e9
_NO_GROUP: Final = -1
_MIN_KANA_FRACTION: Final = 0.1
_IDEOGRAPH_WEIGHT: Final = 3.0
# The share of known n-grams is added to the log-probability with the weight
# min(_MAX_NGRAM_WEIGHT, _NGRAM_WEIGHT_LETTERS / letters). Both were tuned on held-out corpora.
_NGRAM_WEIGHT_LETTERS: Final = 400.0
_MAX_NGRAM_WEIGHT: Final = 25.0
_MAX_CANDIDATES: Final = 10
# The classifier is overconfident on short texts: its scores are multiplied by letters /
# _CONFIDENT_LETTERS, but by at least _MIN_CONFIDENCE and at most 1.
_CONFIDENT_LETTERS: Final = 40.0
_MIN_CONFIDENCE: Final = 0.2
# The frequencies of the words of a text of at most _MAX_WORDS words are added to the
# log-probability with the weight min(1, _WORD_WEIGHT / words). In a text of a few letters a
# language with many resources is likelier: _PRIOR / letters * _PRIOR_LETTERS, at most _PRIOR.
_MAX_WORDS: Final = 8
_MAX_WORD_LETTERS: Final = 60
_WORD_WEIGHT: Final = 4.0
_PRIOR: Final = 1.0
_PRIOR_LETTERS: Final = 8.0
_MIN_BONUS: Final = -30.0
_MANY_RESOURCES: Final = "high"


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupClassifier:
    """The second-stage classifier of one macro group."""

    engine: Engine
    """Model whose labels are members of the group."""
    weight: float
    """Weight of this classifier in the decision, in [0, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptanceModel:
    """N-gram sets and the acceptance regression that was fitted with them.

    They improve the decision on short texts and reject text in out-of-set languages.
    """

    ngrams: NgramSets
    """The most frequent n-grams of each label."""
    expected_shares: Mapping[str, float]
    """Label -> share of the n-grams of its own text that is in its n-gram set."""
    regression: AcceptanceRegression
    """Computes the acceptance score."""
    words: WordFrequencies | None = None
    """Frequencies of the words of each label, which improve the decision on short texts."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decision:
    """The decisions about a batch of texts."""

    best: npt.NDArray[np.intp]
    """Index of the best label of each text; out-of-set labels are excluded."""
    probabilities: Matrix
    """Probability of each label (text x label); the remainder is the out-of-set probability."""
    support: Matrix
    """Probability of the macro group of the best label."""
    letters: npt.NDArray[np.int64]
    """Number of letters of each text."""
    acceptance_score: Matrix
    """Acceptance score of the best label, in [0, 1]; it is compared with the label's threshold."""


class Decider:
    """Chooses between the labels of one model."""

    def __init__(
        self,
        engine: Engine,
        group_classifiers: Mapping[str, GroupClassifier],
        codes: Sequence[str],
        acceptance_model: AcceptanceModel | None = None,
    ) -> None:
        """Create a decider.

        Args:
            engine: Computes label scores; its out-of-set labels come last.
            group_classifiers: Macro group -> its classifier.
            codes: The labels of the engine, mapped to codes of the language table.
            acceptance_model: N-gram sets and acceptance regression, or None if the model has none.
        """
        self._engine = engine
        self.labels = tuple(code for code in codes if not code.startswith(OUT_OF_SET_PREFIX))
        self._num_labels = len(self.labels)
        self._acceptance_model = acceptance_model
        if acceptance_model is not None:
            self._ngram_index = np.array(
                [acceptance_model.ngrams.index.get(label, -1) for label in self.labels]
            )
            self._expected_shares = np.array(
                [acceptance_model.expected_shares.get(label, 0.5) for label in self.labels]
            )
        self._words = None if acceptance_model is None else acceptance_model.words
        if self._words is not None:
            self._word_index = np.array([self._words.index.get(label, -1) for label in self.labels])
            levels = {language.code: language.level for language in languages()}
            self._has_resources = np.array(
                [levels.get(label) == _MANY_RESOURCES for label in self.labels], np.float32
            )
        self._script_mask = _script_masks(codes)
        self._weights = np.array(
            [
                _IDEOGRAPH_WEIGHT if s in ("Hani", "Hira", "Kana", "Hang") else 1.0
                for s in scripts()
            ],
            np.float32,
        )
        self._latin = scripts().index("Latn")
        self._kana = [scripts().index("Hira"), scripts().index("Kana")]
        index = {label: number for number, label in enumerate(self.labels)}
        groups = [group_of_language().get(label, label) for label in self.labels]
        names = sorted({name for name in groups if groups.count(name) > 1})
        self._group_members = [
            np.array([number for number, group in enumerate(groups) if group == name])
            for name in names
        ]
        self._group = np.array(
            [names.index(name) if name in names else _NO_GROUP for name in groups]
        )
        self._group_classifiers = {
            names.index(name): (
                classifier,
                np.array([index[label] for label in classifier.engine.labels]),
            )
            for name, classifier in group_classifiers.items()
            if name in names and set(classifier.engine.labels) <= set(index)
        }

    def decide(
        self, texts: Sequence[str], allowed: npt.NDArray[np.bool_] | None = None
    ) -> Decision:
        """Return the decisions about a batch of texts.

        Args:
            texts: The texts.
            allowed: Mask of the labels that may be chosen; None allows all.
        """
        evidence, probabilities, best = self.evidence_for(texts, allowed)
        acceptance = (
            AcceptanceRegression()
            if self._acceptance_model is None
            else self._acceptance_model.regression
        )
        return Decision(
            best=best,
            probabilities=probabilities,
            support=evidence.support,
            letters=evidence.letters,
            acceptance_score=acceptance.score(evidence),
        )

    def evidence_for(
        self, texts: Sequence[str], allowed: npt.NDArray[np.bool_] | None = None
    ) -> tuple[Evidence, Matrix, npt.NDArray[np.intp]]:
        """Return the evidence for the best labels, all probabilities and the best labels."""
        scores, letters = self._engine.score(texts)
        main_script = self._main_script_row(letters)
        self._exclude(scores, main_script, allowed)
        num_letters = letters.sum(axis=1)
        scores -= scores.max(axis=1, keepdims=True)
        if self._words is not None:
            confidence = np.clip(num_letters / _CONFIDENT_LETTERS, _MIN_CONFIDENCE, 1)
            scores *= confidence[:, None].astype(np.float32)
        np.exp(scores, out=scores)
        scores /= _row_sums(scores)
        probabilities = scores[:, : self._num_labels]
        known, num_ngrams = self._rerank_by_ngrams(texts, probabilities, num_letters)
        before = probabilities.argmax(axis=1)
        word_scores = self._rerank_by_words(texts, probabilities, num_letters)
        best = probabilities.argmax(axis=1)
        changed = np.flatnonzero(best != before)
        if self._acceptance_model is not None and len(changed):
            counts, _ = self._acceptance_model.ngrams.count(
                [texts[row] for row in changed.tolist()], self._ngram_index[best[changed]][:, None]
            )
            known[changed] = counts[:, 0]
        expected = (
            np.zeros(len(texts)) if self._acceptance_model is None else self._expected_shares[best]
        )
        support = self._decide_in_groups(texts, probabilities, best)
        evidence = Evidence(
            support=support,
            weighted_letters=letters @ self._weights,
            is_latin=main_script == self._latin,
            out_of_set=1 - probabilities.sum(axis=1),
            letters=num_letters,
            known_ngrams=known,
            num_ngrams=num_ngrams,
            expected_share=expected,
            word_score=word_scores,
        )
        return evidence, probabilities, best

    def _decide_in_groups(
        self, texts: Sequence[str], probabilities: Matrix, best: npt.NDArray[np.intp]
    ) -> Matrix:
        """Apply the group classifiers to the probabilities and the best labels, in place.

        Returns:
            The probability of the macro group of each best label.
        """
        support: Matrix = probabilities[np.arange(len(texts)), best]
        group_of_row = self._group[best]
        for number in sorted(set(group_of_row.tolist()) - {_NO_GROUP}):
            rows = np.flatnonzero(group_of_row == number)
            members = self._group_members[number]
            support[rows] = _row_sums(probabilities[np.ix_(rows, members)])[:, 0]
            if number in self._group_classifiers:
                classifier, classified = self._group_classifiers[number]
                self._apply_group_classifier(texts, rows, classifier, classified, probabilities)
                best[rows] = probabilities[rows].argmax(axis=1)
        return support

    def _exclude(
        self,
        scores: Matrix,
        main_script: npt.NDArray[np.intp],
        allowed: npt.NDArray[np.bool_] | None,
    ) -> None:
        """Exclude the labels in other scripts and those that are not allowed, in place.

        The allowed labels are a closed set: the out-of-set labels are excluded, too, and the script
        mask applies only if it leaves a label.
        """
        mask = self._script_mask[main_script]
        if allowed is not None:
            closed = np.zeros(scores.shape[1], bool)
            closed[: self._num_labels] = allowed
            mask[(mask[:, closed] != 0).all(axis=1)] = 0
            mask[:, ~closed] = _EXCLUDED
        scores += mask

    def _rerank_by_ngrams(
        self, texts: Sequence[str], probabilities: Matrix, letters: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Reweight label probabilities in place by the share of known n-grams.

        If no other label can win, only the n-grams of the best label are looked up.

        Returns:
            Per text, the number of its n-grams that the best label knows, and of all its n-grams.
        """
        if self._acceptance_model is None:
            return np.zeros(len(texts), np.int32), np.zeros(len(texts), np.int32)
        rows = np.arange(len(texts))
        weight = np.minimum(_MAX_NGRAM_WEIGHT, _NGRAM_WEIGHT_LETTERS / np.maximum(letters, 1))
        best = probabilities.argmax(axis=1)
        min_probability = probabilities[rows, best] * np.exp(-weight)
        contested = np.flatnonzero((probabilities >= min_probability[:, None]).sum(axis=1) > 1)
        known, num_ngrams = self._acceptance_model.ngrams.count(
            texts, self._ngram_index[best][:, None]
        )
        known = known[:, 0]
        if len(contested):
            contested_probabilities = probabilities[contested]
            num = min(_MAX_CANDIDATES, self._num_labels)
            candidates = np.argpartition(-contested_probabilities, num - 1, axis=1)[:, :num]
            before = np.take_along_axis(contested_probabilities, candidates, axis=1)
            possible = before >= min_probability[contested][:, None]
            indices = np.where(possible, self._ngram_index[candidates], -1)
            counts, _ = self._acceptance_model.ngrams.count(
                [texts[row] for row in contested.tolist()], indices
            )
            share = counts / np.maximum(num_ngrams[contested], 1)[:, None]
            after = before * np.exp(weight[contested][:, None] * share)
            after *= _row_sums(before) / np.maximum(_row_sums(after), 1e-30)
            probabilities[contested[:, None], candidates] = after
            known[contested] = counts[np.arange(len(contested)), after.argmax(axis=1)]
        return known, num_ngrams

    def _rerank_by_words(
        self, texts: Sequence[str], probabilities: Matrix, letters: npt.NDArray[np.int64]
    ) -> Matrix:
        """Reweight label probabilities of short texts in place by the frequencies of their words.

        Returns:
            The mean score of the words in the best label, shape (texts,).
        """
        means = np.zeros(len(texts), np.float32)
        if self._words is None:
            return means
        short = np.flatnonzero((letters > 0) & (letters <= _MAX_WORD_LETTERS))
        if not len(short):
            return means
        by_word_label, num_words = self._words.score([texts[row] for row in short.tolist()])
        few = (num_words > 0) & (num_words <= _MAX_WORDS)
        short, by_word_label, num_words = short[few], by_word_label[few], num_words[few]
        if not len(short):
            return means
        scores = np.where(self._word_index >= 0, by_word_label[:, self._word_index], 0)
        weight = np.minimum(1, _WORD_WEIGHT / num_words)
        prior = _PRIOR * np.minimum(1, _PRIOR_LETTERS / letters[short])
        before = probabilities[short]
        bonus = weight[:, None] * scores + prior[:, None] * self._has_resources
        bonus = np.maximum(bonus - bonus.max(axis=1, keepdims=True), _MIN_BONUS)
        after = before * np.exp(bonus.astype(np.float32))
        after *= _row_sums(before) / np.maximum(_row_sums(after), 1e-30)
        probabilities[short] = after
        means[short] = scores[np.arange(len(short)), after.argmax(axis=1)] / num_words
        return means

    def _apply_group_classifier(
        self,
        texts: Sequence[str],
        chosen: npt.NDArray[np.intp],
        classifier: GroupClassifier,
        members: npt.NDArray[np.intp],
        probabilities: Matrix,
    ) -> None:
        """Redistribute the probability of a group among its members, in place."""
        cells = np.ix_(chosen, members)
        before = probabilities[cells]
        scores, _ = classifier.engine.score([texts[number] for number in chosen])
        scores -= scores.max(axis=1, keepdims=True)
        scores -= np.log(_row_sums(np.exp(scores)))
        mixed = classifier.weight * scores + (1 - classifier.weight) * np.log(before + 1e-9)
        mixed[before == 0] = _EXCLUDED  # a label excluded by script or candidates stays excluded
        mixed -= mixed.max(axis=1, keepdims=True)
        after = np.exp(mixed)
        probabilities[cells] = after / _row_sums(after) * _row_sums(before)

    def _main_script_row(self, letters: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
        """Return each text's row of the script mask: its main script, or the last for Japanese."""
        weighted = letters * self._weights
        main = weighted.argmax(axis=1)
        kana = weighted[:, self._kana].sum(axis=1)
        japanese = (kana > 0) & (kana >= _MIN_KANA_FRACTION * weighted.sum(axis=1))
        return np.where(japanese, len(scripts()), main)


def _row_sums(values: Matrix) -> Matrix:
    """Return the sum of each row, shape (rows, 1), independent of the batch size to the last bit.

    NumPy adds the elements of a row in a different order if rows are not contiguous in memory, and
    the memory layout that fancy indexing produces depends on the shape of the batch.
    """
    sums: Matrix = np.ascontiguousarray(values).sum(axis=1, keepdims=True)
    return sums


def _script_masks(codes: Sequence[str]) -> Matrix:
    """Return the score offset per main script and label: 0, or a large negative number."""
    gates = np.zeros((len(scripts()) + 1, len(codes)), np.float32)
    kana = {scripts().index("Hira"), scripts().index("Kana")}
    for column, code in enumerate(codes):
        if code.startswith(OUT_OF_SET_PREFIX) or len(code) != 8 or code[3] != "_":
            continue
        own = set(writable_scripts(code[4:]))
        if own:
            gates[:-1, column] = [0 if row in own else _EXCLUDED for row in range(len(scripts()))]
            gates[-1, column] = 0 if own & kana else _EXCLUDED
    return gates
