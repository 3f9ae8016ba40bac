"""A YAML document with the position of every value, so that errors contain file and line.

Scalars follow YAML 1.2: `3e-4` is a number, only `true` and `false` are booleans (`no` is a
language code), and dates and times of day are text. Numbers remember how they were written.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import yaml

from nllb.errors import ConfigError
from nllb.io.text import read_text

COMMAND_LINE = "command line"
MAX_BYTES = 4 << 20
MAX_DEPTH = 20
MAX_NODES = 200_000
_STRING_TAG = "tag:yaml.org,2002:str"
_TAGS: dict[str, tuple[str, str]] = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "int": (r"[-+]?0x[0-9a-fA-F_]+|[-+]?0b[01_]+|[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    "null": (r"~|null|Null|NULL|", "~nN\0"),
}


class WrittenInt(int):
    """An integer with its source text.

    Attributes:
        text: the number as it is written in the file.
    """

    text: str


class WrittenFloat(float):
    """A floating-point number with its source text.

    Attributes:
        text: the number as it is written in the file.
    """

    text: str


def written(value: object) -> object:
    """Return a number as it was written in the file, and a path as text."""
    if isinstance(value, (WrittenInt, WrittenFloat)):
        return value.text
    return str(value) if isinstance(value, PurePath) or type(value) in (int, float) else value


def set_scalar_rules(cls: Any) -> None:
    """Give a PyYAML loader or dumper the rules for plain scalars that this module describes."""
    cls.yaml_implicit_resolvers = {}
    for name, (pattern, first) in _TAGS.items():
        compiled = re.compile(f"(?:{pattern})$")
        characters: list[Any] = ["" if c == "\0" else c for c in first]
        cls.add_implicit_resolver(f"tag:yaml.org,2002:{name}", compiled, characters)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalar rules above and a limit on nesting."""

    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        level = self._level + 1
        if level > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ConfigError(
                f"{mark.name}:{mark.line + 1}: nested more than {MAX_DEPTH} levels deep"
            )
        self._level = level
        node: yaml.Node | None = super().compose_node(parent, index)
        self._level = level - 1
        return node


set_scalar_rules(_Loader)


class KeyLocation(NamedTuple):
    """The node of a key, and its place for error messages.

    Attributes:
        node: the node; None if the file does not have it.
        where: the place that an error names.
        order: sort key of errors: by line, with those of the command line last.
        resolved: number of components of the location that were found.
    """

    node: yaml.Node | None
    where: str
    order: tuple[int, int]
    resolved: int


class YamlTree:
    """The nodes of one document."""

    def __init__(self, root: yaml.MappingNode, name: str) -> None:
        self.root = root
        self.name = name
        self.errors: list[tuple[tuple[int, int], str]] = []
        """Syntax errors with their sort keys."""

    @classmethod
    def read(cls, path: Path) -> "YamlTree":
        """Read a file.

        Raises:
            ConfigError: it is not YAML, has no keys at the top level, is too large or is nested too
                deeply.
        """
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB; is it a configuration?")
        return cls.parse(read_text(path), str(path))

    @classmethod
    def parse(cls, text: str, name: str) -> "YamlTree":
        """Read a text; `name` is its name in errors."""
        try:
            root = compose(text, name)
        except yaml.YAMLError as error:
            raise ConfigError(f"{name}: not YAML: {error}") from None
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{name}: expected `key: value` lines at the top")
        return cls(root, name)

    def data(self) -> dict[str, Any]:
        """Return the document as dictionaries, tuples and scalars; record malformed keys."""
        self._nodes_left = MAX_NODES
        value = self._value(self.root, (), 0)
        assert isinstance(value, dict)
        return value

    def _value(self, node: yaml.Node, path: tuple[str | int, ...], depth: int) -> Any:
        self._nodes_left -= 1
        if depth > MAX_DEPTH or self._nodes_left < 0:
            raise ConfigError(f"{self.name}: aliases make the document too large or recursive")
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._value(n, (*path, i), depth + 1) for i, n in enumerate(node.value))
        if not isinstance(node, yaml.MappingNode):
            return scalar_value(node)
        items: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_of(key_node)
            if key is None:
                self.error(key_node, "a key must be plain text, not a list or nested keys")
            elif key in items:
                self.error(key_node, f"the key {location((*path, key))} is given twice")
            else:
                items[key] = self._value(value_node, (*path, key), depth + 1)
        return items

    def error(self, node: yaml.Node | None, text: str) -> None:
        """Record an error at a node, or on the command line."""
        where, order = place_of(node)
        self.errors.append((order, f"{where}: {text}"))

    def find(self, path: tuple[str | int, ...], *, at_key: bool = False) -> KeyLocation:
        """Follow keys and indices as far as they exist."""
        node: yaml.Node = self.root
        marked: yaml.Node = node
        resolved = 0
        for part in path:
            child = _child(node, part)
            if child is None:
                break
            key_node, node = child
            marked = key_node if at_key else node
            resolved += 1
        return KeyLocation(node, *place_of(marked), resolved)


def compose(text: str, name: str) -> yaml.Node | None:
    """Return the root node of a document.

    Raises:
        ConfigError: it is nested too deeply.
        yaml.YAMLError: it is not YAML.
    """
    loader = _Loader(text)
    loader.name = name
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def scalar_value(node: yaml.Node) -> Any:
    """Return the value of a scalar; numbers remember their text."""
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (ValueError, yaml.YAMLError):
        return node.value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    number: WrittenInt | WrittenFloat
    number = WrittenInt(value) if isinstance(value, int) else WrittenFloat(value)
    number.text = str(node.value)
    return number


def key_of(node: yaml.Node) -> str | None:
    """Return the text of a key; None if it is a list or a mapping."""
    return str(node.value) if isinstance(node, yaml.ScalarNode) else None


def key_node(name: str, like: yaml.Node | None = None) -> yaml.ScalarNode:
    """Return the node of a key, with the position of another node."""
    mark = like.start_mark if like is not None else None
    return yaml.ScalarNode(_STRING_TAG, name, start_mark=mark)


def place_of(node: yaml.Node | None) -> tuple[str, tuple[int, int]]:
    """Return `file:line` of a node, and the sort key of errors."""
    mark = node.start_mark if node is not None else None
    if mark is None or mark.name == COMMAND_LINE:
        return COMMAND_LINE, (1, 0)
    return f"{mark.name}:{mark.line + 1}", (0, mark.line)


def location(path: tuple[str | int, ...]) -> str:
    """Return keys and indices as text: `corpora[0].name`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def _child(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(_entries(node, part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _entries(node: yaml.MappingNode, name: str | int) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    return ((key, value) for key, value in node.value if key_of(key) == name)
