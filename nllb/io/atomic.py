"""Atomic writes: a file appears complete or not at all, however the program ends.

A file is written in the same folder under a hidden temporary name, synced, and renamed. After an
error, an interrupt or a signal that `nllb.cli` turns into an exception, the temporary file is
removed and the old file is unchanged; only SIGKILL leaves the temporary file behind.
"""

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from nllb.errors import DataError

from .compression import open_binary

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""Error numbers of writing to a disk that is full, limited, broken or read-only."""
_NUMPY_WRITE_ERROR = re.compile(r"\d+ requested and \d+ written")


def disk_fault(error: OSError) -> str | None:
    """Return why a disk could not be written, or None if the error has another cause.

    numpy reports an incomplete write without an error number.
    """
    if error.errno in DISK_ERRORS:
        return error.strerror or str(error)
    if error.errno is None and _NUMPY_WRITE_ERROR.search(str(error)):
        return f"the disk is full, limited or broken ({error})"
    return None


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the file takes the place of `path` when the block ends.

    The suffixes are kept, so that compression by suffix works. A symbolic link stays a link. A
    named pipe, /dev/stdout or another path that is not a file receives the bytes when the block
    ends.

    Raises:
        DataError: `path` cannot be written. Other errors of the block pass through unchanged.
    """
    with _naming(path):
        is_stream = is_stdout(path) or (path.exists() and not path.is_file())
    if is_stream:
        with _through_temporary_file(path) as temporary:
            yield temporary
        return
    target = path.resolve() if path.is_symlink() else path
    with _naming(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        suffix = ".part" + "".join(target.suffixes[-2:])
        handle, name = tempfile.mkstemp(prefix=".", suffix=suffix, dir=target.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with _naming(path, temporary):
            yield temporary
        with _naming(path):
            _sync(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_binary(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for bytes, compressed by suffix; the file appears complete or not at all."""
    with atomic_path(path) as temporary, open_binary(temporary, "wb") as stream:
        yield stream


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIOWrapper]:
    """Open `path` for UTF-8 text, compressed by suffix; the file appears complete or not at all."""
    with (
        atomic_binary(path) as stream,
        TextIOWrapper(stream, encoding="utf-8", newline="\n") as text,
    ):
        yield text


def is_stdout(path: Path | str) -> bool:
    """Whether a path leads to the file that stdout is connected to, as /dev/stdout does.

    Such a file must be appended to through stdout: opening or replacing it would erase the content
    that `>> file` keeps.
    """
    if sys.stdout is None:
        return False
    try:
        return os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # no such file, or a stdout without a descriptor
        return False


@contextmanager
def _through_temporary_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file whose bytes are copied to a pipe, a device or stdout at the end."""
    with tempfile.TemporaryDirectory(prefix="nllb-") as folder:
        temporary = Path(folder) / f"output{''.join(path.suffixes[-2:])}"
        yield temporary
        with _naming(path), temporary.open("rb") as source:
            if is_stdout(path):
                sys.stdout.flush()
                shutil.copyfileobj(source, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            else:
                with path.open("wb") as stream:
                    shutil.copyfileobj(source, stream)


@contextmanager
def _naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Turn the errors of writing a file into one that names it.

    Args:
        path: the requested file.
        temporary: if given, only errors that concern this file, or the disk, are its errors.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        fault = disk_fault(error)
        if temporary is not None:
            on_disk = error.filename is None and fault is not None
            if not on_disk and error.filename != str(temporary):
                raise
        raise DataError(f"cannot write {path}: {fault or error.strerror or error}") from error


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
