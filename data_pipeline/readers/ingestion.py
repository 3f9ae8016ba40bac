"""The ingest stage, which writes blocks of text and a record of each finished source."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.blocks import text_table, write_table
from data_pipeline.data_config import DataConfig
from data_pipeline.stages import Block, Machine, run_tasks
from nllb.config.fingerprints import file_fingerprint, fingerprint
from nllb.errors import DataError
from nllb.io.atomic import atomic_text
from nllb.io.text import json_line, read_object, write_json

from .source_reader import Rows, read_blocks
from .sources import Source, find_sources

VERSION = 3
STAGE = "ingest"
_RECORD = ("blocks", "rows_read", "quarantined")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTask:
    """Read one source into blocks.

    Attributes:
        source: the source.
        directory: folder of the stage.
        block_lines: number of lines per block.
        key: hash of the content, the reading options and the version.
    """

    source: Source
    directory: Path
    block_lines: int
    key: str

    @property
    def output(self) -> Path:
        """The record of the source, which is written last."""
        return self.directory / f"{self.source.name}.{self.key}.json"

    def block(self, number: int, num_rows: int = 0) -> Block:
        """Return a block of the source."""
        name = f"{self.source.name}/{number:05d}"
        key = fingerprint(self.key, number)
        return Block(
            name=name,
            key=key,
            path=self.directory / f"{name}.{key}.parquet",
            corpus=self.source.corpus.name,
            source=self.source.source,
            target=self.source.target,
            origin=self.source.corpus.origin if self.source.target else "denoising",
            num_rows=num_rows,
        )


def ingest(config: DataConfig, out: Path, machine: Machine) -> dict[str, Any]:
    """Read every corpus of the configuration into blocks and return the counts."""
    tasks, skipped = _all_tasks(config, out)
    run_tasks("ingest", tasks, read_source, machine)
    records = [read_object(task.output, *_RECORD) for task in tasks if task.output.exists()]
    return {
        "sources": len(tasks),
        "finished": len(records),
        "rows_read": sum(record["rows_read"] for record in records),
        "rows_out": sum(sum(record["blocks"]) for record in records),
        "quarantined": sum(record["quarantined"] for record in records),
        "skipped_files": skipped,
    }


def ingested_blocks(config: DataConfig, out: Path, *, monolingual: bool = False) -> list[Block]:
    """Return the blocks of all bitext, or of all documents, in order.

    Deduplication keeps the first of several equal lines in this order.

    Raises:
        DataError: if a source has not been ingested with this configuration.
    """
    blocks: list[Block] = []
    for task in _tasks(config, out, monolingual=monolingual)[0]:
        if not task.output.exists():
            raise DataError(
                f"{task.source.name} has not been ingested with this configuration; "
                "run `nllb data ingest`"
            )
        record = read_object(task.output, *_RECORD)
        blocks += [task.block(number, rows) for number, rows in enumerate(record["blocks"])]
    return blocks


def ingestion_counts(config: DataConfig, out: Path) -> list[dict[str, Any]]:
    """Return the records of all sources with their names, for the statistics."""
    tasks, _ = _all_tasks(config, out)
    return [
        {"corpus": task.source.corpus.name, "pair": task.source.name.split("/", 1)[1]}
        | read_object(task.output, *_RECORD)
        for task in tasks
    ]


def read_source(task: SourceTask) -> None:
    """Write the missing blocks of one source, then the quarantined rows, then the record."""
    counts: list[int] = []
    rows_read = quarantined = 0
    facts_by_block: dict[int, dict[str, Any]] = {}

    def done(number: int) -> bool:
        # A block is complete only together with the list of its quarantined rows.
        side_file = _side_file(task, number)
        if task.block(number).path.exists() and side_file.exists():
            facts_by_block[number] = read_object(side_file, "rows", "bad")
            return True
        return False

    blocks = read_blocks(task.source, task.block_lines, done)
    for number, rows in enumerate(blocks):
        if number not in facts_by_block:
            facts_by_block[number] = _write_block(task, number, rows)
        facts = facts_by_block[number]
        counts.append(facts["rows"])
        quarantined += len(facts["bad"])
        rows_read += rows.num_read
    if quarantined:
        with atomic_text(task.output.with_suffix(".quarantine.jsonl")) as stream:
            for number in range(len(counts)):
                stream.writelines(json_line(bad) + "\n" for bad in facts_by_block[number]["bad"])
    write_json(
        task.output,
        {
            "blocks": counts,
            "rows_read": rows_read,
            "quarantined": quarantined,
            "files": [str(path) for path in task.source.paths if path.is_file()],
        },
    )
    for number in range(len(counts)):
        _side_file(task, number).unlink(missing_ok=True)


def _write_block(task: SourceTask, number: int, rows: Rows) -> dict[str, Any]:
    block = task.block(number)
    table = text_table(block, rows.sources, rows.targets, rows.lines, rows.margins)
    facts = {"rows": len(rows.sources), "bad": rows.bad}
    write_table(block.path, table, {"rows_in": rows.num_read, "rows_out": len(rows.sources)})
    with atomic_text(_side_file(task, number)) as stream:
        json.dump(facts, stream, ensure_ascii=False)
    return facts


def _side_file(task: SourceTask, number: int) -> Path:
    return task.block(number).path.with_suffix(".note.json")


def _all_tasks(config: DataConfig, out: Path) -> tuple[list[SourceTask], dict[str, list[str]]]:
    tasks, skipped = _tasks(config, out, monolingual=False)
    more, skipped_too = _tasks(config, out, monolingual=True)
    return [*tasks, *more], skipped | skipped_too


def _tasks(
    config: DataConfig, out: Path, *, monolingual: bool
) -> tuple[list[SourceTask], dict[str, list[str]]]:
    sources, skipped = find_sources(config, monolingual=monolingual)
    directory = out / STAGE
    hashes = _FileHashes(directory)
    tasks = []
    for source in sources:
        corpus = source.corpus
        key = fingerprint(
            VERSION,
            [hashes.of(path, source) for path in source.paths if path.is_file()],
            [source.spelled, corpus.format, corpus.layout, corpus.columns, corpus.header],
            [corpus.margin_column, corpus.origin, corpus.interface],
            [corpus.bad_rows, corpus.max_rows, config.block_lines],
        )
        tasks.append(
            SourceTask(source=source, directory=directory, block_lines=config.block_lines, key=key)
        )
    return tasks, skipped


class _FileHashes:
    """Hashes of the input files, cached on disk so that later stages do not read the input."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[Path, str] = {}

    def of(self, path: Path, source: Source) -> str:
        if path in self._known:
            return self._known[path]
        status = path.stat()
        stamp = [str(path.resolve()), status.st_size, status.st_mtime_ns]
        name = fingerprint(str(path.resolve()))
        kept = self._directory / "hashes" / f"{source.corpus.name}.{name}.json"
        if kept.exists():
            recorded = read_object(kept, "stamp", "hash")
            if recorded["stamp"] == stamp:
                self._known[path] = recorded["hash"]
                return str(recorded["hash"])
        found = file_fingerprint(path)
        write_json(kept, {"stamp": stamp, "hash": found})
        self._known[path] = found
        return found
