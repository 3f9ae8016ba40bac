"""Units of XML files, and documents that write them back by splicing bytes."""

from collections.abc import Callable, Mapping, Sequence

from nllb.languages import Language

from .splicing import InlinePiece, UnitSpans, Write, text_pieces
from .units import CodeKind, Document, Fragment, Unit
from .xml_spans import (
    XmlEdits,
    XmlElement,
    XmlNode,
    XmlText,
    XmlTree,
    escape_text,
)

KindOf = Callable[[XmlElement], str]
"""Returns the kind of an inline element: `pair`, `single` (markup as a whole), `kept` (displayed
text) or, for elements that represent a tag, `open NAME` or `close NAME` with their pair's name."""
Unescape = Callable[[str], str]


def inline_pieces(
    tree: XmlTree,
    nodes: Sequence[XmlNode],
    kind_of: KindOf,
    *,
    unescape: Unescape = str,
) -> list[InlinePiece]:
    """Return the pieces of inline content.

    Args:
        tree: the file.
        nodes: the content, without gaps.
        kind_of: returns the kind of each element.
        unescape: resolves additional escapes of a format in text.
    """
    width = 2 if tree.encoding.startswith("utf-16") else 1
    pieces: list[InlinePiece] = []
    for node in nodes:
        if isinstance(node, XmlElement):
            pieces += _element_pieces(tree, node, kind_of, unescape)
            continue
        start, end = node.start, node.end
        if isinstance(node, XmlText):
            if node.is_cdata:
                start, end = start - 9 * width, end + 3 * width
            source = tree.source(start, end)
            shown = unescape(node.text)
            pieces += text_pieces(start, end, source, shown, width=width)
        else:
            source = tree.source(start, end)
            pieces.append(InlinePiece(start, end, source, kind=CodeKind.STANDALONE))
    return pieces


def _element_pieces(
    tree: XmlTree, element: XmlElement, kind_of: KindOf, unescape: Unescape
) -> list[InlinePiece]:
    what = kind_of(element)
    if what == "pair" and not element.is_empty_tag:
        opening = tree.source(element.start, element.open_end)
        closing = tree.source(element.close_start, element.end)
        return [
            InlinePiece(
                element.start, element.open_end, opening, kind=CodeKind.OPEN, name=element.name
            ),
            *inline_pieces(tree, element.children, kind_of, unescape=unescape),
            InlinePiece(
                element.close_start, element.end, closing, kind=CodeKind.CLOSE, name=element.name
            ),
        ]
    source = tree.source(element.start, element.end)
    role, _, name = what.partition(" ")
    if name:
        kind = CodeKind.OPEN if role == "open" else CodeKind.CLOSE
        return [InlinePiece(element.start, element.end, source, kind=kind, name=f" {name}")]
    shown = unescape(element.text_content()) if what == "kept" else None
    return [InlinePiece(element.start, element.end, source, shown, CodeKind.STANDALONE)]


def write_xml(fragments: Sequence[Fragment]) -> str:
    """Return fragments as XML source."""
    return "".join(escape_text(part) if isinstance(part, str) else part.data for part in fragments)


class XmlDocument(Document):
    """An XML file whose units are spans of its bytes.

    Attributes:
        tree: the parsed file.
        spans: its units and their positions.
        warnings: warnings for the user.
    """

    def __init__(self, tree: XmlTree):
        self.tree = tree
        self.spans = UnitSpans()
        self.warnings: list[str] = []

    @property
    def units(self) -> Sequence[Unit]:
        """The units to translate, in reading order."""
        return self.spans.units

    def plan_units(self, target: Language) -> Sequence[Unit]:
        """Return the units to translate, with the plural categories that the target adds."""
        return self.spans.plan(target)

    def add_content(
        self,
        element: XmlElement,
        kind_of: KindOf,
        write: Write = write_xml,
        *,
        key: str | None = None,
        unescape: Unescape = str,
        trim_codes: bool = True,
        preserve_layout: bool = False,
        note: str = "",
        plural_category: str | None = None,
    ) -> Unit | None:
        """Add the content of an element as a unit."""
        return self.spans.add(
            inline_pieces(self.tree, element.children, kind_of, unescape=unescape),
            write,
            key=key,
            trim_codes=trim_codes,
            preserve_layout=preserve_layout,
            note=note,
            plural_category=plural_category,
        )

    def render(
        self,
        translations: Mapping[str, Sequence[Fragment]],
        *,
        source: Language | None,
        target: Language,
    ) -> bytes:
        """Return the file with translated units."""
        edits = XmlEdits(self.tree.data, self.tree.encoding)
        self.write_units(edits, translations, target)
        self.set_languages(edits, source, target)
        return edits.apply()

    def write_units(
        self, edits: XmlEdits, translations: Mapping[str, Sequence[Fragment]], target: Language
    ) -> None:
        """Write the translated units."""
        self.spans.splice(edits, translations)

    def set_languages(self, edits: XmlEdits, source: Language | None, target: Language) -> None:
        """Change the file's declarations of its languages."""

    def indent_of(self, element: XmlElement) -> str:
        """Return the line end and indentation before an element, or nothing."""
        before = self.tree.source(max(0, element.start - 400), element.start)
        blank = before[len(before.rstrip(" \t\r\n")) :]
        at = blank.rfind("\n")
        if at < 0:
            return ""
        return blank[at - 1 if blank[at - 1 : at] == "\r" else at :]
