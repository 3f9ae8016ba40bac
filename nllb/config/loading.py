"""Reads configurations and reports all their errors at once, with file and line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from nllb.errors import ConfigError, did_you_mean

from .overrides import apply_override
from .renaming import rename_keys
from .schema import CROSS_FIELD, RunConfig, Section, bounds_of, section_of
from .shipped import find_config
from .yaml_tree import COMMAND_LINE, YamlTree, location

Config = TypeVar("Config", bound=RunConfig)
Errors = list[tuple[tuple[int, int], str]]
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "`key: value` lines",
    "finite_number": "a number",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "`key: value` lines",
    "none_required": "null",
    "path_type": "a path",
    "string_type": "text",
    "tuple_type": "a list",
}


def load_config(
    cls: type[Config], name_or_path: str | Path, overrides: Sequence[str] = ()
) -> Config:
    """Read a configuration, with `key.sub=value` overrides.

    Raises:
        ConfigError: with all unknown, missing and repeated keys, wrong types, values out of range
            and contradictions between fields.
    """
    path = find_config(name_or_path, cls.kind_name())
    return _build(cls, YamlTree.read(path), overrides)


def config_of(
    cls: type[Config], values: Mapping[str, Any], overrides: Sequence[str] = ()
) -> Config:
    """Return a configuration from values that are not in a file, with overrides.

    Raises:
        ConfigError: as `load_config` does.
    """
    text = yaml.safe_dump(plain(dict(values)), allow_unicode=True, sort_keys=False)
    return _build(cls, YamlTree.parse(text, COMMAND_LINE), overrides)


def _build(cls: type[Config], tree: YamlTree, overrides: Sequence[str]) -> Config:
    for override in overrides:
        apply_override(tree, cls, override)
    rename_keys(tree, cls)
    data = tree.data()
    config, errors = None, list(tree.errors)
    try:
        config = cls.model_validate(data)
    except ValidationError as error:
        errors += _describe_all(tree, cls, _all_errors(cls, data, error))
    if config is None or errors:
        listed = "\n".join(f"  {text}" for _, text in sorted(errors, key=lambda item: item[0]))
        count = f"{len(errors)} error{'s' if len(errors) > 1 else ''}"
        raise ConfigError(f"{tree.name}: {count}:\n{listed}")
    return config


def _all_errors(
    cls: type[RunConfig], data: dict[str, Any], error: ValidationError
) -> list[ErrorDetails]:
    """Return pydantic's errors, and those that appear when unknown keys are ignored."""
    found = error.errors(include_url=False)
    unknown = {one["loc"] for one in found if one["type"] == "extra_forbidden"}
    if unknown:
        try:
            cls.model_validate(_without(data, unknown))
        except ValidationError as second:
            again = [one for one in second.errors(include_url=False) if one["type"] == CROSS_FIELD]
            found += [one for one in again if one not in found]
    return found


def _without(value: Any, keys: set[tuple[str | int, ...]], path: tuple[str | int, ...] = ()) -> Any:
    """Return a copy of nested dictionaries and tuples without some keys."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if (*path, key) not in keys}
        return {key: _without(item, keys, (*path, key)) for key, item in kept.items()}
    if isinstance(value, tuple):
        return tuple(_without(item, keys, (*path, i)) for i, item in enumerate(value))
    return value


def _describe_all(tree: YamlTree, cls: type[Section], found: Sequence[ErrorDetails]) -> Errors:
    """Return pydantic's errors with our messages and their lines."""
    errors: Errors = []
    unions: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for error in found:
        if error["type"] == CROSS_FIELD:
            errors += _cross_field(tree, cls, error)
        elif error["type"] in ("missing", "extra_forbidden"):
            errors.append(_wrong_key(tree, cls, error))
        else:  # the alternatives of a union are one error
            path = error["loc"][: tree.find(error["loc"]).resolved]
            unions.setdefault(path, []).append(error)
    for path, alternatives in unions.items():
        place = tree.find(path)
        text = _wrong_value(cls, path, alternatives)
        errors.append((place.order, f"{place.where}: {text}"))
    return errors


