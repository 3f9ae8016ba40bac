"""Keep evaluation sentences out of every text that anything is trained on.

A line is removed where, on either side and whatever language it claims to be in,

- it is an evaluation sentence (`whole`), by XXH3 of the form for hashing;
- it contains an evaluation sentence of 4 to 12 words from end to end (`contains`);
- it shares 13 consecutive words with one (`overlap`), or, in scripts that do not separate words, 13
  consecutive letters, and the shared letters cover at least half of the sentence.

Words are runs of letters, marks and digits, compared in lower case and NFKC. An evaluation sentence
of fewer than 4 words (13 letters) is only found as a whole line: as a part of another line it would
remove what has nothing to do with it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Final, Literal
from unicodedata import category, normalize

import numpy
import polars
import xxhash
from numpy.typing import NDArray

from data_pipeline.deduplication.hashing import hash_texts, normalized
from nllb.errors import DataError
from nllb.io.arrays import load_array
from nllb.io.text import read_lines, write_lines

GRAM: Final = 13
"""Consecutive words, or letters, that make an overlap."""
WHOLE: Final = 0
"""Stands for whole lines among the widths of windows."""
LEAST_WORDS: Final = 4
"""Shortest evaluation sentence that is looked for inside longer lines."""
Kind = Literal["whole", "contains", "overlap"]
Hashes = NDArray[numpy.uint64]

_MARKS = "".join(
    chr(point) for point in range(0x300, 0x1F000) if category(chr(point)).startswith("M")
)
_ASCII_WORD = re.compile("[a-z0-9]+")
# Python's own classes leave out marks, without which no word of an Indic script is whole.
_WORD = re.compile(f"[\\w{_MARKS}]+")
# Thai to Myanmar, Khmer, kana, Han: words are not separated, or syllables are.
_UNSEPARATED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u9fff\ua9e0-\ua9ff"
    "\uaa60-\uaa7f\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_BASE = numpy.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, kw_only=True, slots=True)
class Find:
    """Why a line is removed."""

    kind: Kind
    """How the evaluation sentence stands in the line."""
    sentence: int
    """Number of the evaluation sentence in `Shield.places`."""


class Shield:
    """The evaluation sentences, indexed."""

    def __init__(
        self, places: Sequence[str], members: "dict[int, _Members]", num_grams: NDArray[Any]
    ) -> None:
        """Take an index as it is; `build` and `load` are the ways in."""
        self.places = places
        self._members = members
        self._num_grams = num_grams

    @classmethod
    def build(
        cls,
        sentences: Sequence[str],
        places: Sequence[str],
        least_words: Sequence[int] | None = None,
    ) -> "Shield":
        """Index sentences.

        Args:
            sentences: what to keep out.
            places: where each comes from, for reports.
            least_words: how many words each needs to be looked for inside longer lines.
        """
        real = numpy.array([bool(sentence.strip()) for sentence in sentences], dtype=bool)
        numbers = numpy.flatnonzero(real)
        members = {WHOLE: _Members(_whole_hashes(sentences)[numbers], numbers)}
        units = _Units(sentences)
        num_units = units.lengths()
        least = numpy.full(len(sentences), LEAST_WORDS) if least_words is None else least_words
        least = numpy.maximum(numpy.asarray(least, dtype=numpy.int64), LEAST_WORDS)
        for width, grams, owner in units.windows(LEAST_WORDS, GRAM):
            if width < GRAM:
                # The whole sentence is its only window.
                fits = (num_units[owner] == width) & units.separated[owner]
                fits &= least[owner] <= width
                members[width] = _Members(grams[fits], owner[fits])
            else:
                members[width] = _Members(grams, owner)
        return cls(places, members, numpy.maximum(num_units - GRAM + 1, 0))

    def save(self, directory: Path) -> None:
        """Write the index, for other processes to map; the folder appears whole or not at all."""
        directory.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(mkdtemp(prefix=".", dir=directory.parent))
        try:
            numpy.save(beside / "num_grams.npy", self._num_grams)
            for width, some in self._members.items():
                numpy.save(beside / f"hashes{width}.npy", some.hashes)
                numpy.save(beside / f"sentences{width}.npy", some.sentences)
            write_lines(beside / "places.txt", self.places)
            beside.chmod(0o755)
            if not directory.exists():
                beside.rename(directory)
        except OSError as error:
            if not directory.exists():
                raise DataError(f"cannot write {directory}: {error.strerror or error}") from error
        finally:
            rmtree(beside, ignore_errors=True)

    @classmethod
    def load(cls, directory: Path) -> "Shield":
        """Map an index that `save` wrote."""
        members = {}
        for width in (WHOLE, *range(LEAST_WORDS, GRAM + 1)):
            hashes = load_array(directory / f"hashes{width}.npy")
            sentences = load_array(directory / f"sentences{width}.npy")
            members[width] = _Members(hashes, sentences, is_sorted=True)
        num_grams = load_array(directory / "num_grams.npy")
        return cls(list(read_lines(directory / "places.txt")), members, num_grams)

    def find(self, lines: Sequence[str] | polars.Series) -> list[Find | None]:
        """Look for evaluation sentences in lines; the answers are in the order of the lines."""
        found: list[Find | None] = [None] * len(lines)
        hits, sentences = self._members[WHOLE].find(_whole_hashes(lines))
        for line, sentence in zip(hits.tolist(), sentences.tolist(), strict=True):
            found[line] = Find(kind="whole", sentence=sentence)
        units = _Units(lines)
        unseparated: set[int] = set()
        for width, windows, owner in units.windows(LEAST_WORDS, GRAM):
            hits, sentences = self._members[width].find(windows)
            kind: Kind = "overlap" if width == GRAM else "contains"
            for line, sentence in zip(owner[hits].tolist(), sentences.tolist(), strict=True):
                if not units.separated[line]:
                    unseparated.add(line)
                elif found[line] is None:
                    found[line] = Find(kind=kind, sentence=sentence)
        for line in sorted(unseparated):
            if found[line] is None:
                found[line] = self._cover(units.of(line))
        return found

    def _cover(self, letters: list[str]) -> Find | None:
        """Say whether letters of a line cover half of a sentence or more."""
        grams = _windows(_unit_hashes(letters), GRAM)
        counts: dict[int, int] = {}
        for sentences in self._members[GRAM].all_of(numpy.unique(_mixed(grams))):
            for sentence in set(sentences):
                counts[sentence] = counts.get(sentence, 0) + 1
        if not counts:
            return None
        best = min(counts, key=lambda sentence: (-counts[sentence], sentence))
        # n grams in a row cover n + 12 of the sentence's letters.
        covered = counts[best] + GRAM - 1
        if covered * 2 < int(self._num_grams[best]) + GRAM - 1:
            return None
        return Find(kind="overlap", sentence=best)


class _Units:
    """The words or letters of many texts, end to end."""

    def __init__(self, texts: Sequence[str] | polars.Series) -> None:
        self._units: list[str] = []
        bounds, separated = [0], []
        for text in texts:
            units, is_separated = split_units(text)
            self._units += units
            bounds.append(len(self._units))
            separated.append(is_separated)
        self._bounds = numpy.array(bounds)
        self.separated = numpy.array(separated, dtype=bool)
        self._hashes = _unit_hashes(self._units)

    def of(self, index: int) -> list[str]:
        """Return the units of one text."""
        return self._units[int(self._bounds[index]) : int(self._bounds[index + 1])]

    def lengths(self) -> NDArray[Any]:
        """Return the number of units of each text."""
        return numpy.diff(self._bounds)

    def windows(self, least: int, most: int) -> Iterator[tuple[int, Hashes, NDArray[Any]]]:
        """Yield width, the hash of every run of so many units in a text, and the text's number."""
        owner = numpy.repeat(numpy.arange(len(self.separated)), self.lengths())
        ends = self._bounds[owner + 1]
        places = numpy.arange(len(owner))
        windows = numpy.zeros(len(owner), dtype=numpy.uint64)
        for width in range(1, most + 1):
            count = max(0, len(owner) - width + 1)
            windows = windows[:count] * _BASE + self._hashes[width - 1 :]
            if width >= least:
                inside = places[:count] + width <= ends[:count]
                yield width, _mixed(windows[inside]), owner[:count][inside]


