"""Arguments, shards, logging and extras of the verbs of the form `CONFIG OUT [key=value ...]`."""

import argparse
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nllb.errors import ConfigError, ResourceError


def stage_arguments(
    parser: argparse.ArgumentParser,
    *,
    dry_run: str,
    config: str = "CONFIG",
    out: str = "output folder; an interrupted run resumes",
    as_json: str = "print the result as JSON",
) -> None:
    """Declare CONFIG, OUT, overrides and the flags of every stage."""
    parser.add_argument(
        "config", metavar=config, help="a path, or the name of a shipped configuration"
    )
    parser.add_argument("out", metavar="OUT", type=Path, help=out)
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help=f"values that override those of {config}, such as schedule.steps=100",
    )
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    parser.add_argument("--json", action="store_true", help=as_json)
    quiet_argument(parser)


def is_override(word: str) -> bool:
    """Return whether a word has the form `key.sub=value`; `runs/lr=1` is a path."""
    return re.match(r"[A-Za-z_][\w.-]*=", word) is not None


def quiet_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--quiet`."""
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print only warnings and errors to stderr"
    )


class _LogHandler(logging.Handler):
    """Prints log messages to the current stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "warning: " if record.levelno >= logging.WARNING else ""
        print(f"{level}{record.getMessage()}", file=sys.stderr, flush=True)


def show_log(*, quiet: bool) -> None:
    """Print the log of the libraries to stderr; with `quiet`, only warnings and errors."""
    log = logging.getLogger("nllb")
    if not any(isinstance(handler, _LogHandler) for handler in log.handlers):
        log.addHandler(_LogHandler())
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def shard_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--shard`."""
    parser.add_argument(
        "--shard", metavar="I/N", help="process the I-th of N shards of the work, counted from 1"
    )


def parse_shard(text: str | None) -> tuple[int, int]:
    """Parse `I/N`, counted from 1, into (I - 1, N).

    Raises:
        ConfigError: The text has another form, or I is not between 1 and N.
    """
    if text is None:
        return (0, 1)
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard {text!r}: expected I/N with 1 <= I <= N, such as 3/16")
    return (int(found[1]) - 1, int(found[2]))


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Name the missing extra if an import inside the block fails."""
    try:
        yield
    except ImportError as error:
        raise ResourceError(
            f"{what} needs {error.name}; run: pip install 'nllb[{extra}]'"
        ) from None
