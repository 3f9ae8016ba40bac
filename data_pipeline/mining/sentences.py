"""The distinct sentences of a language on disk, written in bounded memory.

A file of sentences is Parquet with one row group per block. Its footer contains the hash of each
block, so that outputs that depend on the sentences can be named without reading them.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy
import polars
import pyarrow
import xxhash
from numpy.typing import NDArray
from polars import col, selectors
from pyarrow import parquet

from data_pipeline.blocks import check_parquet
from data_pipeline.deduplication.hashing import hash_texts
from nllb.errors import DataError
from nllb.io.atomic import atomic_path
from nllb.io.text import read_lines

_ROWS_AT_ONCE: Final = 50_000
# The metadata key that `read_facts` reads.
_FOOTER: Final = b"nllb"


def gather_sentences(paths: Sequence[Path], output: Path, block_sentences: int) -> None:
    """Write the distinct sentences of some files; of equal sentences the first is kept.

    Memory: 16 bytes per sentence, and one block.
    """
    hashes, shape, num_rows = [], polars.DataFrame(), 0
    for frame in _frames(paths):
        shape = polars.concat([shape, frame.clear()], how="diagonal_relaxed")
        num_rows += len(frame)
        hashes.append(hash_texts(_filled(frame)["text"])[:, 0])
    together = numpy.concatenate([numpy.zeros(0, numpy.uint64), *hashes])
    first = numpy.zeros(len(together), numpy.bool_)
    first[numpy.unique(together, return_index=True)[1]] = True
    del together, hashes
    digests: list[str] = []
    with atomic_path(output) as beside, _writer(beside, shape) as writer:
        kept, start = shape, 0
        for frame in _frames(paths):
            filled = _filled(frame)
            distinct = filled.filter(polars.Series(first[start : start + len(filled)]))
            start += len(filled)
            kept = polars.concat([kept, distinct], how="diagonal_relaxed")
            while len(kept) >= block_sentences:
                _write_block(writer, kept.head(block_sentences), digests)
                kept = kept.tail(-block_sentences)
        if len(kept):
            _write_block(writer, kept, digests)
        facts = {"rows_in": num_rows, "rows_out": int(first.sum()), "blocks": digests}
        writer.add_key_value_metadata({_FOOTER: json.dumps(facts).encode()})
        writer.close()
        check_parquet(beside, int(first.sum()))


def read_block(path: Path, number: int) -> list[str]:
    """Return the sentences of one block."""
    found: list[str] = _open(path).read_row_group(number, ["text"])["text"].to_pylist()
    return found


def read_rows(path: Path, rows: NDArray[numpy.int64]) -> polars.DataFrame:
    """Return the given rows with all columns, in the given order."""
    file = _open(path)
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    bounds = numpy.cumsum([0, *sizes])
    order = numpy.argsort(rows, kind="stable")
    cuts = numpy.searchsorted(rows[order], bounds)
    parts = [polars.DataFrame(polars.from_arrow(file.schema_arrow.empty_table()))]
    for number in range(len(sizes)):
        chosen = rows[order[cuts[number] : cuts[number + 1]]] - bounds[number]
        if len(chosen):
            found = file.read_row_group(number).take(chosen)
            parts.append(polars.DataFrame(polars.from_arrow(found)))
    return polars.concat(parts)[numpy.argsort(order, kind="stable")]


def _frames(paths: Sequence[Path]) -> Iterator[polars.DataFrame]:
    """Yield the rows of text files and Parquet files with `text`, `file` and `line`."""
    for path in paths:
        number = 0
        for frame in _rows(path):
            lines = polars.int_range(number + 1, number + len(frame) + 1, dtype=polars.Int64)
            line = col("line").cast(polars.Int64) if "line" in frame.columns else lines
            number += len(frame)
            yield frame.drop("language", strict=False).with_columns(
                col("text").cast(polars.String).str.strip_chars(),
                selectors.categorical().cast(polars.String),
                line.alias("line"),
                file=polars.lit(path.name),
            )


def _rows(path: Path) -> Iterator[polars.DataFrame]:
    if path.suffix != ".parquet":
        lines = []
        for line in read_lines(path):
            lines.append(line)
            if len(lines) == _ROWS_AT_ONCE:
                yield _text_frame(lines)
                lines = []
        yield _text_frame(lines)
        return
    file = _open(path)
    if "text" not in file.schema_arrow.names:
        raise DataError(
            f"{path}: the column `text` is missing; the file has "
            f"{', '.join(file.schema_arrow.names)}"
        )
    try:
        yield polars.DataFrame(polars.from_arrow(file.schema_arrow.empty_table()))
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            yield polars.DataFrame(polars.from_arrow(batch))
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path}: {error}; download or create it again") from None


def _text_frame(lines: list[str]) -> polars.DataFrame:
    return polars.DataFrame({"text": lines}, schema={"text": polars.String})


def _filled(frame: polars.DataFrame) -> polars.DataFrame:
    return frame.filter(col("text").str.len_bytes() > 0)


def _writer(path: Path, shape: polars.DataFrame) -> parquet.ParquetWriter:
    # A stored Arrow schema would hide metadata that is added to the footer later.
    return parquet.ParquetWriter(
        path,
        shape.to_arrow().schema,
        compression="zstd",
        compression_level=1,
        store_schema=False,
    )


def _write_block(
    writer: parquet.ParquetWriter, block: polars.DataFrame, digests: list[str]
) -> None:
    digest = xxhash.xxh3_128()
    for sentence in block["text"]:
        digest.update(sentence.encode("utf-8", "surrogatepass") + b"\n")
    digests.append(digest.hexdigest())
    writer.write_table(block.to_arrow(), row_group_size=len(block))


def _open(path: Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path}: {error}; remove it and run again") from None
