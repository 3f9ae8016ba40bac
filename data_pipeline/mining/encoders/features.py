"""Hashed features of sentences in any script, extracted for a whole batch at a time.

The features of a sentence are its words (in scripts without spaces between words: its characters
and pairs of adjacent characters), the 4-grams of its romanization in ASCII, and the words, 3-grams
and 4-grams of the consonant skeleton of that romanization. The skeleton is the same for names,
numbers and loan words in different scripts: the romanizations of Washington from Arabic and
Japanese are `washntn` and `washinton`, and the skeleton of both is `sntn`. The encoder learns the
meaning of a feature.

The work is done on arrays of code points; each character is looked up only once per process.
"""

import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy
from anyascii import anyascii
from numpy.typing import NDArray

Keys = NDArray[numpy.uint64]
Indices = NDArray[numpy.int64]
Bytes = NDArray[numpy.uint8]

_SPACE, _WORD, _UNSEGMENTED = 1, 2, 3
_SPACE_BYTE: Final = 0x20
_NUM_CODE_POINTS: Final = 0x110000
# Han, kana and the scripts of mainland South-East Asia and Tibet: no spaces between words.
_UNSEGMENTED_RANGES: Final = (
    (0x0E00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x1950, 0x19DF),
    (0x1A20, 0x1AAF),
    (0x2E80, 0x2FDF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
# Sounds that scripts confuse share a letter; vowels and letters that some scripts omit are dropped.
_SKELETON: Final = {
    **dict.fromkeys("bp", "b"),
    **dict.fromkeys("fv", "f"),
    **dict.fromkeys("ckqx", "k"),
    **dict.fromkeys("gj", "g"),
    **dict.fromkeys("sz", "s"),
    **dict.fromkeys("dt", "t"),
    **dict.fromkeys("lr", "l"),
    **{letter: letter for letter in "mn0123456789 "},
}
_POWER: Final = 0x9E3779B97F4A7C15
_MAX_WORD_LENGTH: Final = 1 << 12


class Features(NamedTuple):
    """Features of a batch, grouped by sentence."""

    sentence: Indices
    """Index of the sentence of each feature, ascending."""
    key: Keys
    """64-bit key of each feature."""


class _Characters:
    """The kind and the romanization (ASCII letters and digits) of each code point seen so far."""

    def __init__(self) -> None:
        self.kind = numpy.zeros(_NUM_CODE_POINTS, numpy.uint8)
        self.length = numpy.zeros(_NUM_CODE_POINTS, numpy.uint8)
        self.start = numpy.zeros(_NUM_CODE_POINTS, numpy.int32)
        self.spelling = numpy.zeros(0, numpy.uint8)

    def learn(self, points: NDArray[numpy.uint32]) -> None:
        """Look up the code points that have not been seen before."""
        seen = numpy.zeros(_NUM_CODE_POINTS, numpy.bool_)
        seen[points] = True
        new = numpy.flatnonzero(seen & (self.kind == 0))
        spellings = [self.spelling.tobytes()]
        position = len(self.spelling)
        for point in new.tolist():
            character = chr(point)
            if unicodedata.category(character)[0] not in "LMN":
                self.kind[point] = _SPACE
                continue
            unsegmented = any(first <= point <= last for first, last in _UNSEGMENTED_RANGES)
            self.kind[point] = _UNSEGMENTED if unsegmented else _WORD
            ascii_letters = "".join(filter(str.isalnum, anyascii(character).lower()))[:255]
            self.length[point], self.start[point] = len(ascii_letters), position
            spellings.append(ascii_letters.encode("ascii"))
            position += len(ascii_letters)
        self.spelling = numpy.frombuffer(b"".join(spellings), numpy.uint8)


_CHARACTERS = _Characters()


def _skeleton_table() -> Bytes:
    table = numpy.zeros(256, numpy.uint8)
    for letter, sound in _SKELETON.items():
        table[ord(letter)] = ord(sound)
    return table


_SKELETON_TABLE: Final = _skeleton_table()


def extract(sentences: Sequence[str]) -> Features:
    """Return the features of the sentences; an empty sentence has none."""
    texts = [
        " " + " ".join(unicodedata.normalize("NFKC", text).lower().split()) + " "
        for text in sentences
    ]
    encoded = "".join(texts).encode("utf-32-le", "surrogatepass")
    points = numpy.frombuffer(encoded, numpy.uint32)
    lengths = numpy.fromiter(map(len, texts), numpy.int64, len(texts))
    sentence = numpy.repeat(numpy.arange(len(texts)), lengths)
    _CHARACTERS.learn(points)
    kinds = _CHARACTERS.kind[points]
    letters, letter_sentence = _spell(points, kinds, sentence)
    skeleton, skeleton_sentence = _skeleton(letters, letter_sentence)
    return Features(
        *_merge(
            _runs(points, sentence, kinds == _WORD, salt=1),
            *_unsegmented(points, sentence, kinds == _UNSEGMENTED),
            _ngrams(letters, letter_sentence, 4),
            _ngrams(skeleton, skeleton_sentence, 3, salt=8),
            _ngrams(skeleton, skeleton_sentence, 4, salt=8),
            _runs(skeleton, skeleton_sentence, skeleton != _SPACE_BYTE, salt=3),
        )
    )


def mix(keys: Keys) -> Keys:
    """Return the keys, mixed so that every bit depends on all bits (finalizer of splitmix64)."""
    keys = (keys ^ (keys >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> numpy.uint64(31))


def _spell(points: NDArray[numpy.uint32], kinds: Bytes, sentence: Indices) -> tuple[Bytes, Indices]:
    """Return the romanized text with single spaces, and the sentence of each byte."""
    length = numpy.where(kinds == _SPACE, 1, _CHARACTERS.length[points]).astype(numpy.int64)
    ends = numpy.cumsum(length)
    total = int(ends[-1]) if len(ends) else 0
    within = numpy.arange(total) - numpy.repeat(ends - length, length)
    source = numpy.repeat(_CHARACTERS.start[points], length) + within
    is_space = numpy.repeat(kinds == _SPACE, length)
    spelled = numpy.full(total, _SPACE_BYTE, numpy.uint8)
    spelled[~is_space] = _CHARACTERS.spelling[source[~is_space]]
    of_sentence = numpy.repeat(sentence, length)
    return _squeeze(spelled, of_sentence, spelled == _SPACE_BYTE)


def _skeleton(letters: Bytes, sentence: Indices) -> tuple[Bytes, Indices]:
    sounds = _SKELETON_TABLE[letters]
    kept = sounds != 0
    sounds, sentence = sounds[kept], sentence[kept]
    return _squeeze(sounds, sentence, numpy.ones(len(sounds), numpy.bool_))


def _squeeze(
    letters: Bytes, sentence: Indices, where: NDArray[numpy.bool_]
) -> tuple[Bytes, Indices]:
    """Drop letters that repeat the previous letter of the same sentence."""
    repeats = numpy.zeros(len(letters), numpy.bool_)
    repeats[1:] = (letters[1:] == letters[:-1]) & (sentence[1:] == sentence[:-1]) & where[1:]
    return letters[~repeats], sentence[~repeats]


def _ngrams(
    letters: Bytes, sentence: Indices, length: int, *, salt: int = 0
) -> tuple[Indices, Keys]:
    """Return the n-grams that lie within a word, including its two borders."""
    count = len(letters) - length + 1
    if count <= 0:
        return numpy.zeros(0, numpy.int64), numpy.zeros(0, numpy.uint64)
    spaces = numpy.concatenate([[0], numpy.cumsum(letters == _SPACE_BYTE)])
    whole = spaces[length - 1 : length - 1 + count] == spaces[1 : 1 + count]
    starts = numpy.flatnonzero(whole)
    keys = numpy.full(len(starts), salt + length, numpy.uint64)
    for offset in range(length):
        keys = (keys << numpy.uint64(8)) | letters[starts + offset]
    return sentence[starts], mix(keys)


def _runs(
    values: NDArray[numpy.uint32] | Bytes,
    sentence: Indices,
    inside: NDArray[numpy.bool_],
    *,
    salt: int,
) -> tuple[Indices, Keys]:
    """Return a key for each contiguous run of values, such as a word."""
    before = numpy.concatenate([[False], inside[:-1]])
    starts = numpy.flatnonzero(inside & ~before)
    kept = numpy.flatnonzero(inside)
    if not len(kept):
        return numpy.zeros(0, numpy.int64), numpy.zeros(0, numpy.uint64)
    bounds = numpy.searchsorted(kept, starts)
    position = numpy.arange(len(kept)) - numpy.repeat(
        bounds, numpy.diff(numpy.append(bounds, len(kept)))
    )
    powers = _powers()[numpy.minimum(position, _MAX_WORD_LENGTH - 1)]
    sums = numpy.add.reduceat(values[kept].astype(numpy.uint64) * powers, bounds)
    return sentence[starts], mix(sums + numpy.uint64(salt << 56))


def _unsegmented(
    points: NDArray[numpy.uint32], sentence: Indices, inside: NDArray[numpy.bool_]
) -> tuple[tuple[Indices, Keys], tuple[Indices, Keys]]:
    """Return the characters and the pairs of adjacent characters of scripts without spaces."""
    singles = numpy.flatnonzero(inside)
    pairs = numpy.flatnonzero(inside[:-1] & inside[1:])
    salt = numpy.uint64(11 << 48)
    wide = points.astype(numpy.uint64)
    pair_keys = (wide[pairs] << numpy.uint64(24)) | wide[pairs + 1]
    return (
        (sentence[singles], mix(wide[singles] | salt)),
        (sentence[pairs], mix(pair_keys + salt)),
    )


def _merge(*parts: tuple[Indices, Keys]) -> tuple[Indices, Keys]:
    sentence = numpy.concatenate([part[0] for part in parts])
    keys = numpy.concatenate([part[1] for part in parts])
    order = numpy.argsort(sentence, kind="stable")
    return sentence[order], keys[order]


_POWERS: list[Keys] = []


def _powers() -> Keys:
    if not _POWERS:
        with numpy.errstate(over="ignore"):
            base = numpy.full(_MAX_WORD_LENGTH, _POWER | 1, numpy.uint64)
            base[0] = 1
            _POWERS.append(numpy.cumprod(base))
    return _POWERS[0]
