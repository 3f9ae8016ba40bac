"""XML with the byte positions of everything in it, and edits that keep all other bytes.

No XML library writes a file back unchanged. Here, expat reports the position of each piece of the
source, and a change replaces only the bytes of that piece. `scan_xml` passes the pieces to a
receiver and stores nothing, for very large files; `parse_xml` builds a tree.
"""

import codecs
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol
from xml.parsers import expat

from nllb.errors import DocumentError

MAX_XML_BYTES: Final = 256 << 20
MAX_DEPTH: Final = 256
MAX_NODES: Final = 4_000_000
"""Maximum number of nodes of a tree; `scan_xml` has no such limit."""
XML_NAMESPACE: Final = "http://www.w3.org/XML/1998/namespace"

_NAME: Final = r"[^\s=/>\"'<]+"
_ATTRIBUTE: Final = re.compile(rf"({_NAME})\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_DECLARED: Final = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_INVALID: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

OtherKind = Literal["comment", "instruction"]


class XmlReceiver(Protocol):
    """Receives the pieces of a file in order; positions are byte offsets in the file."""

    def start(
        self, namespace: str, name: str, attributes: dict[str, str], start: int, end: int
    ) -> None:
        """Receive a start tag; `name` has the file's prefix, attributes have their full names."""

    def end(self, start: int, end: int) -> None:
        """Receive an end tag; `start == end` after an empty-element tag."""

    def text(self, text: str, start: int, end: int, is_cdata: bool) -> None:
        """Receive text with its references resolved; a run may arrive in several calls."""

    def other(self, kind: OtherKind, text: str, start: int, end: int) -> None:
        """Receive a comment or a processing instruction."""


@dataclass(slots=True)
class XmlText:
    """Text between tags, or inside the brackets of a CDATA section.

    Attributes:
        text: the text with references resolved.
        start: byte offset of its start.
        end: byte offset of its end.
        is_cdata: whether it is in a CDATA section.
    """

    text: str
    start: int
    end: int
    is_cdata: bool = False


@dataclass(slots=True)
class XmlOther:
    """A comment or a processing instruction.

    Attributes:
        kind: comment or processing instruction.
        text: its content.
        start: byte offset of its start.
        end: byte offset of its end.
    """

    kind: OtherKind
    text: str
    start: int
    end: int


@dataclass(slots=True, eq=False)
class XmlElement:
    """An element and its positions in the source.

    Attributes:
        namespace: its namespace, or "".
        name: its name with the file's prefix.
        attributes: values by name; names with a prefix are `{namespace}local`.
        start: start of its start tag.
        open_end: end of its start tag.
        close_start: start of its end tag; `open_end` for an empty-element tag.
        end: end of the element.
        parent: the parent element; None for the root.
        children: its child nodes in order.
    """

    namespace: str
    name: str
    attributes: dict[str, str]
    start: int
    open_end: int
    close_start: int = -1
    end: int = -1
    parent: "XmlElement | None" = None
    children: "list[XmlNode]" = field(default_factory=list)

    @property
    def local(self) -> str:
        """The name without its prefix."""
        return self.name.rpartition(":")[2]

    @property
    def is_empty_tag(self) -> bool:
        """Whether it is written as one tag, such as `<br/>`."""
        return self.end == self.open_end

    @property
    def elements(self) -> "Iterator[XmlElement]":
        """Its child elements."""
        return (child for child in self.children if isinstance(child, XmlElement))

    def iter(self, local: str | None = None) -> "Iterator[XmlElement]":
        """Yield it and all its descendants in order, or those with a local name."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            if local is None or element.local == local:
                yield element
            waiting += reversed([*element.elements])

    def find(self, local: str) -> "XmlElement | None":
        """Return its first child element with a local name."""
        return next((child for child in self.elements if child.local == local), None)

    def text_content(self) -> str:
        """Return all text inside it."""
        parts: list[str] = []
        waiting: list[XmlNode] = [self]
        while waiting:
            node = waiting.pop()
            if isinstance(node, XmlText):
                parts.append(node.text)
            elif isinstance(node, XmlElement):
                waiting += reversed(node.children)
        return "".join(parts)


XmlNode = XmlElement | XmlText | XmlOther


@dataclass(frozen=True, slots=True)
class XmlTree:
    """A parsed file.

    Attributes:
        data: its bytes.
        encoding: its encoding.
        root: its root element.
    """

    data: bytes
    encoding: str
    root: XmlElement

    def source(self, start: int, end: int) -> str:
        """Return a part of the source text."""
        return self.data[start:end].decode(self.encoding)


def scan_xml(data: bytes, receiver: XmlReceiver, *, name: str = "the file") -> str:
    """Parse a file, call a receiver for each piece and return the file's encoding.

    Entity declarations are rejected, because they can expand without limit; HTML's entities are
    known.

    Raises:
        DocumentError: The file is too large, too deep or not well-formed XML.
    """
    if len(data) > MAX_XML_BYTES:
        raise DocumentError(
            f"{name} has {len(data):,} bytes; the maximum for XML is {MAX_XML_BYTES:,} bytes"
        )
    encoding = xml_encoding(data)
    try:
        _Scan(data, encoding, receiver, name).run()
    except expat.ExpatError as error:
        message = expat.errors.messages.get(error.code, str(error))
        raise DocumentError(
            f"{name} is damaged: it is not well-formed XML: {message} in line {error.lineno}, "
            f"column {error.offset + 1}"
        ) from error
    except (UnicodeDecodeError, LookupError, ValueError) as error:
        raise DocumentError(f"{name} is damaged: {error}") from error
    return encoding


def parse_xml(data: bytes, *, name: str = "the file") -> XmlTree:
    """Parse a file to a tree with byte positions.

    Raises:
        DocumentError: The file is too large, too deep or not well-formed XML.
    """
    builder = _TreeBuilder(name)
    encoding = scan_xml(data, builder, name=name)
    assert builder.root is not None  # well-formed XML has a root
    return XmlTree(data, encoding, builder.root)


def xml_encoding(data: bytes) -> str:
    """Return the encoding of an XML file by its byte order mark and declaration."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (b"<\x00", "utf-16-le"),
        (b"\x00<", "utf-16-be"),
    ):
        if data.startswith(mark):
            return encoding
    declared = _DECLARED.match(data[:512])
    return declared[1].decode("ascii").lower() if declared else "utf-8"


