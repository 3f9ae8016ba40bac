"""Mining, which finds bitext of origin `mined` in monolingual sentences of several languages.

There are five phases of independent tasks, whose outputs are named by their inputs:

1. `text`: the distinct sentences of each language, with the other columns of the input
2. `embed`: the vectors of each block
3. `index`: a FAISS index of each language that has many sentences
4. `search`: the neighbours of each block in the other language, in both directions
5. `pairs`: margins, retrieval, threshold; one Parquet file per language pair

With `--shard I/N`, a command runs its share of a phase, and continues with the next phase once the
outputs of all shards exist. Tasks do not depend on the shards, so neither does the result.

With `documents: true`, the sentences of paired documents are aligned instead.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy

from data_pipeline.blocks import read_facts
from data_pipeline.stages import Machine, Task, run_tasks
from nllb.config.fingerprints import fingerprint
from nllb.errors import ConfigError, DataError
from nllb.io.arrays import open_arrays
from nllb.io.atomic import atomic_path

from .calibration import OperatingPoint, find_calibration
from .document_alignment import align_task, document_tasks, file_hash
from .encoders.encoder import Encoder
from .encoders.load_encoder import load_encoder
from .margins import retrieve
from .mined import write_mined
from .mining_config import MineConfig, MinedPairConfig, Precision
from .neighbours import (
    Neighbours,
    build_index,
    find_neighbours,
    index_name,
    load_index,
    save_index,
    search_index,
)
from .sentences import gather_sentences, read_rows
from .store import EmbeddingTask, StoredVectors, embed

Phase = Literal["text", "embed", "index", "search", "pairs"]
PHASES: Final[tuple[Phase, ...]] = ("text", "embed", "index", "search", "pairs")
VERSION: Final = 2
LASER_THRESHOLD: Final = 1.06
"""Threshold of the ratio margin for encoders without a calibration, from LASER2's publications."""
_LOG: Final = logging.getLogger("nllb.mining")
SomeTask = TypeVar("SomeTask", bound=Task)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTask:
    """Gather the distinct sentences of a language."""

    language: str
    """Language code."""
    paths: tuple[Path, ...]
    """Input files."""
    block_sentences: int
    """Number of sentences in one block."""
    output: Path
    """Parquet file of text, file, line, and the other columns of the input."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexTask:
    """Build the index of a language."""

    vectors: tuple[Path, ...]
    """Vector files of the language's blocks."""
    method: str
    """Name of the FAISS index."""
    output: Path
    """File of the index."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchTask:
    """Find the neighbours of one block in the other language."""

    queries: Path
    """Vectors of the block."""
    base: tuple[Path, ...]
    """Vectors of the other language."""
    index: Path | None
    """Index of the other language; None means exact search."""
    neighbours: int
    """Number of neighbours per sentence."""
    probes: int
    """Number of index cells to search."""
    output: Path
    """File of indices and similarities."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairsTask:
    """Write the bitext of one language pair."""

    pair: MinedPairConfig
    """The languages."""
    texts: tuple[Path, Path]
    """Sentences of both sides."""
    forward: tuple[Path, ...]
    """Neighbours of the source blocks."""
    backward: tuple[Path, ...]
    """Neighbours of the target blocks."""
    config: MineConfig
    """The configuration of the run."""
    point: OperatingPoint
    """Minimum margin and, if it is calibrated, its precision and recall in the calibration."""
    key: str
    """Hash of everything that the output depends on."""
    output: Path
    """File of the bitext."""


