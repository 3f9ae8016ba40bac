"""XML files inside archives: units with their places, and edits that may be nested.

A paragraph may contain a drawing with its own paragraphs. Places are therefore edited from the
inside out: when a paragraph is rewritten, the source that it keeps already includes the earlier
edits.
"""

import html
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from nllb.languages import Language
from nllb.languages.tags import language_tag

from .passages import StyledPassage, Token
from .splicing import Escape, has_letters, joined
from .units import CodeKind, Fragment, InlineCode, Unit
from .xml_spans import (
    XmlEdits,
    XmlElement,
    XmlTree,
    attribute_span,
    escape_attribute,
    escape_text,
    parse_xml,
)

_COMPLEX_SCRIPTS: Final = frozenset(
    "Arab Beng Deva Gujr Guru Hebr Khmr Knda Laoo Mlym Mymr Nkoo Olck Orya Sinh Syrc Taml Telu "
    "Thaa Thai Tibt".split()
)
_EAST_ASIAN_SCRIPTS: Final = frozenset("Hang Hans Hant Jpan".split())


@dataclass(frozen=True, slots=True)
class Writing:
    """The language that a file is written in, with its properties for office formats.

    Attributes:
        language: the language.
    """

    language: Language

    @property
    def tag(self) -> str:
        """The language's BCP 47 tag."""
        return language_tag(self.language)

    @property
    def is_rtl(self) -> bool:
        """Whether text runs from right to left."""
        return self.language.direction == "rtl"

    @property
    def is_complex(self) -> bool:
        """Whether office programs format the script as a complex script."""
        return self.language.script in _COMPLEX_SCRIPTS

    @property
    def is_east_asian(self) -> bool:
        """Whether office programs format the script as an East Asian one."""
        return self.language.script in _EAST_ASIAN_SCRIPTS


@dataclass(slots=True)
class NestedEdits(XmlEdits):
    """Changes of a file that may cover earlier ones; `read` returns a part with its changes."""

    _attributes: set[tuple[int, str]] = field(default_factory=set)

    def set_attribute(self, element: XmlElement, name: str, value: str) -> None:
        """Set an attribute as `XmlEdits` does; setting it again has no effect."""
        if (element.start, name) not in self._attributes:
            self._attributes.add((element.start, name))
            XmlEdits.set_attribute(self, element, name, value)

    def replace(self, start: int, end: int, source: str) -> None:
        """Replace the bytes from `start` to `end`; earlier changes inside them are dropped.

        A change inside a part that an earlier change replaced is skipped.
        """
        first, last = self._inside(start, end)
        if first and self._changes[first - 1][1] > start:
            return
        del self._changes[first:last]
        encoded = source.encode(self.encoding, "xmlcharrefreplace")
        self._changes.insert(first, (start, end, 0, encoded))

    def read(self, start: int, end: int) -> str:
        """Return a part of the source with the changes inside it."""
        first, last = self._inside(start, end)
        parts: list[bytes] = []
        done = start
        for begin, stop, _, encoded in self._changes[first:last]:
            parts += self.data[done:begin], encoded
            done = stop
        return b"".join([*parts, self.data[done:end]]).decode(self.encoding)

    def apply(self) -> bytes:
        """Return the changed file."""
        parts: list[bytes] = []
        done = 0
        for start, end, _, encoded in self._changes:
            assert start >= done, "two edits overlap"
            parts += self.data[done:start], encoded
            done = end
        return b"".join([*parts, self.data[done:]])

    def _inside(self, start: int, end: int) -> tuple[int, int]:
        """Return the range of changes between two positions, without insertions at these."""
        if start == end:
            place = bisect_left(self._changes, (start, end + 1))
            return place, place
        first = bisect_left(self._changes, (start, start + 1))
        last = bisect_left(self._changes, (end,), lo=first)
        return first, last


