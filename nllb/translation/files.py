"""Input files that are read as they arrive, and output files that survive an interruption.

Input is read in the chunks in which it arrives, so that a line typed into a pipe is answered at
once and a large file is translated in large batches. An output file is written to OUTPUT.part, one
line per line of input, and renamed when it is complete. The same command resumes after the last
complete line.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from nllb.errors import DataError
from nllb.io.atomic import atomic_binary
from nllb.io.compression import COMPRESSIONS
from nllb.io.text import ErrorPolicy, line_batches

from .input_formats import require_text_bytes
from .windows import FIRST_LINES, LOOK_AHEAD_LINES, growing_windows

if sys.platform != "win32":
    import fcntl

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_batches(path: Path | str, *, errors: ErrorPolicy = "strict") -> Iterator[list[str]]:
    """Yield the lines of a file with their "\\n" in the chunks in which they arrive; `-` is stdin.

    Only the last line may lack its "\\n". A byte order mark at the beginning is removed.

    Raises:
        DataError: The file cannot be read, is damaged, is not text, has a line beyond the limit,
            or, unless `errors` is `replace`, is not UTF-8. The lines before the error are yielded.
    """
    number = 0
    for raw_lines in line_batches(path):
        batch = []
        if not number:
            require_text_bytes(b"".join(raw_lines[:FIRST_LINES]), _name(path))
        for raw in raw_lines:
            number += 1
            line = raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw
            try:
                batch.append(line.decode("utf-8", errors))
            except UnicodeDecodeError as error:
                yield batch
                raise DataError(
                    f"{_name(path)}:{number}: byte {error.start + 1} of the line is not UTF-8 "
                    f"(0x{line[error.start]:02x}); convert the file to UTF-8, or use "
                    "--errors replace"
                ) from None
        yield batch


def read_windows(
    paths: Sequence[Path | str], *, errors: ErrorPolicy = "strict", skip: int = 0
) -> Iterator[list[str]]:
    """Yield the lines of files in windows for translation, without the first `skip` lines.

    A window never waits for lines that have not arrived. If a file does not end with a line end and
    another file follows, a line end is added between them.
    """
    first = FIRST_LINES
    for position, path in enumerate(paths):
        for batch in read_batches(path, errors=errors):
            last = position == len(paths) - 1
            if batch and not last and not batch[-1].endswith("\n"):
                batch[-1] += "\n"
            left = batch[skip:]
            skip -= len(batch) - len(left)
            yield from growing_windows(left, first=first)
            first = max(first, min(len(left), LOOK_AHEAD_LINES) // 2)


def _name(path: Path | str) -> str:
    return "stdin" if str(path) == "-" else str(path)


class PartialOutput:
    """An output file that is written line by line under another name and can be resumed.

    `job` describes the output, including its inputs. If OUTPUT.part was written by the same job,
    its complete lines are kept and `lines_done` counts them; otherwise, the output starts over. The
    partial file is never compressed; the suffix determines the compression of the complete file. A
    symbolic link stays a link. Standard output (`-`, /dev/stdout), pipes and devices are written
    directly, because they cannot be replaced.

    Attributes:
        path: The output.
        part_path: The partial file.
        job_path: The description of the job, next to the partial file.
        lines_done: Number of lines of an earlier run that are kept.
    """

    def __init__(self, path: Path, job: Mapping[str, Any] | None):
        """Open OUTPUT.part; None for `job` (input that cannot be read again) always starts over.

        Raises:
            DataError: The output cannot be written, or another process is writing it.
        """
        self.path = path.resolve() if path.is_symlink() and path.is_file() else path
        self.part_path = self.path.with_name(self.path.name + ".part")
        self.job_path = self.path.with_name(self.path.name + ".part.json")
        self.lines_done = 0
        descriptor = _standard_stream(path)
        self._has_part = descriptor is None and (self.path.is_file() or not self.path.exists())
        if self.path.is_dir():
            raise DataError(f"cannot write {path}: it is a directory; name a file in it")
        with self._explain():
            self._stream: BinaryIO
            if descriptor is not None:
                # The stream itself, not the file behind it, which may contain the output of others.
                self.part_path = self.path = path
                self._stream = os.fdopen(os.dup(descriptor), "wb")
            elif self._has_part:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                # Appending neither truncates the file of another process nor loses its lines.
                self._stream = self.part_path.open("a+b")
            else:
                self.part_path = self.path
                self._stream = self.path.open("wb")
        if self._has_part:
            try:
                self._begin(job)
            except BaseException:
                self._stream.close()
                raise

    def _begin(self, job: Mapping[str, Any] | None) -> None:
        described = json.dumps(job, ensure_ascii=False, indent=1, sort_keys=True)
        with self._explain():
            _lock(self._stream, self.part_path)
            if job is not None and self._is_of(described):
                self.lines_done = _keep_whole_lines(self._stream)
                return
            self.job_path.unlink(missing_ok=True)
            self._stream.truncate(0)
            if job is not None:
                self.job_path.write_text(described, encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the partial file; it is kept for the next run unless it is empty."""
        with suppress(OSError):  # A failed write was reported when it was flushed.
            self._stream.close()
        if self._has_part and self.part_path.exists() and not self.part_path.stat().st_size:
            self.part_path.unlink()
            self.job_path.unlink(missing_ok=True)

    def write(self, text: str) -> None:
        """Append text.

        Raises:
            DataError: The disk is full or cannot be written; previously written text is kept.
        """
        with self._explain():
            self._stream.write(text.encode("utf-8"))

    def flush(self) -> None:
        """Pass the text to the operating system, so that killing this process cannot lose it."""
        with self._explain():
            self._stream.flush()

    def write_through(self, text: str) -> None:
        """Append text and pass it to the operating system."""
        self.write(text)
        self.flush()

    def finish(self) -> None:
        """Rename the complete output to its final name."""
        self.flush()
        if not self._has_part:
            return
        with self._explain():
            os.fsync(self._stream.fileno())
            if self.path.suffix in COMPRESSIONS:
                with self.part_path.open("rb") as part, atomic_binary(self.path) as whole:
                    while block := part.read(1 << 20):
                        whole.write(block)
                self.part_path.unlink()
            else:
                self.part_path.replace(self.path)
        self.job_path.unlink(missing_ok=True)

    @contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _is_of(self, described: str) -> bool:
        try:
            return self.part_path.exists() and self.job_path.read_text("utf-8") == described
        except (OSError, UnicodeDecodeError):
            return False