class MiningRun:
    """A configuration and its output folder; it lists the tasks of each phase."""

    def __init__(self, config: MineConfig, out: Path) -> None:
        self.config, self.out = config, out
        self._tables: dict[str, Path] = {}

    def encoder(self) -> Encoder:
        """Load the encoder, once per process."""
        return _encoder(self.config.encoder, self.config.dtype)

    def texts(self) -> list[TextTask]:
        """Return the tasks of phase 1."""
        tasks = []
        for section in self.config.text:
            paths = tuple(sorted(self.config.data_dir.glob(section.path)))
            if not paths:
                raise DataError(
                    f"there is no text of {section.language.code}: no file matches "
                    f"{section.path!r} under {self.config.data_dir}"
                )
            size = self.config.block_sentences
            key = fingerprint(VERSION, size, [(path.name, file_hash(path)) for path in paths])
            code = section.language.code
            output = self.out / "text" / f"{code}.{key}.parquet"
            tasks.append(TextTask(language=code, paths=paths, block_sentences=size, output=output))
        return tasks

    def embeddings(self) -> dict[str, list[EmbeddingTask]]:
        """Return the tasks of phase 2, by language."""
        key = self.encoder().key
        return {
            task.language: [
                EmbeddingTask(
                    language=task.language,
                    text=task.output,
                    number=number,
                    digest=digest,
                    encoder_key=key,
                    directory=self.out / "vectors",
                )
                for number, digest in enumerate(read_facts(task.output)["blocks"])
            ]
            for task in self.texts()
        }

    def indexes(self) -> dict[str, IndexTask]:
        """Return the tasks of phase 3, by language."""
        tasks = {}
        counts = {task.language: read_facts(task.output)["rows_out"] for task in self.texts()}
        for language, blocks in self.embeddings().items():
            count = counts[language]
            method = index_name(count) if self.config.index == "auto" else self.config.index
            if method != "exact" and count:
                key = fingerprint(VERSION, method, [block.key for block in blocks])
                tasks[language] = IndexTask(
                    vectors=tuple(block.output for block in blocks),
                    method=method,
                    output=self.out / "index" / f"{language}.{key}.faiss",
                )
        return tasks

    def searches(self) -> dict[tuple[str, str], list[SearchTask]]:
        """Return the tasks of phase 4, by the languages of the queries and of the base."""
        blocks, indexes = self.embeddings(), self.indexes()
        tasks: dict[tuple[str, str], list[SearchTask]] = {}
        for pair in self.config.pairs:
            codes = (pair.source.code, pair.target.code)
            for source, target in (codes, codes[::-1]):
                index = indexes.get(target)
                what = [VERSION, self.config.neighbours, [block.key for block in blocks[target]]]
                if index is not None:
                    what += [index.method, self.config.probes]
                tasks[source, target] = [
                    SearchTask(
                        queries=block.output,
                        base=tuple(other.output for other in blocks[target]),
                        index=None if index is None else index.output,
                        neighbours=self.config.neighbours,
                        probes=self.config.probes,
                        output=self.out
                        / "neighbours"
                        / f"{source}-{target}"
                        / f"{block.number:06d}.{fingerprint(block.key, *what)}.npz",
                    )
                    for block in blocks[source]
                ]
        return tasks

    def pairs(self) -> list[PairsTask]:
        """Return the tasks of phase 5."""
        searches = self.searches()
        texts = {task.language: task.output for task in self.texts()}
        tasks = []
        for pair in self.config.pairs:
            codes = (pair.source.code, pair.target.code)
            forward = tuple(task.output for task in searches[codes])
            backward = tuple(task.output for task in searches[codes[::-1]])
            config = self.config
            sizes = [read_facts(texts[code])["rows_out"] for code in codes]
            point = self._operating_point(pair, sizes)
            threshold = point.threshold
            key = fingerprint(
                VERSION,
                [path.name for path in (*forward, *backward)],
                [texts[code].name for code in codes],
                [config.margin, config.retrieval, threshold, config.name],
            )
            tasks.append(
                PairsTask(
                    pair=pair,
                    texts=(texts[codes[0]], texts[codes[1]]),
                    forward=forward,
                    backward=backward,
                    config=config,
                    point=point,
                    key=key,
                    output=self.out / "mined" / f"{'-'.join(codes)}.{key}.parquet",
                )
            )
        return tasks

    def _operating_point(self, pair: MinedPairConfig, sizes: Sequence[int]) -> OperatingPoint:
        """Return the threshold of a language pair: configured, or calibrated for the encoder."""
        config = self.config
        fixed = config.threshold if pair.threshold is None else pair.threshold
        if fixed is not None:
            return OperatingPoint(threshold=fixed)
        encoder = self.encoder()
        calibration = find_calibration(config.encoder, encoder)
        if calibration is not None:
            mean_size = float(numpy.sqrt(float(sizes[0]) * float(sizes[1])))
            return calibration.margin_point(config.margin, config.neighbours, mean_size)
        if config.margin != "ratio":
            raise ConfigError(
                f"the encoder {encoder.name!r} is not calibrated, so `threshold` must be set for "
                f"margin {config.margin}; or run `nllb data calibrate-encoder`"
            )
        _LOG.warning(
            "the encoder %r is not calibrated; mining uses the threshold %s of LASER2. Run "
            "`nllb data calibrate-encoder`, or set `threshold`",
            encoder.name,
            LASER_THRESHOLD,
        )
        return OperatingPoint(threshold=LASER_THRESHOLD)


