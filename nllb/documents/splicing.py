"""Units that are spans of a source text, and documents that are written by splicing them.

A format reports a passage as pieces in order: text, tags that open and close, and single codes.
`build_unit` converts them to a unit. White space and codes at its edges stay outside, so that the
translator sees as few of them as possible.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Protocol

from nllb.languages import Language

from .plurals import CATEGORIES, PluralSlot
from .text_file import TextFile
from .units import CodeKind, Document, Fragment, InlineCode, Unit

_LETTER: Final = re.compile(r"[^\W\d_]")
_NO_CODES: Final[Mapping[tuple[int, CodeKind], int]] = MappingProxyType({})
WHITE: Final = " \t\r\n\f"
WHITE_RUN: Final = re.compile(f"[{WHITE}]+")

Escape = Callable[[str], str]
"""Writes plain text in the syntax of a format."""
Write = Callable[[Sequence[Fragment]], str]
"""Writes the fragments of a unit in the syntax of a format."""


@dataclass(frozen=True, slots=True)
class InlinePiece:
    """A part of a passage.

    Attributes:
        start: its start in the source, as an offset in characters, or in bytes for XML.
        end: its end in the source.
        source: its source text.
        text: the displayed text: of text, its unescaped form; of a code, its protected text or
            None.
        kind: the kind of code; None for text.
        name: the name that an opening tag shares with its closing tag.
        is_rewritten: whether it must be rewritten if the text of its pair changes.
    """

    start: int
    end: int
    source: str
    text: str | None = None
    kind: CodeKind | None = None
    name: str = ""
    is_rewritten: bool = False

    @property
    def is_blank(self) -> bool:
        """Whether it is white space or a code without displayed text."""
        return not (self.text or "").strip(WHITE)


def text_pieces(
    start: int, end: int, source: str, text: str, *, width: int = 1
) -> list[InlinePiece]:
    """Return text as pieces; the white space around it is separate, so that it can be trimmed.

    Args:
        start: its start.
        end: its end.
        source: its source text.
        text: its unescaped form.
        width: positions per character of white space, such as 2 for bytes in UTF-16.
    """
    core = source.strip(WHITE)
    lead = source[: len(source) - len(source.lstrip(WHITE))]
    trail = source[len(lead) + len(core) :]
    shown_lead, shown_trail = lead.replace("\r\n", "\n"), trail.replace("\r\n", "\n")
    if not core or not (text.startswith(shown_lead) and text.endswith(shown_trail)):
        return [InlinePiece(start, end, source, text)] if source else []
    first, last = start + len(lead) * width, end - len(trail) * width
    pieces = (
        InlinePiece(start, first, lead, shown_lead),
        InlinePiece(first, last, core, text[len(shown_lead) : len(text) - len(shown_trail)]),
        InlinePiece(last, end, trail, shown_trail),
    )
    return [piece for piece in pieces if piece.source]


@dataclass(frozen=True, slots=True)
class Span:
    """The position of a unit in the source, and the function that writes it.

    Attributes:
        start: start of the unit in the source.
        end: end of the unit in the source.
        write: writes the unit in the syntax of its format.
        codes: the start of each of its codes.
        inner: keys of units inside its codes, such as titles of links.
    """

    start: int
    end: int
    write: Write
    codes: Mapping[tuple[int, CodeKind], int] = field(default_factory=lambda: _NO_CODES)
    inner: tuple[str, ...] = ()


def plain_writer(escape: Escape) -> Write:
    """Return a function that writes codes unchanged and escapes text."""

    def write(fragments: Sequence[Fragment]) -> str:
        return "".join(escape(part) if isinstance(part, str) else part.data for part in fragments)

    return write


def build_unit(
    pieces: Sequence[InlinePiece],
    write: Write,
    *,
    key: str,
    trim_codes: bool = True,
    preserve_layout: bool = False,
    note: str = "",
    plural_category: str | None = None,
) -> tuple[Unit, Span] | None:
    """Return the unit of a passage and its span; None if it has no letters.

    Args:
        pieces: the passage, without gaps.
        write: writes the unit.
        key: the unit's key.
        trim_codes: whether single codes at the edges stay outside the unit.
        preserve_layout: whether white space is significant; otherwise each run becomes a blank.
        note: a note for the translator.
        plural_category: CLDR's category of a plural variant.
    """
    partners = _match(pieces)
    first, last = _trim(pieces, partners, trim_codes=trim_codes)
    fragments: list[Fragment] = []
    count = 0
    numbers: dict[int, int] = {}
    starts: dict[tuple[int, CodeKind], int] = {}
    for index in range(first, last):
        piece = pieces[index]
        if piece.kind is None:
            text = piece.text or ""
            if not preserve_layout:
                text = WHITE_RUN.sub(" ", text)
            if fragments and isinstance(fragments[-1], str):
                before = fragments.pop()
                assert isinstance(before, str)
                blanks = not preserve_layout and before.endswith(" ") and text.startswith(" ")
                text = before + (text[1:] if blanks else text)
            fragments.append(text)
            continue
        partner = partners.get(index)
        kind = CodeKind.STANDALONE if partner is None else piece.kind
        if partner is not None and partner in numbers:
            number = numbers[partner]
        else:
            count += 1
            number = count
        numbers[index] = number
        fragments.append(InlineCode(kind, number, piece.source, piece.text))
        starts[number, kind] = piece.start
    if not has_letters(fragments):
        return None
    unit = Unit(
        key=key,
        fragments=tuple(fragments),
        preserve_layout=preserve_layout,
        note=note,
        plural_category=plural_category,
    )
    return unit, Span(pieces[first].start, pieces[last - 1].end, write, starts)


def has_letters(fragments: Sequence[Fragment]) -> bool:
    """Return whether there is text to translate."""
    return any(isinstance(part, str) and _LETTER.search(part) is not None for part in fragments)


def _match(pieces: Sequence[InlinePiece]) -> dict[int, int]:
    """Map the indices of opening tags to those of their closing tags, and vice versa."""
    waiting: list[int] = []
    by_name: dict[str, int] = {}
    partners: dict[int, int] = {}
    for index, piece in enumerate(pieces):
        if piece.kind is CodeKind.OPEN:
            waiting.append(index)
            by_name[piece.name] = by_name.get(piece.name, 0) + 1
        elif piece.kind is CodeKind.CLOSE and by_name.get(piece.name):
            while waiting:
                found = waiting.pop()
                by_name[pieces[found].name] -= 1
                if pieces[found].name == piece.name:
                    partners[found], partners[index] = index, found
                    break
    return partners


def _trim(
    pieces: Sequence[InlinePiece], partners: Mapping[int, int], *, trim_codes: bool
) -> tuple[int, int]:
    first, last = 0, len(pieces)

    def outside(index: int) -> bool:
        piece = pieces[index]
        if piece.kind is None:
            return piece.is_blank
        return trim_codes and piece.is_blank and index not in partners

    while first < last:
        end = last - 1
        if outside(first):
            first += 1
        elif outside(end):
            last -= 1
        elif partners.get(first) == end and not pieces[end].is_rewritten:
            first, last = first + 1, end
        elif trim_codes and _is_empty_pair(pieces, first, partners.get(first)):
            first = partners[first] + 1
        elif trim_codes and _is_empty_pair(pieces, partners.get(end), end):
            last = partners[end]
        else:
            break
    return first, last


def trim_pieces(pieces: Sequence[InlinePiece]) -> list[InlinePiece]:
    """Return a passage without the white space and the codes around its text."""
    first, last = _trim(pieces, _match(pieces), trim_codes=True)
    return list(pieces[first:last])


def _is_empty_pair(pieces: Sequence[InlinePiece], start: int | None, end: int | None) -> bool:
    if start is None or end is None or start > end:
        return False
    return all(piece.is_blank for piece in pieces[start : end + 1])


class Edits(Protocol):
    """Changes of a source that are applied together."""

    def replace(self, start: int, end: int, source: str) -> None:
        """Replace the source from `start` to `end`; equal positions insert before them."""


@dataclass(slots=True)
class TextEdits:
    """Changes of a text; everything that no change covers is kept.

    Attributes:
        text: the original text.
    """

    text: str
    _changes: list[tuple[int, int, int, str]] = field(default_factory=list)

    def replace(self, start: int, end: int, source: str) -> None:
        """Replace the text from `start` to `end`; equal positions insert before them."""
        self._changes.append((start, end, len(self._changes), source))

    def apply(self) -> str:
        """Return the changed text."""
        parts: list[str] = []
        done = 0
        for start, end, _, source in sorted(self._changes):
            assert start >= done, "two edits overlap"
            parts += self.text[done:start], source
            done = end
        return "".join([*parts, self.text[done:]])


def joined(fragments: Sequence[Fragment]) -> list[Fragment]:
    """Return fragments with neighbouring texts joined and empty ones dropped."""
    result: list[Fragment] = []
    for part in fragments:
        if isinstance(part, str) and result and isinstance(last := result[-1], str):
            result[-1] = last + part
        elif part != "":
            result.append(part)
    return result


class UnitSpans:
    """The units of a document with their spans in the source."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.spans: dict[str, Span] = {}
        self.slots: list[PluralSlot] = []

    def plan(self, target: Language) -> list[Unit]:
        """Return the units, including those of plural categories that the file lacks."""
        if not self.slots:
            return self.units
        return [*self.units, *(unit for slot in self.slots for unit in slot.missing(target))]

    def add(
        self,
        pieces: Sequence[InlinePiece],
        write: Write,
        *,
        key: str | None = None,
        trim_codes: bool = True,
        preserve_layout: bool = False,
        note: str = "",
        plural_category: str | None = None,
        inside: Sequence[str] = (),
    ) -> Unit | None:
        """Add the unit of a passage; a passage without letters has none.

        `inside` contains the keys of earlier units inside tags of the passage.
        """
        built = build_unit(
            pieces,
            write,
            key=str(len(self.units) + 1) if key is None else key,
            trim_codes=trim_codes,
            preserve_layout=preserve_layout,
            note=note,
            plural_category=plural_category,
        )
        if built is None:
            return None
        unit, span = built
        inner = tuple(key for key in inside if span.start <= self.spans[key].start < span.end)
        self.add_span(unit, replace(span, inner=inner))
        return unit

    def add_text(
        self,
        start: int,
        end: int,
        text: str,
        write: Write,
        *,
        key: str,
        note: str = "",
        plural_category: str | None = None,
    ) -> Unit | None:
        """Add a text without codes whose layout is kept; a text without letters has no unit."""
        if _LETTER.search(text) is None:
            return None
        unit = Unit(
            key=key,
            fragments=(text,),
            preserve_layout=True,
            note=note,
            plural_category=plural_category,
        )
        self.add_span(unit, Span(start, end, write))
        return unit

    def add_span(self, unit: Unit, span: Span) -> None:
        """Add a unit with a single span."""
        assert unit.key not in self.spans, unit.key
        self.units.append(unit)
        self.spans[unit.key] = span

    def splice(self, edits: Edits, translations: Mapping[str, Sequence[Fragment]]) -> None:
        """Write the translated units; unchanged units keep their source."""
        changed = {
            unit.key: new
            for unit in self.units
            if unit.key in translations
            and (new := joined(translations[unit.key])) != joined(unit.fragments)
        }
        variants = self._variants(translations)
        inside = {name for key in changed for name in self.spans[key].inner}
        for key in changed:
            if key not in inside:
                span = self.spans[key]
                edits.replace(span.start, span.end, self._source(key, changed, variants))
        for added in variants.values():
            for start, end, source in added:
                edits.replace(start, end, source)

    def _source(
        self,
        key: str,
        changed: Mapping[str, Sequence[Fragment]],
        variants: dict[str, list[tuple[int, int, str]]],
    ) -> str:
        """Return the source of a changed unit, including changed units inside its codes."""
        span = self.spans[key]
        deeper = {each for name in span.inner if name in changed for each in self.spans[name].inner}
        inner: list[tuple[int, int, str]] = []
        for name in span.inner:
            if name in deeper:
                continue
            inner += variants.pop(name, ())
            if name in changed:
                place = self.spans[name]
                inner.append((place.start, place.end, self._source(name, changed, variants)))
        fragments = changed[key]
        return span.write([_update_code(part, span, inner) for part in fragments])

    def _variants(
        self, translations: Mapping[str, Sequence[Fragment]]
    ) -> dict[str, list[tuple[int, int, str]]]:
        """Return the source of new plural variants, by the unit of `other`."""
        return {
            slot.unit.key: [
                (slot.position, slot.position, slot.write(category, joined(translations[key])))
                for category in CATEGORIES
                if category not in slot.present and (key := slot.key(category)) in translations
            ]
            for slot in self.slots
        }


