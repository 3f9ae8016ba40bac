"""Stand-ins: words that a model receives in place of placeholders, and their places in its output.

With a plausible word, a model translates the sentence as a whole; a code such as `X71` is the
second try. In texts that count something, the stand-in is a number of the requested plural form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import regex

from nllb.inference.word_alignment import Link

from .placeholders import Placeholder, Protection, term_pattern
from .projection import Mark, project

Style = Literal["word", "code"]
WORDS: Final = ("Maria", "Peter", "Anna", "David", "Laura")
"""Names that models know, and that say little about the sentence around."""
CODE: Final = "X{}"
FIRST_NUMBER: Final = 71
_COUNTED: Final = regex.compile(r"%[\w().$+#-]*[diuf]|\{\s*(?:n|num|count)\s*\}")
_FOREIGN_WORD: Final = regex.compile(r"[\p{Katakana}ー]+")
"""Foreign names in Japanese; all other words are found by spaces, or by their links."""
_SEPARATOR: Final = r"[.,'’\u00a0\u202f\u066b\u066c ]"


@dataclass(frozen=True, kw_only=True, slots=True)
class StandIn:
    """The word that a model receives in place of one placeholder.

    Attributes:
        sign: the character of the placeholder.
        start: position of the word in the text that the model receives.
        text: the word.
        pattern: a regular expression that matches the word in an output.
    """

    sign: str
    start: int
    text: str
    pattern: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """A segment as a model receives it.

    Attributes:
        text: the text with stand-ins.
        stand_ins: the stand-ins of its placeholders, in order.
    """

    text: str
    stand_ins: tuple[StandIn, ...]

    def restore(self, output: str) -> str | None:
        """Return an output with the characters; None if it does not have each stand-in once."""
        places = self._places(output)
        return None if len(places) < len(self.stand_ins) else _replace(output, places)

    def project(self, output: str, links: Sequence[Link]) -> str | None:
        """Return an output with the characters in place of the words aligned to the stand-ins.

        Args:
            output: the translation of the text.
            links: passages of the text and of the output that mean the same.

        Returns:
            None if a stand-in has no sure place, or is still in the text.
        """
        marks = [
            Mark(start=each.start, end=each.start + len(each.text), is_span=True)
            for each in self.stand_ins
        ]
        known = self._places(output)
        sure = [
            Link(source_start=mark.start, source_end=mark.end, target_start=start, target_end=end)
            for mark, each in zip(marks, self.stand_ins, strict=True)
            for start, end in [known.get(each, (0, 0))]
            if end
        ]
        if not links and not sure:
            return None
        projection = project(marks, self.text, output, [*links, *sure])
        if projection.unsure:
            return None
        ends: dict[int, list[int]] = {}
        for event in projection.events:
            ends.setdefault(event.mark, []).append(event.position)
        places = {
            each: known.get(each) or _whole_word(output, *ends[number])
            for number, each in enumerate(self.stand_ins)
        }
        spans = sorted(places.values())
        if any(start >= end for start, end in spans) or any(
            before[1] > after[0] for before, after in pairwise(spans)
        ):
            return None
        replaced = _replace(output, places)
        left = any(regex.search(each.pattern, replaced) for each in self.stand_ins)
        return None if left else replaced

    def _places(self, output: str) -> dict[StandIn, tuple[int, int]]:
        """Return start and end of the stand-ins that an output has as often as the text."""
        groups: dict[str, list[StandIn]] = {}
        for each in self.stand_ins:
            groups.setdefault(each.pattern, []).append(each)
        found: dict[StandIn, tuple[int, int]] = {}
        for pattern, group in groups.items():
            spans = [match.span() for match in regex.finditer(pattern, output)]
            if len(spans) == len(group):
                found |= zip(group, spans, strict=True)
        return found


def make_form(segment: str, protection: Protection, style: Style) -> Form:
    """Return a segment with stand-ins of a style for its placeholders.

    Terms that are not translated are given as they are in the style `word`.
    """
    text = ""
    stand_ins: list[StandIn] = []
    chooser = _Chooser(segment, style)
    for sign in segment:
        placeholder = protection.placeholders.get(sign)
        if placeholder is None:
            text += sign
            continue
        shown, pattern = chooser.choose(placeholder)
        stand_ins.append(StandIn(sign=sign, start=len(text), text=shown, pattern=pattern))
        text += shown
    return Form(text=text, stand_ins=tuple(stand_ins))


class _Chooser:
    """Chooses stand-ins that the segment does not have, each once."""

    def __init__(self, segment: str, style: Style) -> None:
        self._segment, self._style = segment, style
        self._words = [word for word in WORDS if word not in segment]
        self._numbers = set(regex.findall(r"\p{Nd}+", segment))
        self._next = FIRST_NUMBER

    def choose(self, placeholder: Placeholder) -> tuple[str, str]:
        """Return a stand-in and the pattern that finds it."""
        examples = placeholder.examples if self._style == "word" else placeholder.examples[1:]
        for number in examples:
            if self._numbers.isdisjoint(regex.findall(r"\p{Nd}+", number)):
                self._numbers.add(number)
                return number, number_pattern(number)
        if self._style == "word" and placeholder.kind == "term":
            return placeholder.text, term_pattern(placeholder.text)
        if self._style == "word" and placeholder.kind not in {"code", "private"}:
            if _COUNTED.fullmatch(placeholder.text):
                number = str(self._free_number())
                return number, number_pattern(number)
            if self._words:
                word = self._words.pop(0)
                return word, rf"(?<![\p{{Latin}}\p{{M}}]){word}(?![\p{{Latin}}\p{{M}}])"
        code = CODE.format(self._free_number())
        return code, rf"{code}(?!\p{{Nd}})"

    def _free_number(self) -> int:
        while str(self._next) in self._numbers or CODE.format(self._next) in self._segment:
            self._next += 1
        self._next += 1
        return self._next - 1


def number_pattern(number: str) -> str:
    """Return a pattern for a number in the digits of any script, with or without separators."""
    whole, _, decimals = number.partition(".")
    digits = [rf"(?=\p{{Nd}})\p{{Numeric_Value={digit}}}" for digit in whole + decimals]
    pattern = digits[0]
    for place, digit in enumerate(digits[1:], 1):
        is_group = place < len(whole) and (len(whole) - place) % 3 == 0
        between = _SEPARATOR if place == len(whole) else f"{_SEPARATOR}?" if is_group else ""
        pattern += between + digit
    return rf"(?<!\p{{Nd}}){pattern}(?!\p{{Nd}})"


def _whole_word(output: str, start: int, end: int) -> tuple[int, int]:
    """Return a span that has the words of Katakana whole that it touches."""
    for word in _FOREIGN_WORD.finditer(output):
        if word.start() < end and start < word.end():
            start, end = min(start, word.start()), max(end, word.end())
    return start, end


def _replace(output: str, places: dict[StandIn, tuple[int, int]]) -> str:
    for each, (start, end) in sorted(places.items(), key=lambda place: place[1], reverse=True):
        output = output[:start] + each.sign + output[end:]
    return output