def _standard_stream(path: Path) -> int | None:
    """Return the number of the open stream for a path such as /dev/stdout, or None."""
    names = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}
    if str(path) in names:
        return names[str(path)]
    found = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", str(path))
    return int(found[1]) if found else None


def _lock(stream: BinaryIO, path: Path) -> None:
    """Prevent other processes from writing the file until it is closed."""
    if sys.platform == "win32":
        return  # Windows does not have these locks.
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"another process is writing {path}: wait for it, or end it") from None
    except OSError:  # a file system without locks
        return
    if not path.exists() or not os.path.samestat(os.fstat(stream.fileno()), path.stat()):
        raise DataError(f"another process has just finished {path}: look at its output first")


def _keep_whole_lines(stream: BinaryIO) -> int:
    """Truncate the file after its last line end, and return the number of remaining lines."""
    lines = end = position = 0
    stream.seek(0)
    while block := stream.read(1 << 20):
        lines += block.count(b"\n")
        if (last := block.rfind(b"\n")) >= 0:
            end = position + last + 1
        position += len(block)
    stream.seek(end)
    stream.truncate()
    return lines


def describe_inputs(paths: Sequence[Path | str]) -> list[dict[str, Any]] | None:
    """Return name, size and time of each input file; None if one cannot be read again."""
    described = []
    for path in paths:
        if str(path) == "-" or not Path(path).is_file():
            return None
        state = Path(path).stat()
        described.append(
            {
                "path": str(Path(path).resolve()),
                "size": state.st_size,
                "modified_ns": state.st_mtime_ns,
            }
        )
    return described
