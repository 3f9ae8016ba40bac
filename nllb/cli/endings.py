"""How a verb ends: errors, signals, full disks and closed pipes, handled once for every verb.

Signals become exceptions, so that `finally` blocks run and temporary files are removed. Every error
that a user can meet is one message on stderr, without a traceback; set NLLB_DEBUG=1 for one.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from nllb.errors import NllbError

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_FAILED = NllbError.exit_code
_SIGNALS = ("SIGTERM", "SIGHUP")


class Terminated(BaseException):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_to_exit_code(verb: Callable[[], int]) -> int:
    """Run a verb and return the exit code of the process.

    0 and what the verb returns are its own; 1 and 2 follow an error, 130 an interrupt, and 128 plus
    its number a signal or a pipe that was closed.
    """
    _open_missing_streams()
    try:
        with _signals_as_exceptions():
            code = verb()
            sys.stdout.flush()
            return code
    except NllbError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader is gone (`nllb ... | head`): end silently, as other tools do.
        _silence_stdout()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _debug(error)
        _silence_stdout()  # what is left in its buffer would fail again at exit
        return _fail(_describe(error), EXIT_FAILED)
    except MemoryError as error:
        _debug(error)
        return _fail("not enough memory; close other programs, or work on less", EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except Terminated as ending:
        return _fail(f"ended by {signal.Signals(ending.number).name}", 128 + ending.number)


def _fail(message: str, code: int) -> int:
    with suppress(OSError):
        print(f"nllb: {message}", file=sys.stderr, flush=True)
    return code


def _describe(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else f"cannot read or write: {reason}"


def _debug(error: Exception) -> None:
    if os.environ.get("NLLB_DEBUG"):
        raise error


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Raise `Terminated` for the signals that would end the process at once."""
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker ends as if nothing had been changed
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Terminated(number)

    changed = []
    with suppress(ValueError):  # only the main thread can set handlers
        for name in _SIGNALS:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, stop)
                changed.append(number)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _open_missing_streams() -> None:
    """Give standard streams that the caller closed a descriptor on which reading or writing fails.

    Otherwise the next file that is opened would get the number of the closed stream, and Python
    has no object for it.
    """
    for number, name, opened, mode in (
        (0, "stdin", os.O_WRONLY, "r"),
        (1, "stdout", os.O_RDONLY, "w"),
        (2, "stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            with suppress(OSError):
                descriptor = os.open(os.devnull, opened)
                if descriptor != number:
                    os.dup2(descriptor, number)
                    os.close(descriptor)
                setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))


def _silence_stdout() -> None:
    """Send what is still in the buffer of stdout to nowhere."""
    with suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)
