"""Converts JSON values of unknown origin to dataclasses, with a check of every field."""

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nllb.errors import DataError, NllbError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Record = TypeVar("Record")
_SHOWN_CHARACTERS = 60


def to_record(
    kind: type[Record], value: Any, where: object, *, error: type[NllbError] = DataError
) -> Record:
    """Return a value that was read from a file as a dataclass.

    Lists become tuples, integers are accepted as floating-point numbers, and unknown fields are
    ignored.

    Args:
        kind: the dataclass.
        value: the parsed JSON value.
        where: the file, for messages.
        error: type of the error.

    Raises:
        NllbError: of the type `error`, with the first field that is missing or of another type.
    """
    from pydantic import ValidationError

    try:
        record: Record = _adapter(cast(Any, kind)).validate_python(value)
        return record
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        given = "" if first["type"] == "missing" else f", got {_shown(first['input'])}"
        raise error(
            f"{where} is damaged or of another kind: {place[:_SHOWN_CHARACTERS]}: "
            f"{first['msg']}{given}"
        ) from None
    except RecursionError:
        raise error(f"{where} is damaged or of another kind: it nests too deeply") from None


def _shown(value: Any) -> str:
    if isinstance(value, (str, int, float, bool, type(None))):
        return repr(value)[:_SHOWN_CHARACTERS]
    return f"a {type(value).__name__}"


@cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
