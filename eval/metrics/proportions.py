"""Proportions with Wilson intervals, which are valid at 0 % and 100 %, too."""

from dataclasses import dataclass
from functools import lru_cache

from eval.extras import scipy_module


@dataclass(frozen=True, kw_only=True, slots=True)
class Proportion:
    """A count out of a total, with the 95 % Wilson interval of the proportion."""

    count: int
    """Number of cases with the property."""
    total: int
    """All cases."""
    share: float | None
    """`count / total`; null if there are no cases."""
    low: float
    """Lower end of the interval; 0 where `total` is 0."""
    high: float
    """Upper end of the interval; 1 where `total` is 0."""


@lru_cache(maxsize=4096)
def proportion(count: int, total: int) -> Proportion:
    """Return a proportion with its Wilson score interval.

    Source: Wilson 1927; unlike the normal interval it is never empty and never leaves [0, 1].

    Raises:
        ResourceError: if scipy is not installed.
    """
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is not a share")
    if total == 0:
        return Proportion(count=0, total=0, share=None, low=0.0, high=1.0)
    stats = scipy_module("stats", purpose="intervals of shares")
    interval = stats.binomtest(count, total).proportion_ci(confidence_level=0.95, method="wilson")
    return Proportion(
        count=count,
        total=total,
        share=count / total,
        low=0.0 if count == 0 else float(interval.low),
        high=1.0 if count == total else float(interval.high),
    )
