"""Translation memories (TMX 1.4), streamed with one translation unit in memory at a time.

A unit that is not well-formed XML is reported, and the parser resumes at the next `<tu>`. Files are
decoded by their byte order mark or their XML declaration.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final
from xml.parsers import expat

from nllb.errors import DataError, LanguageError
from nllb.io.compression import DAMAGED, open_binary
from nllb.languages import parse_language

MAX_DEPTH: Final = 100
"""Maximum nesting of elements."""
MAX_UNIT_CHARACTERS: Final = 1 << 20
"""Maximum length of the text of one unit."""
MAX_TAG_BYTES: Final = 16 << 20
"""Maximum length of a tag, a comment or a processing instruction."""
MAX_UNIT_BYTES: Final = 16 << 20
"""Maximum length of a unit with its notes and properties, and of the content between units."""
# The content of these elements is native code of another format, not text.
_CODES: Final = frozenset({"bpt", "ept", "it", "ph", "ut"})
_CHUNK_BYTES: Final = 1 << 16
_SHOWN_BYTES: Final = 1000
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARATION: Final = re.compile(rb"""<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z][\w.:-]*)["']""")
_UNIT_START: Final = re.compile(rb"<(?:[\w.-]+:)?tu[\s>/]")
_RESTART: Final = b"<tmx><body>"


@dataclass(frozen=True, kw_only=True, slots=True)
class BadUnit:
    """A unit that cannot be used.

    Attributes:
        error: description of the error, with its line in the file if the XML is not well-formed.
        shown: the beginning of the unit, if it is known.
    """

    error: str
    shown: str = ""


def read_tmx(path: Path, source: str, target: str) -> Iterator[tuple[str, str] | BadUnit]:
    """Yield both segments of every unit, or the error if the unit cannot be used.

    Languages are compared as FLORES-200 codes, so that `en-GB` is `eng_Latn`.

    Raises:
        DataError: if the file is not TMX, is truncated or damaged, or declares entities.
    """
    try:
        with open_binary(path) as stream:
            chunks = _utf8_chunks(stream, path)
            yield from _Units(path, source, target).read(chunks)
    except DAMAGED as error:
        raise DataError(f"{path}: damaged or truncated: {error}; download the file again") from None


def _utf8_chunks(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the file in UTF-8, decoded by its byte order mark or declaration."""
    head = stream.read(_CHUNK_BYTES)
    encoding, mark = _encoding(head)
    try:
        decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        decoder.decode(b"")
    except LookupError:
        raise DataError(
            f"{path}: the file declares the unknown encoding {encoding!r}; convert it to UTF-8"
        ) from None
    chunk = head[mark:]
    while chunk:
        yield _decode(decoder, chunk, path, encoding)
        chunk = stream.read(_CHUNK_BYTES)
    yield _decode(decoder, b"", path, encoding, final=True)


def _decode(
    decoder: codecs.IncrementalDecoder,
    chunk: bytes,
    path: Path,
    encoding: str,
    *,
    final: bool = False,
) -> bytes:
    try:
        text = decoder.decode(chunk, final)
    except UnicodeError as error:
        raise DataError(f"{path}: not {encoding} text: {error}; convert it to UTF-8") from None
    # Bytes that are not in the encoding become lone surrogates, which the parser rejects.
    return text.encode("utf-8", "surrogatepass")


def _encoding(head: bytes) -> tuple[str, int]:
    """Return the encoding of a file, given its beginning, and the length of its byte order mark."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    for pattern, encoding in ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be")):
        if head.startswith(pattern):
            return encoding, 0
    declared = _DECLARATION.match(head)
    encoding = declared[1].decode("ascii").lower() if declared else "utf-8"
    # A declaration that can be read as ASCII is not UTF-16.
    return ("utf-8" if encoding.startswith(("utf-16", "utf-32", "ucs")) else encoding), 0


class _UnitError(Exception):
    """A well-formed unit that is invalid or exceeds a limit."""

    def __init__(self, message: str, position: int, *, in_next_unit: bool = False) -> None:
        super().__init__(message)
        self.position, self.in_next_unit = position, in_next_unit


