"""The errors that a user can meet: what was wrong, what was got, what is valid, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class NllbError(Exception):
    """Any fault that is the input's or the machine's, not the program's."""

    exit_code = 1


class LanguageError(NllbError):
    """A language that the table does not know, or that a model does not have."""

    exit_code = 2


class ConfigError(NllbError):
    """A configuration, option or argument that cannot be used; it names all faults at once."""

    exit_code = 2


class CheckpointError(NllbError):
    """A model, vocabulary or checkpoint that is missing, damaged or of another kind."""

    exit_code = 2


class DataError(NllbError):
    """Text, bitext, scores or shards that cannot be read or do not belong together."""


class ResourceError(NllbError):
    """Not enough memory, disk, processors, or a device, program or extra that is not there."""


def did_you_mean(got: str, valid: Iterable[str], *, most: int = 3) -> str:
    """Return `; did you mean a, b or c?` for the valid names nearest to `got`, or nothing."""
    by_folded = {name.casefold(): name for name in valid}
    near = get_close_matches(got.casefold(), list(by_folded), n=most, cutoff=0.6)
    if not near:
        return ""
    *others, last = (by_folded[name] for name in near)
    return f"; did you mean {', '.join(others)} or {last}?" if others else f"; did you mean {last}?"
