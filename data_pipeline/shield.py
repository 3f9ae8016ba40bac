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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal
from unicodedata import normalize

import numpy
import polars
import regex
import xxhash
from numpy.typing import NDArray

from data_pipeline.config import EvaluationConfig
from data_pipeline.hashing import hash_texts, normalized
from nllb.benchmarks import load_flores
from nllb.corpora import open_corpus
from nllb.errors import DataError
from nllb.textio import read_lines

GRAM: Final = 13
"""Consecutive words, or letters, that make an overlap."""
LEAST_WORDS: Final = 4
"""Shortest evaluation sentence that is looked for inside longer lines."""
Kind = Literal["whole", "contains", "overlap"]
Hashes = NDArray[numpy.uint64]

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_UNSEPARATED = regex.compile(
    r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Han}\p{Hiragana}\p{Katakana}]"
)
_BASE = numpy.uint64(0x9E3779B97F4A7C15)
_FILTER_BITS = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Find:
    """Why a line is removed."""

    kind: Kind
    """How the evaluation sentence stands in the line."""
    sentence: int
    """Number of the evaluation sentence in `Shield.places`."""


class Shield:
    """The evaluation sentences, indexed."""

    def __init__(self, sentences: Sequence[str], places: Sequence[str]) -> None:
        """Index sentences; `places` says of each where it comes from."""
        self.places = tuple(places)
        self._whole: dict[int, int] = {}
        self._short: dict[int, list[int]] = {}
        self._short_words: dict[int, list[str]] = {}
        for number, digest in enumerate(_whole_hashes(sentences)):
            if sentences[number].strip():
                self._whole.setdefault(digest, number)
        units = _Units(sentences)
        grams, owner = units.windows(GRAM)
        order = numpy.argsort(grams, kind="stable")
        self._grams = _Members(grams[order])
        self._owners = owner[order]
        self._gram_counts = numpy.bincount(owner, minlength=len(sentences))
        prefixes, prefix_owner = units.windows(LEAST_WORDS)
        # Only the first window of each sentence that is too short to have a 13-gram.
        first = numpy.ones(len(prefix_owner), dtype=bool)
        first[1:] = prefix_owner[1:] != prefix_owner[:-1]
        short = first & units.separated[prefix_owner] & (self._gram_counts[prefix_owner] == 0)
        for prefix, number in zip(
            prefixes[short].tolist(), prefix_owner[short].tolist(), strict=True
        ):
            self._short.setdefault(prefix, []).append(number)
            self._short_words[number] = units.of(number)
        self._prefixes = _Members(numpy.sort(prefixes[short]))

    @cached_property
    def whole_hashes(self) -> frozenset[int]:
        """Hashes of all sentences, for consumers that compare whole lines only."""
        return frozenset(self._whole)

    def find(self, lines: Sequence[str] | polars.Series) -> list[Find | None]:
        """Look for evaluation sentences in lines; the answers are in the order of the lines."""
        found: list[Find | None] = []
        for digest in _whole_hashes(lines):
            number = self._whole.get(digest)
            found.append(None if number is None else Find(kind="whole", sentence=number))
        units = _Units(lines)
        for index in self._candidates(units):
            if found[index] is None:
                separated = bool(units.separated[index])
                found[index] = self._confirm(units.of(index), separated=separated)
        return found

    def _candidates(self, units: "_Units") -> list[int]:
        """Return the lines in which a 13-gram or the beginning of a short sentence occurs."""
        candidates: set[int] = set()
        for members, width in ((self._grams, GRAM), (self._prefixes, LEAST_WORDS)):
            windows, owner = units.windows(width)
            candidates.update(owner[members.contained(windows)].tolist())
        return sorted(candidates)

    def _confirm(self, words: list[str], *, separated: bool) -> Find | None:
        """Look at one candidate closely."""
        hashes = _unit_hashes(words)
        windows = _windows(hashes, GRAM)
        hits = windows[self._grams.contained(windows)]
        if len(hits):
            owners: dict[int, int] = {}
            for gram in numpy.unique(hits):
                first, last = self._grams.range(gram)
                for owner in set(self._owners[first:last].tolist()):
                    owners[owner] = owners.get(owner, 0) + 1
            best = min(owners, key=lambda owner: (-owners[owner], owner))
            # n grams in a row cover n + 12 letters of the sentence's own.
            covered = (owners[best] + GRAM - 1) / (int(self._gram_counts[best]) + GRAM - 1)
            if separated or covered >= 0.5:
                return Find(kind="overlap", sentence=best)
        if separated:
            prefixes = _windows(hashes, LEAST_WORDS)
            for place in self._prefixes.contained(prefixes).tolist():
                for number in self._short.get(int(prefixes[place]), ()):
                    wanted = self._short_words[number]
                    if words[place : place + len(wanted)] == wanted:
                        return Find(kind="contains", sentence=number)
        return None


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

    def windows(self, width: int) -> tuple[Hashes, NDArray[Any]]:
        """Return a hash of every run of `width` units within a text, and the text's number."""
        windows = _windows(self._hashes, width)
        places = numpy.arange(len(windows))
        owner = numpy.searchsorted(self._bounds, places, side="right") - 1
        inside = places + width <= self._bounds[owner + 1]
        return windows[inside], owner[inside]


