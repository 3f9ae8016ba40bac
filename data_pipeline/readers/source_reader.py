"""Reads one source as blocks of rows; a bad row raises an error or is quarantined."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, cast

import pyarrow
from pyarrow import parquet

from nllb.errors import DataError
from nllb.io.text import MAX_LINE_BYTES, parse_json, read_binary_lines

from .sources import Source
from .tmx import BadUnit, read_tmx

_END = object()
_PARQUET_ROWS = 8192
_MAX_COLUMN_BYTES = 1 << 28
_MAX_COMPRESSION = 1000


@dataclass(kw_only=True, slots=True)
class Rows:
    """The rows of a block, column by column, and its quarantined rows.

    Attributes:
        sources: source side.
        targets: target side.
        lines: line of each row in the file (TMX: unit; Parquet: row), counted from 1.
        margins: embedding margins, if the corpus has them.
        bad: quarantined rows: file, line, error, and the content of the row.
        num_read: number of input rows of the block, including quarantined ones.
    """

    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    margins: list[float] | None = None
    bad: list[dict[str, Any]] = field(default_factory=list)
    num_read: int = 0


class _Collector:
    """Collects the rows of a block; raises an error for bad rows, or quarantines them."""

    def __init__(self, source: Source) -> None:
        self.quarantine = source.corpus.bad_rows == "quarantine"
        self.has_margins = source.corpus.margin_column is not None
        self.rows = self.fresh()

    def fresh(self) -> Rows:
        return Rows(margins=[] if self.has_margins else None)

    def refuse(self, path: Path, line: int, error: str, shown: str) -> None:
        if not self.quarantine:
            raise DataError(
                f"{path}:{line}: {error}; got {shown[:80]!r}. Correct the file, or set "
                "`bad_rows: quarantine` to skip and count such rows"
            )
        self.rows.bad.append({"file": path.name, "line": line, "error": error, "row": shown[:1000]})

    def add(self, source: str, target: str, line: int, margin: float | None = None) -> None:
        self.rows.sources.append(source)
        self.rows.targets.append(target)
        self.rows.lines.append(line)
        if self.rows.margins is not None:
            self.rows.margins.append(float("nan") if margin is None else margin)


def read_blocks(source: Source, block_lines: int, done: Callable[[int], bool]) -> Iterator[Rows]:
    """Yield the blocks of a source; all but the last have `block_lines` rows of input.

    Args:
        source: the source.
        block_lines: number of input rows per block.
        done: whether the block with this number is finished; its rows are then skipped.

    Raises:
        DataError: if the input is damaged or misaligned, or if a row is bad and the corpus does
            not quarantine bad rows. The message contains file and line.
    """
    collector = _Collector(source)
    readers: dict[str, Callable[[Source, _Collector], Iterator[Adder]]] = {
        "tsv": _read_tsv,
        "moses": _read_moses,
        "tmx": _read_tmx,
        "parquet": _read_parquet,
        "layout": _read_layout,
        "lines": _read_document_lines,
        "jsonl": _read_document_lines,
    }
    rows = islice(readers[source.corpus.format](source, collector), source.corpus.max_rows)
    number = 0
    while True:
        taken = 0
        skipped = done(number)
        for add in islice(rows, block_lines):
            taken += 1
            if not skipped:
                add()
        if taken == 0 and number > 0:
            return
        block, collector.rows = collector.rows, collector.fresh()
        block.num_read = taken
        yield block
        number += 1
        if taken < block_lines:
            return


Adder = Callable[[], None]
"""Adds one row to the collector, which decides whether the row is bad."""


def _read_tsv(source: Source, collector: _Collector) -> Iterator[Adder]:
    (path,) = source.paths
    corpus = source.corpus
    first, second = map(int, corpus.columns or ("0", "1"))
    margin = None if corpus.margin_column is None else int(corpus.margin_column)
    min_columns = max(first, second, margin or 0) + 1
    exact = None if corpus.columns else min_columns
    lines = enumerate(read_binary_lines(path), 1)
    if corpus.header:
        next(lines, None)

    def add(raw: bytes, number: int) -> None:
        text = _decode(raw, number, path, collector)
        if text is None:
            return
        cells = text.split("\t")
        if len(cells) < min_columns or (exact is not None and len(cells) != exact):
            error = f"expected {exact or min_columns} columns, got {len(cells)}"
            collector.refuse(path, number, error, text)
            return
        score = None if margin is None else _number(cells[margin])
        if margin is not None and score is None:
            collector.refuse(path, number, f"column {margin} is not a number", text)
            return
        collector.add(cells[first], cells[second], number, score)

    for number, raw in lines:
        yield partial(add, raw, number)


def _read_moses(source: Source, collector: _Collector) -> Iterator[Adder]:
    paths = source.paths
    streams = [read_binary_lines(path) for path in paths]

    def add(raws: tuple[bytes, bytes], number: int) -> None:
        sides = []
        for raw, path in zip(raws, paths, strict=True):
            text = _decode(raw, number, path, collector)
            if text is None:
                return
            sides.append(text)
        collector.add(sides[0], sides[1], number)

    number = 0
    for number, raws in enumerate(zip_longest(*streams, fillvalue=_END), 1):
        if _END in raws:
            short, long = (0, 1) if raws[0] is _END else (1, 0)
            rest = sum(1 for _ in streams[long])
            raise DataError(
                f"{paths[short]} has {number - 1:,} lines and {paths[long]} has "
                f"{number + rest:,}, so the lines are not aligned; download both files again"
            )
        yield partial(add, cast(tuple[bytes, bytes], raws), number)


def _read_tmx(source: Source, collector: _Collector) -> Iterator[Adder]:
    (path,) = source.paths

    def add(segments: tuple[str, str] | BadUnit, number: int) -> None:
        if isinstance(segments, BadUnit):
            shown = segments.shown or f"unit {number}"
            collector.refuse(path, number, segments.error, shown)
        else:
            collector.add(*segments, number)

    units = read_tmx(path, source.source, source.target)
    for number, segments in enumerate(units, 1):
        yield partial(add, segments, number)


def _read_parquet(source: Source, collector: _Collector) -> Iterator[Adder]:
    (path,) = source.paths
    names = [*(source.corpus.columns or ("source", "target"))]
    if source.corpus.margin_column is not None:
        names.append(source.corpus.margin_column)

    def add(values: tuple[Any, ...], number: int) -> None:
        if not isinstance(values[0], str) or not isinstance(values[1], str):
            collector.refuse(path, number, "a side is null or not text", repr(values))
        elif max(len(values[0]), len(values[1])) > MAX_LINE_BYTES:
            error = f"a side is longer than {MAX_LINE_BYTES >> 20} Mi characters"
            collector.refuse(path, number, error, values[0][:80])
        else:
            collector.add(values[0], values[1], number, *values[2:])

    number = 0
    try:
        # As dictionaries, a text that a small file repeats a million times is in memory once.
        file = parquet.ParquetFile(path, read_dictionary=names)
        missing = set(names) - set(file.schema_arrow.names)
        if missing:
            raise DataError(
                f"{path}: column {', '.join(sorted(missing))} is missing; the file has "
                f"{', '.join(file.schema_arrow.names)}"
            )
        _check_compression(file, path)
        for batch in file.iter_batches(columns=names, batch_size=_PARQUET_ROWS):
            columns = [_values(batch.column(name)) for name in names]
            for values in zip(*columns, strict=True):
                number += 1
                yield partial(add, values, number)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: damaged after row {number}: {error}") from None


def _check_compression(file: parquet.ParquetFile, path: Path) -> None:
    """Reject columns that would decompress to a thousand times their size."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            limit = max(_MAX_COLUMN_BYTES, _MAX_COMPRESSION * column.total_compressed_size)
            if column.total_uncompressed_size > limit:
                raise DataError(
                    f"{path}: the column {column.path_in_schema} would decompress to "
                    f"{column.total_uncompressed_size:,} bytes, but the file has only "
                    f"{path.stat().st_size:,}; it is damaged or malicious"
                )


