"""The passes of deduplication, in order: boilerplate, equal lines, near-duplicates."""

from dataclasses import dataclass
from typing import Literal

from data_pipeline.data_config import DedupConfig, NearDuplicateConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DedupPass:
    """One pass over the lines that earlier passes have kept.

    Attributes:
        by: the text that is compared.
        reason: reason of the lines that are dropped.
        max_copies: number of equal lines that are kept.
        max_repetitions: groups with more equal lines than this are dropped completely; smaller
            groups are kept.
        near: settings of MinHash, which then replaces equality.
    """

    by: Literal["pair", "source", "target"]
    reason: str
    max_copies: int = 1
    max_repetitions: int | None = None
    near: NearDuplicateConfig | None = None

    @property
    def name(self) -> str:
        """Name of the pass's folder."""
        if self.near:
            return f"near_{self.by}"
        return f"{self.by}_repeated" if self.drops_whole_groups else self.by

    @property
    def drops_whole_groups(self) -> bool:
        """Whether the pass drops whole groups."""
        return self.max_repetitions is not None

    @property
    def hashes_per_row(self) -> int:
        """Number of hashes of one line."""
        return 1 if self.near is None else self.near.bands


def dedup_passes(config: DedupConfig) -> list[DedupPass]:
    """Return the passes of a configuration, in order."""
    repeated = config.max_repetitions
    found = [
        DedupPass(by=side, reason=f"boilerplate_{side}", max_repetitions=repeated)
        for side in _sides(config)
        if repeated is not None
    ]
    found += [
        DedupPass(by=item.by, reason=f"duplicate_{item.by}", max_copies=item.max_copies)
        for item in config.passes
    ]
    if config.near_duplicates is not None:
        near = config.near_duplicates
        found.append(DedupPass(by=near.by, reason=f"near_duplicate_{near.by}", near=near))
    return found


def _sides(config: DedupConfig) -> tuple[Literal["source", "target"], ...]:
    """Return the sides that are counted; monolingual text has only one."""
    by = {item.by for item in config.passes}
    return ("source",) if by == {"source"} else ("source", "target")
