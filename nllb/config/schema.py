"""Base classes and field types of configurations.

A configuration is a tree of `Section` classes with a `RunConfig` at its root. Bounds are part of
the types of fields, rules about several fields are in `cross_field_errors`, and the docstring of a
field is its help text.
"""

from collections.abc import Callable, Iterable, Mapping
from inspect import cleandoc
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, NamedTuple, Self, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from nllb.errors import ConfigError

from .sizes import parse_size
from .yaml_tree import written

CROSS_FIELD = "cross_field"
"""The type of pydantic errors that carry the messages of `Section.cross_field_errors`."""


def _path(value: object) -> object:
    text = written(value)
    return Path(text) if isinstance(text, str) else value


def _byte_size(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_size(value)
    except ConfigError as error:
        raise PydanticCustomError("size", "{reason}", {"reason": str(error)}) from None


Text = Annotated[str, BeforeValidator(written)]
"""Text; a number is kept as it was written, so that `007` stays `007`."""
FilePath = Annotated[Path, BeforeValidator(_path)]
"""A path of a file or folder; it need not exist when the configuration is read."""
ByteSize = Annotated[int, Field(ge=0), BeforeValidator(_byte_size)]
"""A number of bytes, also written as `8GiB` or `512 MB`."""
PositiveInt = Annotated[int, Field(ge=1)]
"""A whole number of at least 1."""
NonNegativeInt = Annotated[int, Field(ge=0)]
"""A whole number of at least 0."""
PositiveFloat = Annotated[float, Field(gt=0)]
"""A number above 0."""
NonNegativeFloat = Annotated[float, Field(ge=0)]
"""A number of at least 0."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""
FractionBelowOne = Annotated[float, Field(ge=0, lt=1)]
"""A number from 0 to below 1, such as a dropout probability."""


class RenamedKey(NamedTuple):
    """A deprecated key whose unit changed with its name."""

    name: str
    """The new key."""
    convert: Callable[[float], float]
    """Returns the value under the new key."""


class Section(BaseModel):
    """A part of a configuration: immutable, with strict types, without unknown keys."""

    model_config = ConfigDict(
        allow_inf_nan=False,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        strict=True,
        use_attribute_docstrings=True,
    )

    renamed_keys: ClassVar[Mapping[str, str | RenamedKey]] = {}
    """Deprecated keys, which still work in this release, and their new names."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Add the descriptions of the fields to the docstring, so that `help` explains them."""
        fields = ((name, field.description) for name, field in cls.model_fields.items())
        listed = "".join(f"\n    {name}: {' '.join((text or '').split())}" for name, text in fields)
        cls.__doc__ = f"{cleandoc(cls.__doc__ or '')}\n\nAttributes:{listed}\n"

    def cross_field_errors(self) -> Iterable[str]:
        """Yield contradictions between fields; a message may begin with `field: `."""
        return ()

    @model_validator(mode="after")
    def _check_fields_together(self) -> Self:
        if errors := list(self.cross_field_errors()):
            raise PydanticCustomError(
                CROSS_FIELD, "{text}", {"text": "; ".join(errors), "errors": errors}
            )
        return self

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values, checked like values from a file."""
        return type(self)(**{**dict(self), **changes})

    @classmethod
    def canonical_key(cls, key: str) -> str:
        """Return the current name of a key."""
        renamed = cls.renamed_keys.get(key, key)
        return renamed.name if isinstance(renamed, RenamedKey) else renamed


class RunConfig(Section):
    """The root of a configuration; its subclasses have a field `kind` of one literal value.

    The kind is also the name of the folder of such files under `configs/`.
    """

    @classmethod
    def kind_name(cls) -> str:
        """Return the kind of run that files for this class name."""
        return str(get_args(cls.model_fields["kind"].annotation)[0])


def section_of(annotation: Any) -> type[Section] | None:
    """Return the section class that a field's type contains, if any."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for part in _parts(annotation):
        if found := section_of(part):
            return found
    return None


def bounds_of(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Return the bounds of a numeric type in words, such as `at least 0 and below 1`."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = []
    for item in metadata:
        for one in (item, *getattr(item, "metadata", ())):
            found += [f"{text} {getattr(one, k)}" for k, text in words.items() if hasattr(one, k)]
    if found:
        return " and ".join(found)
    if get_origin(annotation) is Annotated:
        return bounds_of(get_args(annotation)[0], annotation.__metadata__)
    return next(filter(None, map(bounds_of, _parts(annotation))), "")


def _parts(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return get_args(annotation)[:1]
    return get_args(annotation) if origin in (UnionType, Union, tuple, dict) else ()


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, sorted."""
    seen: set[str] = set()
    twice = {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
    return sorted(twice)


def per_mille(value: float) -> float:
    """Convert parts per thousand to a fraction."""
    return value / 1000


def one_in(value: float) -> float:
    """Convert `every N` to a fraction; 0 stays 0."""
    return 1 / value if value else 0