class Dialect(Protocol):
    """Reads and writes one kind of paragraph."""

    def content(self, paragraph: XmlElement) -> tuple[int, int]:
        """Return the start and end of the part that is rewritten."""

    def tokens(self, paragraph: XmlElement, tree: XmlTree) -> Sequence[Token]:
        """Return the content of a paragraph."""

    def write(
        self, tokens: Sequence[Token], edits: NestedEdits, tree: XmlTree, writing: Writing
    ) -> str:
        """Return the source of translated content."""

    def adapt(
        self, paragraph: XmlElement, edits: NestedEdits, tree: XmlTree, writing: Writing
    ) -> None:
        """Set the language and the direction of a translated paragraph."""


Apply = Callable[[Sequence[Fragment], NestedEdits, Writing], None]
"""Writes the fragments of a unit to its place."""
Prepare = Callable[[NestedEdits, Writing], None]
"""Changes a part before its units are written."""


@dataclass(slots=True)
class WriteLocation:
    """A place that a unit is written to; a text that occurs twice in a file has two.

    Attributes:
        key: the key of the unit.
        start: start of the place in the source.
        end: end of the place in the source.
        apply: writes the unit.
    """

    key: str
    start: int
    end: int
    apply: Apply


class Part(Protocol):
    """A member of an archive with units.

    Attributes:
        name: name of the member.
        units: its units in reading order.
    """

    name: str
    units: list[Unit]

    def edit(self, changed: Mapping[str, Sequence[Fragment]], writing: Writing) -> bytes | None:
        """Return the member with the changed units; None if nothing changed."""


@dataclass(slots=True)
class XmlPart:
    """A member of an archive with its units.

    Attributes:
        name: name of the member.
        tree: its content.
        units: its units in reading order.
        places: where they are written; inner places precede outer ones.
        prepare: changes the part before its units are written.
        first: number of units of the member before this part.
    """

    name: str
    tree: XmlTree
    units: list[Unit] = field(default_factory=list)
    places: list[WriteLocation] = field(default_factory=list)
    prepare: Prepare | None = None
    first: int = 0

    @classmethod
    def parse(cls, name: str, data: bytes) -> "XmlPart":
        """Parse a member.

        Raises:
            DocumentError: The member is not well-formed XML, or too large.
        """
        return cls(name, parse_xml(data, name=name))

    def next_key(self) -> str:
        """Return the key of the next unit."""
        return f"{self.name}#{self.first + len(self.units) + 1}"

    def add_paragraph(
        self,
        paragraph: XmlElement,
        dialect: Dialect,
        *,
        repeats: Sequence[Unit] = (),
        preserve_layout: bool = False,
        note: str = "",
    ) -> Unit | None:
        """Add a paragraph; without letters, it has no unit.

        Args:
            paragraph: the element.
            dialect: reads and writes the paragraph.
            repeats: units that it may repeat; a repeated unit is written to both places.
            preserve_layout: whether line breaks are significant.
            note: a note for the translator.
        """

        def write(tokens: Sequence[Token], edits: NestedEdits, writing: Writing) -> None:
            written = dialect.write(tokens, edits, self.tree, writing)
            edits.replace(*dialect.content(paragraph), written)
            dialect.adapt(paragraph, edits, self.tree, writing)

        passage = StyledPassage(
            dialect.tokens(paragraph, self.tree),
            key=self.next_key(),
            preserve_layout=preserve_layout,
            note=note,
        )
        return self.add_passage(passage, paragraph.start, paragraph.end, write, repeats=repeats)

    def add_passage(
        self,
        passage: StyledPassage,
        start: int,
        end: int,
        write: Callable[[Sequence[Token], NestedEdits, Writing], None],
        *,
        repeats: Sequence[Unit] = (),
    ) -> Unit | None:
        """Add a passage with the next key; without letters, it has no unit."""
        unit = passage.unit
        if unit is None:
            return None

        def apply(fragments: Sequence[Fragment], edits: NestedEdits, writing: Writing) -> None:
            write(passage.tokens(fragments), edits, writing)

        equal = next((each for each in repeats if _shape(each) == _shape(unit)), None)
        self._add(equal or unit, start, end, apply, is_new=equal is None)
        return unit

    def add_text(self, element: XmlElement, *, note: str = "") -> None:
        """Add an element that contains only text."""
        self._add_plain(
            element.text_content(),
            element.open_end,
            element.close_start,
            escape=escape_text,
            note=note,
        )

    def add_attribute(
        self,
        element: XmlElement,
        name: str,
        *,
        codes: re.Pattern[str] | None = None,
        note: str = "",
    ) -> None:
        """Add an attribute by its name in the file; `codes` in it are kept."""
        span = attribute_span(self.tree.data, self.tree.encoding, element, name)
        if span is None:
            return
        text = html.unescape(self.tree.source(*span))
        self._add_plain(text, *span, escape=escape_attribute, note=note, codes=codes)

    def add_source(self, start: int, end: int, *, codes: re.Pattern[str], note: str = "") -> None:
        """Add a part of the text of an element; `codes` in it are kept."""
        text = html.unescape(self.tree.source(start, end))
        self._add_plain(text, start, end, escape=escape_text, note=note, codes=codes)

    def _add_plain(
        self,
        text: str,
        start: int,
        end: int,
        *,
        escape: Escape,
        note: str,
        codes: re.Pattern[str] | None = None,
    ) -> None:
        core = text.strip()
        parts = (core,) if codes is None else _with_codes(core, codes)
        if not has_letters(parts):
            return
        lead, _, trail = text.partition(core)

        def apply(fragments: Sequence[Fragment], edits: NestedEdits, writing: Writing) -> None:
            edits.replace(start, end, escape(f"{lead}{_plain(fragments)}{trail}"))

        unit = Unit(key=self.next_key(), fragments=parts, preserve_layout="\n" in core, note=note)
        self._add(unit, start, end, apply)

    def _add(self, unit: Unit, start: int, end: int, apply: Apply, *, is_new: bool = True) -> None:
        if is_new:
            self.units.append(unit)
        self.places.append(WriteLocation(unit.key, start, end, apply))

    def sort(self) -> None:
        """Sort the units by their positions in the file."""
        starts: dict[str, int] = {}
        for place in self.places:
            starts.setdefault(place.key, place.start)
        self.units.sort(key=lambda unit: starts[unit.key])

    def edit(self, changed: Mapping[str, Sequence[Fragment]], writing: Writing) -> bytes | None:
        """Return the member with the changed units; None if nothing changed."""
        places = [place for place in self.places if place.key in changed]
        if not places:
            return None
        edits = NestedEdits(self.tree.data, self.tree.encoding)
        if self.prepare is not None:
            self.prepare(edits, writing)
        for place in places:
            place.apply(changed[place.key], edits, writing)
        return edits.apply()