class _Scan:
    """Converts expat's events, which only have a start, to pieces with a start and an end."""

    def __init__(self, data: bytes, encoding: str, receiver: XmlReceiver, name: str):
        self.data, self.encoding, self.receiver, self.name = data, encoding, receiver, name
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.namespace_prefixes = True
        self.parser.ordered_attributes = False
        self.parser.buffer_text = False
        self.parser.UseForeignDTD(True)  # reports HTML's entities instead of raising an error
        self.depth = 0
        self.in_cdata = False
        self.pending: tuple[str, tuple[object, ...], int] | None = None
        self.empty_end = "/>".encode(encoding)

    def run(self) -> None:
        parser = self.parser
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.CommentHandler = lambda text: self._next("comment", text)
        parser.ProcessingInstructionHandler = lambda target, text: self._next(
            "instruction", f"{target} {text}"
        )
        parser.StartCdataSectionHandler = lambda: self._cdata(True)
        parser.EndCdataSectionHandler = lambda: self._cdata(False)
        parser.EntityDeclHandler = self._refuse_entity
        parser.ExternalEntityRefHandler = lambda *arguments: 1
        parser.DefaultHandler = self._default
        parser.Parse(self.data, True)
        self._flush(len(self.data))

    def _next(self, kind: str, *values: object) -> None:
        position = self.parser.CurrentByteIndex
        self._flush(position)
        self.pending = (kind, values, position)

    def _flush(self, end: int) -> None:
        if self.pending is None:
            return
        kind, values, start = self.pending
        self.pending = None
        receiver = self.receiver
        if kind == "text":
            receiver.text(str(values[0]), start, end, self.in_cdata)
        elif kind == "start":
            namespace, name, attributes = values
            assert isinstance(attributes, dict)
            receiver.start(str(namespace), str(name), attributes, start, end)
        elif kind == "end":
            receiver.end(start, end)
        elif kind == "comment":
            receiver.other("comment", str(values[0]), start, end)
        elif kind == "instruction":
            receiver.other("instruction", str(values[0]), start, end)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise DocumentError(f"{self.name} has elements nested more than {MAX_DEPTH} deep")
        namespace, full = _split(name)
        named = {_attribute_name(key): value for key, value in attributes.items()}
        self._next("start", namespace, full, named)

    def _end(self, _name: str) -> None:
        self.depth -= 1
        position = self.parser.CurrentByteIndex
        pending = self.pending
        if pending is not None and pending[0] == "start":
            tag = self.data[pending[2] : position]
            if tag.endswith(self.empty_end):
                self._flush(position)
                self.receiver.end(position, position)
                return
        self._next("end")

    def _text(self, text: str) -> None:
        self._next("text", text)

    def _cdata(self, begins: bool) -> None:
        self._next("cdata")
        self.in_cdata = begins

    def _default(self, text: str) -> None:
        if text.startswith("&") and text.endswith(";") and self.depth:
            character = html.unescape(text)
            if character == text:
                raise DocumentError(f"{self.name} uses the entity {text}, which is unknown")
            self._next("text", character)
        else:
            self._next("default")

    def _refuse_entity(self, name: str, *_arguments: object) -> None:
        raise DocumentError(
            f"{self.name} declares the entity {name!r}; entity declarations are refused, "
            "because they can fill the memory: replace the entities by their text"
        )


