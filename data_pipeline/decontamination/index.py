"""Find evaluation sentences in training text.

A line matches if one of its sides, regardless of the language label,

- is an evaluation sentence (`whole`), compared by the XXH3 hash of the normalized text;
- contains a complete evaluation sentence of 4 to 12 words (`contains`);
- shares 13 consecutive words with one (`overlap`). In scripts that do not separate words it shares
  13 consecutive letters, and the shared letters cover at least half of the evaluation sentence.

Words are runs of letters, marks and digits, compared in lower case and NFKC. An evaluation sentence
of fewer than 4 words (or 13 letters) is only matched as a whole line, because it occurs in too many
unrelated lines.
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

NGRAM_LENGTH: Final = 13
"""Number of consecutive words, or letters, in an overlap."""
WHOLE: Final = 0
"""Window width that represents whole lines."""
MIN_WORDS: Final = 4
"""Minimum number of words of an evaluation sentence that is searched for inside longer lines."""
Kind = Literal["whole", "contains", "overlap"]
Hashes = NDArray[numpy.uint64]

_MARKS = "".join(
    chr(point) for point in range(0x300, 0x1F000) if category(chr(point)).startswith("M")
)
_ASCII_WORD = re.compile("[a-z0-9]+")
# Python's `\w` does not match marks, which are parts of words in Indic scripts.
_WORD = re.compile(f"[\\w{_MARKS}]+")
# Thai to Myanmar, Khmer, kana, Han: spaces do not separate words, or they separate syllables.
_UNSEPARATED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u9fff\ua9e0-\ua9ff"
    "\uaa60-\uaa7f\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_BASE = numpy.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """An evaluation sentence that was found in a line.

    Attributes:
        kind: how the line matches the evaluation sentence.
        sentence: index of the evaluation sentence in `EvaluationIndex.places`.
    """

    kind: Kind
    sentence: int


class EvaluationIndex:
    """An index of evaluation sentences, created by `build` or `load`.

    Attributes:
        places: where each sentence comes from, for reports.
    """

    def __init__(
        self, places: Sequence[str], members: "dict[int, _HashSet]", num_ngrams: NDArray[Any]
    ) -> None:
        self.places = places
        self._members = members
        self._num_ngrams = num_ngrams

    @classmethod
    def build(
        cls,
        sentences: Sequence[str],
        places: Sequence[str],
        min_words: Sequence[int] | None = None,
    ) -> "EvaluationIndex":
        """Build an index.

        Args:
            sentences: the evaluation sentences.
            places: where each sentence comes from, for reports.
            min_words: number of words that each sentence needs to be searched for inside longer
                lines; at least `MIN_WORDS`.
        """
        is_text = numpy.array([bool(sentence.strip()) for sentence in sentences], dtype=bool)
        numbers = numpy.flatnonzero(is_text)
        members = {WHOLE: _HashSet(_whole_hashes(sentences)[numbers], numbers)}
        units = _Units(sentences)
        num_units = units.lengths()
        required = numpy.full(len(sentences), MIN_WORDS) if min_words is None else min_words
        required = numpy.maximum(numpy.asarray(required, dtype=numpy.int64), MIN_WORDS)
        for width, ngrams, owner in units.windows(MIN_WORDS, NGRAM_LENGTH):
            if width < NGRAM_LENGTH:
                # Only windows that cover the whole sentence.
                fits = (num_units[owner] == width) & units.separated[owner]
                fits &= required[owner] <= width
                members[width] = _HashSet(ngrams[fits], owner[fits])
            else:
                members[width] = _HashSet(ngrams, owner)
        return cls(places, members, numpy.maximum(num_units - NGRAM_LENGTH + 1, 0))

    def save(self, directory: Path) -> None:
        """Write the index to a folder atomically, so that other processes can map it."""
        directory.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(mkdtemp(prefix=".", dir=directory.parent))
        try:
            numpy.save(beside / "num_grams.npy", self._num_ngrams)
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
    def load(cls, directory: Path) -> "EvaluationIndex":
        """Memory-map an index that `save` wrote."""
        members = {}
        for width in (WHOLE, *range(MIN_WORDS, NGRAM_LENGTH + 1)):
            hashes = load_array(directory / f"hashes{width}.npy")
            sentences = load_array(directory / f"sentences{width}.npy")
            members[width] = _HashSet(hashes, sentences, is_sorted=True)
        num_ngrams = load_array(directory / "num_grams.npy")
        return cls(list(read_lines(directory / "places.txt")), members, num_ngrams)

    def find(self, lines: Sequence[str] | polars.Series) -> list[Match | None]:
        """Search lines for evaluation sentences; the results are in the order of the lines."""
        found: list[Match | None] = [None] * len(lines)
        hits, sentences = self._members[WHOLE].find(_whole_hashes(lines))
        for line, sentence in zip(hits.tolist(), sentences.tolist(), strict=True):
            found[line] = Match(kind="whole", sentence=sentence)
        units = _Units(lines)
        unseparated: set[int] = set()
        for width, windows, owner in units.windows(MIN_WORDS, NGRAM_LENGTH):
            hits, sentences = self._members[width].find(windows)
            kind: Kind = "overlap" if width == NGRAM_LENGTH else "contains"
            for line, sentence in zip(owner[hits].tolist(), sentences.tolist(), strict=True):
                if not units.separated[line]:
                    unseparated.add(line)
                elif found[line] is None:
                    found[line] = Match(kind=kind, sentence=sentence)
        for line in sorted(unseparated):
            if found[line] is None:
                found[line] = self._find_half(units.of(line))
        return found

    def _find_half(self, letters: list[str]) -> Match | None:
        """Find the evaluation sentence of which the letters cover at least half, if any."""
        ngrams = _windows(_unit_hashes(letters), NGRAM_LENGTH)
        counts: dict[int, int] = {}
        for sentences in self._members[NGRAM_LENGTH].all_of(numpy.unique(_mixed(ngrams))):
            for sentence in set(sentences):
                counts[sentence] = counts.get(sentence, 0) + 1
        if not counts:
            return None
        best = min(counts, key=lambda sentence: (-counts[sentence], sentence))
        # n consecutive n-grams cover n + 12 letters of the sentence.
        covered = counts[best] + NGRAM_LENGTH - 1
        if covered * 2 < int(self._num_ngrams[best]) + NGRAM_LENGTH - 1:
            return None
        return Match(kind="overlap", sentence=best)


class _Units:
    """The words or letters of many texts, concatenated."""

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
        """Return the words or letters of one text."""
        return self._units[int(self._bounds[index]) : int(self._bounds[index + 1])]

    def lengths(self) -> NDArray[Any]:
        """Return the number of words or letters of each text."""
        return numpy.diff(self._bounds)

    def windows(self, min_width: int, max_width: int) -> Iterator[tuple[int, Hashes, NDArray[Any]]]:
        """Yield each width, the hashes of all windows of that width, and the text of each one."""
        owner = numpy.repeat(numpy.arange(len(self.separated)), self.lengths())
        ends = self._bounds[owner + 1]
        places = numpy.arange(len(owner))
        windows = numpy.zeros(len(owner), dtype=numpy.uint64)
        for width in range(1, max_width + 1):
            count = max(0, len(owner) - width + 1)
            windows = windows[:count] * _BASE + self._hashes[width - 1 :]
            if width >= min_width:
                inside = places[:count] + width <= ends[:count]
                yield width, _mixed(windows[inside]), owner[:count][inside]


class _HashSet:
    """Sorted hashes of sentences, with a bit table that rules out most other hashes."""

    def __init__(self, hashes: Hashes, sentences: NDArray[Any], *, is_sorted: bool = False) -> None:
        if not is_sorted:
            order = numpy.argsort(hashes, kind="stable")
            hashes, sentences = hashes[order], sentences[order].astype(numpy.int32)
        self.hashes, self.sentences = hashes, sentences
        self._shift = numpy.uint64(64 - max(10, min(24, len(hashes).bit_length() + 3)))
        self._table = numpy.zeros(1 << (64 - int(self._shift)), dtype=bool)
        self._table[self._slots(hashes)] = True

    def find(self, hashes: Hashes) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the positions of the hashes that are members, and the first sentence of each."""
        maybe = numpy.flatnonzero(self._table[self._slots(hashes)])
        if not len(maybe):
            return maybe, maybe
        places = numpy.searchsorted(self.hashes, hashes[maybe])
        places[places == len(self.hashes)] = 0
        sure = self.hashes[places] == hashes[maybe]
        return maybe[sure], self.sentences[places[sure]]

    def all_of(self, hashes: Hashes) -> Iterator[list[int]]:
        """Yield all sentences of each hash that is a member."""
        first = numpy.searchsorted(self.hashes, hashes, side="left")
        last = numpy.searchsorted(self.hashes, hashes, side="right")
        for begin, end in zip(first.tolist(), last.tolist(), strict=True):
            if end > begin:
                yield self.sentences[begin:end].tolist()

    def _slots(self, hashes: Hashes) -> Hashes:
        return (hashes * _BASE) >> self._shift


def split_units(text: str) -> tuple[list[str], bool]:
    """Return the words of a text and True, or its letters and False if words are not separated.

    The characters decide, not the language label, because a label can be wrong.
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
    """Return `nllb.io.benchmarks.sentence_hash` of each text."""
    return hash_texts(normalized(polars.Series(texts, dtype=polars.String)))[:, 0]


def _unit_hashes(units: Sequence[str]) -> Hashes:
    known: dict[str, int] = {}
    digest = xxhash.xxh3_64_intdigest
    for unit in units:
        if unit not in known:
            known[unit] = digest(unit.encode("utf-8", "surrogatepass"))
    return numpy.fromiter((known[unit] for unit in units), dtype=numpy.uint64, count=len(units))


def _windows(hashes: Hashes, width: int) -> Hashes:
    """Return a hash of every window of `width` units; the bits are not mixed yet."""
    count = max(0, len(hashes) - width + 1)
    windows = numpy.zeros(count, dtype=numpy.uint64)
    for place in range(width):
        windows *= _BASE
        windows += hashes[place : place + count]
    return windows


def _mixed(windows: Hashes) -> Hashes:
    return windows ^ (windows >> numpy.uint64(29))
