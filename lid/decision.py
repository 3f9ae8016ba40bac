"""From label scores to answers: script gate, probabilities, second stage, `und`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lid.characters import scripts, writable_scripts
from lid.engine import NOISE_PREFIX, Engine
from lid.fasttext_model import Matrix
from lid.groups import group_of_language

# Up to so many letters, (1 - threshold) is multiplied by so much; chosen on held-out training text.
_LENGTHS: Final = np.array([8, 15, 40, 60])
_LENIENCY: Final = np.array([0.05, 0.5, 3.0, 2.0, 1.0], np.float32)
_TOO_LOW: Final = 0.35
_NEVER: Final = -1e9
_KANA_SHARE: Final = 0.1
_IDEOGRAPH_WEIGHT: Final = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Expert:
    """The second stage of one macro group."""

    engine: Engine
    """Model over the members only."""
    weight: float
    """Part of the second stage in the decision."""


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

    def certainty(self) -> Matrix:
        """Return what thresholds are compared with: the support, judged by the length of the text.

        A threshold is for a text of a sentence's length. Of a few words so much cannot be asked,
        while a single short word is believed only where nothing speaks against it.
        """
        place = np.searchsorted(_LENGTHS, self.letters, side="right")
        factor = np.where(
            self.support < _TOO_LOW, np.minimum(_LENIENCY[place], 1), _LENIENCY[place]
        )
        return np.where(self.letters > 0, 1 - (1 - self.support) / factor, 0)


class Decider:
    """Decides between the labels of one model."""

    def __init__(self, engine: Engine, experts: Mapping[str, Expert], codes: Sequence[str]) -> None:
        """Prepare the tables.

        Args:
            engine: scores texts; its foreign labels come last.
            experts: macro group -> second stage.
            codes: the engine's labels as the language table spells them.
        """
        self._engine = engine
        self.labels = tuple(code for code in codes if not code.startswith(NOISE_PREFIX))
        self._num_labels = len(self.labels)
        self._gate = _gates(codes)
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
        scores, letters = self._engine.score(texts)
        scores += self._gate[self._script(letters)]
        if allowed is not None:
            scores[:, : self._num_labels] += np.where(allowed, 0, _NEVER).astype(np.float32)
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        probabilities = scores[:, : self._num_labels]
        best = probabilities.argmax(axis=1)
        rows = np.arange(len(texts))
        support = probabilities[rows, best]
        group_of_row = self._group[best]
        for number, members in enumerate(self._group_members.values()):
            of_group = np.flatnonzero(group_of_row == number)
            if len(of_group):
                support[of_group] = probabilities[np.ix_(of_group, members)].sum(axis=1)
        for number, expert, members in self._experts:
            of_group = np.flatnonzero(group_of_row == number)
            if len(of_group):
                self._second_stage(texts, of_group, expert, members, probabilities)
                best[of_group] = probabilities[of_group].argmax(axis=1)
        return Decision(
            best=best, probabilities=probabilities, support=support, letters=letters.sum(axis=1)
        )

    def _second_stage(
        self,
        texts: Sequence[str],
        chosen: npt.NDArray[np.intp],
        expert: Expert,
        members: npt.NDArray[np.intp],
        probabilities: Matrix,
    ) -> None:
        """Share the members' probability out anew."""
        cells = np.ix_(chosen, members)
        before = probabilities[cells]
        scores, _ = expert.engine.score([texts[number] for number in chosen])
        scores -= scores.max(axis=1, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        mixed = expert.weight * scores + (1 - expert.weight) * np.log(before + 1e-9)
        mixed[before == 0] = _NEVER  # what the gate or the candidates excluded stays out
        mixed -= mixed.max(axis=1, keepdims=True)
        after = np.exp(mixed)
        probabilities[cells] = (
            after / after.sum(axis=1, keepdims=True) * before.sum(axis=1, keepdims=True)
        )

    def _script(self, letters: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
        """Return each text's row of the gate: its main script, or the last row for Japanese."""
        weighted = letters * self._weights
        main = weighted.argmax(axis=1)
        kana = weighted[:, self._kana].sum(axis=1)
        japanese = (kana > 0) & (kana >= _KANA_SHARE * weighted.sum(axis=1))
        return np.where(japanese, len(scripts()), main)


def _gates(codes: Sequence[str]) -> Matrix:
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
