"""Readers of the public corpora's layouts: every text or pair with the file and line it came from.

Nothing is cleaned here and nothing is held in memory that one file does not need. Five layouts:

- `lines`: one file per language, line n of each says the same (NLLB-Seed, TICO-19)
- `pairs`: one TSV `CODE-CODE.tsv[.zst]` per language pair (Tatoeba)
- `keyed`: one TSV of key and text per language, equal keys correspond (UDHR, Bible)
- `messages`: the same with escapes and locale names; `codes.tsv` maps them (MediaWiki)
- `tables`: one folder per pair with `SPLIT.tsv` files that begin with a header (LAFAND-MT)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from nllb.errors import DataError, did_you_mean
from nllb.io.compression import COMPRESSIONS
from nllb.io.text import read_binary_lines, read_lines

Layout = Literal["lines", "pairs", "keyed", "messages", "tables"]
Refuse = Callable[[Path, int, str, str], None]
"""Takes a row that cannot be read: the file, the line, what is wrong with it, and what it holds."""

KNOWN_LAYOUTS: Final[dict[str, Layout]] = {
    "nllb_seed": "lines",
    "tico19": "lines",
    "tatoeba": "pairs",
    "udhr": "keyed",
    "udhr_other": "keyed",
    "bible": "keyed",
    "mediawiki": "messages",
    "lafand": "tables",
}
"""Folder name -> layout of the corpora that the project's documentation names."""

_COLUMNS: Final[dict[Layout, int]] = {"lines": 1, "pairs": 2, "keyed": 2, "messages": 2}
_NOT_TEXT: Final = ("README", "LICENSE", "CHANGELOG", "metadata", "codes")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusText:
    """One text of one language."""

    language: str
    """Code as the corpus spells it; FLORES-200 where the corpus maps it."""
    text: str
    """The text as it stands in the file, unescaped."""
    corpus: str
    """Name of the corpus."""
    path: Path
    """File that it stands in."""
    line: int
    """Line of the file, from 1."""
    key: str = ""
    """Key that corresponding texts of other languages share, where the layout has one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusPair:
    """Two texts that translate each other."""

    source: CorpusText
    """The side asked for as source."""
    target: CorpusText
    """The side asked for as target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A folder in one of the known layouts."""

    name: str
    """Name that records and reports carry."""
    layout: Layout
    """How its files are arranged."""
    directory: Path
    """Where they are."""

    def languages(self) -> tuple[str, ...]:
        """Return the codes that the corpus has text of, sorted."""
        return tuple(sorted({code for _, codes in self.files() for code in codes if code}))

    def texts(
        self, language: str | None = None, *, refuse: Refuse | None = None
    ) -> Iterator[CorpusText]:
        """Yield the texts of a language, or of all, file by file; empty texts are left out.

        In the layouts of pairs a sentence comes once for every pair that it stands in.

        Args:
            language: code as the corpus spells it.
            refuse: takes rows that do not have the layout's form; without it they are an error.

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
            source: code as the corpus spells it.
            target: the same.
            refuse: takes rows that do not have the layout's form; without it they are an error.

        Raises:
            DataError: where line-aligned files differ in length, or a row cannot be read.
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
                f"{len(targets):,}; "
                "line-aligned files must be equally long: fetch them again"
            )
        for key, text in sources.items():
            other = targets.get(key)
            if other is not None and text.text.strip() and other.text.strip():
                yield CorpusPair(source=text, target=other)

    def unmapped(self) -> tuple[tuple[str, Path], ...]:
        """Return (locale, file) of the `messages` files whose locale has no FLORES-200 code."""
        if self.layout != "messages":
            return ()
        return tuple((_stem(path), path) for path, codes in self.files() if not codes[0])

    def read(self, path: Path, language: str) -> Iterator[CorpusText]:
        """Yield the texts of one file as if it were of `language`: for files that no code maps."""
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
        """Return the files with the code of each text column; empty where a locale has none."""
        if not self.directory.is_dir():
            raise DataError(f"no folder {self.directory} for corpus {self.name!r}")
        if self.layout == "tables":
            return [
                (path, tuple(_pair(path.parent.name, path)))
                for path in sorted(self.directory.glob("*/*.tsv*"))
            ]
        paths = [
            path
            for path in sorted(self.directory.iterdir())
            if path.is_file() and not path.name.startswith(".") and _stem(path) not in _NOT_TEXT
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
                fault = ""
            except UnicodeDecodeError as error:
                line = raw.decode(errors="backslashreplace")
                fault = f"byte {error.start + 1} is not UTF-8 (0x{raw[error.start]:02x})"
            if self.layout == "tables":
                if not columns:
                    columns = line.count("\t") + 1
                    continue
                if not line:
                    continue
            cells = line.split("\t") if columns > 1 else [line]
            if not fault and len(cells) != columns:
                fault = f"{len(cells)} columns, not the {columns} of {self.layout!r}"
            if fault:
                if refuse is None:
                    raise DataError(f"{path}:{number}: {fault}")
                refuse(path, number, fault, line)
                if self.layout != "lines":
                    continue
                cells = [""]  # so that the lines behind it keep their places
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
    """Open a folder as a corpus; the layout of the documented ones follows from the folder's name.

    Raises:
        DataError: where the folder is missing, or its layout cannot be told from its name.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"no corpus folder {directory}")
    layout = layout or KNOWN_LAYOUTS.get(directory.name)
    if layout is None:
        raise DataError(
            f"the layout of {directory} is not known"
            f"{did_you_mean(directory.name, KNOWN_LAYOUTS) or '.'} "
            f"Name one of {', '.join(get_args(Layout))}"
        )
    return Corpus(name=name or directory.name, layout=layout, directory=directory)


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
