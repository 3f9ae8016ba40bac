"""XXH3 hashes of columns of normalized text.

`normalized` applies `normalize_for_hashing` to a whole column in a few vectorized passes; a test
compares the two on real lines of 200 languages.
"""

from functools import cache
from typing import Any, Literal

import numpy
import polars
import xxhash
from numpy.typing import NDArray
from polars import col, lit

from data_pipeline.stages import Block
from nllb.languages.normalization import normalize_for_hashing

Normalization = Literal["standard", "letters"]
Side = Literal["pair", "source", "target"]
Hashes = NDArray[numpy.uint64]

_NOT_LETTERS = r"[^\p{L}\p{M}\p{N}]+"


def hash_texts(texts: polars.Series, bits: int = 64) -> Hashes:
    """Return the XXH3 hash of each text in UTF-8, shape (texts, bits / 64).

    The input is bytes, because xxhash rejects `str` from version 4 on.
    """
    raw = texts.cast(polars.Binary).to_list()
    if bits == 64:
        found = map(xxhash.xxh3_64_intdigest, raw)
        return numpy.fromiter(found, dtype=numpy.uint64, count=len(raw)).reshape(-1, 1)
    digests = b"".join(map(xxhash.xxh3_128_digest, raw))
    return numpy.frombuffer(digests, dtype=">u8").astype(numpy.uint64).reshape(-1, 2)


def normalized(texts: polars.Series, normalization: Normalization = "standard") -> polars.Series:
    """Return the form in which texts are compared."""
    text = col("text")
    if normalization == "letters":
        text = text.str.normalize("NFKC").str.to_lowercase().str.replace_all(_NOT_LETTERS, "")
        return texts.to_frame("text").select(text).to_series()
    spaces, dropped = _character_sets()
    lowered = texts.to_frame("text").select(text.str.strip_chars(spaces).str.to_lowercase())
    # Few lines contain a digit or a dropped character, and searching is cheaper than replacing.
    places = lowered.select(text.str.contains(rf"\d|{dropped}")).to_series().arg_true()
    zeroed = text.str.replace_all(r"\d", "0").str.replace_all(dropped, "")
    changed = lowered.select(text.gather(places)).select(zeroed).to_series()
    return lowered.to_series().scatter(places, changed)


@cache
def _character_sets() -> tuple[str, str]:
    """Return the characters that `normalize_for_hashing` strips, and the class that it drops."""
    characters = [chr(point) for point in range(0x10000) if not 0xD800 <= point < 0xE000]
    spaces = "".join(filter(str.isspace, characters))
    dropped = [mark for mark in characters if normalize_for_hashing(f"a{mark}a") == "aa"]
    return spaces, "[" + "".join(f"\\x{{{ord(mark):x}}}" for mark in dropped) + "]+"


def joined_sides(
    text: polars.DataFrame, block: Block, by: Side, normalization: Normalization
) -> polars.Series:
    """Return the text to hash for each row: one side, or both sides joined by a tab.

    The sides of a pair are joined in the order of their codes, so that `eng-fra` and `fra-eng`
    corpora are compared with each other.
    """
    if by != "pair":
        return normalized(text[by], normalization)
    order = ("source", "target") if block.source <= block.target else ("target", "source")
    first, second = (normalized(text[side], normalization) for side in order)
    return polars.select(polars.concat_str([first, lit("\t"), second])).to_series()


def pair_salt(block: Block, by: Side) -> numpy.uint64:
    """Return the value that keeps the hashes of different language pairs apart."""
    names: list[Any] = sorted((block.source, block.target))
    if by != "pair":
        names.append(block.source if by == "source" else block.target)
    return numpy.uint64(xxhash.xxh3_64_intdigest("-".join(names).encode("utf-8")))
