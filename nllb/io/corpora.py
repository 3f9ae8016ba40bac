"""Readers for the layouts of public corpora: each text or pair has its file and line.

Nothing is cleaned, and no more than one file is kept in memory. There are five layouts:

- `lines`: one file per language, line-aligned (NLLB-Seed, TICO-19)
- `pairs`: one TSV `CODE-CODE.tsv[.zst]` per language pair (Tatoeba)
- `keyed`: one TSV of key and text per language, equal keys correspond (UDHR, Bible)
- `messages`: the same with escapes and locale names; `codes.tsv` maps them (MediaWiki)
- `tables`: one folder per pair with `SPLIT.tsv` files that have a header (LAFAND-MT)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from nllb.errors import DataError, did_you_mean

from .compression import COMPRESSIONS
from .text import read_binary_lines, read_lines

Layout = Literal["lines", "pairs", "keyed", "messages", "tables"]
Refuse = Callable[[Path, int, str, str], None]
"""Receives a row that cannot be read: the file, the line, the error, and the text of the row."""

KNOWN_LAYOUTS: Final[dict[str, Layout]] = {
    "nllb_seed": "lines",
    "tico19": "lines",
    "tatoeba": "pairs",
    "tatoeba_pivot": "pairs",
    "storybooks": "pairs",
    "lid_text": "keyed",
    "udhr": "keyed",
    "udhr_other": "keyed",
    "bible": "keyed",
    "mediawiki": "messages",
    "lafand": "tables",
}
"""Folder name -> layout, for the corpora that the documentation names."""

_COLUMNS: Final[dict[Layout, int]] = {"lines": 1, "pairs": 2, "keyed": 2, "messages": 2}
_NOT_TEXT: Final = ("README", "LICENSE", "CHANGELOG", "metadata", "codes")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusText:
    """One text of one language."""

    language: str
    """Code as in the corpus; a FLORES-200 code if the corpus maps its own."""
    text: str
    """The text of the file, unescaped."""
    corpus: str
    """Name of the corpus."""
    path: Path
    """Its file."""
    line: int
    """Its line, from 1."""
    key: str = ""
    """Key that corresponding texts of other languages share, if the layout has keys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusPair:
    """Two texts that are translations of each other."""

    source: CorpusText
    """The text in the requested source language."""
    target: CorpusText
    """The text in the requested target language."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A folder in one of the known layouts."""

    name: str
    """Name in records and reports."""
    layout: Layout
    """Layout of its files."""
    directory: Path
    """Its folder."""

    def languages(self) -> tuple[str, ...]:
        """Return the codes of the languages of the corpus, sorted."""
        return tuple(sorted({code for _, codes in self.files() for code in codes if code}))

    def texts(
        self, language: str | None = None, *, refuse: Refuse | None = None
    ) -> Iterator[CorpusText]:
        """Yield the texts of one language, or of all, file by file; empty texts are skipped.

        In the layouts of pairs, a sentence is yielded once for every pair that contains it.

        Args:
            language: code as in the corpus.
            refuse: receives rows that do not fit the layout; without it they are an error.

        Raises:
            DataError: with file and line of a row that cannot be read.
        """
        for path, codes in self.files():
            if language is None or language in codes:
                for row in self._rows(path, codes, refuse):
                    for text in row:
                        if (
                            text.text.strip()
                            and text.language
                            and language in (None, text.language)
                        ):
                            yield text

    def pairs(
        self, source: str, target: str, *, refuse: Refuse | None = None
    ) -> Iterator[CorpusPair]:
        """Yield the corresponding texts of two languages, in the order of the source's file.

        Args:
            source: code as in the corpus.
            target: code as in the corpus.
            refuse: receives rows that do not fit the layout; without it they are an error.

        Raises:
            DataError: line-aligned files differ in length, or a row cannot be read.
        """
        if self.layout in ("pairs", "tables"):
            for path, codes in self.files():
                if {source, target} == set(codes) and source != target:
                    for row in self._rows(path, codes, refuse):
                        first, second = row if row[0].language == source else row[::-1]
                        yield CorpusPair(source=first, target=second)
            return
        sources, targets = self._keyed(source, refuse), self._keyed(target, refuse)
        if self.layout == "lines" and sources and targets and len(sources) != len(targets):
            raise DataError(
                f"{self.directory}: {source} has {len(sources):,} lines, {target} has "
                f"{len(targets):,}; line-aligned files must have the same length: download them "
                f"again"
            )
        for key, text in sources.items():
            other = targets.get(key)
            if other is not None and text.text.strip() and other.text.strip():
                yield CorpusPair(source=text, target=other)

    def unmapped(self) -> tuple[tuple[str, Path], ...]:
        """Return (locale, file) of the `messages` files whose locale maps to no FLORES-200 code."""
        if self.layout != "messages":
            return ()
        return tuple((_stem(path), path) for path, codes in self.files() if not codes[0])

    def read(self, path: Path, language: str) -> Iterator[CorpusText]:
        """Yield the texts of a file whose name maps to no code, as texts of `language`."""
        for row in self._rows(path, (language,), None):
            yield from (text for text in row if text.text.strip())

    def _keyed(self, language: str, refuse: Refuse | None) -> dict[str, CorpusText]:
        return {
            text.key: text
            for path, codes in self.files()
            if language in codes
            for row in self._rows(path, codes, refuse)
            for text in row
        }

    def files(self) -> list[tuple[Path, tuple[str, ...]]]:
        """Return the files with the code of each text column; empty if a locale has none."""
        if not self.directory.is_dir():
            raise DataError(f"the folder {self.directory} of corpus {self.name!r} is missing")
        if self.layout == "tables":
            return [
                (path, tuple(_pair(path.parent.name, path)))
                for path in sorted(self.directory.glob("*/*.tsv*"))
            ]
        paths = [
            path
            for path in sorted(self.directory.iterdir())
            if path.is_file()
            and not path.name.startswith(".")
            and path.name.partition(".")[0] not in _NOT_TEXT
        ]
        if self.layout == "pairs":
            return [(path, _pair(_stem(path), path)) for path in paths]
        if self.layout == "messages":
            table = self.directory / "codes.tsv"
            codes = dict(line.split("\t")[:2] for line in read_lines(table) if "\t" in line)
            return [(path, (codes.get(_stem(path), ""),)) for path in paths]
        return [(path, (_stem(path),)) for path in paths]

    def _rows(
        self, path: Path, codes: tuple[str, ...], refuse: Refuse | None
    ) -> Iterator[tuple[CorpusText, ...]]:
        columns = _COLUMNS.get(self.layout, 0)
        for number, raw in enumerate(read_binary_lines(path), 1):
            try:
                line = (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).decode()
                error = ""
            except UnicodeDecodeError as bad:
                line = raw.decode(errors="backslashreplace")
                error = f"byte {bad.start + 1} is not UTF-8 (0x{raw[bad.start]:02x})"
            if self.layout == "tables":
                if not columns:
                    columns = line.count("\t") + 1
                    continue
                if not line:
                    continue
            cells = line.split("\t") if columns > 1 else [line]
            if not error and len(cells) != columns:
                error = f"{len(cells)} columns, but {self.layout!r} has {columns}"
            if error:
                if refuse is None:
                    raise DataError(f"{path}:{number}: {error}")
                refuse(path, number, error, line)
                if self.layout != "lines":
                    continue
                cells = [""]  # the following lines keep their numbers
            key = str(number)
            if self.layout in ("keyed", "messages"):
                key, *cells = cells
            if self.layout == "messages":
                cells = [unescape(cell) for cell in cells]
            yield tuple(
                CorpusText(
                    language=code, text=cell, corpus=self.name, path=path, line=number, key=key
                )
                for code, cell in zip(codes, cells, strict=self.layout != "tables")
            )