class _Members:
    """Hashes of sentences, sorted, with a bit table in front that answers most questions."""

    def __init__(self, hashes: Hashes, sentences: NDArray[Any], *, is_sorted: bool = False) -> None:
        if not is_sorted:
            order = numpy.argsort(hashes, kind="stable")
            hashes, sentences = hashes[order], sentences[order].astype(numpy.int32)
        self.hashes, self.sentences = hashes, sentences
        self._shift = numpy.uint64(64 - max(10, min(24, len(hashes).bit_length() + 3)))
        self._table = numpy.zeros(1 << (64 - int(self._shift)), dtype=bool)
        self._table[self._slots(hashes)] = True

    def find(self, hashes: Hashes) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the places of those hashes that are members, and the first sentence of each."""
        maybe = numpy.flatnonzero(self._table[self._slots(hashes)])
        if not len(maybe):
            return maybe, maybe
        places = numpy.searchsorted(self.hashes, hashes[maybe])
        places[places == len(self.hashes)] = 0
        sure = self.hashes[places] == hashes[maybe]
        return maybe[sure], self.sentences[places[sure]]

    def all_of(self, hashes: Hashes) -> Iterator[list[int]]:
        """Yield the sentences of each hash that is a member."""
        first = numpy.searchsorted(self.hashes, hashes, side="left")
        last = numpy.searchsorted(self.hashes, hashes, side="right")
        for begin, end in zip(first.tolist(), last.tolist(), strict=True):
            if end > begin:
                yield self.sentences[begin:end].tolist()

    def _slots(self, hashes: Hashes) -> Hashes:
        return (hashes * _BASE) >> self._shift


def split_units(text: str) -> tuple[list[str], bool]:
    """Return the words of a text and True, or its letters and False where words are not separated.

    It is the characters that decide, not the label: a label can be wrong.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower()), True
    words = _WORD.findall(normalize("NFKC", text).lower().replace("_", " "))
    letters = "".join(words)
    if _UNSEPARATED.search(letters):
        separated = _UNSEPARATED.sub("", letters)
        if len(separated) * 2 < len(letters):
            return list(letters), False
    return words, True


def _whole_hashes(texts: Sequence[str] | polars.Series) -> Hashes:
    """Return what `nllb.io.benchmarks.sentence_hash` gives for each text."""
    return hash_texts(normalized(polars.Series(texts, dtype=polars.String)))[:, 0]


def _unit_hashes(units: Sequence[str]) -> Hashes:
    known: dict[str, int] = {}
    digest = xxhash.xxh3_64_intdigest
    for unit in units:
        if unit not in known:
            known[unit] = digest(unit.encode("utf-8", "surrogatepass"))
    return numpy.fromiter((known[unit] for unit in units), dtype=numpy.uint64, count=len(units))


def _windows(hashes: Hashes, width: int) -> Hashes:
    """Return a hash of every run of `width` units, not yet mixed."""
    count = max(0, len(hashes) - width + 1)
    windows = numpy.zeros(count, dtype=numpy.uint64)
    for place in range(width):
        windows *= _BASE
        windows += hashes[place : place + count]
    return windows


def _mixed(windows: Hashes) -> Hashes:
    return windows ^ (windows >> numpy.uint64(29))
