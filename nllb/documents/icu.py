"""ICU messages: only the leaves of plurals and selections are text."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from .plurals import CATEGORIES, PluralSlot
from .splicing import InlinePiece, UnitSpans
from .units import CodeKind, Fragment, Unit

_COMPLEX: Final = re.compile(r"\{\s*[\w.-]+\s*,\s*(?:plural|select|selectordinal)\s*,")
_HEAD: Final = re.compile(r"\{\s*([\w.-]+)\s*(?:,\s*(\w+)\s*)?")
_OFFSET: Final = re.compile(r"\s*offset:\s*\d+")
_SELECTOR: Final = re.compile(r"\s*(=?[\w.-]+)\s*\{")
MAX_DEPTH: Final = 20


class _Malformed(Exception):
    pass


def is_icu_message(text: str) -> bool:
    """Return whether a text contains plurals or selections in ICU syntax."""
    return _COMPLEX.search(text) is not None


def icu_spans(text: str, key: str) -> UnitSpans | None:
    """Return the leaves of a message as units; None if its braces do not match.

    Args:
        text: the message.
        key: the prefix of the keys of the units.
    """
    walk = _Walk(text, key)
    try:
        walk.message(0, 0, category=None)
    except (_Malformed, IndexError):
        return None
    return walk.spans


class _Walk:
    def __init__(self, text: str, key: str):
        self.text, self.key = text, key
        self.spans = UnitSpans()
        self.count = 0

    def message(
        self, position: int, depth: int, *, category: str | None
    ) -> tuple[int, Unit | None]:
        """Read a message up to its closing brace; return that position and its only unit."""
        if depth > MAX_DEPTH:
            raise _Malformed
        pieces: list[InlinePiece] = []
        units: list[Unit | None] = []
        text_start = position
        text = self.text

        def finish(end: int) -> None:
            if end > text_start:
                shown = _unquote(text[text_start:end])
                pieces.append(InlinePiece(text_start, end, text[text_start:end], shown))

        while position < len(text) and not (text[position] == "}" and depth):
            character = text[position]
            if character == "'":
                position = _after_quote(text, position)
            elif character == "#" and depth:
                finish(position)
                pieces.append(InlinePiece(position, position + 1, "#", kind=CodeKind.STANDALONE))
                position = text_start = position + 1
            elif character == "{":
                finish(position)
                end = self._argument(position, depth, pieces, units, category)
                position = text_start = end
            elif character == "}":
                raise _Malformed
            else:
                position += 1
        if depth and position >= len(text):
            raise _Malformed
        finish(position)
        units.append(self._unit(pieces, category))
        found = [unit for unit in units if unit is not None]
        return position, found[0] if len(found) == 1 and len(units) == 1 else None

    def _argument(
        self,
        start: int,
        depth: int,
        pieces: list[InlinePiece],
        units: list[Unit | None],
        category: str | None,
    ) -> int:
        head = _HEAD.match(self.text, start)
        if head is None:
            raise _Malformed
        if head[2] not in {"plural", "select", "selectordinal"}:
            end = self._simple_end(head.end())
            pieces.append(InlinePiece(start, end, self.text[start:end], kind=CodeKind.STANDALONE))
            return end
        units.append(self._unit(pieces, category))
        pieces.clear()
        return self._branches(head.end(), depth, is_plural=head[2] == "plural")

    def _simple_end(self, position: int) -> int:
        depth = 1
        while depth:
            character = self.text[position]
            depth += {"{": 1, "}": -1}.get(character, 0)
            position += 1
        return position

    def _branches(self, position: int, depth: int, *, is_plural: bool) -> int:
        if self.text[position] != ",":
            raise _Malformed
        position += 1
        if offset := _OFFSET.match(self.text, position):
            position = offset.end()
        present: set[str] = set()
        other: Unit | None = None
        end_of_other = 0
        while selector := _SELECTOR.match(self.text, position):
            name = selector[1]
            present.add(name)
            category = name if is_plural and name in CATEGORIES else None
            position, unit = self.message(selector.end(), depth + 1, category=category)
            position += 1
            if name == "other":
                other, end_of_other = unit, position
        while self.text[position].isspace():
            position += 1
        if self.text[position] != "}" or not present:
            raise _Malformed
        if is_plural and other is not None:
            self.spans.slots.append(
                PluralSlot(
                    unit=other,
                    present=frozenset(present),
                    position=end_of_other,
                    write=_write_branch,
                )
            )
        return position + 1

    def _unit(self, pieces: Sequence[InlinePiece], category: str | None) -> Unit | None:
        self.count += 1
        return self.spans.add(
            _split_blanks(pieces),
            write_message,
            key=f"{self.key}#{self.count}",
            trim_codes=False,
            preserve_layout=True,
            plural_category=category,
        )


def _split_blanks(pieces: Sequence[InlinePiece]) -> list[InlinePiece]:
    """Split off the white space at the beginning and at the end, if there is any."""
    result: list[InlinePiece] = []
    for piece in pieces:
        source = piece.source
        lead = len(source) - len(source.lstrip())
        trail = len(source.rstrip())
        if piece.kind is None and source.strip() and "'" not in source:
            bounds = sorted({0, lead, trail, len(source)})
            result += (
                InlinePiece(piece.start + a, piece.start + b, source[a:b], source[a:b])
                for a, b in pairwise(bounds)
            )
        else:
            result.append(piece)
    return result


def _after_quote(text: str, position: int) -> int:
    """Return the position after an apostrophe, or after the literal text that it begins."""
    following = text[position + 1 : position + 2]
    if following == "'":
        return position + 2
    if following not in {"{", "}", "#", "|"} or not following:
        return position + 1
    end = position + 1
    while end < len(text):
        if text[end] == "'":
            if text[end + 1 : end + 2] != "'":
                return end + 1
            end += 1
        end += 1
    return end


def _unquote(source: str) -> str:
    parts: list[str] = []
    position = 0
    while position < len(source):
        if source[position] != "'":
            parts.append(source[position])
            position += 1
            continue
        end = _after_quote(source, position)
        quoted = source[position:end]
        if quoted == "''":
            parts.append("'")
        elif len(quoted) == 1:
            parts.append(quoted)
        else:
            parts.append(quoted[1:].removesuffix("'").replace("''", "'"))
        position = end
    return "".join(parts)


def write_message(fragments: Sequence[Fragment]) -> str:
    """Return fragments as an ICU message."""
    return "".join(_quote(part) if isinstance(part, str) else part.data for part in fragments)


def _quote(text: str) -> str:
    text = text.replace("'", "''")
    return re.sub(r"[{}#|]+", lambda match: f"'{match[0]}'", text)


def _write_branch(category: str, fragments: Sequence[Fragment]) -> str:
    return f" {category} {{{write_message(fragments)}}}"