def mine(
    config: MineConfig, out: Path, machine: Machine, phase: Phase | None = None
) -> list[dict[str, Any]]:
    """Run one phase, or all that can run, and return a summary of each finished language pair."""
    if phase is not None and phase not in PHASES:
        raise ConfigError(f"unknown phase {phase!r}; valid: {', '.join(PHASES)}")
    if config.documents:
        tasks = document_tasks(config, out)
        run_tasks("align documents", tasks, align_task, machine)
        return [summary(task) for task in tasks if task.output.exists()]
    run = MiningRun(config, out)
    for name in PHASES:
        listed = _tasks(run, name)
        if phase in (None, name):
            run_tasks(f"mine {name}", listed, _worker(name, config), machine)
        if phase == name:
            break
        missing = [task.output for task in listed if not task.output.exists()]
        if missing and phase is None and machine.shard[1] > 1:
            return []
        if missing:
            raise DataError(
                f"{len(missing):,} of {len(listed):,} outputs of the phase {name!r} are missing, "
                f"the first is {missing[0]}; run `nllb data mine --phase {name}` for every shard"
            )
    if phase not in (None, "pairs"):
        return []
    return [summary(task) for task in run.pairs() if task.output.exists()]


def summary(task: Task) -> dict[str, Any]:
    """Return the file and the counts of a finished language pair."""
    return {"path": str(task.output), **read_facts(task.output)}


def _tasks(run: MiningRun, phase: Phase) -> Sequence[Any]:
    if phase == "text":
        return run.texts()
    if phase == "embed":
        return [task for tasks in run.embeddings().values() for task in tasks]
    if phase == "index":
        return list(run.indexes().values())
    if phase == "search":
        return [task for tasks in run.searches().values() for task in tasks]
    return run.pairs()


def _worker(phase: Phase, config: MineConfig) -> Any:
    if phase == "embed":
        return _Embed(encoder=config.encoder, dtype=config.dtype)
    return {"text": gather_text, "index": write_index, "search": search, "pairs": write_pairs}[
        phase
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Embed:
    """Encodes blocks, in this process or another one."""

    encoder: str
    """Name of the encoder."""
    dtype: Precision
    """Number format of its computations."""

    def __call__(self, task: EmbeddingTask) -> None:
        embed(task, _encoder(self.encoder, self.dtype))


@cache
def _encoder(name: str, dtype: Precision) -> Encoder:
    return load_encoder(name, dtype)


def gather_text(task: TextTask) -> None:
    """Write the distinct sentences of a language."""
    gather_sentences(task.paths, task.output, task.block_sentences)


def write_index(task: IndexTask) -> None:
    """Build the index of a language and write it atomically."""
    save_index(build_index(StoredVectors(task.vectors), task.method), task.output)


def search(task: SearchTask) -> None:
    """Write the neighbours of a block."""
    queries, base, k = StoredVectors([task.queries]), StoredVectors(task.base), task.neighbours
    if task.index is None:
        found = find_neighbours(queries, base, k, method="exact")
    else:
        index = _open_index(task.index)
        found = search_index(index, queries, k, probes=task.probes, base=base)
    with atomic_path(task.output) as beside, beside.open("wb") as stream:
        numpy.savez(stream, indices=found.indices, similarities=found.similarities)


_open_index = cache(load_index)


def write_pairs(task: PairsTask) -> None:
    """Write the bitext of a language pair, best margin first."""
    config, pair = task.config, task.pair
    candidates = retrieve(
        _StoredNeighbours(task.forward),
        _StoredNeighbours(task.backward),
        margin=config.margin,
        retrieval=config.retrieval,
    )
    kept = candidates.take(numpy.flatnonzero(candidates.margin >= task.point.threshold))
    sides = zip(task.texts, (kept.source, kept.target), strict=True)
    rows = [read_rows(path, chosen) for path, chosen in sides]
    write_mined(
        task.output,
        config,
        pair,
        key=task.key,
        sides=(rows[0], rows[1]),
        margin=kept.margin,
        facts={
            "sentences": [read_facts(path)["rows_out"] for path in task.texts],
            "candidates": len(candidates),
            "threshold": task.point.threshold,
            "calibrated_precision": task.point.precision,
            "calibrated_recall": task.point.recall,
            "encoder": _encoder(config.encoder, config.dtype).name,
        },
    )


class _StoredNeighbours(Sequence[Neighbours]):
    """The neighbours of each block, read on access."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: Any) -> Any:
        with open_arrays(self.paths[number]) as file:
            return Neighbours(indices=file["indices"], similarities=file["similarities"])
