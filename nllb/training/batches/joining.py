"""Joins pairs of one direction to longer ones, as sentences stand together in a text.

Sentences of corpora are short, and a model that never saw long pairs cuts long texts short. A
joined pair has one language token in front and one end; which pairs follow each other is chance.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nllb.training.batches.gathering import Pairs, Ragged
from nllb.training.batches.sampling import ranges

_MOST_JOINED: Final = 8


def join_pairs(pairs: Pairs, share: float, max_length: int, draw: np.random.Generator) -> Pairs:
    """Return the pairs with each joined to the next of its direction with a probability.

    Args:
        pairs: rows that lie one behind the other, those of a direction together.
        share: the probability.
        max_length: pairs that would become longer, on either side, stay apart.
        draw: decides.
    """
    joins = draw.random(len(pairs)) < share
    joins[:1] = False
    sources = pairs.sources
    # Language and tag are the same where the direction and the last token of the head are.
    for same in (pairs.directions, sources.tokens[sources.starts + sources.heads - 1]):
        joins[1:] &= same[1:] == same[:-1]
    groups = np.cumsum(~joins) - 1
    longest = np.maximum(*(np.bincount(groups, side.lengths) for side in (sources, pairs.targets)))
    joins &= ((longest <= max_length) & (np.bincount(groups) <= _MOST_JOINED))[groups]
    return Pairs(
        sources=_join(sources, joins),
        targets=_join(pairs.targets, joins),
        directions=pairs.directions[~joins],
        too_long=pairs.too_long,
    )


def _join(side: Ragged, joins: NDArray[np.bool_]) -> Ragged:
    """Take out the end before each join and the head after it."""
    dropped = np.append(joins[1:], False).astype(np.int64)
    lengths = side.lengths - dropped - joins * side.heads
    begins = side.starts + joins * side.heads
    tokens = side.tokens[np.repeat(begins, lengths) + ranges(lengths)]
    groups = np.cumsum(~joins) - 1
    joined = np.bincount(groups, lengths).astype(np.int64)
    return Ragged(
        tokens=tokens, starts=np.cumsum(joined) - joined, lengths=joined, heads=side.heads[~joins]
    )
