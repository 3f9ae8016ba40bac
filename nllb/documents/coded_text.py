"""Converts a unit to text for the translator and back; codes become marks or placeholders.

A code that shows text, or represents text that is filled in later, such as `{name}`, is a word of
its sentence and becomes a private-use character in the text. All other codes are removed and
recorded as marks: pairs as spans, single codes as points. Tags in plain text, as in message
catalogues, are treated like codes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import regex

from nllb.inference.word_alignment import Link
from nllb.languages import Language
from nllb.translation.placeholders import PlaceholderPattern, Protection
from nllb.translation.projection import Mark, project

from .plurals import example_numbers, find_number
from .units import CodeKind, Fragment, InlineCode, Unit

_LINE_SPACE: Final = regex.compile(r" *+[\t\n\r\f][\t\n\r\f ]*+")
_TAGS: Final = PlaceholderPattern(kinds=("tag", "code"))
_VARIABLES: Final = PlaceholderPattern(kinds=("address", "variable"))
_TAG: Final = regex.compile(r"<(?P<close>/?)(?P<name>[\w:.-]+)(?:.*[^/])?(?P<empty>/?)>")


class CodedText:
    """The text of a unit without codes, and the codes as marks in it.

    Attributes:
        unit: the unit.
        text: the text to translate.
        marks: the codes that were removed from the text.
    """

    def __init__(self, unit: Unit, protection: Protection, target: Language) -> None:
        """Remove the codes of a unit from its text."""
        self.unit, self._protection = unit, protection
        self._examples = _number_examples(unit, protection, target)
        self.text = ""
        self.marks: list[Mark] = []
        self._parts = tuple(_with_tags_as_codes(unit.fragments))
        self._ends: list[tuple[int, int]] = []
        """The parts at which each mark opens and closes; equal for a point."""
        self._words: dict[str, Fragment] = {}
        """Codes by their characters in the text."""
        self._spaced: set[int] = set()
        """Indices of codes after which the source has a space that the text omits."""
        pairs = _nested_pairs(self._parts)
        closing = {close: opening for opening, close in pairs.items()}
        open_marks: list[int] = []
        for number, part in enumerate(self._parts):
            if isinstance(part, str):
                self._add_text(part, number)
            elif number in closing:
                mark = open_marks.pop()
                self.marks[mark] = replace(self.marks[mark], end=len(self.text))
            elif not self._add_word(part):
                place, is_span = len(self.text), number in pairs
                parent = open_marks[-1] if open_marks else None
                if is_span:
                    open_marks.append(len(self.marks))
                self._ends.append((number, pairs.get(number, number)))
                self.marks.append(Mark(start=place, end=place, is_span=is_span, parent=parent))

    @property
    def has_inner_marks(self) -> bool:
        """Whether the position of any code depends on the translation."""
        ends = {place for mark in self.marks for place in (mark.start, mark.end)}
        return any(0 < place < len(self.text) for place in ends)

    def _add_text(self, text: str, number: int) -> None:
        if not self.unit.preserve_layout:
            text = _LINE_SPACE.sub(" ", text)
        before = self._parts[number - 1] if number else None
        if self.text.endswith(" ") and text.startswith(" ") and isinstance(before, InlineCode):
            self._spaced.add(number - 1)
            text = text[1:]
        self.text += self._protection.protect(text, examples=self._examples)

    def _add_word(self, code: InlineCode) -> bool:
        """Insert a code into the text if it is a word there, and return whether it is."""
        examples = self._examples.get(code.data, ())
        if code.kind is not CodeKind.STANDALONE or not (examples or _is_word(code)):
            return False
        text = code.data if code.text is None else code.text
        sign = self._protection.own_character(text, examples=examples)
        if sign is None:  # no characters are left
            return False
        self._words[sign] = code
        self.text += sign
        return True

    def restore(self, output: str, links: Sequence[Link]) -> tuple[list[Fragment], bool]:
        """Return the fragments of a translation, and whether all codes have a certain position.

        Args:
            output: the translation of the text, with the same placeholder characters.
            links: the aligned passages of the text and the translation.
        """
        if output == self.text:
            return list(self.unit.fragments), True
        projection = project(self.marks, self.text, output, links)
        fragments: list[Fragment] = []
        done = 0
        for event in projection.events:
            fragments += self._restore_words(output[done : event.position])
            done = event.position
            part = self._ends[event.mark][event.kind == "close"]
            fragments.append(self._parts[part])
            if part in self._spaced and not output[done : done + 1].isspace():
                fragments.append(" ")
        fragments += self._restore_words(output[done:])
        is_sure = bool(links) or not self.has_inner_marks
        return _joined(fragments), is_sure and not projection.unsure

    def _restore_words(self, text: str) -> list[Fragment]:
        parts: list[Fragment] = []
        done = 0
        for place, sign in enumerate(text if self._words else ""):
            if sign in self._words:
                parts += [self._protection.restore(text[done:place]), self._words[sign]]
                done = place + 1
        return [*parts, self._protection.restore(text[done:])]


def _number_examples(
    unit: Unit, protection: Protection, target: Language
) -> dict[str, tuple[str, ...]]:
    """Return numbers of a plural text's category, by the placeholder that they stand for."""
    if unit.plural_category is None:
        return {}
    placeholders: list[str] = []
    for part in unit.fragments:
        if isinstance(part, str):
            found = protection.pattern.find(part)
            placeholders += (each.text for each in found if each.kind == "variable")
        elif part.kind is CodeKind.STANDALONE and (part.data == "#" or _is_word(part)):
            placeholders.append(part.data)
    number = find_number(placeholders)
    if number is None or placeholders.count(number) != 1:
        return {}
    return {number: example_numbers(target, unit.plural_category)}


