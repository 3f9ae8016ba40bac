"""Margins of candidate pairs, and the retrieval of candidates.

A cosine alone favours sentences that are close to everything. The margin compares it with the mean
cosine of both sentences to their k nearest neighbours (Artetxe and Schwenk 2019, eq. 2):

- `ratio`: cosine / mean, the default
- `distance`: cosine - mean
- `absolute`: the cosine itself
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

import numpy
from numpy.typing import NDArray

from nllb.errors import ConfigError

from .encoders.encoder import Vectors
from .mining_config import Margin, Retrieval
from .neighbours import Neighbours

MARGINS: Final = get_args(Margin)
RETRIEVALS: Final = get_args(Retrieval)
_MIN_MEAN: Final = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Candidate pairs of a source and a target sentence, with their margins."""

    source: NDArray[numpy.int64]
    """Index of the source sentence of each pair."""
    target: NDArray[numpy.int64]
    """Index of the target sentence of each pair."""
    margin: Vectors
    """Margin of each pair."""

    def __len__(self) -> int:
        return len(self.source)

    def take(self, chosen: NDArray[Any]) -> "Candidates":
        """Return the chosen pairs, in the order given."""
        return Candidates(
            source=self.source[chosen], target=self.target[chosen], margin=self.margin[chosen]
        )


def neighbourhood(neighbours: Neighbours) -> Vectors:
    """Return the mean cosine of each sentence to its neighbours; 0 if it has none."""
    exists = neighbours.indices >= 0
    sums = numpy.where(exists, neighbours.similarities, 0).sum(axis=1, dtype=numpy.float64)
    means: Vectors = (sums / numpy.maximum(exists.sum(axis=1), 1)).astype(numpy.float32)
    return means


def margins(
    similarities: Vectors, source_means: Vectors, target_means: Vectors, margin: Margin
) -> Vectors:
    """Return the margins of cosines, given the mean cosines of both sides (broadcast)."""
    if margin == "absolute":
        return similarities
    means = (source_means + target_means) / 2
    if margin == "distance":
        return (similarities - means).astype(numpy.float32, copy=False)
    if margin == "ratio":
        ratio = similarities / numpy.maximum(means, numpy.float32(_MIN_MEAN))
        return ratio.astype(numpy.float32, copy=False)
    raise ConfigError(f"unknown margin {margin!r}; valid: {', '.join(MARGINS)}")


def best_candidates(
    neighbours: Neighbours, means: Vectors, other_means: Vectors, margin: Margin
) -> Candidates:
    """Return the neighbour with the highest margin for each sentence.

    Args:
        neighbours: neighbours of the sentences on the other side.
        means: mean cosine of each sentence to its neighbours.
        other_means: the same for each sentence of the other side.
        margin: the kind of margin.
    """
    if neighbours.indices.shape[1] == 0:
        return _joined([])
    exists = neighbours.indices >= 0
    scores = margins(
        numpy.where(exists, neighbours.similarities, 0),
        means[:, None],
        other_means[numpy.maximum(neighbours.indices, 0)],
        margin,
    )
    scores = numpy.where(exists, scores, -numpy.inf).astype(numpy.float32)
    best = scores.argmax(axis=1)
    rows = numpy.flatnonzero(exists.any(axis=1))
    return Candidates(
        source=rows, target=neighbours.indices[rows, best[rows]], margin=scores[rows, best[rows]]
    )


def retrieve(
    forward: Sequence[Neighbours],
    backward: Sequence[Neighbours],
    *,
    margin: Margin,
    retrieval: Retrieval,
) -> Candidates:
    """Return the retrieved pairs, best margin first; ties are ordered by source, then target.

    Args:
        forward: neighbours of the sources among the targets, in blocks.
        backward: neighbours of the targets among the sources, in blocks.
        margin: kind of margin.
        retrieval: `forward` is the best target of each source; `backward` is the best source of
            each target; `intersect` is the pairs that are both; `max` chooses greedily from all
            of them, best first, so that no sentence is used twice.
    """
    if retrieval not in RETRIEVALS:
        raise ConfigError(f"unknown retrieval {retrieval!r}; valid: {', '.join(RETRIEVALS)}")
    source_means, target_means = _means(forward), _means(backward)
    ahead = _best_of_blocks(forward, source_means, target_means, margin)
    if retrieval == "forward":
        return _ordered(ahead)
    back = _best_of_blocks(backward, target_means, source_means, margin)
    back = Candidates(source=back.target, target=back.source, margin=back.margin)
    if retrieval == "backward":
        return _ordered(back)
    if retrieval == "intersect":
        pairs = set(zip(back.source.tolist(), back.target.tolist(), strict=True))
        both = [pair in pairs for pair in zip(ahead.source.tolist(), ahead.target.tolist())]  # noqa: B905
        return _ordered(ahead.take(numpy.flatnonzero(both)))
    return _one_to_one(_ordered(_joined([ahead, back])))


def _means(blocks: Sequence[Neighbours]) -> Vectors:
    return numpy.concatenate([numpy.zeros(0, numpy.float32), *map(neighbourhood, blocks)])


def _best_of_blocks(
    blocks: Sequence[Neighbours], means: Vectors, other_means: Vectors, margin: Margin
) -> Candidates:
    parts, start = [], 0
    for block in blocks:
        end = start + len(block.indices)
        part = best_candidates(block, means[start:end], other_means, margin)
        parts.append(replace(part, source=part.source + start))
        start = end
    return _joined(parts)


def _joined(parts: Sequence[Candidates]) -> Candidates:
    return Candidates(
        source=numpy.concatenate([numpy.zeros(0, numpy.int64), *(p.source for p in parts)]),
        target=numpy.concatenate([numpy.zeros(0, numpy.int64), *(p.target for p in parts)]),
        margin=numpy.concatenate([numpy.zeros(0, numpy.float32), *(p.margin for p in parts)]),
    )


def _ordered(candidates: Candidates) -> Candidates:
    order = numpy.lexsort((candidates.target, candidates.source, -candidates.margin))
    return candidates.take(order)


def _one_to_one(candidates: Candidates) -> Candidates:
    """Choose pairs greedily, best first, so that no sentence is used twice."""
    sources: set[int] = set()
    targets: set[int] = set()
    kept = []
    pairs = zip(candidates.source.tolist(), candidates.target.tolist(), strict=True)
    for number, (source, target) in enumerate(pairs):
        if source not in sources and target not in targets:
            sources.add(source)
            targets.add(target)
            kept.append(number)
    return candidates.take(numpy.array(kept, numpy.int64))
