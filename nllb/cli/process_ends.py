"""How a command ends early: signals, closed standard streams, and failed reads and writes."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase, TextIOWrapper
from types import FrameType
from typing import Any, BinaryIO, NoReturn, cast

from nllb.errors import DataError

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_HINTS = {
    "stdin": "name an input file, or pipe text into the command",
    "stdout": "name an output file with --output, or redirect the output",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: temporary files are removed as after Ctrl-C."""


def exit_code(interruption: KeyboardInterrupt) -> int:
    """Return the exit code of a command that a signal ended."""
    return EXIT_TERMINATED if isinstance(interruption, Terminated) else EXIT_INTERRUPTED


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise `Terminated` when SIGTERM arrives, so that `finally` blocks run."""
    process = os.getpid()

    def terminate(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise Terminated
        signal.signal(number, signal.SIG_DFL)  # A forked worker just ends.
        os.kill(os.getpid(), number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def open_standard_streams() -> None:
    """Replace standard streams that the caller closed.

    Using stdin or stdout then is an error with a clear message; what is written to stderr is lost.
    Their numbers are taken, so that no file that is opened later gets one.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    if sys.stdin is None:
        sys.stdin = _closed_stream("stdin")
    if sys.stdout is None:
        sys.stdout = _closed_stream("stdout")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")


def _closed_stream(name: str) -> TextIOWrapper:
    return TextIOWrapper(cast(BinaryIO, _Closed(name)), encoding="utf-8", write_through=True)


class _Closed(RawIOBase):
    """A standard stream that the caller closed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> NoReturn:
        raise DataError(f"{self._name} is closed: {_HINTS[self._name]}")

    def read1(self, size: int = -1) -> NoReturn:
        self.readinto(b"")

    def write(self, data: Any) -> NoReturn:
        self.readinto(data)


def describe_os_error(error: OSError) -> str:
    """Return a message for an error of the operating system that no verb has explained."""
    reason = error.strerror or str(error)
    if error.errno in DISK_ERRORS:
        return f"cannot write: {reason}"
    return reason if error.filename is None else f"{error.filename}: {reason}"


def silence_stdout() -> None:
    """Drop what is left in the buffer of stdout, which would fail again when the process ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