def _is_word(code: InlineCode) -> bool:
    """Return whether a code shows or represents text."""
    if code.text is not None:
        return bool(code.text.strip())
    return any(each.text == code.data for each in _VARIABLES.find(code.data))


class _PlainTag(InlineCode):
    """A tag in plain text, which is converted back to text."""


def _with_tags_as_codes(fragments: Sequence[Fragment]) -> Iterable[Fragment]:
    """Yield fragments in which tags in text are replaced by codes."""
    number = min((code.number for code in fragments if isinstance(code, InlineCode)), default=0)
    waiting: list[tuple[str, int]] = []
    for fragment in fragments:
        if not isinstance(fragment, str):
            yield fragment
            continue
        done = 0
        for found in _TAGS.find(fragment):
            if found.start > done:
                yield fragment[done : found.start]
            done = found.end
            number -= 1
            tag = _TAG.fullmatch(found.text) if found.kind == "tag" else None
            name = "" if tag is None else tag["name"].lower()
            if tag is None or tag["empty"]:
                yield _PlainTag(CodeKind.STANDALONE, number, found.text)
            elif not tag["close"]:
                waiting.append((name, number))
                yield _PlainTag(CodeKind.OPEN, number, found.text)
            else:
                opened = [each for each in waiting if each[0] == name]
                if opened:
                    waiting.remove(opened[-1])
                own = opened[-1][1] if opened else number
                yield _PlainTag(CodeKind.CLOSE, own, found.text)
        if fragment[done:] or not done:
            yield fragment[done:]


def _nested_pairs(fragments: Sequence[Fragment]) -> dict[int, int]:
    """Return the closing code of each opening one, for pairs that are closed and nested.

    All other codes are treated as points, which keep their position between words.
    """
    pairs: dict[int, int] = {}
    waiting: list[tuple[int, int]] = []
    for number, code in enumerate(fragments):
        if isinstance(code, str):
            continue
        if code.kind is CodeKind.OPEN:
            waiting.append((number, code.number))
        elif code.kind is CodeKind.CLOSE:
            for depth in range(len(waiting) - 1, -1, -1):
                if waiting[depth][1] == code.number:
                    # Opening codes in between lack a closing code inside of this pair.
                    pairs[waiting[depth][0]] = number
                    del waiting[depth:]
                    break
    return pairs


def _joined(fragments: Iterable[Fragment]) -> list[Fragment]:
    """Return fragments with adjacent texts joined and empty texts removed."""
    joined: list[Fragment] = []
    for fragment in fragments:
        part = fragment.data if isinstance(fragment, _PlainTag) else fragment
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return joined
