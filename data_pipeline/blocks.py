"""The Parquet form of bitext and of the decisions about it.

Ingestion and cleaning write text. Each later stage writes a file of decisions: one `reason` or null
for each row of the cleaned text. Counts and samples of the rejected lines are
stored in the footer of the same file, so that one atomic rename publishes text, decisions and
statistics together.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy
import polars
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from nllb.errors import DataError
from nllb.io.atomic import atomic_path
from nllb.io.text import parse_json

from .stages import Block

TEXT_SCHEMA: Final = pyarrow.schema(
    [
        ("source", pyarrow.large_string()),
        ("target", pyarrow.large_string()),
        ("source_language", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("target_language", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("corpus", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("line", pyarrow.int64()),
        ("origin", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("margin", pyarrow.float32()),
    ]
)
NUM_SAMPLES: Final = 3
"""Number of rejected lines that are stored as samples per block and reason."""
ROWS_PER_GROUP: Final = 16_384
"""Rows per Parquet row group; samples are taken from the first group."""
_CONSTANTS = ["source_language", "target_language", "corpus", "origin", "reason", "language"]
_FOOTER = b"nllb"
_SAMPLE_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class DecidedBlock:
    """A block of text and the decisions about it so far.

    Attributes:
        block: cleaned bitext, or monolingual sentences (with an empty `target`).
        decisions: files with one row per row of the block and a column `reason`; empty if all rows
            are kept.
    """

    block: Block
    decisions: tuple[Path, ...]

    def followed_by(self, decided: Block) -> "DecidedBlock":
        """Return the block with the decisions of the next stage added."""
        return DecidedBlock(block=self.block, decisions=(*self.decisions, decided.path))

    @property
    def key(self) -> list[str]:
        """Values that identify the text and the decisions."""
        return [self.block.key, *(path.name for path in self.decisions)]


def text_table(
    block: Block,
    sources: Any,
    targets: Any,
    lines: Any,
    margins: Any = None,
) -> pyarrow.Table:
    """Return a block of bitext as a table of `TEXT_SCHEMA`."""
    count = len(sources)

    def constant(value: str) -> pyarrow.DictionaryArray:
        indices = pyarrow.array([0], pyarrow.int32()).take(
            pyarrow.array([0] * count, pyarrow.int32())
        )
        return pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array([value]))

    return pyarrow.table(
        [
            _column(sources, pyarrow.large_string()),
            _column(targets, pyarrow.large_string()),
            constant(block.source),
            constant(block.target),
            constant(block.corpus),
            _column(lines, pyarrow.int64()),
            constant(block.origin),
            pyarrow.nulls(count, pyarrow.float32())
            if margins is None
            else _column(margins, pyarrow.float32()),
        ],
        schema=TEXT_SCHEMA,
    )


def write_table(path: Path, table: pyarrow.Table, facts: dict[str, Any]) -> None:
    """Atomically write a Parquet file with `facts` as JSON in its footer.

    The footer is read back before the file is renamed, so that a truncated file (on a full disk)
    never appears under its final name.
    """
    footer = json.dumps(facts, ensure_ascii=False).encode("utf-8")
    table = table.replace_schema_metadata({_FOOTER: footer})
    with atomic_path(path) as beside:
        parquet.write_table(
            table,
            beside,
            compression="zstd",
            compression_level=1,
            row_group_size=ROWS_PER_GROUP,
            use_dictionary=_CONSTANTS,
            write_statistics=False,
        )
        check_parquet(beside, table.num_rows)


def check_parquet(path: Path, num_rows: int) -> None:
    """Check that a Parquet file is complete.

    Raises:
        DataError: if the footer cannot be read or records a different number of rows.
    """
    try:
        found = parquet.read_metadata(path).num_rows
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"the Parquet file was not written completely: {error}") from None
    if found != num_rows:
        raise DataError(f"the Parquet file has {found:,} rows, but {num_rows:,} were written")


def read_columns(path: Path, columns: Sequence[str] | None = None) -> polars.DataFrame:
    """Read columns of a block; all of them by default.

    Raises:
        DataError: if the file is not Parquet, is damaged, or lacks a column.
    """
    try:
        file = parquet.ParquetFile(path)
        frame = polars.from_arrow(file.read(columns and list(columns), use_threads=False))
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from None
    assert isinstance(frame, polars.DataFrame)
    missing = set(columns or ()) - set(frame.columns)
    if missing:
        raise DataError(
            f"{path}: column {', '.join(sorted(missing))} is missing; the file has "
            f"{', '.join(frame.columns)}"
        )
    return frame


def read_first_rows(path: Path, columns: Sequence[str]) -> polars.DataFrame:
    """Read columns of the first row group, for samples."""
    try:
        file = parquet.ParquetFile(path)
        if file.num_row_groups == 0:
            return read_columns(path, columns)
        frame = polars.from_arrow(file.read_row_group(0, list(columns), use_threads=False))
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from None
    assert isinstance(frame, polars.DataFrame)
    return frame


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts that are stored in the footer of a block."""
    try:
        metadata = parquet.read_schema(path).metadata or {}
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from None
    facts: dict[str, Any] = parse_json(metadata.get(_FOOTER, b"{}"), path)
    return facts


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot read the block {path}: {error}; remove it and run again")


