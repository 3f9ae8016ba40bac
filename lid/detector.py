"""The language detector: the entry point of this package."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from nllb.errors import CheckpointError, ConfigError, LanguageError, did_you_mean
from nllb.io.paths import path_inside
from nllb.languages import parse_language
from nllb.languages.detection import UNDETERMINED, Detection

from .acceptance import AcceptanceRegression
from .cleaning import remove_names, remove_non_language
from .decision import AcceptanceModel, Decider, Decision, GroupClassifier
from .engine import OUT_OF_SET_PREFIX, open_engine
from .groups import group_of_language, macro_groups
from .identifier_card import CARD_NAME, ModelCard, read_card
from .labels import map_labels
from .ngrams import NgramSets
from .word_frequencies import WordFrequencies

DEFAULT_MODEL_DIR: Final = Path(__file__).parent / "_models" / "default"
MODEL_NAME: Final = "model.ftz"
GROUP_CLASSIFIERS_NAME: Final = "experts"
NGRAMS_NAME: Final = "grams.bin"
WORDS_NAME: Final = "words.bin"
BATCH_SIZE: Final = 512

_NO_LETTERS: Final = Detection(language=UNDETERMINED, probability=0.0, acceptance=0.0)


class Detector:
    """Identifies the language of texts and answers `und` (undetermined) if it is unsure.

    Attributes:
        card: The model card: training data, licence, thresholds and metrics.
        labels: The labels that the detector can return, besides `und`.
        unknown_labels: Labels of the model that are not in the language table.
    """

    def __init__(
        self, decider: Decider, card: ModelCard, unknown_labels: tuple[str, ...] = ()
    ) -> None:
        """Wrap a decider; use `Detector.load` to load a model."""
        self.card = card
        self.labels = decider.labels
        self.unknown_labels = unknown_labels
        self._decider = decider
        self._load_arguments: tuple[str, bool | None, bool] | None = None
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
        """Load the shipped model, a folder written by `nllb lid train`, or any fastText model.

        Args:
            path: A folder with `card.json`, a `.bin` or `.ftz` file, or None for the shipped model.
            normalised: Whether the model was trained on the output of `normalize_for_detection`.
                None uses the value on the card, or False if there is no card.
            prefer_kernel: Use the compiled kernel if it is built.

        Raises:
            CheckpointError: A file is missing, truncated or not a fastText model.
        """
        path = DEFAULT_MODEL_DIR if path is None else Path(path)
        load_arguments = (str(path.resolve()), normalised, prefer_kernel)
        if path.is_dir() and not (path / CARD_NAME).is_file():
            raise CheckpointError(
                f"{path} is not a model folder: {CARD_NAME} is missing; give the path of a model "
                "folder, or of a .bin or .ftz file"
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
        group_classifiers: dict[str, GroupClassifier] = {}
        for group in macro_groups() if path.is_dir() else ():
            classifier_path = path / GROUP_CLASSIFIERS_NAME / f"{group.name}.ftz"
            if classifier_path.is_file():
                path_inside(path, f"{GROUP_CLASSIFIERS_NAME}/{group.name}.ftz")
                classifier_engine = open_engine(
                    classifier_path, normalised=True, prefer_kernel=prefer_kernel
                )
                group_classifiers[group.name] = GroupClassifier(
                    engine=classifier_engine, weight=group.weight
                )
        unknown = tuple(label for label in unknown if not label.startswith(OUT_OF_SET_PREFIX))
        acceptance_model = None
        if path.is_dir() and card.grams:
            words = None
            if (path / WORDS_NAME).exists():
                words = WordFrequencies.load(path_inside(path, WORDS_NAME), sorted(card.grams))
            acceptance_model = AcceptanceModel(
                ngrams=NgramSets.load(
                    path_inside(path, NGRAMS_NAME), sorted(card.grams), prefer_kernel=prefer_kernel
                ),
                expected_shares=card.grams,
                regression=AcceptanceRegression(weights=card.acceptance, limits=card.limits),
                words=words,
            )
        detector = cls(Decider(engine, group_classifiers, codes, acceptance_model), card, unknown)
        detector._load_arguments = load_arguments
        return detector

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path of the model instead of its weights; unpickling loads it from there."""
        if self._load_arguments is None:
            raise TypeError(
                "this Detector cannot be pickled because it was created from a decider; create it "
                "with Detector.load, so that it can be loaded again from its path"
            )
        return _reload, (type(self), *self._load_arguments)

    def detect(
        self,
        text: str,
        *,
        top: int = 1,
        candidates: Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> Detection:
        """Detect the language of one text; see `detect_batch`."""
        return self.detect_batch([text], top=top, candidates=candidates, threshold=threshold)[0]

    def detect_batch(
        self,
        texts: Sequence[str],
        *,
        top: int = 1,
        candidates: Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> list[Detection]:
        """Detect the language of each text.

        Addresses, markup, code and repeated letters are removed first (`lid.cleaning`).

        Args:
            texts: The texts; line breaks within a text count as spaces.
            top: Number of labels to return, best first: the answer and `top - 1` alternatives.
            candidates: The languages to choose from, as a closed set: a text with letters always
                gets one of them.
            threshold: Minimum acceptance score of an answer; None uses the threshold of each label
                on the model card.

        Returns:
            One detection per text, in the order of the texts.

        Raises:
            ConfigError: `texts` is a single string, or the threshold is not in [0, 1].
            LanguageError: A candidate is unknown, or the model has no label for it.
        """
        if isinstance(texts, str):
            raise ConfigError(
                f"detect_batch expects a list of texts, got one text ({texts[:40]!r}); use "
                "detect(text), or put the text into a list"
            )
        if threshold is not None and not 0 <= threshold <= 1:
            raise ConfigError(f"the threshold must be between 0 and 1, got {threshold}")
        allowed = None if candidates is None else self._mask_of(candidates)
        if allowed is not None:
            limits = np.zeros_like(self._thresholds)
        elif threshold is not None:
            limits = np.full_like(self._thresholds, threshold)
        else:
            limits = self._thresholds
        detections: list[Detection] = []
        for start in range(0, len(texts), BATCH_SIZE):
            batch = texts[start : start + BATCH_SIZE]
            cleaned = [remove_non_language(text) for text in batch]
            if allowed is not None:  # an answer is due: a hashtag is better than nothing
                cleaned = [
                    text if any(map(str.isalpha, text)) else original
                    for text, original in zip(cleaned, batch, strict=True)
                ]
            decision = self._decider.decide(cleaned, allowed)
            if allowed is None:
                self._reconsider_names(cleaned, decision)
            detections += self._answers(decision, top, limits)
        return detections

    def decide(self, texts: Sequence[str]) -> Decision:
        """Return the decisions about a batch, with all probabilities."""
        return self._decider.decide(texts)

    def _reconsider_names(self, texts: Sequence[str], decision: Decision) -> None:
        """Raise the acceptance scores of rejected texts that are accepted without their names.

        Names of foreign origin are often unlike the language of the sentence around them. The
        thresholds are those of the card, so that a score does not depend on a caller's threshold.
        """
        rejected = np.flatnonzero(decision.acceptance_score < self._thresholds[decision.best])
        pairs = [
            (row, rest)
            for row in rejected.tolist()
            if (rest := remove_names(texts[row])) is not None
        ]
        if not pairs:
            return
        without_names = self._decider.decide([rest for _, rest in pairs])
        for (row, _), best, score in zip(
            pairs,
            without_names.best.tolist(),
            without_names.acceptance_score.tolist(),
            strict=True,
        ):
            if best == decision.best[row]:
                decision.acceptance_score[row] = max(score, decision.acceptance_score[row])

    def _answers(
        self, decision: Decision, top: int, limits: npt.NDArray[np.float32]
    ) -> list[Detection]:
        best = decision.best
        chosen = decision.probabilities[np.arange(len(best)), best].tolist()
        scores = decision.acceptance_score.tolist()
        accepted = (decision.acceptance_score >= limits[best]).tolist()
        has_letters = (decision.letters > 0).tolist()
        labels, groups = self.labels, self._groups
        answers: list[Detection] = []
        for row, index in enumerate(best.tolist()):
            if not has_letters[row]:
                answers.append(_NO_LETTERS)
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
                    acceptance=scores[row],
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

    def _mask_of(self, candidates: Sequence[str]) -> npt.NDArray[np.bool_]:
        if not candidates:
            raise LanguageError(
                "the list of candidates is empty; give at least one language, or no list at all"
            )
        codes = [name if name in self.labels else parse_language(name).code for name in candidates]
        missing = sorted(set(codes) - set(self.labels))
        if missing:
            near = did_you_mean(missing[0], self.labels) or ";"
            raise LanguageError(
                f"this model has no label for {', '.join(missing)}{near} the model card lists its "
                f"labels"
            )
        return np.array([label in codes for label in self.labels])


def _reload(
    cls: type[Detector], path: str, normalised: bool | None, prefer_kernel: bool
) -> Detector:
    return cls.load(path, normalised=normalised, prefer_kernel=prefer_kernel)
