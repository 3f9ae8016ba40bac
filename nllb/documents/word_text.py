"""Paragraphs of WordprocessingML, the language of docx: `w:p` with runs, fields and marks."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from .passages import Code, Style, Tag, Text, Token
from .units import CodeKind
from .xml_parts import NestedEdits, Writing, insert_child, with_attribute
from .xml_spans import (
    XML_NAMESPACE,
    XmlElement,
    XmlText,
    XmlTree,
    escape_attribute,
    escape_text,
)

NAMESPACES: Final = frozenset(
    {
        "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "http://purl.oclc.org/ooxml/wordprocessingml/main",
    }
)
_CONTAINERS: Final = frozenset("hyperlink ins moveTo smartTag customXml dir bdo".split())
_MARK_STARTS: Final = {
    "bookmarkStart": "bookmark",
    "commentRangeStart": "comment",
    "permStart": "permission",
}
_MARK_ENDS: Final = {
    "bookmarkEnd": "bookmark",
    "commentRangeEnd": "comment",
    "permEnd": "permission",
}
_DROPPED: Final = frozenset("proofErr lastRenderedPageBreak softHyphen".split())
"""Elements that do not apply to a translation: marks of misspellings, pages and hyphenation."""
_SPACES: Final = frozenset("tab ptab br cr".split())
_INVISIBLE: Final = frozenset("lang noProof rPrChange webHidden".split())
"""Run properties that are not visible."""
_SHOWN_FIELDS: Final = frozenset("HYPERLINK TOC INDEX TOA QUOTE FORMTEXT".split())
"""Fields whose result is text; the results of other fields are kept."""
_AFTER_BIDI: Final = frozenset(
    "adjustRightInd snapToGrid spacing ind contextualSpacing mirrorIndents suppressOverlap jc "
    "textDirection textAlignment textboxTightWrap outlineLvl divId cnfStyle rPr sectPr "
    "pPrChange".split()
)
_RUN_ORDER: Final = (
    "rStyle rFonts b bCs i iCs caps smallCaps strike dstrike outline shadow emboss imprint noProof "
    "snapToGrid vanish webHidden color spacing w kern position sz szCs highlight u effect bdr shd "
    "fitText vertAlign rtl cs em lang eastAsianLayout specVanish oMath rPrChange"
).split()
"""Run properties in the order of the schema."""
_COMPLEX_TWINS: Final = {"b": "bCs", "i": "iCs", "sz": "szCs"}
"""Properties that have a separate counterpart for complex scripts."""
_HINT: Final = re.compile(r'\s[\w.-]+:hint="[^"]*"')
_TEXT_PARTS: Final = re.compile(r"[\t\n]|[^\t\n]+")


class WordText:
    """Reads and writes the paragraphs of one part."""

    def __init__(self) -> None:
        self._styles: dict[str, Style] = {}
        self._properties: dict[tuple[str, str, Writing], str] = {}

    def content(self, paragraph: XmlElement) -> tuple[int, int]:
        """Return the start and end of the content, without the paragraph's properties."""
        properties = paragraph.find("pPr")
        start = paragraph.open_end if properties is None else properties.end
        return start, paragraph.close_start

    def tokens(self, paragraph: XmlElement, tree: XmlTree) -> Sequence[Token]:
        """Return the content of a paragraph."""
        reader = _Reader(self, tree)
        reader.read(paragraph)
        return reader.tokens

    def style(self, run: XmlElement, tree: XmlTree) -> Style:
        """Return the style of a run."""
        properties = run.find("rPr")
        source = "" if properties is None else tree.source(properties.start, properties.end)
        known = self._styles.get(source)
        if known is None:
            visible = [] if properties is None else properties.elements
            key = "".join(
                _HINT.sub("", tree.source(each.start, each.end))
                for each in visible
                if each.local not in _INVISIBLE
            )
            known = self._styles[source] = Style(key, run)
        return known

    def write(
        self, tokens: Sequence[Token], edits: NestedEdits, tree: XmlTree, writing: Writing
    ) -> str:
        """Return the source of runs."""
        parts: list[str] = []
        current: Style | None = None

        def close() -> None:
            nonlocal current
            if current is not None:
                parts.append(f"</{current.run.name}>")
                current = None

        for token in tokens:
            style = None if isinstance(token, Tag) else token.style
            if style is None or current is None or style.key != current.key:
                close()
            if style is not None and current is None:
                current = style
                parts.append(tree.source(style.run.start, style.run.open_end))
                parts.append(self._run_properties(style.run, tree, writing))
            if isinstance(token, Text):
                assert style is not None
                parts.append(_text_source(token.text, style.run.name.removesuffix("r")))
            else:
                parts.append(edits.read(token.start, token.end))
        close()
        return "".join(parts)

    def _run_properties(self, run: XmlElement, tree: XmlTree, writing: Writing) -> str:
        properties = run.find("rPr")
        prefix = run.name.removesuffix("r")
        source = "" if properties is None else tree.source(properties.start, properties.end)
        known = self._properties.get((source, prefix, writing))
        if known is None:
            children = {} if properties is None else _children(properties, tree)
            changed = adapted_properties(children, prefix, writing)
            inside = "".join(changed.values())
            known = f"<{prefix}rPr>{inside}</{prefix}rPr>" if inside else ""
            if changed == children:
                known = source
            self._properties[source, prefix, writing] = known
        return known

    def adapt(
        self, paragraph: XmlElement, edits: NestedEdits, tree: XmlTree, writing: Writing
    ) -> None:
        """Set the direction of a translated paragraph and of the table it is in."""
        prefix = paragraph.name.removesuffix("p")
        properties = paragraph.find("pPr")
        if properties is None or properties.is_empty_tag:
            if writing.is_rtl:
                place = paragraph.open_end if properties is None else properties.start
                end = place if properties is None else properties.end
                edits.replace(place, end, f"<{prefix}pPr><{prefix}bidi/></{prefix}pPr>")
        else:
            _set_flag(edits, properties, f"{prefix}bidi", writing.is_rtl, _AFTER_BIDI)


