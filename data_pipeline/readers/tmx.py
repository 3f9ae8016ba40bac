"""Translation memories (TMX 1.4), streamed: one unit in memory at a time."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final, cast
from xml.etree import ElementTree

from nllb.errors import DataError, LanguageError
from nllb.io.compression import DAMAGED, open_binary
from nllb.io.text import MAX_LINE_BYTES
from nllb.languages import parse_language

_LANGUAGE_ATTRIBUTES = ("{http://www.w3.org/XML/1998/namespace}lang", "lang")
# What these hold is the native code of some other format, not text.
_CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})
_MAX_DEPTH: Final = 100


def read_tmx(path: Path, source: str, target: str) -> Iterator[tuple[str, str] | str]:
    """Yield both segments of every unit, or what the unit lacks.

    Languages are compared by what they resolve to, so that `en-GB` is `eng_Latn`.

    Raises:
        DataError: with file and line where the XML is damaged or cut short, or with the number of
            the unit where one is too long, nests too deeply, or entities are declared.
    """
    try:
        with open_binary(path) as stream:
            for unit in _units(_Limited(stream, path)):
                yield _segments(unit, source, target)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}:{error.position[0]}: not TMX, or cut short: {error}") from None
    except DAMAGED as error:
        raise DataError(f"{path}: damaged or cut short: {error}; fetch the file again") from None


def _units(stream: "_Limited") -> Iterator[ElementTree.Element]:
    """Yield the units; nothing else of the document stays in memory."""
    opened: list[ElementTree.Element] = []
    begins: list[int] = []  # the depth at which a unit was begun
    for event, element in ElementTree.iterparse(cast(BinaryIO, stream), events=("start", "end")):
        if event == "start":
            opened.append(element)
            if len(opened) > _MAX_DEPTH:
                raise stream.fault(f"more than {_MAX_DEPTH} elements inside each other")
            if _name(element) == "tu":
                begins.append(len(opened))
            continue
        if begins and begins[-1] == len(opened):
            begins.pop()
            stream.next_unit()
            yield element
        opened.pop()
        if not begins:
            element.clear()
            if opened:
                del opened[-1][:]


class _Limited:
    """A stream that ends with an error where a unit takes too many bytes, or entities begin."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self._num_units = self._num_bytes = 0
        self._end = b""

    def next_unit(self) -> None:
        self._num_units += 1
        self._num_bytes = 0

    def fault(self, what: str) -> DataError:
        return DataError(f"{self._path}: after unit {self._num_units:,}: {what}")

    def read(self, size: int) -> bytes:
        chunk = self._stream.read(size)
        self._num_bytes += len(chunk)
        if self._num_bytes > MAX_LINE_BYTES:
            raise self.fault(f"no end of a unit in {MAX_LINE_BYTES >> 20} MiB")
        # UTF-16 has a NUL beside each of these letters. An entity may stand for any length of text.
        seen = self._end + chunk.replace(b"\0", b"")
        if b"<!ENTITY" in seen:
            raise self.fault("entities are declared, which TMX has no use for; take them out")
        self._end = seen[-len(b"<!ENTITY") :]
        return chunk


def _segments(unit: ElementTree.Element, source: str, target: str) -> tuple[str, str] | str:
    texts: dict[str, str] = {}
    for variant in unit:
        if _name(variant) != "tuv":
            continue
        tag = next((variant.get(name) for name in _LANGUAGE_ATTRIBUTES if variant.get(name)), "")
        segment = next((child for child in variant if _name(child) == "seg"), None)
        code = _code(tag or "")
        if code is not None and segment is not None and code not in texts:
            texts[code] = "".join(_text(segment))
    lacking = [code for code in (source, target) if code not in texts]
    if lacking:
        return f"no segment of {' or '.join(lacking)}; the unit has {', '.join(texts) or 'none'}"
    return texts[source], texts[target]


def _text(element: ElementTree.Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if _name(child) not in _CODES:
            yield from _text(child)
        yield child.tail or ""


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


@cache
def _code(tag: str) -> str | None:
    try:
        return parse_language(tag, choose_script=False).code
    except LanguageError:
        return None
