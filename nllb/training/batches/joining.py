"""Concatenates pairs of the same direction into longer pairs.

Most corpora consist of single short sentences, and a model that never saw long pairs truncates long
inputs. A concatenated pair has one language token and one `</s>`; its parts are chosen at random.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .gathering import Pairs, Ragged
from .sampling import ranges

_MAX_JOINED: Final = 8


def join_pairs(pairs: Pairs, share: float, max_length: int, draw: np.random.Generator) -> Pairs:
    """Concatenate each pair with its successor in the same direction, with a given probability.

    Args:
        pairs: pairs whose rows are contiguous, grouped by direction.
        share: the probability.
        max_length: pairs whose concatenation would be longer, on either side, stay separate.
        draw: random number generator.
    """
    joins = draw.random(len(pairs)) < share
    joins[:1] = False
    sources = pairs.sources
    # Equal direction and equal last prefix token imply equal language and data-source tag.
    for same in (pairs.directions, sources.tokens[sources.starts + sources.prefix_lengths - 1]):
        joins[1:] &= same[1:] == same[:-1]
    groups = np.cumsum(~joins) - 1
    longest = np.maximum(*(np.bincount(groups, side.lengths) for side in (sources, pairs.targets)))
    joins &= ((longest <= max_length) & (np.bincount(groups) <= _MAX_JOINED))[groups]
    return Pairs(
        sources=_join(sources, joins),
        targets=_join(pairs.targets, joins),
        directions=pairs.directions[~joins],
        too_long=pairs.too_long,
    )


def _join(side: Ragged, joins: NDArray[np.bool_]) -> Ragged:
    """Remove the `</s>` before each join and the prefix after it."""
    dropped = np.append(joins[1:], False).astype(np.int64)
    lengths = side.lengths - dropped - joins * side.prefix_lengths
    begins = side.starts + joins * side.prefix_lengths
    tokens = side.tokens[np.repeat(begins, lengths) + ranges(lengths)]
    groups = np.cumsum(~joins) - 1
    joined = np.bincount(groups, lengths).astype(np.int64)
    return Ragged(
        tokens=tokens,
        starts=np.cumsum(joined) - joined,
        lengths=joined,
        prefix_lengths=side.prefix_lengths[~joins],
    )