def _update_code(part: Fragment, span: Span, inner: Sequence[tuple[int, int, str]]) -> Fragment:
    """Return a code with the translated units inside it."""
    if isinstance(part, str) or (first := span.codes.get((part.number, part.kind))) is None:
        return part
    edits = TextEdits(part.data)
    for start, end, source in inner:
        if first <= start < first + len(part.data):
            edits.replace(start - first, end - first, source)
    return replace(part, data=edits.apply())


class SplicedDocument(Document):
    """A text file whose units are spans of it.

    Attributes:
        references: whether the format writes characters that its encoding lacks as `&#1234;`.
        file: the decoded file.
        spans: its units and their positions.
        warnings: warnings for the user.
    """

    references: bool = False

    def __init__(self, file: TextFile):
        self.file = file
        self.spans = UnitSpans()
        self.warnings: list[str] = []
        if file.detected:
            self.warnings.append(f"the encoding was recognized as {file.encoding}")

    @property
    def units(self) -> Sequence[Unit]:
        """The units to translate, in reading order."""
        return self.spans.units

    def plan_units(self, target: Language) -> Sequence[Unit]:
        """Return the units to translate, with the plural categories that the target adds."""
        return self.spans.plan(target)

    def render(
        self,
        translations: Mapping[str, Sequence[Fragment]],
        *,
        source: Language | None,
        target: Language,
    ) -> bytes:
        """Return the file with translated units."""
        edits = TextEdits(self.file.text)
        self.spans.splice(edits, translations)
        self.set_languages(edits, source, target)
        return self.file.encode(edits.apply(), self.warnings, references=self.references)

    def set_languages(self, edits: TextEdits, source: Language | None, target: Language) -> None:
        """Change the file's declarations of its languages."""
