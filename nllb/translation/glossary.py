"""Glossaries: terms with their required translations, and checks that outputs use them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import regex

from nllb.errors import DataError
from nllb.inference.generator import Terms
from nllb.languages import Language

from .glossary_formats import (
    GlossaryFormat,
    GlossaryRow,
    detect_glossary_format,
    read_rows,
)

MAX_TERM_CHARACTERS: Final = 1024
MAX_ENTRIES: Final = 100_000
MIN_SHARED_PREFIX: Final = 4
"""Minimum number of shared letters between a form of a term and an inflected word; 60 % of the
letters if that is more."""
_CONTROL: Final = regex.compile(r"[\p{Cc}\p{Zl}\p{Zp}]")
_WORD: Final = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_SPACED: Final = regex.compile(
    r"[\p{L}\p{M}\p{N}_--\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]",
    flags=regex.VERSION1,
)
_SHOWN_ERRORS: Final = 20

TermStatus = Literal["used", "inflected", "missing"]
"""Whether an output contains a term's exact form, only an inflected form, or neither."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GlossaryEntry:
    """A term of the source language and its translations.

    Attributes:
        source: the term as it occurs in source texts. Lower-case terms match in any case; other
            terms match only exactly.
        targets: its surface forms in the target language, in order of preference.
    """

    source: str
    targets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Glossary:
    """Terms with their translations for one direction.

    Attributes:
        entries: the terms; source terms are unique.
    """

    entries: tuple[GlossaryEntry, ...] = ()

    def __post_init__(self) -> None:
        """Check the entries.

        Raises:
            DataError: an entry is invalid, or a source term has two entries.
        """
        rows = [
            GlossaryRow(number, e.source, e.targets) for number, e in enumerate(self.entries, 1)
        ]
        _check(rows, what="entry")

    def __bool__(self) -> bool:
        """Return whether there are any entries."""
        return bool(self.entries)

    @classmethod
    def parse(
        cls,
        text: str,
        format_name: GlossaryFormat | None = None,
        *,
        source: Language | None = None,
        target: Language | None = None,
    ) -> "Glossary":
        """Read a glossary.

        Args:
            text: the content of a glossary file.
            format_name: `tsv`, `csv` or `tbx`; None detects it.
            source: the language of source terms, for files with several languages.
            target: the language of translations, for files with several languages.

        Raises:
            DataError: the text is damaged or has invalid entries; the message contains their lines.
        """
        name = format_name or detect_glossary_format(text)
        rows = read_rows(text, name, source=source, target=target)
        _check(rows, what="line")
        merged: dict[str, GlossaryEntry] = {}
        for row in rows:
            merged[row.source] = GlossaryEntry(source=row.source, targets=row.targets)
        if not merged:
            raise DataError(
                f"the glossary ({name}) has no entries"
                + (f" from {source.code} to {target.code}" if source and target else "")
                + "; write one per line: the source term, a tab and its translation"
            )
        return cls(entries=tuple(merged.values()))

    @classmethod
    def read(
        cls, path: Path | str, *, source: Language | None = None, target: Language | None = None
    ) -> "Glossary":
        """Read a glossary file, whose format follows from its suffix or its content.

        Raises:
            DataError: the file cannot be read or has invalid entries.
        """
        path = Path(path)
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: the glossary is not valid UTF-8: {error}") from None
        except OSError as error:
            raise DataError(f"cannot read the glossary {path}: {error.strerror}") from error
        suffixes: dict[str, GlossaryFormat] = {".tsv": "tsv", ".csv": "csv", ".tbx": "tbx"}
        try:
            return cls.parse(text, suffixes.get(path.suffix.lower()), source=source, target=target)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def to_tsv(self) -> str:
        """Return the entries as a TSV file."""
        return "".join(f"{each.source}\t{'|'.join(each.targets)}\n" for each in self.entries)

    def find(self, text: str) -> list[tuple[GlossaryEntry, int, int]]:
        """Return the entries whose source terms occur in a text, with their positions, in order.

        Terms are whole words. If terms overlap, the first one counts; if several start there, the
        longest.
        """
        found = []
        position, folded = 0, text.casefold()
        # Few characters change their number when folded; with them, the prefixes are useless.
        prefixes = folded if len(folded) == len(text) else text
        while position < len(text):
            match = None
            for length in (2, 1):
                pattern = self._patterns.get(prefixes[position : position + length])
                match = match or (pattern and pattern.match(text, position))
            if match is None:
                position += 1
                continue
            entry = self._by_key.get(_key(match[0])) or self._by_key.get(_key(match[0].lower()))
            if entry is not None:
                found.append((entry, match.start(), match.end()))
            position = match.end()
        return found

    @cached_property
    def _by_key(self) -> dict[str, GlossaryEntry]:
        return {_key(entry.source): entry for entry in self.entries}

    @cached_property
    def _patterns(self) -> dict[str, "regex.Pattern[str]"]:
        """Patterns of terms by their first two folded characters (one for one-character terms)."""
        groups: dict[str, list[str]] = {}
        for entry in sorted(self.entries, key=lambda entry: (-len(entry.source), entry.source)):
            pattern = _word_pattern(entry.source, ignore_case=entry.source.islower())
            groups.setdefault(entry.source.casefold()[:2].strip(), []).append(pattern)
        return {
            prefix: regex.compile("|".join(group), flags=regex.VERSION1)
            for prefix, group in groups.items()
        }


