"""Parses HTML, however malformed, to a sequence of tags and texts with their positions."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from typing import Final, Literal

from nllb.errors import DocumentError

MAX_EVENTS: Final = 4_000_000
_MAX_UNCLOSED: Final = 50
EventKind = Literal["text", "start", "end", "other"]
_ATTRIBUTE: Final = re.compile(r"""([^\s=/>"']+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>][^\s>]*))?""")


@dataclass(slots=True)
class HtmlEvent:
    """A tag, a text or another piece of HTML.

    Attributes:
        kind: the kind; `other` is a comment, a declaration or a processing instruction.
        start: offset of its first character.
        end: offset after its last character.
        source: its source text.
        name: name of a tag, in lower case.
        attributes: values of a start tag's attributes, by lower-case name.
        closes_itself: whether a start tag ends with `/>`.
    """

    kind: EventKind
    start: int
    end: int = -1
    source: str = ""
    name: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    closes_itself: bool = False

    @property
    def text(self) -> str:
        """The displayed text of a text event."""
        return unescape(self.source)


def html_events(text: str) -> list[HtmlEvent]:
    """Return the pieces of HTML in order; together they cover the text.

    Raises:
        DocumentError: There are too many pieces.
    """
    events: list[HtmlEvent] = []
    end = _end_of_tags(text)
    parser = _EventParser(text, events)
    parser.feed(text[:end])
    parser.close()
    events = [event for event in events if event.start < end]
    if end < len(text):
        is_comment = text.startswith("<!--", end)
        events.append(HtmlEvent("other" if is_comment else "text", end))
    if not events or events[0].start > 0:
        events.insert(0, HtmlEvent("other", 0))
    joined: list[HtmlEvent] = []
    for event in events:
        last = joined[-1] if joined else None
        if last is not None and last.kind == event.kind == "text":
            continue
        if last is not None:
            last.end = event.start
        joined.append(event)
    if joined:
        joined[-1].end = len(text)
    for event in joined:
        event.source = text[event.start : event.end]
    return [event for event in joined if event.source]


@dataclass(frozen=True, slots=True)
class AttributeSpan:
    """The position of an attribute's value, including its quotes.

    Attributes:
        name: name of the attribute.
        start: offset of the first character.
        end: offset after the last character.
        value: the unescaped value.
    """

    name: str
    start: int
    end: int
    value: str


def attribute_spans(event: HtmlEvent) -> Iterator[AttributeSpan]:
    """Yield the attributes of a start tag that have a value."""
    for match in _ATTRIBUTE.finditer(event.source, 1 + len(event.name)):
        if (value := match[2]) is not None:
            inner = value[1:-1] if value[0] in "\"'" else value
            start = event.start + match.start(2)
            yield AttributeSpan(match[1].lower(), start, start + len(value), unescape(inner))


def _end_of_tags(text: str) -> int:
    """Return the end of the last tag, after which no tag can begin.

    Otherwise, the parser would try each `<` of the rest, in time quadratic in its length. If many
    comments begin and none ends, everything from the first of them on is a comment.
    """
    end = text.rfind(">") + 1
    unclosed = text.rfind("-->", 0, end) + 3 if "-->" in text else 0
    if text.count("<!--", unclosed, end) > _MAX_UNCLOSED:
        return text.find("<!--", unclosed)
    return end


class _EventParser(HTMLParser):
    def __init__(self, text: str, events: list[HtmlEvent]):
        super().__init__(convert_charrefs=False)
        self.events = events
        self.lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def _position(self) -> int:
        line, offset = self.getpos()
        return self.lines[line - 1] + offset

    def _add(self, kind: EventKind, name: str = "") -> HtmlEvent:
        if len(self.events) >= MAX_EVENTS:
            raise DocumentError(f"the HTML has more than {MAX_EVENTS:,} tags and texts")
        event = HtmlEvent(kind, self._position(), name=name)
        self.events.append(event)
        return event

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        event = self._add("start", tag)
        event.attributes = {name: value or "" for name, value in reversed(attrs)}

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.events[-1].closes_itself = True

    def handle_endtag(self, tag: str) -> None:
        self._add("end", tag)

    def handle_data(self, data: str) -> None:
        self._add("text")

    def handle_entityref(self, name: str) -> None:
        self._add("text")

    def handle_charref(self, name: str) -> None:
        self._add("text")

    def handle_comment(self, data: str) -> None:
        self._add("other")

    def handle_decl(self, decl: str) -> None:
        self._add("other")

    def handle_pi(self, data: str) -> None:
        self._add("other")

    def unknown_decl(self, data: str) -> None:
        self._add("other")

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """Parse `<![...`; unknown kinds are comments, as in browsers."""
        try:
            return int(super().parse_marked_section(i, bool(report)))
        except AssertionError:
            return int(self.parse_bogus_comment(i))
