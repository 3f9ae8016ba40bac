"""Reading and writing text, JSON and tables, compressed or not, line by line.

Lines end at "\\n" only: Python's `splitlines` would also split at U+2028 and other characters, and
shift every line after them.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

from nllb.errors import DataError

from .atomic import atomic_text
from .compression import DAMAGED, open_binary
from .encoding import check_encoding

ErrorPolicy = Literal["strict", "replace"]
MAX_LINE_BYTES = 16 << 20
"""Longer lines are rejected: they are not text and could fill the memory."""
MAX_DOCUMENT_BYTES = 256 << 20
"""Maximum size of a file that is read completely, after decompression."""
_BLOCK_BYTES = 1 << 18
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(path: Path | str, *, errors: ErrorPolicy = "strict") -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their "\\n"; a byte order mark is dropped.

    Raises:
        DataError: with file, line and byte, if the bytes are not UTF-8 (unless `errors` is
            `replace`), a line is too long, or a compressed file is damaged.
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
        DataError: as `line_batches`.
    """
    for batch in line_batches(path):
        for line in batch:
            yield line[:-1] if line.endswith(b"\n") else line


def line_batches(path: Path | str) -> Iterator[list[bytes]]:
    """Yield the lines of a file as bytes with their "\\n", as many at a time as have arrived.

    Only the last line may lack its "\\n".

    Raises:
        DataError: the file cannot be read, is damaged, or has a line of more than
            `MAX_LINE_BYTES`; the lines before it were yielded.
    """
    name = "stdin" if str(path) == "-" else str(path)
    begun: list[bytes] = []
    num_lines = num_bytes = 0
    try:
        stream = open_binary(path)
        try:
            # read1 returns the available bytes; read would wait for more.
            while block := cast(Any, stream).read1(_BLOCK_BYTES):
                *lines, rest = block.split(b"\n")
                num_bytes += len(lines[0] if lines else rest)
                if num_bytes > MAX_LINE_BYTES:
                    raise DataError(
                        f"{name}:{num_lines + 1}: the line is longer than "
                        f"{MAX_LINE_BYTES >> 20} MiB; split it, or check that the file is text"
                    )
                if lines:
                    lines[0] = b"".join((*begun, lines[0]))
                    begun, num_bytes = [], len(rest)
                    num_lines += len(lines)
                    yield [line + b"\n" for line in lines]
                if rest:
                    begun.append(rest)
        finally:
            if str(path) != "-":
                stream.close()
    except DAMAGED as error:
        raise DataError(
            f"{name} is damaged or truncated after line {num_lines}: {error}; fetch the file again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}") from error
    if begun:
        yield [b"".join(begun)]


def read_bytes(path: Path | str, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Return a whole file, decompressed by its suffix.

    Raises:
        DataError: it cannot be read, is damaged, or is longer than `max_bytes`.
    """
    blocks: list[bytes] = []
    num_bytes = 0
    try:
        with open_binary(path) as stream:
            while block := stream.read(_BLOCK_BYTES):
                blocks.append(block)
                num_bytes += len(block)
                if num_bytes > max_bytes:
                    raise DataError(
                        f"{path} is longer than {max_bytes >> 20} MiB, the limit for files that "
                        f"are read completely"
                    )
    except DAMAGED as error:
        raise DataError(f"{path}: damaged or truncated: {error}; fetch the file again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return b"".join(blocks)


def read_text(path: Path | str, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> str:
    """Return a whole UTF-8 file, its line ends as they are.

    Raises:
        DataError: it cannot be read, is damaged, is longer than `max_bytes`, or is not UTF-8.
    """
    raw = read_bytes(path, max_bytes=max_bytes)
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


def parse_json(text: str | bytes, where: Path | str, *, line: int = 1) -> Any:
    """Return the value of a JSON document that begins at line `line` of the file `where`.

    Raises:
        DataError: it is not JSON, is nested too deeply, or has a number beyond Python's limit.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        number = line + error.lineno - 1
        raise DataError(f"{where}:{number}: not JSON: {error.msg}") from error
    except RecursionError:
        raise DataError(f"{where}:{line}: not usable JSON: it nests too deeply") from None
    except ValueError as error:  # bytes that are not UTF-8, or an integer of thousands of digits
        raise DataError(f"{where}:{line}: not JSON: {error}") from error


def read_json(path: Path, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> Any:
    """Read one JSON document.

    Raises:
        DataError: as `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, max_bytes=max_bytes), path)


def read_object(path: Path, *names: str) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        DataError: the document is not an object, or one of the names is missing.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} is damaged: it has a {type(value).__name__}, not an object")
    if missing := [name for name in names if name not in value]:
        raise DataError(f"{path} is damaged: it lacks {', '.join(missing)}")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document atomically, indented, with its keys in their order."""
    with atomic_text(path) as stream:
        json.dump(value, stream, ensure_ascii=False, indent=1)
        stream.write("\n")


def read_json_lines(path: Path | str) -> Iterator[Any]:
    """Yield the documents of a JSONL file."""
    for number, line in enumerate(read_lines(path), 1):
        yield parse_json(line, path, line=number)


def json_line(value: Any) -> str:
    """Return a value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def read_table(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a TSV table with a header; lines that begin with `#` are comments.

    Raises:
        DataError: with file and line, if the number of columns of a row differs from the header.
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
