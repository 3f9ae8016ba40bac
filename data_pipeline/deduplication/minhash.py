"""MinHash signatures of texts as band hashes; near-duplicates share at least one of them.

The signature of a text consists of the minima of many hash functions over its character n-grams.
The share of equal values of two signatures estimates the Jaccard similarity of the n-grams. Values
are grouped into bands, and each band is hashed; texts with an equal band hash are near-duplicates
(locality-sensitive hashing). External sorting finds the equal hashes, so memory stays bounded.

Source: Broder 1997 (MinHash), Leskovec et al. 2020, section 3.4 (banding).
"""

from functools import lru_cache
from typing import Final

import numpy
import polars
from numpy.typing import NDArray

from data_pipeline.data_config import NearDuplicateConfig

Hashes = NDArray[numpy.uint64]

_BASE: Final = numpy.uint64(0x9E3779B97F4A7C15)
_SEED: Final = 20_240_501
_TEXTS_AT_ONCE: Final = 4096


def band_hashes(texts: polars.Series, config: NearDuplicateConfig) -> Hashes:
    """Return the band hashes of normalized texts, shape (texts, bands).

    A text that is shorter than an n-gram counts as one n-gram.
    """
    parts = [
        _band_hashes(texts[start : start + _TEXTS_AT_ONCE], config)
        for start in range(0, len(texts), _TEXTS_AT_ONCE)
    ]
    return numpy.concatenate([numpy.zeros((0, config.bands), numpy.uint64), *parts])


def _band_hashes(texts: polars.Series, config: NearDuplicateConfig) -> Hashes:
    ngrams, starts = _ngram_hashes(texts, config.ngram)
    values = numpy.zeros((len(texts), config.bands), numpy.uint64)
    for number, (factor, addend) in enumerate(_functions(config.bands * config.rows_per_band)):
        band = number // config.rows_per_band
        minima = numpy.minimum.reduceat(ngrams * factor + addend, starts)
        values[:, band] = _mixed(values[:, band] * _BASE + minima)
    # The number of the band separates equal values of different bands.
    return _mixed(values + numpy.arange(config.bands, dtype=numpy.uint64) * _BASE)


def _ngram_hashes(texts: polars.Series, length: int) -> tuple[Hashes, NDArray[numpy.int64]]:
    """Return the hashes of all n-grams, text by text, and the index of each text's first hash."""
    # Padding turns a shorter text into one n-gram; the character does not occur in other text.
    padded = [text.ljust(length, "\0") for text in texts.to_list()]
    points = numpy.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), numpy.uint32)
    lengths = numpy.fromiter(map(len, padded), numpy.int64, len(padded))
    count = max(0, len(points) - length + 1)
    hashes = numpy.zeros(count, numpy.uint64)
    for offset in range(length):
        hashes = hashes * _BASE + points[offset : offset + count]
    ends = numpy.cumsum(lengths)
    inside = numpy.arange(count) + length <= numpy.repeat(ends, lengths)[:count]
    per_text = lengths - length + 1
    return _mixed(hashes[inside]), numpy.cumsum(per_text) - per_text


@lru_cache(maxsize=4)
def _functions(count: int) -> list[tuple[numpy.uint64, numpy.uint64]]:
    """Return the factors and addends of the hash functions, the same on every machine."""
    generator = numpy.random.Generator(numpy.random.PCG64(_SEED))
    numbers = generator.integers(0, 1 << 64, size=(count, 2), dtype=numpy.uint64)
    return [(factor | numpy.uint64(1), addend) for factor, addend in numbers]


def _mixed(keys: Hashes) -> Hashes:
    """Mix the bits of 64-bit keys (finalizer of splitmix64)."""
    keys = (keys ^ (keys >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> numpy.uint64(31))