@dataclass(slots=True)
class _Reader:
    """Reads the content of one paragraph."""

    dialect: WordText
    tree: XmlTree
    tokens: list[Token] = field(default_factory=list)
    fields: "list[_OpenField]" = field(default_factory=list)

    def read(self, parent: XmlElement) -> None:
        for child in parent.elements:
            local = child.local
            if local == "pPr" or local in _DROPPED:
                continue
            if local == "r" and child.namespace in NAMESPACES:
                self._run(child)
            elif local in _CONTAINERS and not child.is_empty_tag:
                self._container(child, child)
            elif local == "sdt" and (content := child.find("sdtContent")) is not None:
                self._container(child, content)
            elif local == "fldSimple" and _is_shown(_attribute(child, "instr")):
                self._container(child, child)
            elif local in _MARK_STARTS:
                self._mark(child, _MARK_STARTS[local], CodeKind.OPEN)
            elif local in _MARK_ENDS:
                self._mark(child, _MARK_ENDS[local], CodeKind.CLOSE)
            else:
                shown = child.text_content() if local in {"fldSimple", "oMath"} else None
                self.tokens.append(Code(child.start, child.end, self._label(child), shown or None))

    def _label(self, element: XmlElement) -> str:
        return self.tree.source(element.start, element.open_end)

    def _mark(self, element: XmlElement, name: str, kind: CodeKind) -> None:
        name = f"{name} {_attribute(element, 'id')}"
        label = self._label(element)
        self.tokens.append(Tag(element.start, element.end, label, kind, name, is_mark=True))

    def _container(self, outer: XmlElement, content: XmlElement) -> None:
        if content.is_empty_tag:
            self.tokens.append(Code(outer.start, outer.end, self._label(outer)))
            return
        name, label = f"element {outer.start}", self._label(outer)
        begin = content.open_end
        for child in content.elements:
            if child.local not in {"smartTagPr", "customXmlPr", "fldData"}:
                break
            begin = child.end
        self.tokens.append(Tag(outer.start, begin, label, CodeKind.OPEN, name))
        self.read(content)
        closing = f"</{outer.name}>"
        self.tokens.append(Tag(content.close_start, outer.end, closing, CodeKind.CLOSE, name))

    def _run(self, run: XmlElement) -> None:
        properties = run.find("rPr")
        if properties is not None and _is_on(properties.find("vanish")):
            self.tokens.append(Code(run.start, run.end, self._label(run)))
            return
        style = self.dialect.style(run, self.tree)
        for child in run.elements:
            local = child.local
            if local == "rPr" or local in _DROPPED:
                continue
            if local == "t":
                self.tokens.append(Text(_shown_text(child), style))
            elif local == "noBreakHyphen":
                self.tokens.append(Text("\u2011", style))
            elif local == "fldChar":
                self._field(child, style)
            else:
                if local == "instrText" and self.fields:
                    self.fields[-1].instruction += child.text_content()
                base = child.find("rubyBase") if local == "ruby" else None
                self.tokens.append(
                    Code(
                        child.start,
                        child.end,
                        self._label(child),
                        None if base is None else base.text_content(),
                        style,
                        is_space=local in _SPACES,
                    )
                )

    def _field(self, element: XmlElement, style: Style) -> None:
        code = Code(element.start, element.end, self._label(element), style=style)
        kind = _attribute(element, "fldCharType")
        if kind == "begin":
            self.fields.append(_OpenField(len(self.tokens)))
        elif kind == "separate" and self.fields:
            self.fields[-1].separator = len(self.tokens)
        self.tokens.append(code)
        if kind == "end" and self.fields:
            self._close_field(self.fields.pop())

    def _close_field(self, opened: "_OpenField") -> None:
        """Convert a field to one code, or to a pair of tags around its result."""
        tokens, begin, separator = self.tokens, opened.begin, opened.separator
        shown = separator is not None and _is_shown(opened.instruction)
        if not _is_closed(tokens[begin:]):
            return
        parts = tuple(tokens[begin:])
        first, last = parts[0], parts[-1]
        assert isinstance(first, Code) and isinstance(last, Code)
        label = opened.instruction.strip() or "field"
        if separator is None or not shown:
            text = "".join(t.text for t in tokens[separator or begin :] if isinstance(t, Text))
            tokens[begin:] = [Code(first.start, last.end, label, text or None, parts=parts)]
            return
        if not _is_closed(tokens[separator:]):
            return
        name = f"field {first.start}"
        tokens[-1] = Tag(last.start, last.end, "field end", CodeKind.CLOSE, name, parts=(last,))
        tokens[begin : separator + 1] = [
            Tag(
                first.start,
                first.end,
                label,
                CodeKind.OPEN,
                name,
                parts=parts[: separator + 1 - begin],
            )
        ]


