"""Opens files that are compressed by their suffix (.gz, .zst, .xz); `-` is stdin or stdout.

The bytes depend only on the content: headers contain neither a name nor a time.
"""

import gzip
import lzma
import sys
import zlib
from io import BufferedReader, BufferedWriter, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import zstandard

from nllb.errors import DataError

COMPRESSIONS = (".gz", ".zst", ".xz")
"""The suffixes of compressed files."""
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError)
"""The errors of reading a compressed file that is damaged or truncated."""

# A zstd block of 4 bytes can decompress to 128 KiB, so this many bytes to at most 32 MiB.
_ZSTANDARD_FEED = 1 << 10
_BUFFER = 1 << 18


def open_binary(path: Path | str, mode: Literal["rb", "wb"] = "rb") -> BinaryIO:
    """Open a file for bytes, compressed by its suffix; `-` is stdin or stdout.

    Raises:
        DataError: the file cannot be opened, or stdin or stdout is closed.
    """
    if str(path) == "-":
        return _standard_stream(mode)
    path = Path(path)
    if path.suffix == ".bz2":
        raise DataError(f"{path}: bzip2 is not supported; decompress the file, or use .gz or .zst")
    try:
        if path.suffix == ".gz":
            return cast(BinaryIO, _open_gzip(path, mode))
        if path.suffix == ".xz":
            return cast(BinaryIO, lzma.open(path, mode))
        if path.suffix == ".zst":
            return _open_zstandard(path, mode)
        return path.open(mode)
    except OSError as error:
        raise DataError(f"cannot open {path}: {error.strerror or error}") from error


def _standard_stream(mode: Literal["rb", "wb"]) -> BinaryIO:
    stream = sys.stdin if mode == "rb" else sys.stdout
    if stream is None or getattr(stream, "closed", False):
        name = "stdin" if mode == "rb" else "stdout"
        raise DataError(f"{name} is closed; name a file instead of '-'")
    return stream.buffer


def _open_gzip(path: Path, mode: Literal["rb", "wb"]) -> gzip.GzipFile:
    return gzip.GzipFile(path, mode) if mode == "rb" else _GzipWriter(path)


class _GzipWriter(gzip.GzipFile):
    """A gzip file without the name and the time in its header."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        super().__init__(filename="", mode="wb", fileobj=self._file, mtime=0)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._file.close()


def _open_zstandard(path: Path, mode: Literal["rb", "wb"]) -> BinaryIO:
    raw = path.open(mode)
    if mode == "rb":
        return cast(BinaryIO, BufferedReader(_ZstandardReader(raw), _BUFFER))
    compressor = zstandard.ZstdCompressor(level=6, write_checksum=True)
    writer = compressor.stream_writer(raw, closefd=True)
    return cast(BinaryIO, BufferedWriter(writer, _BUFFER))


class _ZstandardReader(RawIOBase):
    """Decompresses frame after frame; the package's own reader ignores a truncated last frame."""

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
