"""The similarity filter, which compares both sides by the cosine of their sentence vectors."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy
import polars
from polars import col

from data_pipeline.data_config import SimilarityFilterConfig
from data_pipeline.mining.calibration import find_calibration
from data_pipeline.mining.encoders.encoder import Encoder, check_vectors, normalized
from data_pipeline.mining.encoders.load_encoder import load_encoder
from nllb.errors import ConfigError

from .filters import Judgement, Pair, Thresholds

_load = lru_cache(maxsize=2)(load_encoder)


class SimilarityFilter:
    """Filter by the cosine between the vectors of both sides.

    The threshold is the configured one or the one that was calibrated for the encoder, because the
    cosines of different encoders are not comparable. Lines in a language that the shipped encoder
    does not know are measured but never rejected.
    """

    columns: Mapping[str, Any] = {"similarity": polars.Float32}
    """Score columns and their types."""

    def __init__(self, config: SimilarityFilterConfig, encoder: Encoder | None = None) -> None:
        self._config = config
        self._encoder = encoder if encoder is not None else _load(config.encoder, config.dtype)
        self._threshold = _threshold(config, self._encoder)

    def measure(self, rows: polars.DataFrame, pair: Pair) -> polars.DataFrame:
        """Return the cosine of each line.

        Raises:
            DataError: if the encoder returns vectors of another shape, or NaN or infinity.
        """
        sources = self._vectors(rows["source"].to_list(), pair.source)
        targets = self._vectors(rows["target"].to_list(), pair.target)
        # Rounded, because the last digits of a network depend on the batch.
        cosines = numpy.round((sources * targets).sum(axis=1), 4)
        return polars.DataFrame({"similarity": polars.Series(cosines, dtype=polars.Float32)})

    def judge(self, thresholds: Thresholds, pair: Pair) -> list[Judgement]:
        """Reject lines below the threshold."""
        known = getattr(self._encoder, "languages", None)
        if known is not None and not {pair.source, pair.target} <= known:
            return []
        return [("similarity", col("similarity") < self._threshold)]

    def _vectors(self, texts: list[str], language: str) -> Any:
        """Encode each distinct text once, because multi-way corpora repeat their sides."""
        distinct = list(dict.fromkeys(texts))
        place = {text: number for number, text in enumerate(distinct)}
        vectors = self._encoder.encode(distinct, language)
        check_vectors(vectors, len(distinct), self._encoder)
        return normalized(vectors)[[place[text] for text in texts]]


def similarity_key(config: SimilarityFilterConfig) -> str:
    """Return the key of the encoder, on which the scores depend."""
    return _load(config.encoder, config.dtype).key


def _threshold(config: SimilarityFilterConfig, encoder: Encoder) -> float:
    if config.threshold is not None:
        return config.threshold
    calibration = find_calibration(config.encoder, encoder)
    if calibration is None:
        raise ConfigError(
            f"filter.similarity: the encoder {encoder.name!r} is not calibrated; set "
            "`filter.similarity.threshold`, or run `nllb data calibrate-encoder`"
        )
    return calibration.similarity.threshold
