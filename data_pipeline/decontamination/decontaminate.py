"""The shield stage: which line of which block holds an evaluation sentence, and which one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars

from data_pipeline.blocks import Decided, read_columns, reasons, write_decisions
from data_pipeline.data_config import DataConfig
from data_pipeline.decontamination.evaluation_sets import evaluation_key, index_sets, open_shield
from data_pipeline.stages import Block, BlockTask, Machine, run_tasks

VERSION = 1
STAGE = "shield"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShieldTask(BlockTask):
    """Shield one block."""

    decided: Decided
    """The cleaned text and the decisions before."""
    index: Path
    """The evaluation sets, indexed."""


def shield_bitext(
    config: DataConfig, decided: Sequence[Decided], out: Path, machine: Machine
) -> list[Block]:
    """Shield all blocks and return the blocks of decisions."""
    index_sets(config.decontamination, config.data_dir, out / STAGE)
    tasks = _tasks(config, decided, out)
    run_tasks("shield", tasks, shield_block, machine)
    return [task.block for task in tasks]


def shielded_blocks(config: DataConfig, decided: Sequence[Decided], out: Path) -> list[Block]:
    """Return the blocks of decisions, whether they are there or not."""
    return [task.block for task in _tasks(config, decided, out)]


def _tasks(config: DataConfig, decided: Sequence[Decided], out: Path) -> list[ShieldTask]:
    sets = evaluation_key(config.decontamination, config.data_dir)
    index = out / STAGE / f"index.{sets}"
    return [
        ShieldTask(
            decided=item,
            block=item.block.follow(out / STAGE, STAGE, VERSION, sets, item.key),
            index=index,
        )
        for item in decided
    ]


def shield_block(task: ShieldTask) -> None:
    """Shield one block."""
    shield = open_shield(task.index)
    text = read_columns(task.decided.block.path, ["source", "target", "line"])
    before = reasons(task.decided.decisions)
    alive = before.is_null()
    rows = alive.arg_true().to_list()
    chosen = text.filter(alive)
    reason: list[str | None] = [None] * len(text)
    finds = []
    for side in ("source", "target"):
        for row, find in zip(rows, shield.find(chosen[side]), strict=True):
            if find is not None:
                reason[row] = reason[row] or f"evaluation_{find.kind}"
                place = shield.places[find.sentence]
                line = text["line"][row]
                finds.append({"line": line, "side": side, "kind": find.kind, "sentence": place})
    write_decisions(
        task.output,
        text,
        alive,
        polars.Series("reason", reason, dtype=polars.String),
        more={"finds": finds},
    )
