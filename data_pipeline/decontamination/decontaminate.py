"""The decontamination stage, which finds the lines that contain evaluation sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars

from data_pipeline.blocks import DecidedBlock, read_columns, reasons, write_decisions
from data_pipeline.data_config import DataConfig
from data_pipeline.stages import Block, BlockTask, Machine, run_tasks
from nllb.config.fingerprints import fingerprint

from .evaluation_sets import (
    build_evaluation_index,
    evaluation_key,
    open_evaluation_index,
)
from .held_out_set import held_out_key, write_held_out_set

VERSION = 1
STAGE = "shield"
"""Name of the stage's folder, which is also part of its keys. Earlier releases called the stage
`shield`, and their output remains valid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecontaminationTask(BlockTask):
    """Decontaminate one block.

    Attributes:
        decided: the cleaned text and the decisions of earlier stages.
        index: the index of the evaluation sets.
    """

    decided: DecidedBlock
    index: Path


def decontaminate_bitext(
    config: DataConfig, decided: Sequence[DecidedBlock], out: Path, machine: Machine
) -> list[Block]:
    """Decontaminate all blocks and return the blocks of decisions."""
    sets = config.decontamination
    if config.held_out_set is not None:
        sets = (*sets, write_held_out_set(config.held_out_set, decided, out))
    index = out / STAGE / f"index.{_key_of_sets(config, decided)}"
    if not index.exists():
        build_evaluation_index(sets, config.data_dir).save(index)
    tasks = _tasks(config, decided, out)
    run_tasks("decontaminate", tasks, decontaminate_block, machine)
    return [task.block for task in tasks]


def decontaminated_blocks(
    config: DataConfig, decided: Sequence[DecidedBlock], out: Path
) -> list[Block]:
    """Return the blocks of decisions, finished or not."""
    return [task.block for task in _tasks(config, decided, out)]


def _tasks(
    config: DataConfig, decided: Sequence[DecidedBlock], out: Path
) -> list[DecontaminationTask]:
    sets = _key_of_sets(config, decided)
    index = out / STAGE / f"index.{sets}"
    return [
        DecontaminationTask(
            decided=item,
            block=item.block.derive(out / STAGE, STAGE, VERSION, sets, item.key),
            index=index,
        )
        for item in decided
    ]


def _key_of_sets(config: DataConfig, decided: Sequence[DecidedBlock]) -> str:
    key = evaluation_key(config.decontamination, config.data_dir)
    if config.held_out_set is None:
        return key
    return fingerprint(key, held_out_key(config.held_out_set, decided))


def decontaminate_block(task: DecontaminationTask) -> None:
    """Find the evaluation sentences in one block and write the decisions."""
    evaluation = open_evaluation_index(task.index)
    text = read_columns(task.decided.block.path, ["source", "target", "line"])
    before = reasons(task.decided.decisions)
    alive = before.is_null()
    rows = alive.arg_true().to_list()
    chosen = text.filter(alive)
    reason: list[str | None] = [None] * len(text)
    matches = []
    for side in ("source", "target"):
        for row, match in zip(rows, evaluation.find(chosen[side]), strict=True):
            if match is not None:
                reason[row] = reason[row] or f"evaluation_{match.kind}"
                place = evaluation.places[match.sentence]
                line = text["line"][row]
                matches.append({"line": line, "side": side, "kind": match.kind, "sentence": place})
    write_decisions(
        task.output,
        text,
        alive,
        polars.Series("reason", reason, dtype=polars.String),
        more={"finds": matches},
    )
