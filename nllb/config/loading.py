"""One YAML file = one whole run, read into frozen dataclasses; every fault is reported at once.

A configuration is a tree of `@dataclass(frozen=True, kw_only=True, slots=True)` classes. The string
beneath a field is its help text. The root has a field `kind: Literal["..."]`, which names the sort
of run and the folder under `configs/` where such runs stand. A class may have a method
`faults(self) -> Iterable[str]` for numbers out of range and for what concerns several fields.

Field types: bool, int, float, str, Path, Literal, Language, another such class, `X | None`,
`tuple[X, ...]` and `dict[str, X]`.
"""

import ast
import dataclasses
import inspect
import math
import operator
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, Field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from nllb.errors import ConfigError, NllbError, did_you_mean
from nllb.io.text import atomic_text, read_text
from nllb.languages import Language, parse_language

Config = TypeVar("Config")
_FAULTY = object()
_TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    Language: "a language",
    NoneType: "null",
}


def parse_size(text: str) -> int:
    """Return the bytes that a size such as `8GiB`, `512 MB` or `1000000` stands for.

    Raises:
        ConfigError: the text is no size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?\s*", text, re.IGNORECASE)
    if match is None:
        raise ConfigError(f"{text!r} is not a size; write it as 512MiB, 8GiB or 1.5GB")
    number, prefix, binary = match.groups()
    power = "kmgt".index(prefix.lower()) + 1 if prefix else 0
    return int(float(number) * (1024 if binary else 1000) ** power)


def format_size(num_bytes: float) -> str:
    """Return a number of bytes as people read it: `1.5 GiB`."""
    size, unit = float(num_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def configs_dir() -> Path:
    """Return the folder of the shipped configurations (in the wheel, or in a checkout)."""
    packaged = Path(__file__).parents[1] / "_configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"


def find_config(name_or_path: str | Path, kind: str | None = None) -> Path:
    """Resolve a path, or the name of a shipped configuration (`tiny`, `lid/tiny`).

    Raises:
        ConfigError: naming the shipped ones where there is no such file.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    root = configs_dir()
    shipped = sorted(root.glob(f"{kind or '*'}/*.yaml"))
    name = str(name_or_path).removesuffix(".yaml")
    found = [p for p in shipped if name in {p.stem, f"{p.parent.name}/{p.stem}"}]
    if len(found) == 1:
        return found[0]
    names = [p.stem if kind else f"{p.parent.name}/{p.stem}" for p in shipped]
    if found:
        named = ", ".join(f"{p.parent.name}/{p.stem}" for p in found)
        raise ConfigError(f"{name!r} is the name of {len(found)} configurations: {named}; name one")
    raise ConfigError(
        f"no configuration {str(name_or_path)!r}: neither a file nor a shipped name"
        f"{did_you_mean(name, names)}; shipped: {', '.join(names) or 'none'}"
    )


def load_config(
    cls: type[Config], name_or_path: str | Path, overrides: Sequence[str] = ()
) -> Config:
    """Read a configuration, with `key.sub=value` overrides on top.

    Raises:
        ConfigError: with all unknown keys, wrong types, missing values and cross-field faults.
    """
    hints = get_type_hints(cls)
    kind = get_args(hints["kind"])[0] if "kind" in hints else None
    path = find_config(name_or_path, kind)
    reader = _Reader(str(path))
    root = reader.compose(read_text(path))
    for override in overrides:
        reader.override(root, override)
    config = reader.convert(root, cls, "")
    if reader.faults:
        listed = "\n".join(f"  {fault}" for fault in reader.faults)
        count = len(reader.faults)
        raise ConfigError(f"{path}: {count} fault{'s' if count > 1 else ''}:\n{listed}")
    return config  # type: ignore[no-any-return]


def config_kind(name_or_path: str | Path) -> str:
    """Return what sort of run a configuration file is, by its `kind` key."""
    path = find_config(name_or_path)
    try:
        document = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise ConfigError(f"{path}: no `kind:` key, which names the sort of run")
    return str(document["kind"])


