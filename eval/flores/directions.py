"""Translation directions: names, selection by patterns, and the groups of the paper."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Final, Literal

from nllb.errors import ConfigError, LanguageError, did_you_mean
from nllb.io.text import read_lines
from nllb.languages import Language, Level, languages, parse_language

ENGLISH: Final = "eng_Latn"
KINDS: Final = ("eng-xx", "xx-eng", "non-eng")
LEVELS: Final[tuple[Level, ...]] = ("high", "low", "very_low")
CELLS: Final = tuple((kind, level) for kind in KINDS for level in LEVELS)
"""Every direction is in exactly one cell, and groups are unions of cells."""

GroupLevel = Literal["all", "high", "low", "very_low"]
LEVEL_WORDS: Final[dict[str, str]] = {
    "all": "all",
    "high": "high",
    "low": "low",
    "very_low": "very low",
}


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Direction:
    """A pair of source and target language; as text it is `SRC-TGT`."""

    source: str
    """Code of the source language."""
    target: str
    """Code of the target language."""

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"

    @property
    def kind(self) -> str:
        """`eng-xx`, `xx-eng` or `non-eng`."""
        if self.source == ENGLISH:
            return "eng-xx"
        return "xx-eng" if self.target == ENGLISH else "non-eng"

    @property
    def level(self) -> Level:
        """Level of the weaker of the two languages, by published counts of public bitext."""
        return CELLS[self.cell][1]

    @property
    def cell(self) -> int:
        """Index of its cell in `CELLS`."""
        return _cell(self)


@lru_cache(maxsize=1 << 17)
def _cell(direction: Direction) -> int:
    levels = [language_level(direction.source), language_level(direction.target)]
    return CELLS.index((direction.kind, max(levels, key=LEVELS.index)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A group of directions, as in the paper; `low` contains `very_low`."""

    kind: str
    """One of `KINDS`, or `all`."""
    level: GroupLevel
    """Level, or `all`."""

    @property
    def name(self) -> str:
        """Short name: `eng-xx.low`, or `eng-xx` for all levels."""
        return self.kind if self.level == "all" else f"{self.kind}.{self.level}"

    @property
    def cells(self) -> list[int]:
        """Indices of its cells."""
        wanted = {"all": LEVELS, "low": ("low", "very_low")}.get(self.level, (self.level,))
        return [
            number
            for number, (kind, level) in enumerate(CELLS)
            if self.kind in ("all", kind) and level in wanted
        ]


GROUPS: Final = tuple(
    Group(kind=kind, level=level)
    for kind in (*KINDS, "all")
    for level in ("all", "high", "low", "very_low")
)


@cache
def language_level(code: str) -> Level:
    """Return the level of a language; an unknown one is very low."""
    language = known_languages().get(code)
    return language.level if language else "very_low"


@cache
def language_name(code: str) -> str:
    """Return a language's English name, or its code."""
    language = known_languages().get(code)
    return language.name if language else code


@cache
def known_languages() -> dict[str, Language]:
    """Return the table of languages by code."""
    return {language.code: language for language in languages()}


def parse_directions(
    wanted: Iterable[str], *, sources: Sequence[str], targets: Sequence[str]
) -> list[Direction]:
    """Return the directions that some patterns select, sorted and without duplicates.

    Patterns: `eng_Latn-fra_Latn`, `eng_Latn-*`, `*-eng_Latn`, `*-*` or `all`, `@FILE` with patterns
    line by line, and several patterns joined by commas. Codes may be aliases (`en-fr`).

    Args:
        wanted: the patterns.
        sources: codes that `*` matches on the left.
        targets: codes that `*` matches on the right.
    """
    found: set[Direction] = set()
    for word in _words(wanted):
        left, dash, right = ("*", "-", "*") if word == "all" else _split(word)
        if not dash:
            raise ConfigError(
                f"{word!r} is not a direction; valid patterns are SRC-TGT (such as "
                f"eng_Latn-fra_Latn), SRC-*, *-TGT, all and @FILE"
            )
        for source in _resolve(left, sources):
            for target in _resolve(right, targets):
                if source != target:
                    found.add(Direction(source=source, target=target))
    return sorted(found, key=lambda direction: (direction.source, direction.target))


def outputs_in(directory: Path, extra: Collection[str] = ()) -> dict[Direction, Path]:
    """Return the hypothesis files `SRC-TGT.txt` of a folder by direction.

    Args:
        directory: the folder.
        extra: valid codes that the language table lacks, such as those of FLORES+.

    Raises:
        ConfigError: if the folder is missing or has none.
        LanguageError: if the name of a file has a code that is not in the table.
    """
    if not directory.is_dir():
        raise ConfigError(f"no folder {directory}; give a folder with files SRC-TGT.txt")
    found: dict[Direction, Path] = {}
    unknown = []
    for path in sorted(directory.iterdir(), key=attrgetter("name")):
        name = path.name
        code, _, suffix = name.partition(".")
        if "-" not in code or not suffix.startswith("txt"):
            continue
        source, _, target = code.partition("-")
        bad = [c for c in (source, target) if c not in known_languages() and c not in extra]
        if bad:
            near = did_you_mean(bad[0], known_languages()).removeprefix("; ")
            unknown.append(f"{name} ({near or 'unknown code ' + bad[0]})")
            continue
        found[Direction(source=source, target=target)] = path
    if unknown:
        files = (
            "1 file name has a code"
            if len(unknown) == 1
            else f"{len(unknown)} file names have codes"
        )
        raise LanguageError(
            f"{directory}: {files} that the table of languages lacks: {', '.join(unknown[:3])}"
            f"{', ...' if len(unknown) > 3 else ''}. Files are named as eng_Latn-fra_Latn.txt; "
            "see 'nllb languages'"
        )
    if not found:
        raise ConfigError(f"{directory} has no files SRC-TGT.txt (such as eng_Latn-fra_Latn.txt)")
    return found


def _words(wanted: Iterable[str]) -> Iterable[str]:
    for entry in wanted:
        for word in entry.replace(",", " ").split():
            if word.startswith("@"):
                yield from _words(read_lines(word[1:]))
            else:
                yield word


def _split(word: str) -> tuple[str, str, str]:
    # Language tags may contain a hyphen (`zh-CN-en`): split where both sides are languages.
    cuts = [(word[:at], "-", word[at + 1 :]) for at, sign in enumerate(word) if sign == "-"]
    if len(cuts) > 1:
        for cut in cuts:
            if all(side == "*" or _is_language(side) for side in (cut[0], cut[2])):
                return cut
    return cuts[0] if cuts else (word, "", "")


def _is_language(text: str) -> bool:
    try:
        parse_language(text)
    except LanguageError:
        return False
    return True


def _resolve(text: str, available: Sequence[str]) -> Sequence[str]:
    if text == "*":
        return available
    if text in available:
        return [text]
    code = str(parse_language(text))
    if code not in available:
        raise LanguageError(
            f"{code} is not in this set{did_you_mean(code, available) or '.'} It has "
            f"{len(available)} languages"
        )
    return [code]
