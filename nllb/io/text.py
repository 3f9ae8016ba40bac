"""Reading and writing text, JSON and tables, compressed or not, line by line.

Lines end at "\\n" only: Python's `splitlines` would also split at U+2028 and other characters, and
shift every line after them.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

from nllb.errors import DataError
from nllb.io.atomic import atomic_text
from nllb.io.compression import DAMAGED, open_binary
from nllb.io.encoding import check_encoding

ErrorPolicy = Literal["strict", "replace"]
MAX_LINE_BYTES = 16 << 20
"""A longer line is refused: it is not text, and would not fit in memory."""
_BLOCK_BYTES = 1 << 18
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(path: Path | str, *, errors: ErrorPolicy = "strict") -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their "\\n"; a byte order mark is dropped.

    Raises:
        DataError: with file, line and byte where the bytes are not UTF-8 (unless `errors` is
            `replace`), where a line is too long, or where a compressed file is damaged.
    """
    for number, line in enumerate(read_binary_lines(path), 1):
        raw = line
        if number == 1:
            if errors == "strict":
                check_encoding(line, path)
            raw = line.removeprefix(_BYTE_ORDER_MARK)
        try:
            yield raw.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number}: byte {error.start + 1} of the line is not UTF-8 "
                f"(0x{raw[error.start]:02x}); convert the file to UTF-8 first"
            ) from None


def read_binary_lines(path: Path | str) -> Iterator[bytes]:
    """Yield the lines of a file as bytes without their "\\n".

    Raises:
        DataError: the file cannot be read, is damaged, or has a line of more than 16 MiB.
    """
    number = 0
    rest: list[bytes] = []
    rest_bytes = 0
    for block in _blocks(path):
        *lines, last = block.split(b"\n")
        if lines:
            lines[0] = b"".join((*rest, lines[0]))
            number += len(lines)
            yield from lines
            rest, rest_bytes = [], 0
        rest.append(last)
        rest_bytes += len(last)
        if rest_bytes > MAX_LINE_BYTES:
            raise DataError(
                f"{path}:{number + 1}: the line is longer than {MAX_LINE_BYTES >> 20} MiB; "
                "is the file text?"
            )
    if rest_bytes:
        yield b"".join(rest)


def _blocks(path: Path | str) -> Iterator[bytes]:
    position = 0
    try:
        stream = open_binary(path)
        try:
            # read1 returns what is there, where read would wait for more.
            while block := cast(Any, stream).read1(_BLOCK_BYTES):
                position += len(block)
                yield block
        finally:
            if str(path) != "-":
                stream.close()
    except DAMAGED as error:
        raise DataError(
            f"{path}: damaged or truncated after {position:,} bytes of text: {error}; fetch the "
            "file again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def read_text(path: Path | str) -> str:
    """Return a whole UTF-8 file, its line ends as they are.

    Raises:
        DataError: it cannot be read, is damaged, or is not UTF-8.
    """
    raw = b"".join(_blocks(path))
    check_encoding(raw, path)
    try:
        return raw.removeprefix(_BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: not UTF-8 at byte {error.start}; convert the file first"
        ) from None


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines atomically and return their number; a line that contains "\\n" is refused."""
    count = 0
    with atomic_text(path) as stream:
        for line in lines:
            if "\n" in line:
                raise DataError(f"line {count + 1} for {path} contains a line break: {line[:60]!r}")
            stream.write(line + "\n")
            count += 1
    return count


def read_json(path: Path) -> Any:
    """Read one JSON document.

    Raises:
        DataError: it cannot be read, is not JSON, or is nested too deeply.
    """
    return _parse_json(read_text(path), path)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document atomically, indented, with its keys in their order."""
    with atomic_text(path) as stream:
        json.dump(value, stream, ensure_ascii=False, indent=1)
        stream.write("\n")


def read_json_lines(path: Path | str) -> Iterator[Any]:
    """Yield the documents of a JSONL file."""
    for number, line in enumerate(read_lines(path), 1):
        yield _parse_json(line, path, line=number)


def _parse_json(text: str, path: Path | str, *, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{line or error.lineno}: not JSON: {error.msg}") from error
    except RecursionError:
        raise DataError(f"{path}:{line or 1}: the JSON is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path}:{line or 1}: not JSON: {error}") from error


def json_line(value: Any) -> str:
    """Return a value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def read_table(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a TSV table with a header; lines that begin with `#` are comments.

    Raises:
        DataError: with file and line where a row has another number of columns than the header.
    """
    header: list[str] | None = None
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        if header is None:
            header = cells
            continue
        if len(cells) != len(header):
            raise DataError(
                f"{path}:{number}: {len(cells)} columns where the header has {len(header)}"
            )
        yield dict(zip(header, cells, strict=True))
