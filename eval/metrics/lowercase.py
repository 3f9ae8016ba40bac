"""Any metric on lowercased text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .chrf import Statistics
from .signature import with_part


class Lowercased:
    """A metric whose hypotheses and references are lowercased first, as sacrebleu's `-lc`."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self.name, self.title, self.num_columns = metric.name, metric.title, metric.num_columns
        self.signature: str = with_part(metric.signature, "case", "lc")

    def index(self, sentences: Sequence[str]) -> Any:
        """Count the lowercased references once."""
        return self._metric.index([sentence.lower() for sentence in sentences])

    def statistics(self, sentences: Sequence[str], reference: Any) -> Statistics:
        """Return the statistics of lowercased sentences."""
        found: Statistics = self._metric.statistics([s.lower() for s in sentences], reference)
        return found

    def multi_statistics(
        self, sentences: Sequence[str], references: Sequence[Sequence[str]]
    ) -> Statistics:
        """Return the statistics of lowercased sentences against several references each."""
        lowered = [[text.lower() for text in texts] for texts in references]
        found: Statistics = self._metric.multi_statistics([s.lower() for s in sentences], lowered)
        return found

    def score(self, counts: NDArray[Any]) -> NDArray[np.float64]:
        """Return the score of summed statistics."""
        found: NDArray[np.float64] = self._metric.score(counts)
        return found

    def pack(self, statistics: Statistics) -> Statistics:
        """Return the columns to store."""
        found: Statistics = self._metric.pack(statistics)
        return found

    def unpack(self, packed: NDArray[Any], reference_columns: Statistics) -> Statistics:
        """Return all columns again."""
        found: Statistics = self._metric.unpack(packed, reference_columns)
        return found

    def reference_columns(self, statistics: Statistics) -> Statistics:
        """Return the columns that depend on the reference alone."""
        found: Statistics = self._metric.reference_columns(statistics)
        return found
