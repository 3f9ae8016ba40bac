"""The errors that a user can meet.

Their texts say what was wrong, what was given, what is valid and what to do.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_LONG_WORD: Final = re.compile(r"(\S{200})\S{900,}(\S{100})")


class NllbError(Exception):
    """Base class of all errors that come from the input or the machine, not from the program.

    The middle of words of 1,200 characters or more is omitted from the text, because a damaged file
    can contain names of any length.

    Attributes:
        exit_code: the exit code of the command line after this error.
    """

    exit_code: int = 1

    def __str__(self) -> str:
        """Return the text of the error."""
        return _LONG_WORD.sub(r"\1...\2", super().__str__())


class LanguageError(NllbError):
    """A language that the table does not have, or that a model does not support."""

    exit_code = 2


class ConfigError(NllbError):
    """A configuration, option or argument that cannot be used; it lists all errors at once."""

    exit_code = 2


class CheckpointError(NllbError):
    """A model, vocabulary or checkpoint that is missing, damaged or of another kind."""

    exit_code = 2


class DataError(NllbError):
    """Text, bitext, scores or shards that cannot be read or do not match each other."""


class DocumentError(DataError):
    """A document that is damaged, encrypted, too large or in a format that cannot be read."""


class ResourceError(NllbError):
    """Not enough memory, disk or processors, or a missing device, program or optional package."""


def did_you_mean(got: str, valid: Iterable[str], *, max_suggestions: int = 3) -> str:
    """Return `; did you mean a, b or c?` for the valid names nearest to `got`, or nothing."""
    by_folded = {name.casefold(): name for name in valid}
    near = get_close_matches(got.casefold(), list(by_folded), n=max_suggestions, cutoff=0.6)
    if not near:
        return ""
    *others, last = (by_folded[name] for name in near)
    return f"; did you mean {', '.join(others)} or {last}?" if others else f"; did you mean {last}?"