class _Members:
    """A sorted array of hashes with a bit table in front, which answers nearly all questions."""

    def __init__(self, values: Hashes) -> None:
        self.values = values
        self._table = numpy.zeros(1 << _FILTER_BITS, dtype=bool)
        self._table[_slots(values)] = True

    def contained(self, hashes: Hashes) -> NDArray[Any]:
        """Return the places of those hashes that are members."""
        if not len(self.values) or not len(hashes):
            return numpy.zeros(0, dtype=numpy.int64)
        maybe = numpy.flatnonzero(self._table[_slots(hashes)])
        places = numpy.searchsorted(self.values, hashes[maybe])
        places[places == len(self.values)] = 0
        found: NDArray[Any] = maybe[self.values[places] == hashes[maybe]]
        return found

    def range(self, value: numpy.uint64) -> tuple[int, int]:
        """Return where a member begins and ends in the sorted values."""
        first = int(numpy.searchsorted(self.values, value, side="left"))
        return first, int(numpy.searchsorted(self.values, value, side="right"))


def split_units(text: str) -> tuple[list[str], bool]:
    """Return the words of a text and True, or its letters and False where words are not separated.

    It is the characters that decide, not the label: a label can be wrong.
    """
    folded = normalize("NFKC", text).lower()
    words = _WORD.findall(folded)
    if folded.isascii():
        return words, True
    letters = "".join(words)
    if len(_UNSEPARATED.findall(letters)) * 2 > len(letters):
        return list(letters), False
    return words, True


def _whole_hashes(texts: Sequence[str] | polars.Series) -> list[int]:
    """Return what `nllb.benchmarks.sentence_hash` gives for each text."""
    column = polars.DataFrame({"text": texts}, schema={"text": polars.String})
    hashes = hash_texts(column.select(normalized(polars.col("text"))).to_series())
    found: list[int] = hashes[:, 0].tolist()
    return found


def _unit_hashes(units: Sequence[str]) -> Hashes:
    known: dict[str, int] = {}
    digest = xxhash.xxh3_64_intdigest
    for unit in units:
        if unit not in known:
            known[unit] = digest(unit.encode("utf-8", "surrogatepass"))
    return numpy.fromiter((known[unit] for unit in units), dtype=numpy.uint64, count=len(units))


def _windows(hashes: Hashes, width: int) -> Hashes:
    """Return a hash of every run of `width` units."""
    count = len(hashes) - width + 1
    if count <= 0:
        return numpy.zeros(0, dtype=numpy.uint64)
    windows = numpy.zeros(count, dtype=numpy.uint64)
    for place in range(width):
        windows *= _BASE
        windows += hashes[place : place + count]
    return windows ^ (windows >> numpy.uint64(29))


def _slots(hashes: Hashes) -> Hashes:
    return (hashes * _BASE) >> numpy.uint64(64 - _FILTER_BITS)


def evaluation_sentences(
    sets: Sequence[EvaluationConfig], data_dir: Path
) -> Iterator[tuple[str, str]]:
    """Yield every sentence of the sets in every language, with the place it comes from.

    Raises:
        DataError: where a set is not there: a run without its shield must not begin.
    """
    for config in sets:
        path = data_dir / config.path
        count = 0
        for sentence, place in _sentences(config, path):
            count += 1
            yield sentence, f"{config.name}:{place}"
        if not count:
            raise DataError(f"evaluation set {config.name!r}: no sentence under {path}")


def _sentences(config: EvaluationConfig, path: Path) -> Iterator[tuple[str, str]]:
    if config.layout == "flores":
        flores = load_flores(path, config.split)
        for code in flores.languages:
            for number, sentence in enumerate(flores.sentences(code), 1):
                yield sentence, f"{code}:{number}"
    elif config.layout == "text":
        if not path.is_dir():
            raise DataError(f"evaluation set {config.name!r}: no folder {path}")
        for file in sorted(path.rglob("*")):
            if file.is_file() and not file.name.startswith((".", "README", "LICENSE")):
                for number, line in enumerate(read_lines(file), 1):
                    for sentence in line.split("\t"):
                        yield sentence, f"{file.relative_to(path)}:{number}"
    else:
        for text in open_corpus(path, layout=config.layout, name=config.name).texts():
            yield text.text, f"{text.language}:{text.path.name}:{text.line}"
