"""Projection of markup from a source text to its translation.

A mark is a span of the source, such as the text between `<b>` and `</b>`, or a point, such as
`<br/>`. The translation is made without marks. A span is placed around the run of target words
that is best linked to it, and a point where the fewest links cross it. Marks form a tree, and a
mark is placed only inside its parent and outside its siblings, so the result is always properly
nested.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import regex
from numpy.typing import NDArray

from nllb.inference.word_alignment import Link

_ATOM: Final = regex.compile(
    r"""[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]\p{M}*
      | \p{N}+(?:[.,:'’\u00a0\u202f]\p{N}+)*\p{M}*
      | [\p{L}\p{M}\p{N}_]+
      | \S""",
    flags=regex.VERBOSE | regex.VERSION1,
)
MIN_COPY_LETTERS: Final = 5
"""Minimum length of a lower-case word that is the same in both languages, without a link."""
UNLINKED_COST: Final = 0.1
"""Cost, in links, of each unlinked word in a span; being low, it bridges small gaps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A span or a point of a source text.

    Attributes:
        start: index of its first character.
        end: index after its last character; equal to `start` for a point.
        is_span: whether it has two ends, which must enclose something; a span may be empty.
        parent: index of the enclosing span, which is earlier in the list.
    """

    start: int
    end: int
    is_span: bool
    parent: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """An end of a span, or a point, in the translation.

    Attributes:
        position: index of the character in the translation that it precedes.
        mark: index of the mark.
        kind: the beginning or the end of a span, or a point.
    """

    position: int
    mark: int
    kind: Literal["open", "close", "point"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Projection:
    """The marks in the translation.

    Attributes:
        events: the ends and points in order; every span has an `open` and a `close` event.
        unsure: indices of the spans without any link, which were placed by their relative position.
    """

    events: tuple[Event, ...]
    unsure: tuple[int, ...]


def project(
    marks: Sequence[Mark], source: str, target: str, links: Sequence[Link] = ()
) -> Projection:
    """Place the marks of a source text in its translation.

    Args:
        marks: parents before their children, siblings in the order of the text.
        source: the text without markup.
        target: its translation.
        links: aligned passages of both texts; without links, relative positions are used.
    """
    return _Projector(marks, source, target, links).run()


def find_words(text: str) -> NDArray[np.int64]:
    """Return start and end of each word or sign, or of each character of unspaced scripts."""
    spans = [match.span() for match in _ATOM.finditer(text)]
    return np.array(spans, np.int64).reshape(-1, 2)


class _Projector:
    def __init__(
        self, marks: Sequence[Mark], source: str, target: str, links: Sequence[Link]
    ) -> None:
        self.marks, self.source, self.target = marks, source, target
        self.source_words, self.target_words = find_words(source), find_words(target)
        self._source_texts = [source[start:end] for start, end in self.source_words.tolist()]
        self._target_texts = [target[start:end] for start, end in self.target_words.tolist()]
        shape = len(self.source_words), len(self.target_words)
        self.relative = _relative_links(*shape)
        self.weights = _word_links(links, self.source_words, self.target_words)
        # A translation without links is placed entirely by relative positions.
        if not self.weights.any():
            self.weights = self.relative
        self.children: dict[int | None, list[int]] = {}
        for number, mark in enumerate(marks):
            self.children.setdefault(mark.parent, []).append(number)
        self.covered = [self._covered(mark) for mark in marks]
        self.placed: dict[int, tuple[int, int]] = {}
        self.unsure: list[int] = []

    def run(self) -> Projection:
        whole = (0, len(self.source_words)), (0, len(self.target_words))
        self._place_children(None, *whole)
        events: list[Event] = []
        self._emit(None, events)
        return Projection(events=tuple(events), unsure=tuple(self.unsure))

    def _covered(self, mark: Mark) -> tuple[int, int]:
        """Return the range of words that a mark touches; for a point, the border that it is at."""
        starts, ends = self.source_words[:, 0], self.source_words[:, 1]
        first = int(np.searchsorted(ends, mark.start, side="right"))
        last = int(np.searchsorted(starts, mark.end, side="left"))
        return (first, last) if last > first and mark.end > mark.start else (first, first)

    def _place_children(
        self, parent: int | None, inside: tuple[int, int], room: tuple[int, int]
    ) -> None:
        children = self.children.get(parent, [])
        spans = [n for n in children if self.covered[n][1] > self.covered[n][0]]
        # The span with the clearest links chooses first; spans without links come last.
        spans.sort(key=lambda n: -self._best_range(n, *room)[0])
        free = [room]
        for number in spans:
            chosen = self._choose(number, inside, room, free)
            self.placed[number] = chosen
            free = [part for each in free for part in _without(each, chosen)] or [
                (chosen[1], chosen[1])
            ]
            self._place_children(number, self.covered[number], chosen)
        borders = sorted({k for start, end in free for k in range(start, end + 1)})
        for number in children:
            if number not in self.placed:
                border = self._border(number, inside, room, borders)
                self.placed[number] = border, border
                self._place_children(number, self.covered[number], self.placed[number])

    def _choose(
        self,
        number: int,
        inside: tuple[int, int],
        room: tuple[int, int],
        free: Sequence[tuple[int, int]],
    ) -> tuple[int, int]:
        if self.covered[number] == inside and len(free) == 1 and free[0] == room:
            return room
        if copied := self._find_copy(number, free):
            return copied
        scored = [self._best_range(number, *each) for each in free]
        score, start, end = max(scored)
        if score > 0:
            return self._without_signs(number, start, end)
        self.unsure.append(number)
        scored = [self._best_range(number, *each, relative=True) for each in free]
        score, start, end = max(scored)
        return start, end

    def _find_copy(self, number: int, free: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
        """Return the range of the same words in the translation, such as a name or a number.

        Common words such as "in" count only if they are linked.
        """
        first, last = self.covered[number]
        words = self._source_texts[first:last]
        length = last - first
        places = [
            (self._links_into(number, start, start + length), start)
            for low, high in free
            for start in range(low, high - length + 1)
            if self._target_texts[start : start + length] == words
        ]
        if not places:
            return None
        score, start = max(places, key=lambda place: place[0])
        text = "".join(words)
        is_telling = len(text) >= MIN_COPY_LETTERS or any(
            sign.isupper() or sign.isdecimal() for sign in text
        )
        return (start, start + length) if score > 0 or is_telling else None

    def _links_into(self, number: int, start: int, end: int) -> float:
        first, last = self.covered[number]
        return float(self.weights[first:last, start:end].sum())

    def _without_signs(self, number: int, start: int, end: int) -> tuple[int, int]:
        """Return a run of target words without signs at its ends that the span lacks."""
        first, last = self.covered[number]
        while end - start > 1 and _is_sign(self._target_texts[end - 1]):
            if _is_sign(self._source_texts[last - 1]):
                break
            end -= 1
        while end - start > 1 and _is_sign(self._target_texts[start]):
            if _is_sign(self._source_texts[first]):
                break
            start += 1
        return start, end

    def _best_range(
        self, number: int, low: int, high: int, *, relative: bool = False
    ) -> tuple[float, int, int]:
        """Return the run of target words with the most links into the span, and its score."""
        weights = self.relative if relative else self.weights
        first, last = self.covered[number]
        inside = weights[first:last, low:high].sum(0)
        values = 2 * inside - weights[:, low:high].sum(0)
        values[values == 0] = -UNLINKED_COST
        best, start, total = (0.0, low, low), low, 0.0
        for place, value in enumerate(values.tolist(), low):
            if total <= 0:
                total, start = 0.0, place
            total += value
            if total > best[0] + 1e-9:
                best = (total, start, place + 1)
        return best

    def _border(
        self,
        number: int,
        inside: tuple[int, int],
        room: tuple[int, int],
        borders: Sequence[int],
    ) -> int:
        """Return the border between target words that a point belongs to."""
        at = self.covered[number][0]
        if at <= inside[0]:
            return borders[0] if borders[0] == room[0] else self._nearest(borders, room[0])
        if at >= inside[1]:
            return borders[-1] if borders[-1] == room[1] else self._nearest(borders, room[1])
        mark = self.marks[number]
        touches_left = self.source_words[at - 1, 1] == mark.start
        touches_right = self.source_words[at, 0] == mark.end
        if touches_left != touches_right:
            linked = self.weights[at - 1 if touches_left else at]
            if linked.any():
                place = int(linked.argmax()) + (1 if touches_left else 0)
                return self._nearest(borders, place)
        before = self.weights[:at].sum(0)
        after = self.weights[at:].sum(0)
        # crossings[k]: links from before the point to after border k, and the reverse.
        crossings = before.sum() - _sums(before) + _sums(after)
        lowest = min(crossings[k] for k in borders)
        # Among equal borders, the point stays next to the word before it.
        return next(k for k in borders if crossings[k] <= lowest + 1e-9)

    @staticmethod
    def _nearest(borders: Sequence[int], place: int) -> int:
        return min(borders, key=lambda k: (abs(k - place), k))

    def _emit(self, parent: int | None, events: list[Event]) -> None:
        children = self.children.get(parent, [])
        order = sorted(children, key=lambda n: (*self._sort_key(n), n))
        for number in order:
            mark = self.marks[number]
            start, end = self.placed[number]
            position = self._position(mark.start, start, is_close=False, is_empty=start == end)
            self._add(events, position, number, "open" if mark.is_span else "point")
            self._emit(number, events)
            if mark.is_span:
                if start < end:
                    position = self._position(mark.end, end, is_close=True, is_empty=False)
                self._add(events, position, number, "close")

    def _sort_key(self, number: int) -> tuple[int, int]:
        start, end = self.placed[number]
        return start, end - start > 0

    @staticmethod
    def _add(
        events: list[Event], position: int, mark: int, kind: Literal["open", "close", "point"]
    ) -> None:
        position = max(position, events[-1].position) if events else position
        events.append(Event(position=position, mark=mark, kind=kind))

    def _position(self, origin: int, border: int, *, is_close: bool, is_empty: bool) -> int:
        """Return the character index of a border, before or after a space as in the source."""
        words = self.target_words
        left = int(words[border - 1, 1]) if border else 0
        right = int(words[border, 0]) if border < len(words) else len(self.target)
        space_before = origin > 0 and self.source[origin - 1].isspace()
        space_after = origin < len(self.source) and self.source[origin].isspace()
        if is_empty:
            to_right = space_before or not space_after
            if border in (0, len(words)):
                to_right = border == len(words) and (space_before or origin == len(self.source))
        elif is_close:
            to_right = space_before and not space_after
            to_right |= origin == len(self.source) and border == len(words)
        else:
            to_right = not space_after or space_before
            to_right &= not (origin == 0 and border == 0)
        return right if to_right else left


def _is_sign(word: str) -> bool:
    return not any(sign.isalnum() for sign in word)


def _word_links(
    links: Sequence[Link], source_words: NDArray[np.int64], target_words: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return links between characters as weights between words."""
    weights = np.zeros((len(source_words), len(target_words)))
    for link in links:
        rows = _touched(source_words, link.source_start, link.source_end)
        columns = _touched(target_words, link.target_start, link.target_end)
        weights[rows, columns] += link.weight
    return weights


def _touched(words: NDArray[np.int64], start: int, end: int) -> slice:
    first = int(np.searchsorted(words[:, 1], start, side="right"))
    last = int(np.searchsorted(words[:, 0], end, side="left"))
    return slice(first, max(first, last))


def _relative_links(num_source: int, num_target: int) -> NDArray[np.float64]:
    """Return weights that link each word with those at the same relative position."""
    if not num_source or not num_target:
        return np.zeros((num_source, num_target))
    source = np.arange(num_source)[:, None] / num_source
    target = np.arange(num_target)[None] / num_target
    overlap = np.minimum(source + 1 / num_source, target + 1 / num_target) - np.maximum(
        source, target
    )
    relative: NDArray[np.float64] = np.clip(overlap * num_target, 0, None)
    return relative


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of the values before each border."""
    return np.concatenate([[0.0], values.cumsum()])


def _without(room: tuple[int, int], taken: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the parts of a range of words outside the taken range, and gaps without words."""
    start, end = room
    if taken[1] < start or taken[0] > end or taken[0] == taken[1]:
        return [room]
    return [(start, max(start, taken[0])), (min(end, taken[1]), end)]
