"""A neural metric in the form of the other metrics: integers per sentence whose sum gives the mean.

Scores come from a plug-in (`eval.metrics.neural`), not from n-grams. Stored as millionths beside a
count of sentences, they go through the same storage, intervals and tests as all other metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .chrf import Statistics

SCALE: Final = 1_000_000
"""Sentence scores are stored in this fraction of a point."""
PREFIX: Final = "neural:"
"""Prefix of the names of neural metrics, as in `neural:comet`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NeuralChoice:
    """A neural metric that scores many files; worker processes receive it."""

    name: str
    """Name for reports, as the user wrote it."""
    command: tuple[str, ...]
    """Words of the command."""
    model: Path | None = None
    """Local path of the weights."""
    cache_dir: Path | None = None
    """Folder that caches scores."""

    @property
    def metric_name(self) -> str:
        """Name among the metrics of an evaluation."""
        return PREFIX + self.name

    @property
    def signature(self) -> str:
        """The settings that the scores depend on; the plug-in states its version for each file."""
        return f"{self.name}|model:{self.model.name if self.model else '-'}"


class MeanScore:
    """Sums of sentence scores, for resampling."""

    name = "mean"

    def score(self, counts: NDArray[Any]) -> NDArray[np.float64]:
        """Return the sums unchanged."""
        return np.asarray(counts[..., 0], dtype=np.float64)


class NeuralMetric:
    """Stored scores of a neural metric: score in millionths, 1 for each sentence."""

    num_columns = 2

    def __init__(self, name: str, *, signature: str = "") -> None:
        self.name, self.signature = name, signature
        self.title = name.removeprefix(PREFIX)

    @staticmethod
    def from_scores(scores: Sequence[float]) -> Statistics:
        """Return the statistics of sentence scores."""
        whole = np.rint(SCALE * np.asarray(scores, dtype=np.float64)).astype(np.int32)
        return np.stack([whole, np.ones_like(whole)], axis=1)

    def score(self, counts: NDArray[Any]) -> NDArray[np.float64]:
        """Return the mean score of summed statistics; any leading axes are kept."""
        counts = np.asarray(counts, dtype=np.float64)
        sums, numbers = counts[..., 0] / SCALE, counts[..., 1]
        return np.asarray(np.divide(sums, numbers, out=np.zeros_like(sums), where=numbers > 0))

    def pack(self, statistics: Statistics) -> Statistics:
        """Return the scores."""
        return statistics[..., :1]

    def unpack(self, packed: NDArray[Any], reference_columns: Statistics) -> Statistics:
        """Return scores and counts again."""
        scores = packed.astype(np.int32)
        return np.concatenate([scores, np.ones_like(scores)], axis=-1)

    def reference_columns(self, statistics: Statistics) -> Statistics:
        """Return no columns: scores are stored whole."""
        return statistics[..., :0]
