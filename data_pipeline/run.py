"""A configuration in its folder: the blocks of every stage, whether they are there or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data_pipeline.blocks import Decided
from data_pipeline.cleaning.clean_text import cleaned_blocks
from data_pipeline.data_config import DataConfig
from data_pipeline.decontamination.decontaminate import shielded_blocks
from data_pipeline.deduplication.external import deduplicated_blocks
from data_pipeline.filtering.filter_stage import filtered_blocks
from data_pipeline.readers.ingestion import ingested_blocks
from data_pipeline.stages import Block


@dataclass(frozen=True, kw_only=True)
class Run:
    """A configuration and the folder it is run in."""

    config: DataConfig
    """The run."""
    out: Path
    """Where everything is written."""

    @cached_property
    def raw(self) -> list[Block]:
        """Blocks of ingestion."""
        return ingested_blocks(self.config, self.out)

    @cached_property
    def cleaned(self) -> list[Block]:
        """Blocks of cleaned text."""
        return cleaned_blocks(self.config, self.raw, self.out)

    @cached_property
    def filtered(self) -> list[Block]:
        """Decisions of the filters."""
        return filtered_blocks(self.config, self.cleaned, self.out)

    @cached_property
    def to_dedup(self) -> list[Decided]:
        """Cleaned text with the decisions before deduplication."""
        cleaned = [Decided(block=block, decisions=(block.path,)) for block in self.cleaned]
        return _followed(cleaned, self.filtered)

    @cached_property
    def deduplicated(self) -> list[Block]:
        """Decisions of deduplication."""
        return deduplicated_blocks(self.config, self.to_dedup, self.out)

    @cached_property
    def to_shield(self) -> list[Decided]:
        """Cleaned text with the decisions before the shield."""
        return _followed(self.to_dedup, self.deduplicated)

    @cached_property
    def shielded(self) -> list[Block]:
        """Decisions of the shield."""
        return shielded_blocks(self.config, self.to_shield, self.out)

    @cached_property
    def ready(self) -> list[Decided]:
        """Cleaned text with all decisions."""
        return _followed(self.to_shield, self.shielded)


def _followed(decided: Sequence[Decided], by: Sequence[Block]) -> list[Decided]:
    return [item.followed_by(block) for item, block in zip(decided, by, strict=True)]
