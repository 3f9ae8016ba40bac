"""TER: sacrebleu's number of edits for every sentence."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sacrebleu import __version__ as sacrebleu_version
from sacrebleu.metrics import TER

from .chrf import Statistics

_EDITS, _LENGTH = 0, 1
_PARTS: Final = 12
"""Reference lengths are kept in twelfths: the mean over one to four references is exact."""


class Ter:
    """Translation edit rate with sacrebleu's defaults: lower is better, 0 is a perfect match.

    Statistics: edits to the nearest reference, mean reference length; both in twelfths.
    """

    def __init__(self) -> None:
        self.name, self.title, self.num_columns = "ter", "TER", 2
        self._ter = TER()
        self.signature = (
            f"nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{sacrebleu_version}"
        )

    def index(self, sentences: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the references unchanged: TER counts nothing in advance."""
        return [(sentence,) for sentence in sentences]

    def statistics(self, sentences: Sequence[str], reference: Any) -> Statistics:
        """Return the statistics of hypothesis sentences, one for each reference sentence."""
        return self.multi_statistics(sentences, reference)

    def multi_statistics(
        self, sentences: Sequence[str], references: Sequence[Sequence[str]]
    ) -> Statistics:
        """Return the statistics against several references for each sentence."""
        result = np.zeros((len(sentences), self.num_columns), dtype=np.int32)
        for number, (sentence, texts) in enumerate(zip(sentences, references, strict=True)):
            prepared = self._ter._preprocess_segment(sentence)
            targets = self._ter._extract_reference_info(
                [self._ter._preprocess_segment(text) for text in texts]
            )
            edits, length = self._ter._compute_segment_statistics(prepared, targets)
            result[number] = round(_PARTS * edits), round(_PARTS * length)
        return result

    def score(self, counts: NDArray[Any]) -> NDArray[np.float64]:
        """Return the score of summed statistics, 0 and up; any leading axes are kept."""
        counts = np.asarray(counts, dtype=np.float64)
        edits, lengths = counts[..., _EDITS], counts[..., _LENGTH]
        unmatched = np.where(edits > 0, 1.0, 0.0)
        return np.asarray(100 * np.divide(edits, lengths, out=unmatched, where=lengths > 0))

    def pack(self, statistics: Statistics) -> Statistics:
        """Return the column that the reference does not determine."""
        return statistics[..., [_EDITS]]

    def unpack(self, packed: NDArray[Any], reference_columns: Statistics) -> Statistics:
        """Return the columns that `pack` received."""
        lengths = np.broadcast_to(reference_columns, packed.shape)
        return np.concatenate([packed.astype(np.int32), lengths.astype(np.int32)], axis=-1)

    def reference_columns(self, statistics: Statistics) -> Statistics:
        """Return the column that depends on the reference alone."""
        return statistics[..., [_LENGTH]]