@dataclass(slots=True)
class _OpenField:
    begin: int
    separator: int | None = None
    instruction: str = ""


def _is_closed(tokens: Sequence[Token]) -> bool:
    """Return whether all elements that begin in the tokens end there, and vice versa."""
    waiting: list[str] = []
    for token in tokens:
        if isinstance(token, Tag) and not token.is_mark:
            if token.kind is CodeKind.OPEN:
                waiting.append(token.name)
            elif not waiting or waiting.pop() != token.name:
                return False
    return not waiting


def _is_shown(instruction: str) -> bool:
    words = instruction.split(maxsplit=1)
    return bool(words) and words[0].upper() in _SHOWN_FIELDS


def _shown_text(element: XmlElement) -> str:
    text = "".join(child.text for child in element.children if isinstance(child, XmlText))
    text = text.replace("\n", " ")
    keeps = element.attributes.get(f"{{{XML_NAMESPACE}}}space") == "preserve"
    return text if keeps else text.strip()


def _text_source(text: str, prefix: str) -> str:
    parts = []
    for match in _TEXT_PARTS.finditer(text):
        part = match[0]
        if part == "\t":
            parts.append(f"<{prefix}tab/>")
        elif part == "\n":
            parts.append(f"<{prefix}br/>")
        else:
            space = ' xml:space="preserve"' if part != part.strip() else ""
            parts.append(f"<{prefix}t{space}>{escape_text(part)}</{prefix}t>")
    return "".join(parts)


