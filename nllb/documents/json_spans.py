"""Parses JSON with the position of every value."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from typing import Final, Literal

from nllb.errors import DocumentError

MAX_DEPTH: Final = 200
MAX_VALUES: Final = 4_000_000
_WHITE: Final = re.compile(r"[ \t\r\n]*")
_LITERAL: Final = re.compile(
    r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|NaN|-?Infinity"
)


@dataclass(slots=True)
class JsonValue:
    """A value of a JSON file.

    Attributes:
        kind: the kind of value; `literal` is a number, a truth value or null.
        start: offset of its first character.
        end: offset after its last character.
        text: the value of a string, or the source of a literal.
        members: the members of an object with their keys, including duplicates.
        items: the items of an array.
    """

    kind: Literal["object", "array", "string", "literal"]
    start: int
    end: int = -1
    text: str = ""
    members: "list[tuple[str, JsonValue]]" = field(default_factory=list)
    items: "list[JsonValue]" = field(default_factory=list)

    def get(self, key: str) -> "JsonValue | None":
        """Return the member of an object with a key."""
        return next((value for name, value in self.members if name == key), None)

    def strings(self) -> "Iterator[tuple[tuple[str, ...], JsonValue]]":
        """Yield all strings in the value with their paths; items are numbered from 0."""
        yield from _strings(self, ())


def _strings(
    value: JsonValue, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], JsonValue]]:
    if value.kind == "string":
        yield path, value
    for key, member in value.members:
        yield from _strings(member, (*path, key))
    for number, item in enumerate(value.items):
        yield from _strings(item, (*path, str(number)))


def parse_json(text: str) -> list[JsonValue]:
    """Return the values of a file: one, or one per line in JSON lines.

    Raises:
        DocumentError: The text is not JSON, or nested too deeply.
    """
    parser = _Parser(text)
    try:
        values = [parser.value(parser.skip(0), 0)]
        while (position := parser.skip(values[-1].end)) < len(text):
            values.append(parser.value(position, 0))
    except (JSONDecodeError, IndexError) as error:
        position = error.pos if isinstance(error, JSONDecodeError) else len(text)
        reason = error.msg if isinstance(error, JSONDecodeError) else "the end is missing"
        line = text.count("\n", 0, position) + 1
        column = position - text.rfind("\n", 0, position)
        raise DocumentError(f"not valid JSON: {reason} in line {line}, column {column}") from error
    return values


class _Parser:
    def __init__(self, text: str):
        self.text = text
        self.count = 0

    def skip(self, position: int) -> int:
        match = _WHITE.match(self.text, position)
        assert match is not None
        return match.end()

    def value(self, start: int, depth: int) -> JsonValue:
        if depth > MAX_DEPTH:
            raise DocumentError(f"the JSON is nested more than {MAX_DEPTH} deep")
        self.count += 1
        if self.count > MAX_VALUES:
            raise DocumentError(f"the JSON has more than {MAX_VALUES:,} values")
        first = self.text[start]
        if first == '"':
            string, end = scanstring(self.text, start + 1, False)
            return JsonValue("string", start, end, string)
        if first == "{":
            return self._object(start, depth)
        if first == "[":
            return self._array(start, depth)
        match = _LITERAL.match(self.text, start)
        if match is None:
            raise JSONDecodeError("a value is expected", self.text, start)
        return JsonValue("literal", start, match.end(), match[0])

    def _object(self, start: int, depth: int) -> JsonValue:
        found = JsonValue("object", start)
        position = self.skip(start + 1)
        while self.text[position] != "}":
            if found.members:
                position = self._expect(position, ",")
            if self.text[position] != '"':
                raise JSONDecodeError("a key in quotes is expected", self.text, position)
            key, position = scanstring(self.text, position + 1, False)
            member = self.value(self._expect(self.skip(position), ":"), depth + 1)
            found.members.append((key, member))
            position = self.skip(member.end)
        found.end = position + 1
        return found

    def _array(self, start: int, depth: int) -> JsonValue:
        found = JsonValue("array", start)
        position = self.skip(start + 1)
        while self.text[position] != "]":
            if found.items:
                position = self._expect(position, ",")
            found.items.append(self.value(position, depth + 1))
            position = self.skip(found.items[-1].end)
        found.end = position + 1
        return found

    def _expect(self, position: int, character: str) -> int:
        if self.text[position] != character:
            raise JSONDecodeError(f"{character!r} is expected", self.text, position)
        return self.skip(position + 1)
