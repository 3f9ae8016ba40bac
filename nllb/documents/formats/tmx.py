"""TMX: a variant in the target language is added to each translation unit."""

from collections.abc import Mapping, Sequence

from nllb.documents.splicing import build_unit
from nllb.documents.text_file import is_text, xml_root_name
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment, Unit
from nllb.documents.xml_spans import XML_NAMESPACE, XmlEdits, XmlElement, XmlTree, parse_xml
from nllb.documents.xml_units import XmlDocument, inline_pieces, write_xml
from nllb.errors import DocumentError
from nllb.languages import Language
from nllb.languages.tags import language_tag


class TmxFormat(DocumentFormat):
    """Translation memories."""

    name = "tmx"
    suffixes = (".tmx",)
    keeps = (
        "A variant in the target language is added to each translation unit that lacks one; all "
        "other variants, properties and notes are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether the root of a file is `tmx`, or its name says so."""
        return xml_root_name(head) == "tmx" or (suffix in cls.suffixes and is_text(head))

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a memory."""
        return TmxDocument(parse_xml(data))


class TmxDocument(XmlDocument):
    """A parsed memory."""

    def __init__(self, tree: XmlTree):
        super().__init__(tree)
        if tree.root.local != "tmx":
            raise DocumentError(f"the root element is {tree.root.name}, not tmx")
        header = tree.root.find("header")
        self.language = "" if header is None else header.attributes.get("srclang", "").lower()
        self.entries: dict[str, XmlElement] = {}
        self._units: list[Unit] = []
        for number, entry in enumerate(tree.root.iter("tu"), start=1):
            segment = self._source(entry)
            if segment is None:
                continue
            pieces = inline_pieces(tree, segment.children, _place)
            built = build_unit(pieces, write_xml, key=str(number), trim_codes=False)
            if built is not None:
                self._units.append(built[0])
                self.entries[built[0].key] = entry

    def _source(self, entry: XmlElement) -> XmlElement | None:
        variants = [each for each in entry.elements if each.local == "tuv"]
        wanted = entry.attributes.get("srclang", self.language).lower()
        best = next((each for each in variants if _language(each) == wanted), None)
        if best is None:
            base = wanted.partition("-")[0]
            same = (each for each in variants if _language(each).partition("-")[0] == base)
            best = next(same, variants[0] if variants else None)
        return None if best is None else best.find("seg")

    @property
    def units(self) -> Sequence[Unit]:
        """The segments of the source language."""
        return self._units

    def plan_units(self, target: Language) -> Sequence[Unit]:
        """Return the segments that lack a variant in the target language."""
        tag = language_tag(target).lower()
        names = {tag, target.code.replace("_", "-").lower(), target.code.lower()}
        return [
            unit
            for unit in self._units
            if not any(
                _language(each) in names or _language(each).partition("-")[0] == tag
                for each in self.entries[unit.key].elements
                if each.local == "tuv"
            )
        ]

    def write_units(
        self, edits: XmlEdits, translations: Mapping[str, Sequence[Fragment]], target: Language
    ) -> None:
        """Add the variants."""
        for unit in self._units:
            new = translations.get(unit.key)
            if new is None:
                continue
            last = [each for each in self.entries[unit.key].elements if each.local == "tuv"][-1]
            indent = self.indent_of(last)
            edits.replace(
                last.end,
                last.end,
                f'{indent}<tuv xml:lang="{language_tag(target)}"><seg>{write_xml(new)}</seg></tuv>',
            )


def _language(variant: XmlElement) -> str:
    attributes = variant.attributes
    return (attributes.get(f"{{{XML_NAMESPACE}}}lang") or attributes.get("lang", "")).lower()


def _place(element: XmlElement) -> str:
    number = element.attributes.get("i")
    if number and element.local in {"bpt", "ept"}:
        return f"{'open' if element.local == 'bpt' else 'close'} {number}"
    return "pair" if element.local == "hi" else "single"