def _attribute(element: XmlElement, local: str) -> str:
    for name, value in element.attributes.items():
        if name.rpartition("}")[2] == local:
            return value
    return ""


def _is_on(flag: XmlElement | None) -> bool:
    return flag is not None and _attribute(flag, "val") not in {"0", "false", "off"}


def _children(properties: XmlElement, tree: XmlTree) -> dict[str, str]:
    return {each.local: tree.source(each.start, each.end) for each in properties.elements}


def adapted_properties(children: dict[str, str], prefix: str, writing: Writing) -> dict[str, str]:
    """Return run properties with the language and direction of a translation.

    Args:
        children: the properties' sources by their local names.
        prefix: the prefix of their names, such as `w:`.
        writing: the language.
    """
    result = dict(children)
    if "lang" in result:
        result["lang"] = _language(result["lang"], prefix, writing)
    if writing.is_complex:
        for name, twin in _COMPLEX_TWINS.items():
            if name in result:
                result.setdefault(
                    twin, re.sub(rf"^<{prefix}{name}\b", f"<{prefix}{twin}", result[name])
                )
    if writing.is_rtl:
        result["rtl"] = f"<{prefix}rtl/>"
    else:
        result.pop("rtl", None)
    if result.keys() == children.keys():
        return result
    order = {name: place for place, name in enumerate(_RUN_ORDER)}
    return dict(sorted(result.items(), key=lambda item: order.get(item[0], len(order) - 1.5)))


def _language(source: str, prefix: str, writing: Writing) -> str:
    """Return a `w:lang` with the translation's language."""
    for name in _language_names(writing):
        new = f'{prefix}{name}="{escape_attribute(writing.tag)}"'
        pattern = rf"""{re.escape(prefix)}{name}\s*=\s*(?:"[^"]*"|'[^']*')"""
        source, count = re.subn(pattern, new, source, count=1)
        if not count:
            source = with_attribute(source, new)
    return source


def _language_names(writing: Writing) -> Iterator[str]:
    yield "val"
    if writing.is_complex:
        yield "bidi"
    if writing.is_east_asian:
        yield "eastAsia"


def _set_flag(
    edits: NestedEdits,
    properties: XmlElement,
    name: str,
    is_on: bool,
    later: frozenset[str],
) -> None:
    """Add a property without a value, or remove it."""
    found = properties.find(name.rpartition(":")[2])
    if found is None:
        if is_on:
            insert_child(edits, properties, f"<{name}/>", later)
    elif _is_on(found) != is_on:
        edits.replace(found.start, found.end, f"<{name}/>" if is_on else "")


def set_table_direction(edits: NestedEdits, table: XmlElement, writing: Writing) -> None:
    """Let the columns of a table run in the direction of the script."""
    properties = table.find("tblPr")
    if properties is None or properties.is_empty_tag:
        return
    later = frozenset(
        each.local
        for each in properties.elements
        if each.local not in {"tblStyle", "tblpPr", "tblOverlap"}
    )
    prefix = table.name.removesuffix("tbl")
    _set_flag(edits, properties, f"{prefix}bidiVisual", writing.is_rtl, later)


def set_default_languages(edits: NestedEdits, tree: XmlTree, writing: Writing) -> None:
    """Set the languages of the styles."""
    for element in tree.root.iter():
        if element.namespace not in NAMESPACES:
            continue
        prefix = element.name.removesuffix(element.local)
        if element.local == "lang":
            source = tree.source(element.start, element.end)
            edits.replace(element.start, element.end, _language(source, prefix, writing))
        elif element.local == "themeFontLang":
            for name in _language_names(writing):
                edits.set_attribute(element, f"{prefix}{name}", writing.tag)
        elif element.local in {"rtl", "bidi"} and not writing.is_rtl and _is_on(element):
            edits.replace(element.start, element.end, "")