def _values(column: Any) -> list[Any]:
    if not isinstance(column, pyarrow.DictionaryArray):
        return list(column.to_pylist())
    values = column.dictionary.to_pylist()
    return [None if place is None else values[place] for place in column.indices.to_pylist()]


def _read_layout(source: Source, collector: _Collector) -> Iterator[Adder]:
    """Read the pairs, or the documents, of a folder; bad rows are counted among the rows."""
    refused: list[Adder] = []

    def refuse(*row: Any) -> None:
        refused.append(partial(collector.refuse, *row))

    layout = source.layout()
    if source.target:
        rows = (
            (pair.source.text, pair.target.text, pair.source.line)
            for pair in layout.pairs(*source.spelled, refuse=refuse)
        )
    else:
        texts = layout.texts(source.spelled[0], refuse=refuse)
        rows = ((text.text, "", text.line) for text in texts)
    for row in rows:
        yield from refused
        refused.clear()
        yield partial(collector.add, *row)
    yield from refused


def _read_document_lines(source: Source, collector: _Collector) -> Iterator[Adder]:
    (path,) = source.paths
    is_json = source.corpus.format == "jsonl"

    def add(raw: bytes, number: int) -> None:
        text = _decode(raw, number, path, collector)
        if text is not None and is_json:
            try:
                text = _text_of_object(text)
            except ValueError as error:
                collector.refuse(path, number, str(error), text)
                return
        if text is not None:
            collector.add(text, "", number)

    for number, raw in enumerate(read_binary_lines(path), 1):
        yield partial(add, raw, number)


def _text_of_object(line: str) -> str:
    """Return `text` of a JSON object.

    Raises:
        ValueError: if the line is not an object whose `text` is a string.
    """
    try:
        value = parse_json(line, "the line")
    except DataError as error:
        raise ValueError(str(error)) from None
    if not isinstance(value, dict):
        raise ValueError(f"expected an object with `text`, got {_json_type(value)}")
    if "text" not in value:
        raise ValueError("expected an object with `text`, but `text` is missing")
    text = value["text"]
    if not isinstance(text, str):
        raise ValueError(f"`text` must be a string, got {_json_type(text)}")
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("`text` contains a lone surrogate, which is not valid Unicode")
    return text


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def _decode(raw: bytes, number: int, path: Path, collector: _Collector) -> str | None:
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} is not UTF-8 (0x{raw[error.start]:02x})"
        collector.refuse(path, number, message, raw.decode("utf-8", "backslashreplace"))
        return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
