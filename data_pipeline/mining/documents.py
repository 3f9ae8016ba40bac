"""Alignment of the sentences of two documents that translate each other.

A monotone path through both documents, found by dynamic programming: 1-1, 1-2 and 2-1 pairs, and
sentences without a partner. A pair is worth the margin of its cosine over the mean cosines of both
of its sides to the other document, for each sentence that it covers; so what is near to everything
attracts nothing, and a sentence without a partner, worth nothing, ends a run of bad pairs.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy
from numpy.typing import NDArray

from data_pipeline.mining.encoders import Encoder, Vectors, normalized

STEPS: Final = ((1, 1), (1, 2), (2, 1), (1, 0), (0, 1))
"""Sentences of both documents that one step takes; of equal values the first is taken."""
_MERGED_COST: Final = 0.02
_Scores = NDArray[numpy.float64]


class AlignedPair(NamedTuple):
    """Sentences of two documents that belong together."""

    source: tuple[int, ...]
    """Numbers of one or two sentences."""
    target: tuple[int, ...]
    """Numbers of one or two sentences."""
    score: float
    """Margin of the cosine over what both sides have with the other document on the mean."""


def align(
    sources: Sequence[str],
    targets: Sequence[str],
    encoder: Encoder,
    source_language: str,
    target_language: str,
) -> list[AlignedPair]:
    """Align two documents, sentence by sentence, and return the pairs in order.

    Time and memory grow with the product of their lengths.
    """
    first = _with_merged(sources, encoder, source_language)
    second = _with_merged(targets, encoder, target_language)
    return align_vectors(first, second)


def align_vectors(
    sources: tuple[Vectors, Vectors], targets: tuple[Vectors, Vectors]
) -> list[AlignedPair]:
    """Align two documents.

    Args:
        sources: unit vectors of the sentences, and of each sentence joined with the next.
        targets: the same of the other document.
    """
    heights, widths = len(sources[0]), len(targets[0])
    values = {
        (1, 1): _margins(sources[0], targets[0]),
        (1, 2): 1.5 * _margins(sources[0], targets[1]) - _MERGED_COST,
        (2, 1): 1.5 * _margins(sources[1], targets[0]) - _MERGED_COST,
    }
    best = numpy.full((heights + 1, widths + 1), -numpy.inf)
    best[0, 0] = 0
    taken = numpy.full(best.shape, -1, numpy.int8)
    # Anti-diagonals: all that a cell depends on is done before it.
    for total in range(1, heights + widths + 1):
        rows = numpy.arange(max(0, total - widths), min(heights, total) + 1)
        columns = total - rows
        for number, (down, right) in enumerate(STEPS):
            inside = (rows >= down) & (columns >= right)
            i, j = rows[inside], columns[inside]
            gain = values[down, right][i - down, j - right] if down and right else 0.0
            value = best[i - down, j - right] + gain
            better = value > best[i, j]
            best[i[better], j[better]] = value[better]
            taken[i[better], j[better]] = number
    found = []
    i, j = heights, widths
    while i or j:
        down, right = STEPS[taken[i, j]]
        i, j = i - down, j - right
        if down and right:
            score = float(values[down, right][i, j])
            if down + right > 2:
                score = (score + _MERGED_COST) / 1.5
            found.append(AlignedPair((*range(i, i + down),), (*range(j, j + right),), score))
    return found[::-1]


def _with_merged(
    sentences: Sequence[str], encoder: Encoder, language: str
) -> tuple[Vectors, Vectors]:
    merged = [f"{first} {second}" for first, second in pairwise(sentences)]
    vectors = normalized(encoder.encode([*sentences, *merged], language))
    return vectors[: len(sentences)], vectors[len(sentences) :]


def _margins(sources: Vectors, targets: Vectors) -> _Scores:
    cosines: _Scores = (sources @ targets.T).astype(numpy.float64)
    if not cosines.size:
        return cosines
    means = cosines.mean(axis=1, keepdims=True), cosines.mean(axis=0, keepdims=True)
    return cosines - (means[0] + means[1]) / 2
