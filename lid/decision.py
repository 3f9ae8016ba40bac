"""From label scores to answers: script gate, probabilities, second stage, `und`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lid.acceptance import AcceptanceRegression, Evidence
from lid.characters import scripts, writable_scripts
from lid.engine import NOISE_PREFIX, Engine
from lid.fasttext_model import Matrix
from lid.groups import group_of_language
from lid.ngrams import NgramSets

_NEVER: Final = -1e9
_KANA_SHARE: Final = 0.1
_IDEOGRAPH_WEIGHT: Final = 3.0
# Weight of the share of known grams beside the logarithm of the probability: this over the number
# of letters, at most so much. Chosen on corpora that were left out from training.
_NGRAM_WEIGHT_LETTERS: Final = 400.0
_MAX_NGRAM_WEIGHT: Final = 25.0
_CANDIDATES: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupClassifier:
    """The second stage of one macro group."""

    engine: Engine
    """Model over the members only."""
    weight: float
    """Part of the second stage in the decision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptanceModel:
    """What makes a decider surer of short texts, and unsure of foreign ones."""

    grams: NgramSets
    """Frequent grams by label."""
    expected: Mapping[str, float]
    """Label -> share of grams that is known in its own text."""
    acceptance: AcceptanceRegression
    """From support and known grams to a certainty."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decision:
    """What was decided about a batch."""

    best: npt.NDArray[np.intp]
    """Index of each text's best label of the table."""
    probabilities: Matrix
    """Probability of every label of the table per text; what is missing to 1 is foreign."""
    support: Matrix
    """Probability of the best label's macro group."""
    letters: npt.NDArray[np.int64]
    """Number of letters of each text."""
    acceptance_score: Matrix
    """What thresholds are compared with."""