def field_help(cls: type) -> dict[str, str]:
    """Return the help text of each field: the string that stands beneath it in the source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    for above, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(above, ast.AnnAssign)
            and isinstance(above.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            texts[above.target.id] = " ".join(below.value.value.split())
    return texts


def range_faults(
    section: object,
    *names: str,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> Iterator[str]:
    """Yield a fault for each named field of a section that is outside a range; null is in any."""
    limits = [
        (word, limit, holds)
        for word, limit, holds in (
            ("at least", least, operator.ge),
            ("above", above, operator.gt),
            ("at most", most, operator.le),
            ("below", below, operator.lt),
        )
        if limit is not None
    ]
    valid = " and ".join(f"{word} {limit}" for word, limit, _ in limits)
    for name in names:
        value = getattr(section, name)
        if value is not None and not all(holds(value, limit) for _, limit, holds in limits):
            yield f"{name} must be {valid}, got {value}"


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that stand more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def dump_config(config: Any) -> str:
    """Return a configuration as YAML with the help text of every field as a comment."""
    return "\n".join(_dump(config, 0)) + "\n"


def write_config(config: Any, path: Path) -> None:
    """Write the resolved configuration beside a run's output."""
    with atomic_text(path) as stream:
        stream.write(dump_config(config))


def _dump(config: Any, depth: int) -> Iterable[str]:
    indent = "  " * depth
    texts = field_help(type(config))
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.name in texts:
            yield f"{indent}# {texts[item.name]}"
        if dataclasses.is_dataclass(value) and not isinstance(value, Language):
            yield f"{indent}{item.name}:"
            yield from _dump(value, depth + 1)
            continue
        plain = yaml.safe_dump({item.name: _plain(value)}, allow_unicode=True, sort_keys=False)
        yield textwrap.indent(plain.rstrip("\n"), indent)


