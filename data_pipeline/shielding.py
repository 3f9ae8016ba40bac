"""The shield stage: which line of which block holds an evaluation sentence, and which one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars
import xxhash

from data_pipeline.blocks import read_columns, reasons, write_decisions
from data_pipeline.config import DataConfig, EvaluationConfig
from data_pipeline.deduplication import Scored
from data_pipeline.shield import Shield, evaluation_sentences
from data_pipeline.stages import Block, Machine, run_tasks

VERSION = 1
STAGE = "shield"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShieldTask:
    """Shield one block."""

    scored: Scored
    """The cleaned text and the decisions before."""
    block: Block
    """The decisions."""
    sets: tuple[EvaluationConfig, ...]
    """The evaluation sets."""
    data_dir: Path
    """Folder that their paths start from."""

    @property
    def output(self) -> Path:
        """The decisions."""
        return self.block.path


def shield_bitext(
    config: DataConfig, scored: Sequence[Scored], out: Path, machine: Machine
) -> list[Block]:
    """Shield all blocks and return the blocks of decisions."""
    tasks = _tasks(config, scored, out)
    run_tasks("shield", tasks, shield_block, machine)
    return [task.block for task in tasks]


def shielded_blocks(config: DataConfig, scored: Sequence[Scored], out: Path) -> list[Block]:
    """Return the blocks of decisions, whether they are there or not."""
    return [task.block for task in _tasks(config, scored, out)]


@lru_cache(maxsize=4)
def evaluation_key(sets: tuple[EvaluationConfig, ...], data_dir: Path) -> str:
    """Return a hash of all sentences of the sets."""
    digest = xxhash.xxh3_128()
    for sentence, place in evaluation_sentences(sets, data_dir):
        digest.update(f"{place}\t{sentence}\n".encode())
    return digest.hexdigest()


def _tasks(config: DataConfig, scored: Sequence[Scored], out: Path) -> list[ShieldTask]:
    sets = evaluation_key(config.shield, config.data_dir)
    return [
        ShieldTask(
            scored=item,
            block=item.block.follow(
                out / STAGE, STAGE, VERSION, sets, [path.name for path in item.decisions]
            ),
            sets=config.shield,
            data_dir=config.data_dir,
        )
        for item in scored
    ]


def shield_block(task: ShieldTask) -> None:
    """Shield one block."""
    shield = load_shield(task.sets, task.data_dir)
    text = read_columns(task.scored.block.path, ["source", "target", "line"])
    before = reasons(task.scored.decisions)
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


@lru_cache(maxsize=1)
def load_shield(sets: tuple[EvaluationConfig, ...], data_dir: Path) -> Shield:
    """Index the evaluation sets, once per process."""
    pairs = list(evaluation_sentences(sets, data_dir))
    return Shield([sentence for sentence, _ in pairs], [place for _, place in pairs])
