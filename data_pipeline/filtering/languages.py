"""The language filter: language identification of both sides."""

from collections.abc import Mapping
from typing import Any

import polars
from polars import col

from data_pipeline.data_config import LanguageFilterConfig
from nllb.languages.detection import UNDETERMINED, Detection, Detector

from .detectors import load_detector
from .filters import SWAPPED_SIDES, Judgement, Pair, Thresholds

MAX_CACHED = 1 << 18


class LanguageFilter:
    """Filter by the probability of the expected language of each side.

    Source: NLLB Team 2022, sections 5.1 and 5.3. As there, a side passes if the probability of the
    expected language reaches its threshold. A language that the detector does not list has
    probability 0.

    Attributes:
        columns: score columns and their types.
    """

    columns: Mapping[str, Any] = {
        "source_language": polars.String,
        "source_probability": polars.Float32,
        "target_language": polars.String,
        "target_probability": polars.Float32,
    }

    def __init__(
        self,
        config: LanguageFilterConfig,
        detector: Detector | None = None,
        *,
        name_swapped: bool = False,
    ) -> None:
        """Configure the filter.

        Args:
            config: model, thresholds and exceptions.
            detector: replaces the configured model.
            name_swapped: whether lines with swapped sides get a separate reason.
        """
        self._config, self._name_swapped = config, name_swapped
        self._detector = detector
        self._remembered: dict[str, Detection] = {}
        self._excluded = {language.code for language in config.excluded_languages}

    def measure(self, rows: polars.DataFrame, pair: Pair) -> polars.DataFrame:
        """Return label and probability of both sides; null for excluded languages and corpora."""
        columns = []
        for side, language in (("source", pair.source), ("target", pair.target)):
            labels, probabilities = self.measure_side(rows[side], language, pair)
            columns += [
                labels.alias(f"{side}_language"),
                probabilities.alias(f"{side}_probability"),
            ]
        return polars.DataFrame(columns)

    def measure_side(
        self, texts: polars.Series, language: str, pair: Pair
    ) -> tuple[polars.Series, polars.Series]:
        """Return the best label of each text and the probability of the expected language."""
        labels: list[str | None] = [None] * len(texts)
        probabilities: list[float | None] = [None] * len(texts)
        if not self._is_excluded(language, pair):
            detections = self._detect(texts.to_list())
            labels = [best_label(detection) for detection in detections]
            probabilities = [
                found.probability
                if label == language
                else dict(found.alternatives).get(language, 0.0)
                for label, found in zip(labels, detections, strict=True)
            ]
        return (
            polars.Series(labels, dtype=polars.String),
            polars.Series(probabilities, dtype=polars.Float32),
        )

    def judge(self, thresholds: Thresholds, pair: Pair) -> list[Judgement]:
        """Reject sides below the threshold of their language."""
        low = [
            (f"{side}_language", col(f"{side}_probability") < self.threshold(language))
            for side, language in (("source", pair.source), ("target", pair.target))
        ]
        if not self._name_swapped or pair.source == pair.target:
            return low
        swapped = (col("source_language") == pair.target) & (col("target_language") == pair.source)
        return [(SWAPPED_SIDES, swapped & low[0][1] & low[1][1]), *low]

    def threshold(self, language: str) -> float:
        """Return the minimum probability of a language."""
        return self._config.thresholds.get(language, self._config.threshold)

    def _is_excluded(self, language: str, pair: Pair) -> bool:
        return language in self._excluded or pair.corpus in self._config.excluded_corpora

    def _detect(self, texts: list[str]) -> list[Detection]:
        """Detect each distinct text once, because multi-way corpora repeat their sides."""
        known = self._remembered
        new = list(dict.fromkeys(text for text in texts if text not in known))
        if new:
            if self._detector is None:
                self._detector = load_detector(self._config.model)
            if len(known) + len(new) > MAX_CACHED:
                new = list(dict.fromkeys(texts))
                known.clear()
            known.update(zip(new, self._detector.detect_batch(new), strict=True))
        return [known[text] for text in texts]


def best_label(detection: Detection) -> str:
    """Return the best label, even if the detector did not accept it."""
    if detection.language == UNDETERMINED and detection.alternatives:
        return detection.alternatives[0][0]
    return detection.language
