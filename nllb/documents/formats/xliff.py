"""XLIFF 1.2 and 2.x: a target is written for each source."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nllb.documents.splicing import build_unit
from nllb.documents.text_file import is_text, xml_root_name
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment, Unit
from nllb.documents.xml_spans import XmlEdits, XmlElement, XmlTree, parse_xml
from nllb.documents.xml_units import XmlDocument, inline_pieces, write_xml
from nllb.errors import DocumentError, LanguageError
from nllb.languages import Language, parse_language
from nllb.languages.tags import language_tag

_PAIRS: Final = frozenset({"g", "mrk", "pc"})
_ROLES: Final = dict.fromkeys(("bpt", "bx", "sc"), "open") | dict.fromkeys(
    ("ept", "ex", "ec"), "close"
)
_FINISHED: Final = frozenset({"final", "signed-off", "translated", "reviewed"})


class XliffFormat(DocumentFormat):
    """XLIFF 1.2 and 2.0 to 2.2."""

    name = "xliff"
    suffixes = (".xlf", ".xliff", ".sdlxliff", ".mxliff")
    keeps = (
        "A target is written beside each source and marked for review; finished targets in the "
        'same language, translate="no", notes, inline codes and all sources are kept.'
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether the root of a file is `xliff`, or its name says so."""
        return xml_root_name(head) == "xliff" or (suffix in cls.suffixes and is_text(head))

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a file."""
        return XliffDocument(parse_xml(data))


@dataclass(frozen=True, slots=True)
class _Segment:
    """A source, its target, and the element with their state."""

    holder: XmlElement
    source: XmlElement
    target: XmlElement | None


class XliffDocument(XmlDocument):
    """A parsed file."""

    def __init__(self, tree: XmlTree):
        super().__init__(tree)
        root = tree.root
        if root.local != "xliff":
            raise DocumentError(f"the root element is {root.name}, not xliff")
        self.is_second = root.attributes.get("version", "").startswith("2")
        self.segments: dict[str, _Segment] = {}
        self._units: list[Unit] = []
        for number, segment in enumerate(self._find_segments(root), start=1):
            built = build_unit(
                inline_pieces(tree, segment.source.children, _place),
                write_xml,
                key=str(number),
                trim_codes=False,
                preserve_layout=_keeps_space(segment.source),
            )
            if built is not None:
                self._units.append(built[0])
                self.segments[built[0].key] = segment
        self._edges = {key: self._around(segment) for key, segment in self.segments.items()}

    def _find_segments(self, root: XmlElement) -> Iterator[_Segment]:
        names = {"segment"} if self.is_second else {"trans-unit"}
        waiting = [root]
        while waiting:
            element = waiting.pop()
            if element.attributes.get("translate") == "no":
                continue
            if element.local in names:
                source = element.find("source")
                if source is not None:
                    yield _Segment(element, source, element.find("target"))
                continue
            waiting += reversed([*element.elements])

    def _around(self, segment: _Segment) -> tuple[str, str]:
        """Return the white space at the edges of a source."""
        text = segment.source.text_content()
        return text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]

    @property
    def units(self) -> Sequence[Unit]:
        """The sources."""
        return self._units

    def plan_units(self, target: Language) -> Sequence[Unit]:
        """Return the sources without a finished target in the language."""
        return [unit for unit in self._units if not self._is_finished(unit.key, target)]

    def _is_finished(self, key: str, target: Language) -> bool:
        segment = self.segments[key]
        if segment.target is None or not segment.target.text_content().strip():
            return False
        if self._target_language(segment) not in {None, target}:
            return False
        states = {segment.target.attributes.get("state"), segment.holder.attributes.get("state")}
        states.discard(None)
        approved = segment.holder.attributes.get("approved") == "yes"
        return approved or not states or bool(states & _FINISHED)

    def _target_language(self, segment: _Segment) -> Language | None:
        element: XmlElement | None = segment.holder
        while element is not None:
            tag = element.attributes.get("trgLang" if self.is_second else "target-language")
            if tag is not None:
                try:
                    return parse_language(tag)
                except LanguageError:
                    return None
            element = element.parent
        return None

    def write_units(
        self, edits: XmlEdits, translations: Mapping[str, Sequence[Fragment]], target: Language
    ) -> None:
        """Write a target for each translated source."""
        for unit in self._units:
            new = translations.get(unit.key)
            if new is None:
                continue
            segment = self.segments[unit.key]
            before, after = self._edges[unit.key]
            content = before + write_xml(new) + after
            if segment.target is not None:
                self._replace(edits, segment.target, content)
            else:
                self._insert(edits, segment, content)
            if self.is_second:
                if segment.holder.attributes.get("state") == "initial":
                    edits.set_attribute(segment.holder, "state", "translated")
            elif segment.holder.attributes.get("approved") == "yes":
                edits.set_attribute(segment.holder, "approved", "no")

    def _replace(self, edits: XmlEdits, target: XmlElement, content: str) -> None:
        if target.is_empty_tag:
            state = "" if self.is_second else ' state="needs-review-translation"'
            edits.replace(
                target.start, target.end, f"<{target.name}{state}>{content}</{target.name}>"
            )
            return
        edits.replace(target.open_end, target.close_start, content)
        if not self.is_second:
            edits.set_attribute(target, "state", "needs-review-translation")

    def _insert(self, edits: XmlEdits, segment: _Segment, content: str) -> None:
        after = segment.holder.find("seg-source") or segment.source
        prefix = segment.source.name.removesuffix("source")
        state = "" if self.is_second else ' state="needs-review-translation"'
        indent = self.indent_of(segment.source)
        edits.replace(
            after.end, after.end, f"{indent}<{prefix}target{state}>{content}</{prefix}target>"
        )

    def set_languages(self, edits: XmlEdits, source: Language | None, target: Language) -> None:
        """Set the target language."""
        tag = language_tag(target)
        if self.is_second:
            edits.set_attribute(self.tree.root, "trgLang", tag)
            return
        for file in self.tree.root.iter("file"):
            edits.set_attribute(file, "target-language", tag)


def _place(element: XmlElement) -> str:
    if element.local == "mrk":
        is_kept = element.attributes.get("mtype") == "protected"
        is_kept = is_kept or element.attributes.get("translate") == "no"
        return "kept" if is_kept else "pair"
    if (role := _ROLES.get(element.local)) is not None:
        values = (element.attributes.get(name) for name in ("startRef", "rid", "id"))
        if number := next(filter(None, values), None):
            return f"{role} {number}"
    return "pair" if element.local in _PAIRS else "single"


def _keeps_space(source: XmlElement) -> bool:
    element: XmlElement | None = source
    while element is not None:
        space = element.attributes.get("{http://www.w3.org/XML/1998/namespace}space")
        if space is not None:
            return space == "preserve"
        element = element.parent
    return False
