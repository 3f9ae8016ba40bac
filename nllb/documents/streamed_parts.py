"""Large XML files inside archives, which are read element by element without a complete tree.

A workbook can have a million cells. A streamed part stores only its units, and reads the file again
to write them.
"""

from collections.abc import Callable, Mapping, Sequence

from .units import Fragment, Unit
from .xml_parts import NestedEdits, Prepare, Writing, XmlPart
from .xml_spans import (
    OtherKind,
    XmlElement,
    XmlOther,
    XmlText,
    XmlTree,
    scan_xml,
    xml_encoding,
)

Wanted = Callable[[XmlElement], bool]
"""Returns whether an element is collected; its `parent` leads to the surrounding elements."""
Collect = Callable[[XmlPart, XmlElement], None]
"""Adds the units of a collected element to a part."""


class StreamedPart:
    """A member of an archive with its units, which is read again when it is written.

    Attributes:
        name: name of the member.
        data: its content.
        units: its units in reading order.
        prepare: changes the part before its units are written.
    """

    def __init__(self, name: str, data: bytes, wanted: Wanted, collect: Collect) -> None:
        self.name, self.data = name, data
        self._wanted, self._collect = wanted, collect
        self.units: list[Unit] = []
        self.prepare: Prepare | None = None
        self._scan(lambda part: self.units.extend(part.units))

    def edit(self, changed: Mapping[str, Sequence[Fragment]], writing: Writing) -> bytes | None:
        """Return the member with the changed units; None if nothing changed."""
        if not any(unit.key in changed for unit in self.units):
            return None
        edits = NestedEdits(self.data, xml_encoding(self.data))
        if self.prepare is not None:
            self.prepare(edits, writing)

        def write(part: XmlPart) -> None:
            for place in part.places:
                if place.key in changed:
                    place.apply(changed[place.key], edits, writing)

        self._scan(write)
        return edits.apply()

    def _scan(self, handle: Callable[[XmlPart], None]) -> None:
        count = 0
        encoding = xml_encoding(self.data)

        def receive(element: XmlElement) -> None:
            nonlocal count
            part = XmlPart(self.name, XmlTree(self.data, encoding, element), first=count)
            self._collect(part, element)
            if len(part.units) > 1:
                part.sort()
            count += len(part.units)
            handle(part)

        scan_xml(self.data, _Receiver(self._wanted, receive), name=self.name)


class _Receiver:
    """Builds the collected elements, one after another."""

    def __init__(self, wanted: Wanted, receive: Callable[[XmlElement], None]) -> None:
        self.wanted, self.receive = wanted, receive
        self.open: list[XmlElement] = []
        self.depth = 0
        """Number of open elements, from the innermost, that belong to a collected element."""

    def start(
        self, namespace: str, name: str, attributes: dict[str, str], start: int, end: int
    ) -> None:
        parent = self.open[-1] if self.open else None
        element = XmlElement(namespace, name, attributes, start, end, parent=parent)
        if self.depth:
            assert parent is not None
            parent.children.append(element)
            self.depth += 1
        elif self.wanted(element):
            self.depth = 1
        self.open.append(element)

    def end(self, start: int, end: int) -> None:
        element = self.open.pop()
        element.close_start, element.end = start, end
        if self.depth:
            self.depth -= 1
            if not self.depth:
                self.receive(element)

    def text(self, text: str, start: int, end: int, is_cdata: bool) -> None:
        if not self.depth:
            return
        children = self.open[-1].children
        last = children[-1] if children else None
        if isinstance(last, XmlText) and last.end == start and last.is_cdata == is_cdata:
            last.text += text
            last.end = end
        else:
            children.append(XmlText(text, start, end, is_cdata))

    def other(self, kind: OtherKind, text: str, start: int, end: int) -> None:
        if self.depth:
            self.open[-1].children.append(XmlOther(kind, text, start, end))
