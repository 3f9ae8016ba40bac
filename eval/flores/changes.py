"""Changes between two evaluations: of one direction, a part of the directions, and all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from eval.metrics.registry import metric_title
from eval.metrics.significance import SEED

from .directions import Direction

DISCOVERY_RATE: Final = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectionChange:
    """One direction under one metric."""

    direction: Direction
    """The direction."""
    metric: str
    """Metric name."""
    first: float
    """Score of the first system."""
    second: float
    """Score of the second."""
    delta: float
    """Second minus first."""
    low: float
    """Lower end of the 95 % interval of `delta`."""
    high: float
    """Upper end."""
    p_bootstrap: float
    """p-value of the paired bootstrap."""
    p_randomisation: float
    """p-value of approximate randomisation."""
    q_value: float
    """Benjamini-Hochberg over all directions, of the larger of the two p-values."""

    @property
    def significant(self) -> bool:
        """Whether it is significant at a false discovery rate of 5 %."""
        return self.q_value <= DISCOVERY_RATE


@dataclass(frozen=True, kw_only=True, slots=True)
class PartChange:
    """The mean change over a part of the directions."""

    part: str
    """Name of the part: a group, or for example `into languages in Latn script`."""
    metric: str
    """Metric name."""
    count: int
    """Directions."""
    first: float
    """Mean of the first system."""
    second: float
    """Mean of the second."""
    delta: float
    """Difference of the means."""
    low: float
    """Lower end of the 95 % interval over sentences."""
    high: float
    """Upper end."""
    p_value: float
    """p-value of the paired bootstrap."""
    better: int
    """Directions significantly better."""
    worse: int
    """Directions significantly worse."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All changes from one evaluation to another."""

    first: str
    """Name of the first system."""
    second: str
    """Name of the second."""
    benchmark: str
    """Test set of both."""
    metrics: tuple[str, ...]
    """Metrics of both."""
    verdict: str
    """One sentence."""
    groups: tuple[PartChange, ...]
    """The paper's groups."""
    parts: tuple[PartChange, ...]
    """By script, family and level of the target."""
    directions: tuple[DirectionChange, ...]
    """All directions of both."""
    only_first: tuple[str, ...]
    """Directions that the second lacks; no number includes them."""
    only_second: tuple[str, ...]
    """Directions that the first lacks."""
    notes: tuple[str, ...]
    """Warnings about the tests."""
    resamples: int
    """Resamples of each test: no p-value is below 1 / (resamples + 1)."""
    seed: int = SEED
    """Seed of the resamples."""

    def lines(self) -> Iterator[str]:
        """Yield one line for each metric: the mean change over all directions and its test."""
        for part in self.groups:
            if part.part == "all":
                yield (
                    f"  {metric_title(part.metric)}: {part.first:.2f} -> {part.second:.2f}, "
                    f"{part.delta:+.2f}, 95 % {part.low:+.2f} to {part.high:+.2f}, p = "
                    f"{part.p_value:.4f} (paired bootstrap, two-sided), n = {part.count:,}"
                )
