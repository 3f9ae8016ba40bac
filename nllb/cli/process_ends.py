"""How a command ends: errors, signals, closed standard streams, full disks and closed pipes.

All verbs share this code. Signals become exceptions, so that `finally` blocks run and
temporary files are removed. Every error that a user can cause is reported in one message on stderr;
with NLLB_DEBUG=1 in the environment, errors of the operating system have a traceback.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase, TextIOWrapper
from types import FrameType
from typing import Any, BinaryIO, NoReturn, cast

from nllb.errors import DataError, NllbError
from nllb.io.atomic import disk_fault

EXIT_INTERRUPTED = 130
EXIT_READER_GONE = 141
_STOP_SIGNALS = ("SIGTERM", "SIGHUP")
_HINTS = {
    "stdin": "name an input file, or pipe text into the command",
    "stdout": "name an output file with --output, or redirect the output",
}


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end: temporary files are removed as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(interruption: KeyboardInterrupt) -> int:
    """Return the exit code of a command that a signal ended: 128 plus its number."""
    return 128 + interruption.number if isinstance(interruption, Terminated) else EXIT_INTERRUPTED


def run_to_exit_code(verb: Callable[[], int]) -> int:
    """Run a verb and return the exit code of the process.

    If the verb succeeds, this is its own exit code. Otherwise it is that of the error, or 128 plus
    the number of the signal that ended the verb; a closed pipe counts as SIGPIPE.
    """
    open_standard_streams()
    try:
        with stop_signals_raise():
            code = verb()
            sys.stdout.flush()
            return code
    except NllbError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader has closed the pipe (`nllb ... | head`): end quietly, as other tools do.
        silence_stdout()
        return EXIT_READER_GONE
    except (OSError, MemoryError) as error:
        if os.environ.get("NLLB_DEBUG"):
            raise
        silence_stdout()
        return _fail(describe_os_error(error), NllbError.exit_code)
    except KeyboardInterrupt as interruption:
        how = "terminated" if isinstance(interruption, Terminated) else "interrupted"
        return _fail(how, exit_code(interruption))


def _fail(message: str, code: int) -> int:
    with suppress(OSError):
        print(f"nllb: {message}", file=sys.stderr, flush=True)
    return code


@contextmanager
def stop_signals_raise() -> Iterator[None]:
    """Raise `Terminated` when SIGTERM or SIGHUP arrives, so that `finally` blocks run.

    Signals that are already ignored (`nohup`) or handled are not changed.
    """
    process = os.getpid()

    def terminate(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise Terminated(number)
        signal.signal(number, signal.SIG_DFL)  # A forked worker just ends.
        os.kill(os.getpid(), number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    changed = []
    for name in _STOP_SIGNALS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, terminate)
            changed.append(number)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def open_standard_streams() -> None:
    """Replace standard streams that the caller closed.

    Reading stdin or writing to stdout is then an error with a clear message, and text for stderr is
    discarded. File descriptors 0 to 2 are occupied, so that no file that is opened later gets one
    of them.
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


def describe_os_error(error: OSError | MemoryError) -> str:
    """Return the message of an error of the operating system that no verb has handled."""
    if isinstance(error, MemoryError):
        return "not enough memory; close other programs, or process less at a time"
    if fault := disk_fault(error):
        return f"cannot write: {fault}"
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


def silence_stdout() -> None:
    """Discard the buffer of stdout, which would fail again when the process ends."""
    with suppress(OSError, ValueError):
        number = os.open(os.devnull, os.O_WRONLY)
        os.dup2(number, sys.stdout.fileno())
        os.close(number)