def open_corpus(directory: Path | str, *, layout: Layout | None = None, name: str = "") -> Corpus:
    """Open a folder as a corpus; the name of a documented corpus implies its layout.

    Raises:
        DataError: the folder is missing, or its name implies no layout.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"the corpus folder {directory} is missing")
    layout = layout or KNOWN_LAYOUTS.get(directory.name)
    if layout is None:
        raise DataError(
            f"the layout of {directory} is "
            f"unknown{did_you_mean(directory.name, KNOWN_LAYOUTS) or '.'} Set one of "
            f"{', '.join(get_args(Layout))}"
        )
    return Corpus(name=name or directory.name, layout=layout, directory=directory)


def parse_corpus(text: str) -> Corpus:
    """Open a corpus that a command line names as `PATH` or `LAYOUT:PATH`.

    Raises:
        DataError: if the folder is missing, or its layout is not known.
    """
    name, separator, path = text.partition(":")
    for layout in get_args(Layout):
        if separator and name == layout:
            return open_corpus(path, layout=layout)
    return open_corpus(text)


def unescape(text: str) -> str:
    r"""Undo the escapes `\n`, `\t`, `\r` and `\\` of a one-line field; others stay as they are."""
    if "\\" not in text:
        return text
    parts: list[str] = []
    position = 0
    while (found := text.find("\\", position)) >= 0:
        plain = _ESCAPES.get(text[found + 1 : found + 2])
        parts += [text[position:found], plain if plain is not None else text[found : found + 2]]
        position = found + 2
    return "".join([*parts, text[position:]])


def _stem(path: Path) -> str:
    name = path.name
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    for suffix in (".tsv", ".txt"):
        name = name.removesuffix(suffix)
    return name


def _pair(name: str, path: Path) -> tuple[str, str]:
    first, _, second = name.partition("-")
    if not first or not second:
        raise DataError(f"{path}: expected a name of the form CODE-CODE, got {name!r}")
    return first, second
