"""Shares of a count, with an interval that stays honest at 0 % and 100 %."""

from dataclasses import dataclass
from math import sqrt

_Z_95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True, slots=True)
class Proportion:
    """How many of how many, with the 95 % Wilson interval of the share."""

    count: int
    """How many had it."""
    total: int
    """Of how many."""
    share: float | None
    """`count / total`, or null where there was nothing to look at."""
    low: float
    """Lower end of the interval; 0 where `total` is 0."""
    high: float
    """Upper end of the interval; 1 where `total` is 0."""


def proportion(count: int, total: int) -> Proportion:
    """Return a share with its Wilson score interval.

    Source: Wilson 1927; unlike the normal interval it is never empty and never leaves [0, 1].
    """
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is no share")
    if total == 0:
        return Proportion(count=0, total=0, share=None, low=0.0, high=1.0)
    share = count / total
    weight = _Z_95**2 / total
    centre = (share + weight / 2) / (1 + weight)
    half = sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == total else centre + half
    return Proportion(count=count, total=total, share=share, low=low, high=high)
