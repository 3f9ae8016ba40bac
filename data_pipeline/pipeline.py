"""The stages in order; each stage finds its input in the files that earlier stages wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from nllb import __version__
from nllb.config import write_config
from nllb.config.fingerprints import fingerprint
from nllb.io.text import write_json

from .blocks import DecidedBlock
from .cleaning.clean_text import clean
from .data_config import DataConfig
from .decontamination.decontaminate import decontaminate_bitext
from .deduplication.external import deduplicate
from .filtering.filter_stage import filter_bitext
from .monolingual import make_sentences, sentence_blocks
from .preparation.prepare_shards import prepare
from .readers.ingestion import ingest
from .run import Run
from .stages import Block, Machine, Phase, require
from .statistics import write_statistics


def _ingest(run: Run, machine: Machine, phase: Phase | None) -> dict[str, Any]:
    return ingest(run.config, run.out, machine)


def _clean(run: Run, machine: Machine, phase: Phase | None) -> dict[str, Any]:
    return _counts(clean(run.config, run.raw, run.out, machine))


def _monolingual(run: Run, machine: Machine, phase: Phase | None) -> dict[str, Any]:
    if run.config.monolingual is None:
        return {"blocks": 0, "finished": 0}
    return _counts(make_sentences(run.config, run.out, machine, phase))


def _filter(run: Run, machine: Machine, phase: Phase | None) -> dict[str, Any]:
    require(run.cleaned, "clean")
    return _counts(filter_bitext(run.config, run.cleaned, run.out, machine))


def _dedup(run: Run, machine: Machine, phase: Phase | None) -> dict[str, Any]:
    require(run.filtered, "filter")
    return _counts(deduplicate(run.config, run.dedup_input, run.out, machine, phase))


def _decontaminate(run: Run, machine: Machine, phase: Phase | None) -> dict[str, Any]:
    require(run.deduplicated, "dedup")
    return _counts(decontaminate_bitext(run.config, run.decontamination_input, run.out, machine))


def _prepare(run: Run, machine: Machine, phase: Phase | None) -> dict[str, Any]:
    require(run.decontaminated, "decontaminate")
    sentences: list[DecidedBlock] = []
    if run.config.monolingual is not None and run.config.monolingual.denoising:
        blocks = sentence_blocks(run.config, run.out)
        require(blocks, "monolingual")
        sentences = [DecidedBlock(block=block, decisions=()) for block in blocks]
    if not run.config.corpora and not sentences:
        return {"manifest": None, "skipped": "the run has neither bitext nor denoising sentences"}
    manifest = prepare(run.config, run.ready, sentences, run.out, machine)
    return {"manifest": None if manifest is None else str(manifest)}


def _stats(run: Run, machine: Machine, phase: Phase | None) -> dict[str, Any]:
    return write_statistics(run)


STAGES: Final[dict[str, Callable[[Run, Machine, Phase | None], dict[str, Any]]]] = {
    "ingest": _ingest,
    "clean": _clean,
    "monolingual": _monolingual,
    "filter": _filter,
    "dedup": _dedup,
    "decontaminate": _decontaminate,
    "prepare": _prepare,
    "stats": _stats,
}
"""The function that runs each stage, by name, in the order of a whole run."""


def run_stage(
    name: str, config: DataConfig, out: Path, machine: Machine, phase: Phase | None = None
) -> dict[str, Any]:
    """Run one stage and return its counts."""
    result = STAGES[name](Run(config=config, out=out), machine, phase)
    return {"stage": name, **result}


def start_run(config: DataConfig, out: Path) -> None:
    """Write the configuration and the version next to the output."""
    write_config(config, out / "config.yaml")
    write_json(out / "run.json", {"version": __version__, "configuration": fingerprint(config)})


def _counts(blocks: list[Block]) -> dict[str, Any]:
    return {
        "blocks": len(blocks),
        "finished": sum(block.path.exists() for block in blocks),
    }
