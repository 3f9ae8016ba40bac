"""Glossary formats: TSV, CSV, and TBX 2 and 3.

TSV has the source term, a tab and its translation. CSV has both as columns, optionally followed by
the codes of their languages. In both, `|` separates surface forms of a translation, and a header
with column names is skipped. TBX is XML with concepts that contain terms by language.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from xml.parsers import expat

from nllb.errors import DataError, LanguageError
from nllb.languages import Language, parse_language

GlossaryFormat = Literal["tsv", "csv", "tbx"]
MAX_GLOSSARY_BYTES: Final = 64 << 20
_HEADERS: Final = ({"source", "target"}, {"source_term", "target_term"})
_CONCEPTS: Final = frozenset({"termEntry", "conceptEntry"})
_LANGUAGES: Final = frozenset({"langSet", "langSec"})
_TERMS: Final = frozenset({"tig", "ntig", "termSec"})
_UNWANTED: Final = ("deprecated", "superseded", "forbidden")


@dataclass(frozen=True, slots=True)
class GlossaryRow:
    """A term with its translations, as it occurs in a file.

    Attributes:
        line: line of the file, counted from 1.
        source: the source term.
        targets: its translations.
    """

    line: int
    source: str
    targets: tuple[str, ...]


def detect_glossary_format(text: str) -> GlossaryFormat:
    """Infer the format of a glossary from its content."""
    start = text.lstrip("\ufeff \t\r\n")[:200]
    if start.startswith("<"):
        return "tbx"
    first = next((line for line in text.splitlines() if line.strip()), "")
    return "tsv" if "\t" in first or "," not in first else "csv"


def read_rows(
    text: str, name: GlossaryFormat, *, source: Language | None, target: Language | None
) -> list[GlossaryRow]:
    """Return the rows of a glossary.

    Raises:
        DataError: the text is not in the format.
    """
    if len(text) > MAX_GLOSSARY_BYTES:
        raise DataError(
            f"the glossary has {len(text):,} characters; at most {MAX_GLOSSARY_BYTES:,} are allowed"
        )
    text = text.removeprefix("\ufeff")
    if name == "tbx":
        return _read_tbx(text, source, target)
    if name not in ("tsv", "csv"):
        raise DataError(f"{name!r} is not a format of glossaries; use tsv, csv or tbx")
    cells = _tsv_cells(text) if name == "tsv" else _csv_cells(text)
    return list(_table_rows(cells, name, source, target))


def _tsv_cells(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        yield number, line.split("\t")


def _csv_cells(text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"line {line}: the glossary is not valid CSV: {error}") from None


def _table_rows(
    lines: Iterator[tuple[int, list[str]]],
    name: str,
    source: Language | None,
    target: Language | None,
) -> Iterator[GlossaryRow]:
    is_first = True
    widths = (2,) if name == "tsv" else (2, 4)
    for number, line in lines:
        cells = [cell.strip() for cell in line]
        if not any(cells):
            continue
        if is_first and {cell.lower() for cell in cells[:2]} in _HEADERS:
            is_first = False
            continue
        is_first = False
        if len(cells) not in widths:
            expected = " or ".join(map(str, widths))
            raise DataError(
                f"line {number}: {len(cells)} columns instead of {expected}: the source term and "
                f"its translation"
                + (", then the codes of their languages" if name == "csv" else " after a tab")
            )
        if len(cells) == 4 and not (
            _matches(cells[2], source, number) and _matches(cells[3], target, number)
        ):
            continue
        yield GlossaryRow(number, cells[0], tuple(form.strip() for form in cells[1].split("|")))


def _matches(code: str, wanted: Language | None, line: int) -> bool:
    """Return whether a code denotes a language or one of its variants."""
    if wanted is None or not code:
        return True
    try:
        return parse_language(_base(code)).code == wanted.code
    except LanguageError as error:
        raise DataError(f"line {line}: {error}") from None


def _base(code: str) -> str:
    """Return a code without its region: `en` for `en-GB`, but `zh-Hant` unchanged."""
    parts = code.replace("_", "-").split("-")
    kept = [part for part in parts[1:] if len(part) == 4 and part.isalpha()]
    return "_".join([parts[0], *kept[:1]]) if len(parts[0]) == 3 else "-".join([parts[0], *kept])


@dataclass(slots=True)
class _Concept:
    line: int
    terms: dict[str, list[str]] = field(default_factory=dict)


class _TbxReader:
    """Collects the terms of each concept; rejects entities, which can expand without limit."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._data
        self.parser.EntityDeclHandler = self._refuse
        self.parser.buffer_text = True
        self.concepts: list[_Concept] = []
        self._language = ""
        self._term: list[str] | None = None
        self._note: list[str] | None = None
        self._of_entry: list[str] = []
        self._is_unwanted = False

    def _refuse(self, *_: Any) -> None:
        raise DataError("the glossary declares XML entities, which are not allowed")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if name in _CONCEPTS:
            self.concepts.append(_Concept(self.parser.CurrentLineNumber))
        elif name in _LANGUAGES:
            self._language = attributes.get("xml:lang", "")
        elif name in _TERMS:
            self._of_entry, self._is_unwanted = [], False
        elif name == "term":
            self._term = []
        elif name == "termNote" and attributes.get("type") == "administrativeStatus":
            self._note = []
        elif name == "administrativeStatus":
            self._note = []

    def _data(self, text: str) -> None:
        if self._term is not None:
            self._term.append(text)
        elif self._note is not None:
            self._note.append(text)

    def _end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        if name == "term" and self._term is not None:
            self._of_entry.append(" ".join("".join(self._term).split()))
            self._term = None
        elif name in ("termNote", "administrativeStatus") and self._note is not None:
            note = "".join(self._note).lower()
            self._is_unwanted |= any(word in note for word in _UNWANTED)
            self._note = None
        elif name in _TERMS and self.concepts and not self._is_unwanted:
            terms = self.concepts[-1].terms.setdefault(self._language, [])
            terms += [term for term in self._of_entry if term]


def _read_tbx(text: str, source: Language | None, target: Language | None) -> list[GlossaryRow]:
    reader = _TbxReader()
    try:
        reader.parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        message = expat.errors.messages.get(error.code, str(error))
        raise DataError(
            f"line {error.lineno}: the glossary is not valid TBX (XML): {message}"
        ) from None
    codes = list(dict.fromkeys(code for each in reader.concepts for code in each.terms))
    if source is None or target is None:
        if len(codes) > 2:
            raise DataError(
                f"the glossary has the languages {', '.join(codes[:20])}; name the source and "
                f"target languages"
            )
        of_source, of_target = codes[:1], codes[1:]
    else:
        of_source = [code for code in codes if _names(code, source)]
        of_target = [code for code in codes if _names(code, target)]
    rows = []
    for concept in reader.concepts:
        targets = [term for code in of_target for term in concept.terms.get(code, ())]
        for code in of_source:
            for term in concept.terms.get(code, ()):
                if targets:
                    forms = tuple(dict.fromkeys(targets))
                    rows.append(GlossaryRow(concept.line, term, forms))
    return rows


def _names(code: str, language: Language) -> bool:
    try:
        return parse_language(_base(code)).code == language.code
    except LanguageError:
        return False
