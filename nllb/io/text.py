"""Reading and writing text, compressed or not, without ever losing or half-writing a line.

Lines end at "\\n" only: Python's `splitlines` would also cut at U+2028 and friends, and shift
every line after. A line, and a whole document that is decompressed, have a limit, so that a small
compressed file cannot take all memory.
"""

import gzip
import json
import lzma
import os
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter, RawIOBase, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import zstandard

from nllb.errors import DataError

COMPRESSIONS = (".gz", ".zst", ".xz")
MAX_LINE_BYTES = 16 << 20
"""Longest line that is read."""
MAX_DOCUMENT_BYTES = 256 << 20
"""Longest file that is read whole, counted after decompression."""
_READ_BYTES = 1 << 18
# A zstd block of 4 bytes can decompress to 128 KiB, so this many bytes to at most 32 MiB.
_ZSTANDARD_FEED = 1 << 10
ErrorPolicy = Literal["strict", "replace"]
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError)
"""What reading a compressed file that is damaged or cut short raises."""


def open_binary(path: Path | str, mode: Literal["rb", "wb"] = "rb") -> BinaryIO:
    """Open a file for bytes, (de)compressing by suffix (.gz, .zst, .xz); `-` is stdin or stdout."""
    if str(path) == "-":
        return sys.stdin.buffer if mode == "rb" else sys.stdout.buffer
    path = Path(path)
    try:
        if path.suffix == ".gz":
            return cast(BinaryIO, gzip.open(path, mode))
        if path.suffix == ".xz":
            return cast(BinaryIO, lzma.open(path, mode))
        if path.suffix == ".zst":
            return _open_zstandard(path, mode)
        return path.open(mode)
    except OSError as error:
        raise DataError(f"cannot open {path}: {error.strerror or error}") from error


def _open_zstandard(path: Path, mode: Literal["rb", "wb"]) -> BinaryIO:
    raw = path.open(mode)
    if mode == "rb":
        return cast(BinaryIO, BufferedReader(_ZstandardReader(raw), 1 << 18))
    compressor = zstandard.ZstdCompressor(level=6, write_checksum=True)
    writer = compressor.stream_writer(raw, closefd=True)
    return cast(BinaryIO, BufferedWriter(writer, 1 << 18))


class _ZstandardReader(RawIOBase):
    """Decompresses frame after frame; the package's own reader ends a cut file without a word."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._chunk, self._position = b"", 0
        self._waiting = memoryview(b"")
        self._inside = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._waiting:
            if self._position == len(self._chunk):
                self._chunk, self._position = self._raw.read(1 << 17), 0
                if not self._chunk:
                    if self._inside:
                        raise EOFError("the last frame is not complete")
                    return 0
            piece = self._chunk[self._position : self._position + _ZSTANDARD_FEED]
            self._waiting = memoryview(self._frame.decompress(piece))
            self._position += len(piece)
            self._inside = not self._frame.eof
            if self._frame.eof:
                self._position -= len(self._frame.unused_data)
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def read_lines(path: Path | str, *, errors: ErrorPolicy = "strict") -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their "\\n"; a BOM is dropped.

    Raises:
        DataError: with file, line and byte where the bytes are not UTF-8 (unless `errors` is
            `replace`), or where a compressed file is cut short or damaged.
    """
    for number, line in enumerate(read_binary_lines(path), 1):
        raw = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
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
        DataError: where the file cannot be read, is damaged, or has a line of more than
            `MAX_LINE_BYTES`; the lines before it were yielded.
    """
    name = "stdin" if str(path) == "-" else str(path)
    started: list[bytes] = []
    num_lines = num_bytes = 0
    try:
        stream = open_binary(path)
        try:
            # read1 returns what is there, where read would wait for more.
            while chunk := cast(Any, stream).read1(_READ_BYTES):
                *lines, rest = chunk.split(b"\n")
                num_bytes += len(lines[0] if lines else rest)
                if num_bytes > MAX_LINE_BYTES:
                    raise DataError(
                        f"{name}:{num_lines + 1}: the line is longer than "
                        f"{MAX_LINE_BYTES >> 20} MiB; split it, or check that the file is text"
                    )
                if lines:
                    lines[0] = b"".join(chain(started, [lines[0]]))
                    started, num_bytes = [], len(rest)
                    num_lines += len(lines)
                    yield [line + b"\n" for line in lines]
                if rest:
                    started.append(rest)
        finally:
            if str(path) != "-":
                stream.close()
    except DAMAGED as error:
        raise DataError(
            f"{name} is damaged or cut short after line {num_lines}: {error}; fetch the file again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}") from error
    if started:
        yield [b"".join(started)]


def read_bytes(path: Path | str, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Return a whole file, decompressed by suffix.

    Raises:
        DataError: where it cannot be read, is damaged, or is longer than `max_bytes`.
    """
    chunks: list[bytes] = []
    num_bytes = 0
    try:
        with open_binary(path) as stream:
            while chunk := stream.read(_READ_BYTES):
                chunks.append(chunk)
                num_bytes += len(chunk)
                if num_bytes > max_bytes:
                    raise DataError(
                        f"{path} is longer than {max_bytes >> 20} MiB, the limit of a file of its "
                        "kind, which is read whole"
                    )
    except DAMAGED as error:
        raise DataError(f"{path}: damaged or cut short: {error}; fetch the file again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return b"".join(chunks)


def read_text(path: Path | str, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> str:
    """Return a whole UTF-8 file, its line ends as they are.

    Raises:
        DataError: where it cannot be read, is damaged, is longer than `max_bytes`, or is not
            UTF-8.
    """
    raw = read_bytes(path, max_bytes=max_bytes)
    try:
        return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: not UTF-8 at byte {error.start}; convert the file first"
        ) from None


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes the place of `path` when the block ends.

    The suffixes are kept, so that compression by suffix works. The file is synced to disk first;
    after an error it is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=".", suffix=".part" + "".join(path.suffixes[-2:]), dir=path.parent
    )
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)
        beside.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_binary(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for bytes, compressed by suffix; it appears whole or not at all."""
    with atomic_path(path) as beside, open_binary(beside, "wb") as stream:
        yield stream


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIOWrapper]:
    """Open `path` for UTF-8 text, compressed by suffix; it appears whole or not at all."""
    with (
        atomic_binary(path) as stream,
        TextIOWrapper(stream, encoding="utf-8", newline="\n") as text,
    ):
        yield text


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines atomically and return how many; a line that holds a "\\n" is refused."""
    count = 0
    with atomic_text(path) as stream:
        for line in lines:
            if "\n" in line:
                raise DataError(f"line {count + 1} for {path} holds a line break: {line[:60]!r}")
            stream.write(line + "\n")
            count += 1
    return count


def parse_json(text: str | bytes, where: Path | str, *, line: int = 1) -> Any:
    """Return the value of a JSON document that stands in `where` from line `line` on.

    Raises:
        DataError: where it is not JSON, nests too deeply, or holds a number beyond Python's limit.
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
    """Read one JSON document."""
    return parse_json(read_text(path, max_bytes=max_bytes), path)


def read_object(path: Path, *names: str) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        DataError: the document is something else, or lacks one of the names.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} is damaged: it has a {type(value).__name__}, not an object")
    if missing := [name for name in names if name not in value]:
        raise DataError(f"{path} is damaged: it lacks {', '.join(missing)}")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document atomically, readable by people, keys in their order."""
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