@dataclass(kw_only=True, slots=True)
class _Unit:
    """The open unit: its texts by language, and the open variant."""

    start: int
    """Position of its start tag in the parser's input."""
    texts: dict[str, str] = field(default_factory=dict)
    language: str | None = None
    """Language of the open variant."""
    segment: list[str] | None = None
    """Text of the open segment."""
    skipped_at: int = 0
    """Depth of the open element whose content is not text; 0 if there is none."""
    characters: int = 0
    """Characters of text so far."""
    skipped_entity: str = ""
    """An entity without a definition."""


class _Units:
    """Parses one file."""

    def __init__(self, path: Path, source: str, target: str) -> None:
        self._path, self._languages = path, (source, target)
        self._found: list[tuple[str, str] | BadUnit] = []
        self._unit: _Unit | None = None
        self._lines = 0
        self._restarted = self._seen_unit = False
        self._start_parser()

    def read(self, chunks: Iterator[bytes]) -> Iterator[tuple[str, str] | BadUnit]:
        """Yield the units of a file, given its content in UTF-8."""
        searching = False
        rest = b""
        for chunk in chunks:
            data = rest + chunk
            rest = b""
            while data:
                if searching:
                    found = _UNIT_START.search(data)
                    if found is None:
                        # A start tag may continue in the next chunk.
                        rest = data[-64:] if len(data) > 64 else data
                        self._lines += data[: len(data) - len(rest)].count(b"\n")
                        break
                    self._lines += data[: found.start()].count(b"\n")
                    data = data[found.start() :]
                    self._restart()
                    searching = False
                remaining = self._feed(data)
                yield from self._take()
                searching = remaining is not None
                data = remaining or b""
        self._finish(searching=searching)
        yield from self._take()

    def _take(self) -> list[tuple[str, str] | BadUnit]:
        found, self._found = self._found, []
        return found

    def _start_parser(self) -> None:
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.EntityDeclHandler = self._entity
        self._parser.SkippedEntityHandler = self._skipped_entity
        self._depth = self._fed = self._unit_end = 0
        self._unit = None

    def _restart(self) -> None:
        self._start_parser()
        self._parser.Parse(_RESTART)
        self._fed = len(_RESTART)
        self._restarted = True

    def _feed(self, data: bytes) -> bytes | None:
        """Parse data; after an error, return the data in which to search for the next unit."""
        before = self._fed
        try:
            self._parser.Parse(data)
        except expat.ExpatError as error:
            place = min(max(self._parser.ErrorByteIndex - before, 0), len(data))
            message = expat.errors.messages[error.code].removeprefix("not well-formed ")
            self._refuse(f"not well-formed XML: {message.strip('()')}", data, before, place)
            self._lines += data[place : place + 1] == b"\n"
            return data[place + 1 :]
        except _UnitError as error:
            place = max(error.position - before, 0)
            self._refuse(str(error), data, before, place)
            return data[place:] if error.in_next_unit else data[place + 1 :]
        self._fed += len(data)
        if self._fed - self._parser.CurrentByteIndex > MAX_TAG_BYTES:
            raise DataError(
                f"{self._path}: a tag or comment is longer than {MAX_TAG_BYTES >> 20} MiB; check "
                "that the file is TMX"
            )
        return self._limit_unit(data, before)

    def _limit_unit(self, data: bytes, before: int) -> bytes | None:
        """Stop parsing a unit that is too long; searching for the next one is much faster."""
        start = self._unit_end if self._unit is None else self._unit.start
        if self._fed - start <= MAX_UNIT_BYTES:
            return None
        if self._unit is None:
            raise DataError(
                f"{self._path}: more than {MAX_UNIT_BYTES >> 20} MiB between two units or before "
                "the first; check that the file is TMX"
            )
        self._refuse(f"a unit of more than {MAX_UNIT_BYTES:,} bytes", data, before, len(data))
        return b""

    def _refuse(self, error: str, data: bytes, before: int, place: int) -> None:
        self._lines += self._parser.CurrentLineNumber - 1
        if not self._seen_unit and self._unit is None:
            raise DataError(
                f"{self._path}:{self._lines + 1}: not a TMX file: {error}; check `format`"
            )
        start = max(self._unit.start - before, 0) if self._unit is not None else place
        shown = data[start : start + _SHOWN_BYTES].decode("utf-8", "replace")
        self._found.append(
            BadUnit(error=f"{error}, line {self._lines + 1} of the file", shown=shown)
        )
        self._unit = None

    def _finish(self, *, searching: bool) -> None:
        if searching:
            return
        try:
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            if self._unit is None and self._restarted:
                return  # the damage removed an end tag, or added one
            raise DataError(
                f"{self._path}:{self._lines + error.lineno}: not TMX, or truncated: "
                f"{expat.errors.messages[error.code]}; download the file again"
            ) from None

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"elements are nested more than {MAX_DEPTH} deep")
        name, unit = _local(tag), self._unit
        if self._depth == 1 and name != "tmx":
            raise self._error(f"the root element is <{name}>, not <tmx>")
        if name == "tu":
            if unit is not None:
                message = "a unit inside a unit: an end tag </tu> is missing"
                raise self._error(message, in_next_unit=True)
            self._unit = _Unit(start=self._parser.CurrentByteIndex)
            self._seen_unit = True
        elif unit is None or unit.skipped_at:
            return
        elif unit.segment is not None:
            if name in _CODES:
                unit.skipped_at = self._depth
        elif name == "tuv":
            tags = [value for key, value in attributes.items() if _local(key) == "lang"]
            unit.language = _code(tags[0]) if tags else None
        elif name == "seg" and unit.language is not None and unit.language not in unit.texts:
            unit.segment = []

    def _end(self, tag: str) -> None:
        name, unit = _local(tag), self._unit
        if unit is not None:
            if unit.skipped_at == self._depth:
                unit.skipped_at = 0
            elif name == "seg" and unit.segment is not None and not unit.skipped_at:
                assert unit.language is not None
                unit.texts[unit.language] = "".join(unit.segment)
                unit.segment = None
            elif name == "tuv":
                unit.language = None
            elif name == "tu":
                self._found.append(self._result(unit))
                self._unit = None
                self._unit_end = self._parser.CurrentByteIndex
        self._depth -= 1

    def _text(self, text: str) -> None:
        unit = self._unit
        if unit is None or unit.segment is None or unit.skipped_at:
            return
        unit.characters += len(text)
        if unit.characters > MAX_UNIT_CHARACTERS:
            raise self._error(f"a unit with more than {MAX_UNIT_CHARACTERS:,} characters")
        unit.segment.append(text)

    def _error(self, message: str, *, in_next_unit: bool = False) -> _UnitError:
        return _UnitError(message, self._parser.CurrentByteIndex, in_next_unit=in_next_unit)

    def _entity(self, name: str, *_: object) -> None:
        raise DataError(
            f"{self._path}: the file declares the entity {name!r}; entity declarations are not "
            "allowed in TMX: replace the entities with their text"
        )

    def _skipped_entity(self, name: str, is_parameter: bool) -> None:
        if self._unit is not None and not is_parameter:
            self._unit.skipped_entity = name

    def _result(self, unit: _Unit) -> tuple[str, str] | BadUnit:
        if unit.skipped_entity:
            return BadUnit(error=f"the entity &{unit.skipped_entity}; is not defined in XML")
        missing = [code for code in self._languages if code not in unit.texts]
        if missing:
            there = ", ".join(unit.texts) or "none"
            return BadUnit(
                error=f"no segment of {' or '.join(missing)}; the unit has {there}",
                shown=" | ".join(unit.texts.values())[:_SHOWN_BYTES],
            )
        source, target = self._languages
        return unit.texts[source], unit.texts[target]


def _local(tag: str) -> str:
    """Return a tag or an attribute without its namespace prefix."""
    return tag.rpartition(":")[2]


@cache
def _code(tag: str) -> str | None:
    try:
        return parse_language(tag).code
    except LanguageError:
        return None
