"""Android string resources: strings, arrays and plurals."""

import re
from collections.abc import Sequence
from typing import Final

from nllb.documents.plurals import CATEGORIES, PluralSlot
from nllb.documents.text_file import xml_root_name
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment
from nllb.documents.xml_spans import XmlEdits, XmlElement, XmlTree, escape_text, parse_xml
from nllb.documents.xml_units import XmlDocument
from nllb.languages import Language
from nllb.languages.tags import language_tag

_XLIFF: Final = "urn:oasis:names:tc:xliff:document:1.2"
_TOOLS: Final = "{http://schemas.android.com/tools}"
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))|\"", re.DOTALL)
_PLAIN: Final = {"n": "\n", "t": "\t"}
_REFERENCE: Final = re.compile(r"\s*[@?][\w:.]*/?[\w.]+\s*")


class AndroidFormat(DocumentFormat):
    """String resources of Android."""

    name = "android"
    suffixes = (".xml",)
    keeps = (
        "Strings, arrays and plurals are translated, with the plural categories of the target; "
        'names, translatable="false", references, xliff:g and comments are kept.'
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether the root of a file is `resources`."""
        return suffix in {*cls.suffixes, ""} and xml_root_name(head) == "resources"

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse resources."""
        return AndroidDocument(parse_xml(data))


class AndroidDocument(XmlDocument):
    """Parsed resources."""

    def __init__(self, tree: XmlTree):
        super().__init__(tree)
        seen: dict[str, int] = {}
        for element in tree.root.elements:
            if element.attributes.get("translatable") == "false":
                continue
            name = element.attributes.get("name", "")
            number = seen[name] = seen.get(name, 0) + 1
            key = name if number == 1 else f"{name}#{number}"
            if element.local == "string":
                self._string(element, key)
            elif element.local == "string-array":
                for index, item in enumerate(element.elements):
                    self._string(item, f"{key}/{index}")
            elif element.local == "plurals":
                self._plurals(element, key)

    def _string(self, element: XmlElement, key: str, category: str | None = None) -> str | None:
        if _REFERENCE.fullmatch(element.text_content()) and not [*element.elements]:
            return None
        unit = self.add_content(
            element,
            _place,
            write_string,
            key=key,
            unescape=unescape_string,
            trim_codes=False,
            plural_category=category,
            preserve_layout="\\n" in element.text_content(),
        )
        return None if unit is None else unit.key

    def _plurals(self, element: XmlElement, key: str) -> None:
        present: set[str] = set()
        other, last = None, None
        for item in element.elements:
            quantity = item.attributes.get("quantity", "")
            present.add(quantity)
            category = quantity if quantity in CATEGORIES else None
            added = self._string(item, f"{key}/{quantity}", category)
            last = item
            if quantity == "other" and added is not None:
                other = self.spans.units[-1]
        if other is None or last is None:
            return
        indent, name = self.indent_of(last), last.name

        def write(category: str, fragments: Sequence[Fragment]) -> str:
            text = write_string(fragments)
            return f'{indent}<{name} quantity="{category}">{text}</{name}>'

        self.spans.slots.append(
            PluralSlot(unit=other, present=frozenset(present), position=last.end, write=write)
        )

    def set_languages(self, edits: XmlEdits, source: Language | None, target: Language) -> None:
        """Set `tools:locale` where the file has it."""
        if f"{_TOOLS}locale" in self.tree.root.attributes:
            edits.set_attribute(self.tree.root, "tools:locale", language_tag(target))


def _place(element: XmlElement) -> str:
    if element.namespace == _XLIFF and element.local == "g":
        return "kept"
    return "kept" if element.local == "annotation" and not element.children else "pair"


def unescape_string(source: str) -> str:
    """Return the text of a string without the escapes of Android."""

    def character(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        return _PLAIN.get(match[2], match[2]) if match[2] else ""

    text = _ESCAPE.sub(character, source)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def write_string(fragments: Sequence[Fragment]) -> str:
    """Return fragments with the escapes of XML and of Android."""
    parts = []
    for number, part in enumerate(fragments):
        if not isinstance(part, str):
            parts.append(part.data)
            continue
        text = re.sub(r"([\\'\"])", r"\\\1", part).replace("\n", "\\n").replace("\t", "\\t")
        if number == 0 and text.startswith(("@", "?")):
            text = "\\" + text
        parts.append(escape_text(text))
    return "".join(parts)
