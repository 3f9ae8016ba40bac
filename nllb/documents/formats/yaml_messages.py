"""YAML: string values are translated; keys, anchors, comments and layout are kept."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from nllb.documents.plurals import CATEGORIES, PluralSlot
from nllb.documents.prose import is_chosen, is_prose
from nllb.documents.splicing import InlinePiece, SplicedDocument, TextEdits
from nllb.documents.text_file import TextFile, is_text, read_text
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment
from nllb.errors import DocumentError
from nllb.languages import Language
from nllb.languages.tags import language_tag

MAX_BYTES: Final = 64 << 20
_STRING_TAG: Final = "tag:yaml.org,2002:str"
_UNSAFE: Final = re.compile(r"^[\s\-?:,\[\]{}#&*!|>'\"%@`=<~]|[\n\t]|: |:$| #|\s$|^$|[\x00-\x1f]")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlFormat(DocumentFormat):
    """YAML files."""

    name = "yaml"
    suffixes = (".yaml", ".yml")
    keeps = (
        "Values that are text are translated, or those of chosen keys; plurals of Rails get the "
        "categories of the target; keys, comments and style are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is one by its name."""
        return suffix in cls.suffixes and is_text(head)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a file."""
        return YamlDocument(read_text(data, options, max_bytes=MAX_BYTES), options)


@dataclass(frozen=True, slots=True)
class YamlScalar:
    """A string of a YAML file and its path.

    Attributes:
        path: keys and indices that lead to it.
        start: offset of its first character.
        end: offset after its last character.
        value: its text.
        style: its YAML style: empty, a quote, `|` or `>`.
        is_key: whether it is a key of a mapping.
        in_flow: whether it is in a flow collection.
    """

    path: tuple[str, ...]
    start: int
    end: int
    value: str
    style: str
    is_key: bool
    in_flow: bool


def yaml_scalars(text: str) -> Iterator[YamlScalar]:
    """Yield the strings of a file with their positions.

    Raises:
        DocumentError: The text is not YAML.
    """
    # Open collections: the path, the key that is waiting for a value or the next number, flow.
    stack: list[tuple[tuple[str, ...], list[str | int | None], bool, bool]] = []
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.DocumentStartEvent):
                stack = []
            elif isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
            elif isinstance(event, yaml.CollectionStartEvent):
                path, _ = _next_path(stack, "")
                mapping = isinstance(event, yaml.MappingStartEvent)
                stack.append((path, [None if mapping else 0], mapping, bool(event.flow_style)))
            elif isinstance(event, yaml.AliasEvent):
                _next_path(stack, str(event.anchor))
            elif isinstance(event, yaml.ScalarEvent):
                path, is_key = _next_path(stack, event.value)
                tag = event.tag or _tag(event.value, event.implicit)
                start, end = event.start_mark, event.end_mark
                if tag == _STRING_TAG and start is not None and end is not None:
                    yield YamlScalar(
                        path,
                        start.index,
                        end.index,
                        event.value,
                        event.style or "",
                        is_key,
                        any(flow for *_, flow in stack),
                    )
    except yaml.YAMLError as error:
        raise DocumentError(f"not valid YAML: {str(error)[:300]}") from error


_resolver: Final[Any] = yaml.SafeLoader("")


def _tag(value: str, implicit: tuple[bool, bool]) -> str:
    """Return the implicit tag of a scalar, such as that of a number."""
    return str(_resolver.resolve(yaml.ScalarNode, value, implicit))


def _next_path(
    stack: list[tuple[tuple[str, ...], list[str | int | None], bool, bool]], value: str
) -> tuple[tuple[str, ...], bool]:
    """Return the path of the next node, and whether it is a key."""
    if not stack:
        return (), False
    path, state, is_mapping, _ = stack[-1]
    if not is_mapping:
        number = state[0]
        assert isinstance(number, int)
        state[0] = number + 1
        return (*path, str(number)), False
    if state[0] is None:
        state[0] = value
        return (*path, value), True
    key = str(state[0])
    state[0] = None
    return (*path, key), False


class YamlDocument(SplicedDocument):
    """A parsed file."""

    def __init__(self, file: TextFile, options: FormatOptions):
        super().__init__(file)
        self.roots: list[YamlScalar] = []
        seen: set[str] = set()
        groups: dict[tuple[str, ...], dict[str, tuple[YamlScalar, str]]] = {}
        for scalar in yaml_scalars(file.text):
            if scalar.is_key:
                if len(scalar.path) == 1:
                    self.roots.append(scalar)
                continue
            chosen = (
                is_chosen(scalar.path or ("",), options.keys)
                if options.keys
                else is_prose(scalar.value)
            )
            if not chosen or scalar.start == scalar.end:
                continue
            key = ".".join(scalar.path)
            while key in seen:
                key += "'"
            seen.add(key)
            name = scalar.path[-1] if scalar.path else ""
            category = name if name in CATEGORIES else None
            end = self._content_end(scalar)
            piece = InlinePiece(scalar.start, end, "", scalar.value)
            self.spans.add(
                [piece],
                scalar_writer(file.text[scalar.start : end], scalar),
                key=key,
                preserve_layout=True,
                plural_category=category,
            )
            if category is not None:
                groups.setdefault(scalar.path[:-1], {})[category] = scalar, key
        self._add_slots(groups)

    def _content_end(self, scalar: YamlScalar) -> int:
        """Return the end of a scalar without the blank lines after it."""
        if scalar.style in {"|", ">"}:
            source = self.file.text[scalar.start : scalar.end]
            return scalar.start + len(source.rstrip())
        return scalar.end

    def _add_slots(self, groups: dict[tuple[str, ...], dict[str, tuple[YamlScalar, str]]]) -> None:
        units = {unit.key: unit for unit in self.spans.units}
        text = self.file.text
        for group in groups.values():
            scalar, key = group.get("other", (None, ""))
            is_block = scalar is not None and scalar.style in {"|", ">"}
            if scalar is None or key not in units or scalar.in_flow or is_block or len(group) < 2:
                continue
            start = text.rfind("\n", 0, scalar.start) + 1
            match = re.match(r"(\s*)(['\"]?)other\2:\s*", text[start : scalar.start + 1])
            if match is None:
                continue
            indent, newline = match[1], self.file.newline

            def write(
                category: str, fragments: Sequence[Fragment], before: str = newline + indent
            ) -> str:
                return f"{before}{category}: {json.dumps(_plain(fragments), ensure_ascii=False)}"

            end = len(text) if (found := text.find("\n", scalar.end)) < 0 else found
            if text[end - 1 : end] == "\r":
                end -= 1
            self.spans.slots.append(
                PluralSlot(unit=units[key], present=frozenset(group), position=end, write=write)
            )

    def set_languages(self, edits: TextEdits, source: Language | None, target: Language) -> None:
        """Rename the only top-level key if it is the source language, as in Rails."""
        if len(self.roots) == 1 and source is not None:
            [root] = self.roots
            if root.value in {language_tag(source), source.code} and not root.style:
                edits.replace(root.start, root.end, language_tag(target))


def _plain(fragments: Sequence[Fragment]) -> str:
    return "".join(part if isinstance(part, str) else part.data for part in fragments)


def scalar_writer(source: str, scalar: YamlScalar) -> Callable[[Sequence[Fragment]], str]:
    """Return a function that writes a scalar in its original style."""

    def write(fragments: Sequence[Fragment]) -> str:
        text = _plain(fragments)
        if scalar.style in {"|", ">"}:
            return _block(source, text, folded=scalar.style == ">")
        if scalar.style == "'" and not re.search(r"[\n\x00-\x1f]", text):
            return "'" + text.replace("'", "''") + "'"
        if scalar.style == "" and _is_plain(text, scalar):
            return text
        return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\x7f")

    return write


def _is_plain(text: str, scalar: YamlScalar) -> bool:
    if _UNSAFE.search(text) or (scalar.in_flow and re.search(r"[,\[\]{}]", text)):
        return False
    return _tag(text, (True, False)) == _STRING_TAG


def _block(source: str, text: str, *, folded: bool) -> str:
    """Return a block scalar with the header and indentation of its source."""
    newline = "\r\n" if "\r\n" in source else "\n"
    header, *lines = source.splitlines()
    first = next((line for line in lines if line.strip()), "  ")
    indent = first[: len(first) - len(first.lstrip())] or "  "
    parts = text.rstrip("\n").split("\n")
    if folded:
        parts = [line for part in parts for line in (part, "")][:-1]
    body = [indent + part if part else "" for part in parts]
    return newline.join([header, *body])
