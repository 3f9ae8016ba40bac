"""Find the words of a list in text of any script, for the toxicity filter and added toxicity.

List and text are compared in folded form (`nllb.io.word_folding`). One Aho-Corasick pass finds
candidates. A candidate counts if both its edges are boundaries: the edge of a word (letters, marks
and digits) or, in scripts without spaces between words, the edge of a grapheme cluster or syllable.
Of overlapping matches only the leftmost longest one counts.

Usage:

    words = WordList.load(directory, language="hin_Deva")  # <code>_twl.zip or .txt, or a file
    words.matches(text)       -> [Match(start, end, entry)]  positions in the original text
    words.count(text)         -> int
    words.counts(texts)       -> int32 array, for many texts in one pass
    words.count_folded(...)   -> the same for a column of folded UTF-8
    words.merged(other, ...)  -> one list with all entries, each once

Source: NLLB Team 2022, 7.3 (Toxicity-200). It differs on purpose from the published scripts, which
delete combining marks, count a capitalised or nested entry twice, skip the first line and find
little in scripts without spaces.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby, product
from pathlib import Path

import numpy as np
import regex
from ahocorasick_rs import BytesAhoCorasick, Implementation
from numpy.typing import NDArray

from nllb.errors import DataError, LanguageError
from nllb.languages.scripts import unicode_class, unsegmented_scripts

from .word_folding import Particles, alignment, fold, particles
from .wordlist_files import PUBLISHED_PASSWORD, find_list, read_list

# In these scripts words have no visible edge: an entry must begin and end at the edge of a
# cluster.
_UNSPACED = regex.compile(f"[{''.join(map(unicode_class, unsegmented_scripts()))}々]")
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}\u00B7\u05F3\u05F4]")
# Characters that join the next consonant (Khmer coeng, Myanmar and Tai Tham stackers), and Thai and
# Lao vowels that are written before it.
_BINDS_NEXT = frozenset("\u17d2\u1039\u1a60" + "เแโใไ" + "ເແໂໃໄ")
# Thai and Lao vowels after their consonant are letters in Unicode, but no syllable begins with one.
_BINDS_PREVIOUS = frozenset("ะาำๅະາຳ")
# A Myanmar consonant under asat or a stacker closes the syllable before it.
_MYANMAR_FINAL = regex.compile(r"[\u1000-\u1021\u1075-\u1081]\u1037?[\u103A\u1039]")
_LETTER_APOSTROPHE = "\u02bc"
_MIN_INFLECTED_LETTERS = 3
_CHUNK_CHARACTERS = 1 << 18
# Up to this many bytes of patterns the automaton is a table, which is three times as fast and takes
# some hundred bytes per byte.
_MAX_TABLE_BYTES = 1 << 15
_ASCII_WORD = np.array([chr(byte).isalnum() and byte < 128 for byte in range(256)])
_ASCII_SIGN = ~_ASCII_WORD & (np.arange(256) < 128)


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """One occurrence of an entry in a text."""

    start: int
    """Index of the first character in the original text."""
    end: int
    """Index after the last character, including combining marks."""
    entry: str
    """The entry as in the list."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """One entry in folded form."""

    text: str
    folded: str
    particles: Particles
    # Whether each edge must be the edge of a word (True), of a cluster (False), or anything (None:
    # the entry ends in a sign there).
    word_start: bool | None
    word_end: bool | None


class WordList:
    """The words of one list, or of several merged lists, compiled for searching.

    Attributes:
        corrections: counts of corrected entries by kind: blank, duplicate, not NFC, other script,
            no word.
    """

    def __init__(
        self, entries: Iterable[_Entry], *, corrections: Mapping[str, int] | None = None
    ) -> None:
        """Compile folded entries; `from_entries` and `load` are the usual ways."""
        unique: dict[str, _Entry] = {}
        for entry in entries:
            unique.setdefault(entry.folded, entry)
        self._entries = tuple(unique.values())
        self.corrections: dict[str, int] = dict(corrections or {})
        patterns: dict[str, _Entry] = {}
        for entry in self._entries:
            for spelling in _spellings(entry.folded):
                patterns.setdefault(spelling, entry)
        self._of_pattern = tuple(patterns.values())
        # Whether a letter next to the edge always makes a different word.
        starts = [e.word_start is True and not e.particles.prefixes for e in self._of_pattern]
        ends = [e.word_end is True and not e.particles.suffixes for e in self._of_pattern]
        self._word_starts, self._word_ends = (
            np.array(edges, dtype=bool) for edges in (starts, ends)
        )
        raw = [spelling.encode("utf-8", "surrogatepass") for spelling in patterns]
        is_small = sum(map(len, raw)) <= _MAX_TABLE_BYTES
        kind = Implementation.DFA if is_small else Implementation.ContiguousNFA
        self._automaton = BytesAhoCorasick(raw, implementation=kind) if raw else None

    @classmethod
    def from_entries(cls, entries: Iterable[str], *, language: str) -> "WordList":
        """Create a list of words and phrases; the language determines the attached particles."""
        corrections: Counter[str] = Counter()
        written_on = particles(language)
        script = _script_pattern(language)
        made: dict[str, _Entry] = {}
        for raw in entries:
            text = raw.strip().strip("\ufeff")
            if not text:
                corrections["blank"] += 1
                continue
            if not unicodedata.is_normalized("NFC", text):
                corrections["not NFC"] += 1
            folded = fold(text).replace(_LETTER_APOSTROPHE, "'").strip().strip("\u0f0b")
            if not _WORD.search(folded):
                corrections["no word"] += 1
                continue
            if not script.search(folded):
                corrections["other script"] += 1
            if folded in made:
                corrections["duplicate"] += 1
                continue
            made[folded] = _entry(text, folded, written_on)
        return cls(made.values(), corrections=corrections)

    @classmethod
    def load(cls, path: Path, *, language: str, password: str = PUBLISHED_PASSWORD) -> "WordList":
        """Read `<code>_twl.zip` or a text with one entry per line, or find it in a folder of lists.

        Raises:
            DataError: the list is missing, damaged, not UTF-8 or empty, or the password is wrong.
        """
        if path.is_dir():
            found = find_list(path, language)
            if found is None:
                raise DataError(
                    f"no word list of {language} in {path}: looked for {language}_twl.zip and "
                    f"{language}_twl.txt; without a list, a language cannot be measured"
                )
            path = found
        lines = read_list(path, password=password).split("\n")
        # The text after the last line break is not a line.
        words = cls.from_entries(
            lines[:-1] if lines and not lines[-1].strip() else lines, language=language
        )
        if not words:
            raise DataError(f"{path} contains no words; a list has one word or phrase per line")
        return words

    def merged(self, *others: "WordList") -> "WordList":
        """Return one list of all entries, each once and with the particles of its own language."""
        lists = (self, *others)
        corrections = sum((Counter(words.corrections) for words in lists), Counter[str]())
        return WordList(
            (entry for words in lists for entry in words._entries), corrections=corrections
        )

    @property
    def entries(self) -> tuple[str, ...]:
        """The entries as in the list, each once."""
        return tuple(entry.text for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def matches(self, text: str) -> list[Match]:
        """Find the entries in a text, in order and without overlaps."""
        folded = fold(text)
        found = self._found(folded)
        if not found:
            return []
        starts, ends = alignment(text, folded)
        return [
            Match(start=starts[start], end=ends[end - 1], entry=self._of_pattern[index].text)
            for start, end, index in found
        ]

    def count(self, text: str) -> int:
        """Count the matches in one text."""
        return len(self._found(fold(text)))

    def counts(self, texts: Sequence[str], *, distinct: bool = False) -> NDArray[np.int32]:
        """Count the matches in each text, or with `distinct` the different entries found."""
        counts = np.zeros(len(texts), dtype=np.int32)
        first = 0
        while first < len(texts):
            last, characters = first, 0
            while last < len(texts) and characters < _CHUNK_CHARACTERS:
                characters += len(texts[last]) + 1
                last += 1
            # Many texts are folded as one, because the cost per text is higher than per character.
            joined = "\n".join(texts[first:last])
            if joined.count("\n") != last - first - 1:
                joined = "\n".join([text.replace("\n", " ") for text in texts[first:last]])
            folded = fold(joined, keep_line_breaks=True).encode("utf-8", "surrogatepass")
            raw = np.frombuffer(folded, dtype=np.uint8)
            offsets = np.concatenate([[0], np.flatnonzero(raw == ord("\n")) + 1, [len(raw)]])
            counts[first:last] = self.count_folded(raw, offsets, distinct=distinct)
            first = last
        return counts

    def count_folded(
        self, raw: NDArray[np.uint8], offsets: NDArray[np.int64], *, distinct: bool = False
    ) -> NDArray[np.int32]:
        """Count in folded texts that are stored end to end, as in a column of Arrow.

        Args:
            raw: UTF-8.
            offsets: start of each text, and the end of the last one.
            distinct: count the different entries found.
        """
        counts = np.zeros(len(offsets) - 1, dtype=np.int32)
        found = self._candidates(raw)
        if not found:
            return counts
        index, start, end = np.array(found, dtype=np.int64).T
        text = np.searchsorted(offsets, start, side="right") - 1
        before = np.where(start > offsets[text], raw[start - 1], ord(" "))
        after = np.where(end < offsets[text + 1], raw[np.minimum(end, len(raw) - 1)], ord(" "))
        # Most candidates are inside a longer word, or alone between spaces: decide these at once.
        inside = _ASCII_WORD[before] & self._word_starts[index]
        inside |= _ASCII_WORD[after] & self._word_ends[index]
        likely = np.flatnonzero((end <= offsets[text + 1]) & ~inside)
        lone = np.bincount(text[likely], minlength=len(counts))[text[likely]] == 1
        lone &= (_ASCII_SIGN[before] & _ASCII_SIGN[after])[likely]
        counts[text[likely[lone]]] = 1
        for number, group in groupby(likely[~lone].tolist(), key=text.__getitem__):
            first, last = offsets[number], offsets[number + 1]
            candidates = [
                (int(index[i]), int(start[i] - first), int(end[i] - first)) for i in group
            ]
            standing = self._standing(raw[first:last].tobytes(), candidates)
            entries = [self._of_pattern[pattern].folded for _, _, pattern in standing]
            counts[number] = len(set(entries) if distinct else entries)
        return counts

    def _found(self, folded: str) -> list[tuple[int, int, int]]:
        """Return (start, end, entry) of the leftmost longest matches in folded text."""
        raw = folded.encode("utf-8", "surrogatepass")
        return self._standing(raw, self._candidates(raw))

    def _candidates(self, raw: "bytes | NDArray[np.uint8]") -> list[tuple[int, int, int]]:
        """Return (entry, start, end) in bytes of all occurrences, sorted by their ends."""
        if self._automaton is None:
            return []
        found: list[tuple[int, int, int]] = self._automaton.find_matches_as_indexes(
            raw, overlapping=True
        )
        return found

    def _standing(
        self, raw: bytes, candidates: Sequence[tuple[int, int, int]]
    ) -> list[tuple[int, int, int]]:
        """Return (start, end, entry) in characters of the leftmost longest words."""
        if not candidates:
            return []
        folded = raw.decode("utf-8", "surrogatepass")
        standing = []
        for index, first, last in candidates:
            start, end = first, last
            if len(folded) != len(raw):
                start = len(raw[:first].decode("utf-8", "surrogatepass"))
                end = start + len(raw[first:last].decode("utf-8", "surrogatepass"))
            if _stands(folded, start, end, self._of_pattern[index]):
                standing.append((start, -end, index))
        standing.sort()
        kept: list[tuple[int, int, int]] = []
        reached = 0
        for start, negative_end, index in standing:
            if start >= reached:
                reached = -negative_end
                kept.append((start, reached, index))
        return kept


class _IsWord(dict[str, bool]):
    """Whether a character is part of a word: a letter, mark, digit or a point inside words."""

    def __missing__(self, character: str) -> bool:
        self[character] = found = _WORD.match(character) is not None
        return found


class _IsUnspaced(dict[str, bool]):
    """Whether a character belongs to a script without spaces between words."""

    def __missing__(self, character: str) -> bool:
        self[character] = found = _UNSPACED.match(character) is not None
        return found


_is_word = _IsWord()
_is_unspaced = _IsUnspaced()


def _entry(text: str, folded: str, particles: Particles) -> _Entry:
    # An apostrophe at an edge is a letter (Samoan, Maltese); other signs are boundaries themselves.
    word = [
        not _is_unspaced[edge] if _is_word[edge] or edge == "'" else None
        for edge in (folded[0], _last_base(folded))
    ]
    letters = sum(_is_word[character] for character in folded)
    return _Entry(
        text=text,
        folded=folded,
        particles=particles if letters >= _MIN_INFLECTED_LETTERS else Particles(),
        word_start=word[0],
        word_end=word[1],
    )


def _spellings(folded: str) -> Iterable[str]:
    """Yield the spellings of an entry: its first three apostrophes may be letters or signs."""
    parts = folded.split("'", 3)
    for signs in product(("'", _LETTER_APOSTROPHE), repeat=len(parts) - 1):
        yield "".join(map("".join, zip(parts, (*signs, ""), strict=True)))


def _last_base(folded: str) -> str:
    """Return the last character that is not a combining mark; it decides the kind of the edge."""
    for character in reversed(folded):
        if not unicodedata.category(character).startswith("M"):
            return character
    return folded[-1]


def _stands(folded: str, start: int, end: int, entry: _Entry) -> bool:
    """Return whether the edges of a candidate are boundaries in the text."""
    if entry.word_start is not None and start > 0:
        before = folded[start - 1]
        if entry.word_start:
            if _is_word[before] and not _is_unspaced[before]:
                if not _prefixed(folded, start, entry.particles.prefixes):
                    return False
        elif before in _BINDS_NEXT:
            return False
    if end < len(folded):
        after = folded[end]
        # In any script, a following mark changes the last letter of the entry into another one.
        if unicodedata.category(after)[0] == "M":
            return False
        if entry.word_end:
            if _is_word[after] and not _is_unspaced[after]:
                return _suffixed(folded, end, entry.particles.suffixes)
        elif entry.word_end is False:
            return after not in _BINDS_PREVIOUS and _MYANMAR_FINAL.match(folded, end) is None
    return True


def _prefixed(folded: str, start: int, prefixes: frozenset[str]) -> bool:
    if not prefixes:
        return False
    first = start
    while first > 0 and _is_word[folded[first - 1]]:
        first -= 1
    return folded[first:start] in prefixes


def _suffixed(folded: str, end: int, suffixes: frozenset[str]) -> bool:
    if not suffixes:
        return False
    last = end
    while last < len(folded) and _is_word[folded[last]]:
        last += 1
    return folded[end:last] in suffixes


@cache
def _script_pattern(language: str) -> "regex.Pattern[str]":
    """Return a pattern for a letter of the script in the last part of a language code."""
    script = language.rpartition("_")[2]
    try:
        return regex.compile(f"[{unicode_class(script)}]")
    except (LanguageError, regex.error):
        raise LanguageError(
            f"language {language!r} does not end in a script; give a FLORES-200 code such as "
            "hin_Deva"
        ) from None