def _plain(value: Any) -> Any:
    """Return a value in the types that YAML knows."""
    if isinstance(value, (Path, Language)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


class _Reader:
    """Turns YAML nodes into dataclasses and collects what is wrong, with the line it stands in."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[str] = []

    def fault(self, node: yaml.Node | None, text: str) -> Any:
        mark = node.start_mark if node is not None else None
        where = f"{self.file}:{mark.line + 1}" if mark is not None else "command line"
        self.faults.append(f"{where}: {text}")
        return _FAULTY

    def compose(self, text: str) -> yaml.MappingNode:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise ConfigError(f"{self.file}: not YAML: {error}") from None
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{self.file}: expected `key: value` lines at the top")
        return root

    def override(self, root: yaml.MappingNode, text: str) -> None:
        """Replace or add one value, named by its dotted key."""
        dotted, equals, value = text.partition("=")
        if not equals or not dotted:
            self.fault(None, f"{text!r} is not of the form key=value, such as train.lr=3e-4")
            return
        try:
            new = yaml.compose(value or "null", Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            new = None
        if new is None:
            self.fault(None, f"{dotted}: {value!r} is not a YAML value")
            return
        _unmark(new)
        node = root
        *parents, last = dotted.split(".")
        for name in parents:
            child = _get(node, name)
            if not isinstance(child, yaml.MappingNode):
                child = yaml.MappingNode("tag:yaml.org,2002:map", [])
                _set(node, name, child)
            node = child
        _set(node, last, new)

    def convert(self, node: yaml.Node | None, kind: Any, key: str) -> Any:
        """Return the node's value as `kind`, or note a fault."""
        if dataclasses.is_dataclass(kind) and kind is not Language:
            return self._section(node, kind, key)  # type: ignore[arg-type]
        origin = get_origin(kind)
        if origin in (UnionType, Union):
            return self._union(node, get_args(kind), key)
        if origin is Literal:
            value = self._scalar(node)
            if value in get_args(kind):
                return value
            valid = ", ".join(str(choice) for choice in get_args(kind))
            hint = did_you_mean(str(value), [str(choice) for choice in get_args(kind)])
            return self.fault(node, f"{key}: got {value!r}{hint or ';'} valid: {valid}")
        if origin in (tuple, list):
            if not isinstance(node, yaml.SequenceNode):
                return self.fault(node, f"{key}: expected a list, got {self._shown(node)}")
            item_kind = get_args(kind)[0]
            items = [self.convert(n, item_kind, f"{key}[{i}]") for i, n in enumerate(node.value)]
            return _FAULTY if any(item is _FAULTY for item in items) else tuple(items)
        if origin is dict:
            if not isinstance(node, yaml.MappingNode):
                return self.fault(
                    node, f"{key}: expected `key: value` lines, got {self._shown(node)}"
                )
            item_kind = get_args(kind)[1]
            found = {k.value: self.convert(v, item_kind, f"{key}.{k.value}") for k, v in node.value}
            return _FAULTY if any(value is _FAULTY for value in found.values()) else found
        return self._plain_value(node, kind, key)

    def _section(self, node: yaml.Node | None, cls: type, key: str) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return self.fault(node, f"{key}: expected `key: value` lines, got {self._shown(node)}")
        hints = get_type_hints(cls)
        known = {item.name: item for item in dataclasses.fields(cls)}
        prefix = f"{key}." if key else ""
        values: dict[str, Any] = {}
        for name_node, value_node in node.value:
            name = str(name_node.value)
            if name not in known:
                valid = ", ".join(_with_default(item) for item in known.values())
                hint = did_you_mean(name, known) or ";"
                self.fault(name_node, f"unknown key {prefix}{name}{hint} valid keys: {valid}")
            elif name in values:
                self.fault(name_node, f"{prefix}{name} stands twice")
            else:
                values[name] = self.convert(value_node, hints[name], f"{prefix}{name}")
        complete = True
        for name, item in known.items():
            required = item.default is MISSING and item.default_factory is MISSING
            if required and name not in values:
                complete = False
                text = field_help(cls).get(name, "")
                self.fault(node, f"missing key {prefix}{name}" + (f": {text}" if text else ""))
        if not complete or any(value is _FAULTY for value in values.values()):
            return _FAULTY
        before = len(self.faults)
        try:
            section = cls(**values)
            for text in getattr(section, "faults", tuple)():
                self.fault(node, f"{prefix}{text}")
        except NllbError as error:
            return self.fault(node, f"{key}: {error}" if key else str(error))
        return section if len(self.faults) == before else _FAULTY

    def _union(self, node: yaml.Node | None, kinds: tuple[Any, ...], key: str) -> Any:
        if NoneType in kinds and self._scalar(node) is None:
            return None
        others = [kind for kind in kinds if kind is not NoneType]
        for kind in others[:-1]:
            trial = _Reader(self.file)
            value = trial.convert(node, kind, key)
            if not trial.faults:
                return value
        return self.convert(node, others[-1], key)

    def _plain_value(self, node: yaml.Node | None, kind: Any, key: str) -> Any:
        value = self._scalar(node)
        if kind is Any:
            return value
        if kind is float and isinstance(value, str):
            try:  # YAML 1.1 reads 3e-4 as text
                value = float(value)
            except ValueError:
                pass
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if kind in (str, Path, Language) and isinstance(value, (int, float, str)):
            text = str(node.value) if isinstance(node, yaml.ScalarNode) else str(value)
            if kind is Language:
                try:
                    return parse_language(text)
                except NllbError as error:
                    return self.fault(node, f"{key}: {error}")
            return kind(text)
        right_type = isinstance(value, kind) and (kind is bool) == isinstance(value, bool)
        if right_type and not (isinstance(value, float) and math.isnan(value)):
            return value
        return self.fault(
            node, f"{key}: expected {_TYPE_NAMES.get(kind, kind)}, got {self._shown(node)}"
        )

    def _scalar(self, node: yaml.Node | None) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return _FAULTY
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node)
        except (ValueError, yaml.YAMLError):
            return node.value

    def _shown(self, node: yaml.Node | None) -> str:
        if isinstance(node, yaml.ScalarNode):
            return repr(self._scalar(node))
        return "a list" if isinstance(node, yaml.SequenceNode) else "nested keys"


def _with_default(item: "Field[Any]") -> str:
    if dataclasses.is_dataclass(item.default):  # a section: its own keys are told where it stands
        return item.name
    if item.default is not MISSING:
        return f"{item.name} ({_plain(item.default)})"
    return f"{item.name} (required)" if item.default_factory is MISSING else item.name


def _get(node: yaml.MappingNode, name: str) -> yaml.Node | None:
    return next((value for key, value in node.value if key.value == name), None)


def _set(node: yaml.MappingNode, name: str, value: yaml.Node) -> None:
    kept = [(key, old) for key, old in node.value if key.value != name]
    node.value = [*kept, (yaml.ScalarNode("tag:yaml.org,2002:str", name), value)]


def _unmark(node: yaml.Node) -> None:
    """Drop the line numbers of a value that came from the command line."""
    node.start_mark = node.end_mark = None
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _unmark(child)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            _unmark(key)
            _unmark(child)
