"""The language detector that everything else calls."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from lid.acceptance import AcceptanceRegression
from lid.decision import AcceptanceModel, Decider, Decision, GroupClassifier
from lid.engine import NOISE_PREFIX, open_engine
from lid.groups import group_of_language, macro_groups
from lid.labels import map_labels
from lid.ngrams import NgramSets
from lid.train.identifier_card import CARD_NAME, ModelCard, read_card
from nllb.errors import CheckpointError, LanguageError, did_you_mean
from nllb.io.paths import path_inside
from nllb.languages import parse_language
from nllb.languages.detection import UNDETERMINED, Detection

DEFAULT_MODEL_DIR: Final = Path(__file__).parent / "_models" / "default"
MODEL_NAME: Final = "model.ftz"
GROUP_CLASSIFIERS_NAME: Final = "experts"
NGRAMS_NAME: Final = "grams.bin"
BATCH: Final = 512

_EMPTY: Final = Detection(language=UNDETERMINED, probability=0.0)


class Detector:
    """Identifies the language of texts, or answers `und`.

    Attributes:
        card: what the model was trained on, its licence and its thresholds.
        labels: the labels that it can answer with, besides `und`.
        unknown_labels: labels of the model that the language table does not have.
    """

    def __init__(
        self, decider: Decider, card: ModelCard, unknown_labels: tuple[str, ...] = ()
    ) -> None:
        """Wrap a decider; `Detector.load` is the usual way."""
        self.card = card
        self.labels = decider.labels
        self.unknown_labels = unknown_labels
        self._decider = decider
        self._loaded_with: tuple[str, bool | None, bool] | None = None
        self._thresholds = np.array([card.threshold(label) for label in self.labels], np.float32)
        self._groups = [group_of_language().get(label) for label in self.labels]

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        normalised: bool | None = None,
        prefer_kernel: bool = True,
    ) -> Self:
        """Load a model: the shipped one, a folder of `nllb lid train`, or any fastText file.

        Args:
            path: None for the shipped model; a folder with `card.json`; a `.bin` or `.ftz` file.
            normalised: for a bare file, whether it was trained on text in the form of
                `normalize_for_detection`; None asks the card beside it and otherwise means no.
            prefer_kernel: use the compiled kernel where it is built.

        Raises:
            CheckpointError: naming the file where it is missing, truncated or not fastText.
        """
        path = DEFAULT_MODEL_DIR if path is None else Path(path)
        loaded_with = (str(path.resolve()), normalised, prefer_kernel)
        if path.is_dir() and not (path / CARD_NAME).is_file():
            raise CheckpointError(
                f"{path} is no model folder: it has no {CARD_NAME}; name a .bin or .ftz file"
            )
        card = read_card(path) if path.is_dir() else ModelCard(name=path.name)
        if normalised is not None:
            card = dataclasses.replace(card, normalised=normalised)
        engine = open_engine(
            path_inside(path, MODEL_NAME) if path.is_dir() else path,
            normalised=card.normalised,
            prefer_kernel=prefer_kernel,
        )
        codes, unknown = map_labels(engine.labels)
        experts: dict[str, GroupClassifier] = {}
        for group in macro_groups() if path.is_dir() else ():
            expert_path = path / GROUP_CLASSIFIERS_NAME / f"{group.name}.ftz"
            if expert_path.is_file():
                path_inside(path, f"{GROUP_CLASSIFIERS_NAME}/{group.name}.ftz")
                expert = open_engine(expert_path, normalised=True, prefer_kernel=prefer_kernel)
                experts[group.name] = GroupClassifier(engine=expert, weight=group.weight)
        unknown = tuple(label for label in unknown if not label.startswith(NOISE_PREFIX))
        judge = None
        if path.is_dir() and card.grams:
            judge = AcceptanceModel(
                grams=NgramSets.load(
                    path_inside(path, NGRAMS_NAME), sorted(card.grams), prefer_kernel=prefer_kernel
                ),
                expected=card.grams,
                acceptance=AcceptanceRegression(weights=card.acceptance, limits=card.limits),
            )
        detector = cls(Decider(engine, experts, codes, judge), card, unknown)
        detector._loaded_with = loaded_with
        return detector

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path of the model, not its weights: the copy is loaded from there."""
        if self._loaded_with is None:
            raise TypeError(
                "this Detector wraps a decider and cannot be pickled; one that Detector.load has "
                "made can: it is loaded again, by path, where it is unpickled"
            )
        return _reload, (type(self), *self._loaded_with)

    def detect(
        self, text: str, *, top: int = 1, candidates: Sequence[str] | None = None
    ) -> Detection:
        """Detect the language of one text; see `detect_batch`."""
        return self.detect_batch([text], top=top, candidates=candidates)[0]

    def detect_batch(
        self, texts: Sequence[str], *, top: int = 1, candidates: Sequence[str] | None = None
    ) -> list[Detection]:
        """Detect the language of each text; the answers are in the order of the texts.

        Args:
            texts: any texts; line breaks within one count as spaces.
            top: how many labels to name, best first: the answer and `top - 1` alternatives.
            candidates: languages that the answer is restricted to (`und` stays possible).

        Raises:
            LanguageError: for a candidate that is unknown or that the model does not have.
        """
        allowed = None if candidates is None else self._allowed(candidates)
        detections: list[Detection] = []
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            detections += self._answers(self._decider.decide(batch, allowed), top)
        return detections

    def decide(self, texts: Sequence[str]) -> Decision:
        """Return the probabilities behind the answers to one batch."""
        return self._decider.decide(texts)

    def _answers(self, decision: Decision, top: int) -> list[Detection]:
        best = decision.best
        chosen = decision.probabilities[np.arange(len(best)), best].tolist()
        accepted = (decision.acceptance_score >= self._thresholds[best]).tolist()
        readable = (decision.letters > 0).tolist()
        labels, groups = self.labels, self._groups
        answers: list[Detection] = []
        for row, index in enumerate(best.tolist()):
            if not readable[row]:
                answers.append(_EMPTY)
                continue
            others: tuple[tuple[str, float], ...] = ()
            if top > 1 or not accepted[row]:
                ranked = self._ranked(decision, row, top)
                others = ranked[1:] if accepted[row] else ranked
            answers.append(
                Detection(
                    language=labels[index] if accepted[row] else UNDETERMINED,
                    probability=chosen[row],
                    alternatives=others,
                    macro_group=groups[index] if accepted[row] else None,
                )
            )
        return answers

    def _ranked(self, decision: Decision, row: int, top: int) -> tuple[tuple[str, float], ...]:
        probabilities = decision.probabilities[row]
        best = int(decision.best[row])
        order = [best]
        if top > 1:
            order += [
                int(i) for i in np.argsort(-probabilities, kind="stable")[: top + 1] if i != best
            ]
        return tuple(
            (self.labels[i], float(probabilities[i])) for i in order[:top] if probabilities[i] > 0
        )

    def _allowed(self, candidates: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        if not candidates:
            raise LanguageError("no candidates; name at least one language, or leave them out")
        codes = [name if name in self.labels else parse_language(name).code for name in candidates]
        missing = sorted(set(codes) - set(self.labels))
        if missing:
            raise LanguageError(
                f"this model has no label for {', '.join(missing)}"
                f"{did_you_mean(missing[0], self.labels)} Its card lists its labels"
            )
        return np.array([label in codes for label in self.labels])


def _reload(
    kind: type[Detector], path: str, normalised: bool | None, prefer_kernel: bool
) -> Detector:
    return kind.load(path, normalised=normalised, prefer_kernel=prefer_kernel)
