"""A configuration and its output folder, with the blocks of every stage, finished or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .blocks import DecidedBlock
from .cleaning.clean_text import cleaned_blocks
from .data_config import DataConfig
from .decontamination.decontaminate import decontaminated_blocks
from .deduplication.external import deduplicated_blocks
from .filtering.filter_stage import filtered_blocks
from .readers.ingestion import ingested_blocks
from .stages import Block


@dataclass(frozen=True, kw_only=True)
class Run:
    """A configuration and its output folder.

    The properties list the blocks of each stage. They do not check that the files exist.

    Attributes:
        config: the configuration.
        out: the output folder.
    """

    config: DataConfig
    out: Path

    @cached_property
    def raw(self) -> list[Block]:
        """Blocks of ingested text."""
        return ingested_blocks(self.config, self.out)

    @cached_property
    def cleaned(self) -> list[Block]:
        """Blocks of cleaned text."""
        return cleaned_blocks(self.config, self.raw, self.out)

    @cached_property
    def filtered(self) -> list[Block]:
        """Blocks with the decisions of the filters."""
        return filtered_blocks(self.config, self.cleaned, self.out)

    @cached_property
    def dedup_input(self) -> list[DecidedBlock]:
        """Cleaned text and the decisions of the stages before deduplication."""
        cleaned = [DecidedBlock(block=block, decisions=(block.path,)) for block in self.cleaned]
        return _followed_by_stage(cleaned, self.filtered)

    @cached_property
    def deduplicated(self) -> list[Block]:
        """Blocks with the decisions of deduplication."""
        return deduplicated_blocks(self.config, self.dedup_input, self.out)

    @cached_property
    def decontamination_input(self) -> list[DecidedBlock]:
        """Cleaned text and the decisions of the stages before decontamination."""
        return _followed_by_stage(self.dedup_input, self.deduplicated)

    @cached_property
    def decontaminated(self) -> list[Block]:
        """Blocks with the decisions of decontamination."""
        return decontaminated_blocks(self.config, self.decontamination_input, self.out)

    @cached_property
    def ready(self) -> list[DecidedBlock]:
        """Cleaned text and all decisions."""
        return _followed_by_stage(self.decontamination_input, self.decontaminated)


def _followed_by_stage(decided: Sequence[DecidedBlock], by: Sequence[Block]) -> list[DecidedBlock]:
    return [item.followed_by(block) for item, block in zip(decided, by, strict=True)]