def _cross_field(tree: YamlTree, cls: type[Section], error: ErrorDetails) -> Errors:
    """Return the errors that a section reports about its fields, at the field that each names."""
    path = error["loc"]
    found = []
    for text in error["ctx"]["errors"]:
        field, colon, _ = text.partition(":")
        at = (*path, field) if colon and field.isidentifier() else path
        place = tree.find(at)
        key = location((*path, "")) if path else ""
        found.append((place.order, f"{place.where}: {key}{text}"))
    return found


def _wrong_key(tree: YamlTree, cls: type[Section], error: ErrorDetails) -> tuple[Any, str]:
    """Describe a missing or an unknown key."""
    *parents, name = error["loc"]
    path = tuple(parents)
    key = location((*path, name))
    section = _section_at(cls, path)
    if error["type"] == "missing":
        place = tree.find(path)
        described = section.model_fields[str(name)].description if section is not None else None
        text = f"missing key {key}" + (f": {one_line(described)}" if described else "")
    else:
        place = tree.find(error["loc"], at_key=True)
        fields = section.model_fields if section is not None else {}
        valid = ", ".join(_with_default(key, field) for key, field in fields.items())
        text = f"unknown key {key}{did_you_mean(str(name), fields) or ';'} valid keys: {valid}"
    return place.order, f"{place.where}: {text}"


def _wrong_value(
    cls: type[Section], path: tuple[str | int, ...], errors: Sequence[ErrorDetails]
) -> str:
    """Describe a value that the field's type does not accept."""
    key, error = location(path), errors[0]
    got = _shown(error["input"])
    annotation, metadata = _type_at(cls, path)
    kinds = {error["type"] for error in errors}
    if kinds & {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        return f"{key} must be {bounds_of(annotation, metadata)}, got {got}"
    if "literal_error" in kinds:
        choices = [str(choice) for choice in _choices(annotation)]
        hint = did_you_mean(str(error["input"]), choices) or ";"
        return f"{key}: got {got}{hint} valid: {', '.join(choices)}"
    if kinds <= _EXPECTED.keys():
        expected = " or ".join(dict.fromkeys(_EXPECTED[one["type"]] for one in errors))
        quote = "; put it in quotes" if "string_type" in kinds and _is_scalar(error) else ""
        return f"{key}: expected {expected}, got {got}{quote}"
    return f"{key}: {error['msg']}"


def _is_scalar(error: ErrorDetails) -> bool:
    return not isinstance(error["input"], (dict, tuple, NoneType))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "a list"
    if isinstance(value, dict):
        return "nested keys"
    return "null" if value is None else repr(value)


def _type_at(cls: type[Section], path: tuple[str | int, ...]) -> tuple[Any, Sequence[Any]]:
    """Return the type of the field that a location leads to, and the metadata of that field."""
    names = [(i, part) for i, part in enumerate(path) if isinstance(part, str)]
    for i, name in reversed(names):
        section = _section_at(cls, path[:i])
        if section is not None and name in section.model_fields:
            field = section.model_fields[name]
            return field.annotation, field.metadata
    return None, ()


def _section_at(cls: type[Section], path: tuple[str | int, ...]) -> type[Section] | None:
    """Return the class of the section that a location leads to."""
    section: type[Section] | None = cls
    for part in path:
        if isinstance(part, str) and section is not None and part in section.model_fields:
            section = section_of(section.model_fields[part].annotation)
    return section


def _choices(annotation: Any) -> list[Any]:
    """Return the values of the Literal types within a type."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _with_default(key: str, field: Any) -> str:
    """Return a key for the list of valid keys; the keys of sections are not included."""
    if field.is_required():
        return f"{key} (required)"
    if field.default_factory is not None or isinstance(field.default, Section):
        return key
    return f"{key} ({'null' if field.default is None else plain(field.default)})"


def plain(value: Any) -> Any:
    """Return a value of a configuration in the types of YAML and JSON."""
    if isinstance(value, Section):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def one_line(text: str) -> str:
    """Return a docstring as one line."""
    return " ".join(text.split())