def changed_units(
    units: Sequence[Unit], translations: Mapping[str, Sequence[Fragment]]
) -> dict[str, Sequence[Fragment]]:
    """Return the translations that differ from their unit."""
    return {
        unit.key: new
        for unit in units
        if unit.key in translations
        and (new := joined(translations[unit.key])) != joined(unit.fragments)
    }


def _shape(unit: Unit) -> tuple[object, ...]:
    return tuple(
        part if isinstance(part, str) else (part.kind, part.number) for part in unit.fragments
    )


def _plain(fragments: Sequence[Fragment]) -> str:
    return "".join(part if isinstance(part, str) else part.data for part in fragments)


def _with_codes(text: str, codes: re.Pattern[str]) -> tuple[Fragment, ...]:
    fragments: list[Fragment] = []
    done = 0
    for number, match in enumerate(codes.finditer(text), 1):
        fragments.append(text[done : match.start()])
        fragments.append(InlineCode(CodeKind.STANDALONE, number, match[0]))
        done = match.end()
    return tuple(part for part in [*fragments, text[done:]] if part != "")


def with_attribute(tag: str, attribute: str) -> str:
    """Return a start tag, possibly with following source, with an attribute added at its end."""
    end = tag.index(">")
    body = tag[:end].removesuffix("/")
    return f"{body.rstrip()} {attribute}{tag[len(body) :]}"


def insert_child(edits: XmlEdits, parent: XmlElement, source: str, before: frozenset[str]) -> None:
    """Insert an element before the first child that must follow it.

    Args:
        edits: the edits of the file.
        parent: an element that is not an empty-element tag.
        source: the new element.
        before: local names of the elements that come after it.
    """
    place = next(
        (child.start for child in parent.elements if child.local in before), parent.close_start
    )
    edits.replace(place, place, source)
