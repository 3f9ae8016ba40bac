"""The clean stage, which normalizes Unicode and removes markup, entities and control characters."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars
from polars import Expr, col

from data_pipeline.blocks import decision_facts, read_columns, text_table, write_table
from data_pipeline.data_config import CleanConfig, DataConfig
from data_pipeline.stages import Block, BlockTask, Machine, run_tasks
from nllb.languages.normalization import normalize_punctuation

from .markup import (
    BROKEN,
    UNRESOLVED,
    contains,
    drop_invisible,
    drop_tags,
    resolve_entities,
    resolve_wiki_markup,
)

VERSION = 1
STAGE = "clean"
SIDES: Final = ("source", "target")


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanTask(BlockTask):
    """Clean one block.

    Attributes:
        raw: the block as ingested.
        config: the cleaning options.
        interface: whether the corpus consists of interface messages.
    """

    raw: Block
    config: CleanConfig
    interface: bool


def clean(config: DataConfig, raw: Sequence[Block], out: Path, machine: Machine) -> list[Block]:
    """Clean all blocks and return them."""
    tasks = _tasks(config, raw, out)
    run_tasks("clean", tasks, clean_block, machine)
    return [task.block for task in tasks]


def cleaned_blocks(config: DataConfig, raw: Sequence[Block], out: Path) -> list[Block]:
    """Return the cleaned blocks, finished or not."""
    return [task.block for task in _tasks(config, raw, out)]


def _tasks(config: DataConfig, raw: Sequence[Block], out: Path) -> list[CleanTask]:
    interface = {corpus.name: corpus.interface for corpus in config.corpora}
    return [
        CleanTask(
            raw=block,
            block=block.derive(
                out / STAGE, STAGE, VERSION, config.clean, interface.get(block.corpus, False)
            ),
            config=config.clean,
            interface=interface.get(block.corpus, False),
        )
        for block in raw
    ]


def clean_block(task: CleanTask) -> None:
    """Clean the text of one block and give a reason for every line that cannot be used."""
    raw = read_columns(task.raw.path, [*SIDES, "line", "margin"])
    text = clean_columns(raw, SIDES, task.config, interface=task.interface)
    reason = text.select(
        polars.when((col("source") == "") | (col("target") == ""))
        .then(polars.lit("empty"))
        .when(contains("source", BROKEN) | contains("target", BROKEN))
        .then(polars.lit("broken_characters"))
        .when(
            polars.lit(task.interface)
            & (contains("source", UNRESOLVED) | contains("target", UNRESOLVED))
        )
        .then(polars.lit("markup"))
        .alias("reason")
    ).to_series()
    table = text_table(task.block, text["source"], text["target"], text["line"], text["margin"])
    reasons = reason.cast(polars.Categorical).to_arrow()
    table = table.append_column("reason", reasons)
    alive = polars.repeat(True, len(raw), dtype=polars.Boolean, eager=True)
    write_table(task.output, table, decision_facts(raw, alive, reason))


def clean_columns(
    rows: polars.DataFrame, sides: Sequence[str], config: CleanConfig, *, interface: bool
) -> polars.DataFrame:
    """Return the rows with the given columns cleaned."""
    rows = rows.with_columns(_cleaned(col(side), config, interface).alias(side) for side in sides)
    if config.punctuation:
        rows = rows.with_columns(
            polars.Series(side, [normalize_punctuation(text) for text in rows[side]], polars.String)
            for side in sides
        )
    return rows


def _cleaned(side: Expr, config: CleanConfig, interface: bool) -> Expr:
    if config.entities:
        side = resolve_entities(side)
    if config.markup:
        side = drop_tags(side)
        if interface:
            side = resolve_wiki_markup(side)
    side = drop_invisible(side)
    if config.unicode != "none":
        side = side.str.normalize(config.unicode)
    return side