def _split(name: str) -> tuple[str, str]:
    """Split expat's `namespace local prefix` into the namespace and the name in the file."""
    parts = name.split(" ")
    if len(parts) == 1:
        return "", name
    return parts[0], f"{parts[2]}:{parts[1]}" if len(parts) > 2 else parts[1]


def _attribute_name(name: str) -> str:
    parts = name.split(" ")
    return name if len(parts) == 1 else f"{{{parts[0]}}}{parts[1]}"


class _TreeBuilder:
    def __init__(self, name: str):
        self.name = name
        self.root: XmlElement | None = None
        self.open: list[XmlElement] = []
        self.count = 0

    def _add(self, node: XmlNode) -> None:
        self.count += 1
        if self.count > MAX_NODES:
            raise DocumentError(f"{self.name} has more than {MAX_NODES:,} nodes of XML")
        if self.open:
            self.open[-1].children.append(node)

    def start(
        self, namespace: str, name: str, attributes: dict[str, str], start: int, end: int
    ) -> None:
        parent = self.open[-1] if self.open else None
        element = XmlElement(namespace, name, attributes, start, end, parent=parent)
        self._add(element)
        if self.root is None:
            self.root = element
        self.open.append(element)

    def end(self, start: int, end: int) -> None:
        element = self.open.pop()
        element.close_start, element.end = start, end

    def text(self, text: str, start: int, end: int, is_cdata: bool) -> None:
        last = self.open[-1].children[-1] if self.open and self.open[-1].children else None
        if isinstance(last, XmlText) and last.end == start and last.is_cdata == is_cdata:
            last.text += text
            last.end = end
        else:
            self._add(XmlText(text, start, end, is_cdata))

    def other(self, kind: OtherKind, text: str, start: int, end: int) -> None:
        self._add(XmlOther(kind, text, start, end))


def escape_text(text: str, *, is_cdata: bool = False) -> str:
    """Return text as XML source; characters that XML does not allow are dropped."""
    text = _INVALID.sub("", text)
    if is_cdata:
        return text.replace("]]>", "]]]]><![CDATA[>")
    return (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
    )


def escape_attribute(text: str) -> str:
    """Return an attribute's value as XML source, for both kinds of quotes."""
    text = escape_text(text).replace('"', "&quot;").replace("'", "&apos;")
    return text.replace("\n", "&#10;").replace("\t", "&#9;")


@dataclass(slots=True)
class XmlEdits:
    """Changes of a file that are applied together; bytes that no change covers are kept.

    Attributes:
        data: the original bytes.
        encoding: the encoding of the file.
    """

    data: bytes
    encoding: str
    _changes: list[tuple[int, int, int, bytes]] = field(default_factory=list)

    def replace(self, start: int, end: int, source: str) -> None:
        """Replace the bytes from `start` to `end`; equal positions insert before them."""
        encoded = source.encode(self.encoding, "xmlcharrefreplace")
        self._changes.append((start, end, len(self._changes), encoded))

    def replace_text(self, node: XmlText, text: str) -> None:
        """Replace a text by another."""
        self.replace(node.start, node.end, escape_text(text, is_cdata=node.is_cdata))

    def set_attribute(self, element: XmlElement, name: str, value: str) -> None:
        """Set an attribute by its name in the file, adding it if it is missing."""
        span = attribute_span(self.data, self.encoding, element, name)
        if span is not None:
            if self.data[span[0] : span[1]] != value.encode(self.encoding, "xmlcharrefreplace"):
                self.replace(*span, escape_attribute(value))
            return
        tag = self.data[element.start : element.open_end].decode(self.encoding)
        inside = tag.removesuffix(">").removesuffix("/").rstrip()
        at = element.start + len(inside.encode(self.encoding))
        self.replace(at, at, f' {name}="{escape_attribute(value)}"')

    def apply(self) -> bytes:
        """Return the changed file."""
        parts: list[bytes] = []
        done = 0
        for start, end, _, encoded in sorted(self._changes):
            assert start >= done, "two edits overlap"
            parts += self.data[done:start], encoded
            done = end
        return b"".join([*parts, self.data[done:]])


def attribute_span(
    data: bytes, encoding: str, element: XmlElement, name: str
) -> tuple[int, int] | None:
    """Return the byte positions of an attribute's value between its quotes.

    Args:
        data: the content of the file.
        encoding: its encoding.
        element: the element.
        name: the attribute's name in the file, including its prefix.
    """
    tag = data[element.start : element.open_end].decode(encoding)
    for match in _ATTRIBUTE.finditer(tag, 1 + len(element.name)):
        if match[1] == name:
            group = 2 if match[2] is not None else 3
            start = element.start + len(tag[: match.start(group)].encode(encoding))
            return start, start + len(match[group].encode(encoding))
    return None
