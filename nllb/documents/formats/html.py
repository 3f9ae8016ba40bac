"""HTML: visible text and attributes are translated; scripts, code and `translate="no"` are kept."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from nllb.documents.html_events import AttributeSpan, HtmlEvent, attribute_spans, html_events
from nllb.documents.splicing import (
    InlinePiece,
    SplicedDocument,
    TextEdits,
    plain_writer,
    text_pieces,
)
from nllb.documents.text_file import TextFile, head_text, is_text, read_text
from nllb.documents.units import CodeKind, Document, DocumentFormat, FormatOptions, Fragment
from nllb.languages import Language
from nllb.languages.tags import language_tag

INLINE: Final = frozenset(
    "a abbr b bdi bdo big cite data del dfn em font i img ins label mark output q ruby s small "
    "span strike strong sub sup time tt u wbr".split()
)
"""Elements inside sentences; every other tag ends a sentence."""
PROTECTED: Final = frozenset("code kbd samp var acronym math rt rp".split())
"""Elements inside sentences whose content is kept."""
SKIPPED: Final = frozenset(
    "dir applet embed object iframe noscript noembed noframes script style template "
    "textarea".split()
)
"""Other elements whose content is kept."""
VOID: Final = frozenset(
    "area base br col embed hr img input link meta param source track wbr".split()
)
"""Elements without an end tag."""
UNTRANSLATED_RUBY: Final = frozenset({"rt", "rp"})
_ANY_ELEMENT: Final = frozenset(
    {
        "title",
        *(
            f"aria-{name}"
            for name in "label description placeholder roledescription valuetext".split()
        ),
    }
)
_ATTRIBUTES: Final = {
    "alt": {"img", "area", "input"},
    "placeholder": {"input", "textarea"},
    "label": {"track", "optgroup", "option"},
    "abbr": {"th"},
}
_META: Final = frozenset(
    "description keywords og:title og:description twitter:title twitter:description".split()
)
_HEAD: Final = re.compile(
    r"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_CHARSET: Final = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?([A-Za-z0-9._:-]+)", re.IGNORECASE)
_XML_CHARSET: Final = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)")


def escape_html(text: str) -> str:
    """Return text as HTML source."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class HtmlFormat(DocumentFormat):
    """HTML pages and fragments."""

    name = "html"
    suffixes = (".html", ".htm", ".xhtml")
    keeps = (
        "Text, titles, alternative texts and labels are translated; tags, scripts, code and "
        'elements with translate="no" are kept, and lang and dir are set.'
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is HTML, judging by its first tag or its name."""
        if not is_text(head):
            return False
        return suffix in cls.suffixes or _HEAD.match(head_text(head)) is not None

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a page."""
        declared = _CHARSET.search(data[:2048]) or _XML_CHARSET.match(data)
        name = declared[1].decode("ascii") if declared else None
        file = read_text(data, options, declared=name)
        if name is None and file.encoding == "utf-8" and not file.mark and file.text.isascii():
            # Browsers do not expect UTF-8, so other characters are written as references.
            file = replace(file, encoding="ascii")
        return HtmlDocument(file)


@dataclass(frozen=True, slots=True)
class MarkupRules:
    """Rules for the elements inside sentences and the elements to keep, also for XML.

    Attributes:
        inline: elements inside sentences; None means all that no other field contains.
        splitting: elements that end a sentence, regardless of `inline`.
        protected: elements inside sentences whose content is kept.
        skipped: other elements whose content is kept.
        void: elements without an end tag.
        attributes: whether attributes are translated by HTML's rules.
    """

    inline: frozenset[str] | None = INLINE
    splitting: frozenset[str] = frozenset()
    protected: frozenset[str] = PROTECTED
    skipped: frozenset[str] = SKIPPED
    void: frozenset[str] = VOID
    attributes: bool = True

    def is_inline(self, name: str) -> bool:
        """Return whether an element occurs inside sentences."""
        if name in self.splitting:
            return False
        return self.inline is None or name in self.inline or name in self.protected


HTML_RULES: Final = MarkupRules()


class HtmlDocument(SplicedDocument):
    """A parsed page."""

    references = True

    def __init__(self, file: TextFile, rules: MarkupRules = HTML_RULES):
        super().__init__(file)
        self.rules = rules
        self.events = html_events(file.text)
        _Walk(self).run()

    def set_languages(self, edits: TextEdits, source: Language | None, target: Language) -> None:
        """Set `lang`, `xml:lang` and `dir` of the element `html`."""
        if not self.rules.attributes:
            return
        root = next((each for each in self.events if each.kind == "start"), None)
        if root is None or root.name != "html":
            return
        spans = {span.name: span for span in attribute_spans(root)}
        tag = language_tag(target)
        names: list[str] = [name for name in ("lang", "xml:lang") if name in spans] or ["lang"]
        values: dict[str, str] = dict.fromkeys(names, tag)
        if "dir" in spans or target.direction == "rtl":
            values["dir"] = target.direction
        at = root.start + 1 + len(root.name)
        for name, value in values.items():
            span = spans.get(name)
            if span is None:
                edits.replace(at, at, f' {name}="{value}"')
            elif span.value != value:
                edits.replace(span.start, span.end, f'"{value}"')


@dataclass(slots=True)
class _Open:
    name: str
    keeps_layout: bool


class _Walk:
    """Collects passages between the tags that end a sentence."""

    def __init__(self, document: HtmlDocument):
        self.document, self.rules = document, document.rules
        self.open: list[_Open] = []
        self.passage: list[InlinePiece] = []
        self.inside: list[str] = []
        self.write = plain_writer(escape_html)
        self.ends = self._find_ends()

    def run(self) -> None:
        events = self.document.events
        index = 0
        while index < len(events):
            event = events[index]
            if event.kind == "start" and self._keeps(event):
                end = self.ends.get(index, index)  # without an end tag, only the start tag is kept
                self._protect(events[index : end + 1])
                index = end + 1
                continue
            if event.kind == "text":
                self.passage += text_pieces(event.start, event.end, event.source, event.text)
            elif event.kind == "start":
                self._start(event)
            elif event.kind == "end":
                self._end(event)
            else:
                self.passage.append(_standalone([event], None))
            index += 1
        self._finish()

    def _keeps(self, event: HtmlEvent) -> bool:
        """Return whether an element is kept with all of its content."""
        if event.name in self.rules.protected or event.name in self.rules.skipped:
            return True
        if event.attributes.get("translate", "").lower() == "no":
            return event.name != "html"
        return "notranslate" in event.attributes.get("class", "").split()

    def _find_ends(self) -> dict[int, int]:
        """Return the index of the end tag of each element that has one."""
        waiting: dict[str, list[int]] = {}
        ends: dict[int, int] = {}
        for index, event in enumerate(self.document.events):
            if event.kind == "start" and not self._is_single(event):
                waiting.setdefault(event.name, []).append(index)
            elif event.kind == "end" and waiting.get(event.name):
                ends[waiting[event.name].pop()] = index
        return ends

    def _is_single(self, event: HtmlEvent) -> bool:
        return event.name in self.rules.void or event.closes_itself

    def _protect(self, events: Sequence[HtmlEvent]) -> None:
        first = events[0]
        inline = self.rules.is_inline(first.name) and first.name not in self.rules.skipped
        if not inline:
            self._finish()
            self._attributes(first)
            self.inside.clear()
            return
        shown = "".join(event.text for event in events if event.kind == "text")
        hidden = first.name in UNTRANSLATED_RUBY or not shown.strip()
        self.passage.append(_standalone(events, None if hidden else shown))

    def _start(self, event: HtmlEvent) -> None:
        inline = self.rules.is_inline(event.name)
        if not inline:
            self._finish()
        self._attributes(event)
        is_single = self._is_single(event)
        if inline:
            kind = CodeKind.STANDALONE if is_single else CodeKind.OPEN
            self.passage.append(
                InlinePiece(event.start, event.end, event.source, kind=kind, name=event.name)
            )
        else:
            self.inside.clear()
        if not is_single and not inline:
            keeps_layout = event.name in {"pre", "listing", "xmp"}
            outer = self.open[-1] if self.open else None
            self.open.append(
                _Open(
                    event.name,
                    keeps_layout or (outer is not None and outer.keeps_layout),
                )
            )

    def _end(self, event: HtmlEvent) -> None:
        if self.rules.is_inline(event.name):
            self.passage.append(
                InlinePiece(
                    event.start, event.end, event.source, kind=CodeKind.CLOSE, name=event.name
                )
            )
            return
        self._finish()
        for index in range(len(self.open) - 1, -1, -1):
            if self.open[index].name == event.name:
                del self.open[index:]
                break

    def _finish(self) -> None:
        """End the passage and create its unit."""
        if self.passage:
            keeps_layout = bool(self.open) and self.open[-1].keeps_layout
            self.document.spans.add(
                self.passage, self.write, preserve_layout=keeps_layout, inside=self.inside
            )
        self.passage, self.inside = [], []

    def _attributes(self, event: HtmlEvent) -> None:
        if not self.rules.attributes:
            return
        for span in attribute_spans(event):
            if _is_translated(event, span):
                piece = InlinePiece(span.start, span.end, "", span.value)
                unit = self.document.spans.add(
                    [piece], _write_attribute, note=f"attribute {span.name} of {event.name}"
                )
                if unit is not None:
                    self.inside.append(unit.key)


def _standalone(events: Sequence[HtmlEvent], shown: str | None) -> InlinePiece:
    source = "".join(event.source for event in events)
    return InlinePiece(events[0].start, events[-1].end, source, shown, CodeKind.STANDALONE)


def _is_translated(event: HtmlEvent, span: AttributeSpan) -> bool:
    if span.name in _ANY_ELEMENT or event.name in _ATTRIBUTES.get(span.name, ()):
        return True
    if span.name == "value" and event.name == "input":
        return event.attributes.get("type", "").lower() in {"button", "reset"}
    if span.name == "content" and event.name == "meta":
        about = event.attributes.get("name") or event.attributes.get("property", "")
        return about.lower() in _META
    return False


def _write_attribute(fragments: Sequence[Fragment]) -> str:
    text = "".join(part for part in fragments if isinstance(part, str))
    return '"' + text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;") + '"'