def reasons(paths: Sequence[Path]) -> polars.Series:
    """Return the first reason that the decision files contain for each row, or null."""
    columns = [read_columns(path, ["reason"])["reason"].cast(polars.String) for path in paths]
    return polars.select(polars.coalesce(columns)).to_series().rename("reason")


def decision_facts(text: polars.DataFrame, alive: polars.Series, reason: polars.Series) -> Any:
    """Return the facts for a stage's footer: rows in and out, counts by reason, samples.

    Args:
        text: source, target and line of all rows, or of the first rows.
        alive: the rows that earlier stages have kept.
        reason: why this stage rejects each row, or null.
    """
    rejected = reason.is_not_null() & alive
    counts = reason.filter(rejected).value_counts().sort("reason")
    shown = rejected.head(len(text))
    rows = text.select("source", "target", "line").filter(shown)
    rows = rows.with_columns(reason.head(len(text)).filter(shown))
    samples: dict[str, list[dict[str, Any]]] = {}
    for row in rows.group_by("reason", maintain_order=True).head(NUM_SAMPLES).iter_rows(named=True):
        samples.setdefault(row["reason"], []).append(
            {
                "line": row["line"],
                "source": row["source"][:_SAMPLE_CHARACTERS],
                "target": (row["target"] or "")[:_SAMPLE_CHARACTERS],
            }
        )
    return {
        "rows_in": int(alive.sum()),
        "rows_out": int(alive.sum()) - int(rejected.sum()),
        "reasons": dict(counts.iter_rows()),
        "samples": dict(sorted(samples.items())),
    }


def write_decisions(
    path: Path,
    text: polars.DataFrame,
    alive: polars.Series,
    reason: polars.Series,
    *,
    scores: polars.DataFrame | None = None,
    more: dict[str, Any] | None = None,
) -> None:
    """Write the decisions of a stage about a block, and the scores that they are based on."""
    frame = polars.DataFrame({"reason": reason.cast(polars.Categorical)})
    if scores is not None:
        frame = frame.hstack(scores)
    facts = {**decision_facts(text, alive, reason), **(more or {})}
    write_table(path, frame.to_arrow(), facts)


def large_strings(texts: polars.Series) -> pyarrow.LargeStringArray:
    """Return a column of text as an Arrow array of contiguous bytes with 64-bit offsets."""
    return _column(texts, pyarrow.large_string())


def utf8_bytes(column: pyarrow.LargeStringArray) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return views of a column's bytes and of its offsets (the start of each text, and the end)."""
    _, offset_buffer, data = column.buffers()
    offsets = numpy.frombuffer(offset_buffer, dtype=numpy.int64)
    offsets = offsets[column.offset : column.offset + len(column) + 1]
    raw = numpy.frombuffer(data if data is not None else b"", dtype=numpy.uint8)
    return raw[offsets[0] : offsets[-1]], offsets - offsets[0]


def _column(values: Any, kind: pyarrow.DataType) -> pyarrow.Array:
    if isinstance(values, polars.Series):
        values = values.to_arrow()
    if isinstance(values, pyarrow.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pyarrow.Array):
        return values if values.type == kind else values.cast(kind)
    return pyarrow.array(values, kind)
