"""Tables as text, CSV and TSV: the cells of chosen columns are translated."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Final

from nllb.documents.prose import is_prose
from nllb.documents.splicing import SplicedDocument
from nllb.documents.text_file import TextFile, is_text, read_text
from nllb.documents.units import Document, DocumentFormat, FormatOptions
from nllb.errors import ConfigError, DocumentError, did_you_mean

MAX_CELLS: Final = 20_000_000
_SAMPLE_ROWS: Final = 200
_MIN_PROSE_SHARE: Final = 0.5
_DELIMITERS: Final = ",;\t|"

Cell = tuple[int, int]
"""The start and the end of a cell in the text, including its quotes."""


class CsvFormat(DocumentFormat):
    """Tables with commas, semicolons or bars."""

    name = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    delimiter: ClassVar[str | None] = None
    keeps = (
        "Cells of chosen columns are translated, or of those with sentences; the header, quotes "
        "and delimiters are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is one by its name."""
        return suffix in cls.suffixes and is_text(head)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a table."""
        return TableDocument(read_text(data, options), options, cls.delimiter)


class TsvFormat(CsvFormat):
    """Tables with tabs."""

    name = "tsv"
    suffixes = (".tsv", ".tab")
    delimiter = "\t"


class TableDocument(SplicedDocument):
    """A parsed table."""

    def __init__(self, file: TextFile, options: FormatOptions, delimiter: str | None):
        super().__init__(file)
        self.delimiter = delimiter or find_delimiter(file.text)
        self.is_quoted = self.delimiter != "\t" or '\t"' in file.text
        rows = list(self._rows())
        if not rows:
            return
        has_header = self._has_header(rows, options)
        columns = self._columns(rows, options, has_header=has_header)
        for number, row in enumerate(rows[has_header:], start=1 + has_header):
            for column in columns:
                if column >= len(row):
                    continue
                start, end = row[column]
                text = self._text(row[column])
                if not is_prose(text) and not options.columns:
                    continue
                quoted = file.text[start : start + 1] == '"' and self.is_quoted
                write = self._write_quoted if quoted else self._write_plain
                self.spans.add_text(start, end, text, write, key=f"{number}:{column + 1}")

    def _rows(self) -> "list[list[Cell]]":
        text, delimiter = self.file.text, re.escape(self.delimiter)
        cell = rf"[^{delimiter}\r\n]*"
        if self.is_quoted:
            cell = rf'"(?:[^"]|"")*"(?=[{delimiter}\r\n]|\Z)|{cell}'
        pattern = re.compile(rf"({cell})(\r\n|\r|\n|{delimiter}|\Z)")
        rows: list[list[Cell]] = []
        row: list[Cell] = []
        count = position = 0
        while position < len(text):
            match = pattern.match(text, position)
            assert match is not None
            row.append(match.span(1))
            count += 1
            if count > MAX_CELLS:
                raise DocumentError(f"the table has more than {MAX_CELLS:,} cells")
            position = match.end()
            if match[2] != self.delimiter:
                rows.append(row)
                row = []
        if row:
            rows.append([*row, (position, position)])
        return rows

    def _text(self, cell: Cell) -> str:
        source = self.file.text[cell[0] : cell[1]]
        if self.is_quoted and source.startswith('"') and source.endswith('"') and len(source) > 1:
            return source[1:-1].replace('""', '"')
        return source

    def _has_header(self, rows: Sequence[Sequence[Cell]], options: FormatOptions) -> bool:
        """Return whether the first row consists of names: short, distinct, and not numbers."""
        choice = options.extra.get("header")
        if choice is not None:
            return choice.lower() in {"yes", "true", "1"}
        names = [self._text(cell).strip() for cell in rows[0]]
        by_name = [column for column in options.columns if not column.isdigit()]
        if by_name:
            return True
        return (
            len(rows) > 1
            and all(names)
            and len(set(names)) == len(names)
            and all(len(name) <= 40 and not name.endswith((".", "!", "?")) for name in names)
            and not any(re.fullmatch(r"[\d.,:%-]+", name) for name in names)
        )

    def _columns(
        self, rows: Sequence[Sequence[Cell]], options: FormatOptions, *, has_header: bool
    ) -> list[int]:
        width = max(map(len, rows))
        if options.columns:
            names = [self._text(cell).strip() for cell in rows[0]] if has_header else []
            return [_column(column, names, width) for column in options.columns]
        sample = rows[has_header : _SAMPLE_ROWS + has_header]
        chosen: list[int] = []
        for column in range(width):
            texts = [self._text(row[column]) for row in sample if column < len(row)]
            texts = [text for text in texts if text.strip()]
            prose = sum(is_prose(text) and len(text.split()) > 1 for text in texts)
            if texts and prose >= _MIN_PROSE_SHARE * len(texts):
                chosen.append(column)
        shown = ", ".join(str(column + 1) for column in chosen) or "none"
        self.warnings.append(
            f"columns with sentences are translated: {shown} of {width}; choose others with "
            "--columns"
        )
        return chosen

    def _write_quoted(self, fragments: Sequence[object]) -> str:
        text = "".join(part for part in fragments if isinstance(part, str))
        return '"' + text.replace('"', '""') + '"'

    def _write_plain(self, fragments: Sequence[object]) -> str:
        text = "".join(part for part in fragments if isinstance(part, str))
        if not self.is_quoted:
            return re.sub(r"[\t\r\n]+", " ", text)
        if self.delimiter in text or "\n" in text or "\r" in text or text.startswith('"'):
            return self._write_quoted(fragments)
        return text


def find_delimiter(text: str) -> str:
    """Return the delimiter that occurs equally often in most of the first rows."""
    lines = [re.sub(r'"[^"]*"', "", line) for line in text[:65536].splitlines()[:50]]
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        counts = Counter(line.count(delimiter) for line in lines if line.strip())
        if not counts:
            break
        number, rows = counts.most_common(1)[0]
        score = rows / counts.total() if number else 0.0
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _column(column: str, names: Sequence[str], width: int) -> int:
    if column in names:
        return names.index(column)
    if column.isdigit() and 1 <= int(column) <= width:
        return int(column) - 1
    known = f"; it has {', '.join(names)}" if names else ""
    raise ConfigError(
        f"the table has no column {column!r}{did_you_mean(column, names)}{known}; "
        f"numbers range from 1 to {width}"
    )