class Decider:
    """Decides between the labels of one model."""

    def __init__(
        self,
        engine: Engine,
        experts: Mapping[str, GroupClassifier],
        codes: Sequence[str],
        judge: AcceptanceModel | None = None,
    ) -> None:
        """Prepare the tables.

        Args:
            engine: scores texts; its foreign labels come last.
            experts: macro group -> second stage.
            codes: the engine's labels as the language table spells them.
            judge: gram sets and what was fitted with them; None for models without.
        """
        self._engine = engine
        self.labels = tuple(code for code in codes if not code.startswith(NOISE_PREFIX))
        self._num_labels = len(self.labels)
        self._judge = judge
        if judge is not None:
            self._ngram_index = np.array(
                [judge.grams.index.get(label, -1) for label in self.labels]
            )
            self._expected = np.array([judge.expected.get(label, 0.5) for label in self.labels])
        self._script_mask = _script_masks(codes)
        self._weights = np.array(
            [
                _IDEOGRAPH_WEIGHT if s in ("Hani", "Hira", "Kana", "Hang") else 1.0
                for s in scripts()
            ],
            np.float32,
        )
        self._kana = [scripts().index("Hira"), scripts().index("Kana")]
        index = {label: number for number, label in enumerate(self.labels)}
        groups = [group_of_language().get(label, label) for label in self.labels]
        self._group_members = {
            name: np.array([number for number, group in enumerate(groups) if group == name])
            for name in sorted({name for name in groups if groups.count(name) > 1})
        }
        names = list(self._group_members)
        self._group = np.array([names.index(name) if name in names else -1 for name in groups])
        self._experts = [
            (
                names.index(name),
                expert,
                np.array([index[label] for label in expert.engine.labels]),
            )
            for name, expert in experts.items()
            if name in names and set(expert.engine.labels) <= set(index)
        ]

    def decide(
        self, texts: Sequence[str], allowed: npt.NDArray[np.bool_] | None = None
    ) -> Decision:
        """Decide about a batch.

        Args:
            texts: any texts.
            allowed: one truth value per label of the table; None allows all.
        """
        evidence, probabilities, best = self.evidence_for(texts, allowed)
        acceptance = AcceptanceRegression() if self._judge is None else self._judge.acceptance
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
        """Return the evidence for each text's best label, all probabilities, the best labels."""
        scores, letters = self._engine.score(texts)
        scores += self._script_mask[self._main_script_row(letters)]
        if allowed is not None:
            scores[:, : self._num_labels] += np.where(allowed, 0, _NEVER).astype(np.float32)
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= _row_sums(scores)
        probabilities = scores[:, : self._num_labels]
        num_letters = letters.sum(axis=1)
        known, grams = self._rerank_by_ngrams(texts, probabilities, num_letters)
        best = probabilities.argmax(axis=1)
        expected = np.zeros(len(texts)) if self._judge is None else self._expected[best]
        rows = np.arange(len(texts))
        support = probabilities[rows, best]
        group_of_row = self._group[best]
        for number, members in enumerate(self._group_members.values()):
            of_group = np.flatnonzero(group_of_row == number)
            if len(of_group):
                support[of_group] = _row_sums(probabilities[np.ix_(of_group, members)])[:, 0]
        for number, expert, members in self._experts:
            of_group = np.flatnonzero(group_of_row == number)
            if len(of_group):
                self._second_stage(texts, of_group, expert, members, probabilities)
                best[of_group] = probabilities[of_group].argmax(axis=1)
        evidence = Evidence(
            support=support,
            out_of_set=1 - probabilities.sum(axis=1),
            letters=num_letters,
            known=known,
            grams=grams,
            expected=expected,
        )
        return evidence, probabilities, best

    def _rerank_by_ngrams(
        self, texts: Sequence[str], probabilities: Matrix, letters: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Share the probability out anew by known grams; return those of the best, and all grams.

        Where no other label could win, only the best one's grams are looked up.
        """
        if self._judge is None:
            return np.zeros(len(texts), np.int32), np.zeros(len(texts), np.int32)
        rows = np.arange(len(texts))
        weight = np.minimum(_MAX_NGRAM_WEIGHT, _NGRAM_WEIGHT_LETTERS / np.maximum(letters, 1))
        best = probabilities.argmax(axis=1)
        least = probabilities[rows, best] * np.exp(-weight)
        contested = np.flatnonzero((probabilities >= least[:, None]).sum(axis=1) > 1)
        known, grams = self._judge.grams.count(texts, self._ngram_index[best][:, None])
        known = known[:, 0]
        if len(contested):
            those = probabilities[contested]
            num = min(_CANDIDATES, self._num_labels)
            candidates = np.argpartition(-those, num - 1, axis=1)[:, :num]
            before = np.take_along_axis(those, candidates, axis=1)
            possible = before >= least[contested][:, None]
            places = np.where(possible, self._ngram_index[candidates], -1)
            counts, _ = self._judge.grams.count([texts[row] for row in contested.tolist()], places)
            share = counts / np.maximum(grams[contested], 1)[:, None]
            after = before * np.exp(weight[contested][:, None] * share)
            after *= _row_sums(before) / np.maximum(_row_sums(after), 1e-30)
            probabilities[contested[:, None], candidates] = after
            known[contested] = counts[np.arange(len(contested)), after.argmax(axis=1)]
        return known, grams

    def _second_stage(
        self,
        texts: Sequence[str],
        chosen: npt.NDArray[np.intp],
        expert: GroupClassifier,
        members: npt.NDArray[np.intp],
        probabilities: Matrix,
    ) -> None:
        """Share the members' probability out anew."""
        cells = np.ix_(chosen, members)
        before = probabilities[cells]
        scores, _ = expert.engine.score([texts[number] for number in chosen])
        scores -= scores.max(axis=1, keepdims=True)
        scores -= np.log(_row_sums(np.exp(scores)))
        mixed = expert.weight * scores + (1 - expert.weight) * np.log(before + 1e-9)
        mixed[before == 0] = _NEVER  # what the gate or the candidates excluded stays out
        mixed -= mixed.max(axis=1, keepdims=True)
        after = np.exp(mixed)
        probabilities[cells] = after / _row_sums(after) * _row_sums(before)

    def _main_script_row(self, letters: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
        """Return each text's row of the gate: its main script, or the last row for Japanese."""
        weighted = letters * self._weights
        main = weighted.argmax(axis=1)
        kana = weighted[:, self._kana].sum(axis=1)
        japanese = (kana > 0) & (kana >= _KANA_SHARE * weighted.sum(axis=1))
        return np.where(japanese, len(scripts()), main)


def _row_sums(values: Matrix) -> Matrix:
    """Return the sum of each row, shape (rows, 1), to the same bit in a batch of any size.

    NumPy adds the elements of a row in another order if the rows are not contiguous in memory,
    which fancy indexing decides by the shape of the batch.
    """
    sums: Matrix = np.ascontiguousarray(values).sum(axis=1, keepdims=True)
    return sums


def _script_masks(codes: Sequence[str]) -> Matrix:
    """Return per main script what is added to each label's score: 0, or so little that it loses."""
    gates = np.zeros((len(scripts()) + 1, len(codes)), np.float32)
    kana = {scripts().index("Hira"), scripts().index("Kana")}
    for column, code in enumerate(codes):
        if code.startswith(NOISE_PREFIX) or len(code) != 8 or code[3] != "_":
            continue
        own = set(writable_scripts(code[4:]))
        if own:
            gates[:-1, column] = [0 if row in own else _NEVER for row in range(len(scripts()))]
            gates[-1, column] = 0 if own & kana else _NEVER
    return gates