def term_status(targets: Sequence[str], output: str, *, count: int = 1) -> TermStatus:
    """Return whether an output contains a term.

    Args:
        targets: the surface forms of the term.
        output: the translation.
        count: number of times that the output must contain it.
    """
    pattern = "|".join(_word_pattern(form, ignore_case=True) for form in targets)
    found = len(regex.findall(pattern, output, flags=regex.VERSION1))
    if found >= count:
        return "used"
    words = [word.casefold() for word in _WORD.findall(output)]
    similar = max(sum(_is_inflected(form, word) for word in words) for form in targets)
    return "inflected" if found + similar >= count else "missing"


def terms_by_status(terms: Terms, output: str) -> dict[TermStatus, tuple[str, ...]]:
    """Return the preferred forms of terms, grouped by whether an output contains them."""
    found: dict[TermStatus, tuple[str, ...]] = {"used": (), "inflected": (), "missing": ()}
    for forms, count in Counter(terms).items():
        found[term_status(forms, output, count=count)] += (forms[0],)
    return found


def _is_inflected(form: str, word: str) -> bool:
    """Return whether a word may be an inflected form of a term's longest word."""
    own = max(_WORD.findall(form.casefold()), key=len, default="")
    needed = max(MIN_SHARED_PREFIX, round(0.6 * len(own)))
    return len(own) >= MIN_SHARED_PREFIX and word.startswith(own[:needed])


def _check(rows: Iterable[GlossaryRow], *, what: str) -> None:
    errors: list[str] = []
    seen: dict[str, GlossaryRow] = {}
    rows = list(rows)
    for row in rows:
        errors += [f"{what} {row.line}: {problem}" for problem in _problems(row)]
        earlier = seen.setdefault(_key(row.source), row)
        if earlier.targets != row.targets or (what == "entry" and earlier is not row):
            errors.append(
                f"{what} {row.line}: the term {row.source[:60]!r} has another entry in {what} "
                f"{earlier.line}; give a term one entry, whose forms are separated by |"
            )
    if len(rows) > MAX_ENTRIES:
        errors.append(f"{len(rows):,} entries; at most {MAX_ENTRIES:,} are allowed")
    if errors:
        shown = "; ".join(errors[:_SHOWN_ERRORS])
        more = f"; and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
        raise DataError(f"the glossary has invalid entries: {shown}{more}")


def _problems(row: GlossaryRow) -> list[str]:
    problems = []
    if not row.source.strip():
        problems.append("the source term is empty")
    if not row.targets or not all(form.strip() for form in row.targets):
        problems.append("the translation is empty; put terms to keep under --do-not-translate")
    for term in (row.source, *row.targets):
        if len(term) > MAX_TERM_CHARACTERS:
            problems.append(
                f"a term has {len(term):,} characters; at most {MAX_TERM_CHARACTERS:,} are allowed"
            )
        elif _CONTROL.search(term):
            problems.append(f"the term {term[:60]!r} has a control character or a line break")
        elif term != term.strip():
            problems.append(f"the term {term[:60]!r} begins or ends with a blank")
    return problems


def _key(term: str) -> str:
    """Return the form of a term for lookups, in which all blanks are equal."""
    return " ".join(term.split())


def _word_pattern(term: str, *, ignore_case: bool) -> str:
    words = r"\s+".join(regex.escape(word) for word in term.split())
    before = r"(?<![\p{L}\p{M}\p{N}_])" if _SPACED.match(term) else ""
    after = r"(?![\p{L}\p{M}\p{N}_])" if _SPACED.match(term[-1:]) else ""
    return f"{before}(?{'i' if ignore_case else ''}:{words}){after}"
