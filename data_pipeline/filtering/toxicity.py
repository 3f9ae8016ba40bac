"""The toxicity filter: word-list counts of both sides, and the difference between them."""

from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from unicodedata import combining, decomposition

import numpy
import polars
import pyarrow
from numpy.typing import NDArray
from polars import col
from pyarrow import compute

from data_pipeline.blocks import large_strings, utf8_bytes
from data_pipeline.data_config import ToxicityConfig
from nllb.errors import DataError
from nllb.io.word_folding import fold
from nllb.io.wordlist_files import find_list
from nllb.io.wordlists import WordList

from .filters import Judgement, Pair, Thresholds


class ToxicityFilter:
    """Filter by the number of distinct list entries per side; null for a language without a list.

    Source: NLLB Team 2022, section 5.3: unbalanced toxicity indicates a wrong translation.

    Attributes:
        columns: score columns and their types.
    """

    columns: Mapping[str, Any] = {
        "source_toxicity": polars.Int32,
        "target_toxicity": polars.Int32,
    }

    def __init__(self, config: ToxicityConfig) -> None:
        self._config = config

    def measure(self, rows: polars.DataFrame, pair: Pair) -> polars.DataFrame:
        """Return the counts of both sides.

        Raises:
            DataError: if a language has no list and the configuration does not allow that.
        """
        columns = []
        for side, language in (("source", pair.source), ("target", pair.target)):
            words = word_list(self._config, language)
            name = f"{side}_toxicity"
            if words is None:
                columns.append(polars.Series(name, [None] * len(rows), dtype=polars.Int32))
            else:
                columns.append(polars.Series(name, count_entries(words, rows[side])))
        return polars.DataFrame(columns)

    def judge(self, thresholds: Thresholds, pair: Pair) -> list[Judgement]:
        """Reject sides above the maximum count, and pairs above the maximum difference."""
        source, target = col("source_toxicity"), col("target_toxicity")
        limit = thresholds["max_toxicity"]
        unbalanced = (source - target).abs() > thresholds["max_toxicity_difference"]
        return [
            ("toxicity", source > limit),
            ("toxicity", target > limit),
            ("toxicity_imbalance", unbalanced),
        ]


def count_entries(words: WordList, texts: polars.Series) -> NDArray[numpy.int32]:
    """Return `words.counts(texts, distinct=True)`, but faster: most texts fold to lower case."""
    counts = numpy.zeros(len(texts), dtype=numpy.int32)
    folds_apart = texts.str.contains(_folds_apart())
    column = compute.utf8_lower(large_strings(texts.filter(~folds_apart)))
    counts[(~folds_apart).to_numpy()] = words.count_folded(*utf8_bytes(column), distinct=True)
    others = texts.filter(folds_apart).to_list()
    counts[folds_apart.to_numpy()] = words.counts(others, distinct=True)
    return counts


@cache
def _folds_apart() -> str:
    """Return a pattern of the text that folding changes in more than letter case.

    It matches characters with a special fold, marks that NFC composes or reorders, and double
    spaces.
    """
    apart = set()
    points = [point for point in range(0x20000) if not 0xD800 <= point < 0xE000]
    lowered = compute.utf8_lower(pyarrow.array(map(chr, points))).to_pylist()
    for character, lower in zip(map(chr, points), lowered, strict=True):
        if combining(character) or fold(character) != lower:
            apart.add(character)
        parts = decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            apart.add(chr(int(parts[1], 16)))
    # Hangul vowels and finals compose by rule, not by table.
    ranges = ["\\x{1161}-\\x{1175}", "\\x{11a8}-\\x{11c2}"]
    ranges += [f"\\x{{{ord(character):x}}}" for character in sorted(apart)]
    return f"[{''.join(ranges)}]|  "


@lru_cache(maxsize=64)
def word_list(config: ToxicityConfig, language: str) -> WordList | None:
    """Return the word list of a language with the list that is always added, or None.

    Raises:
        DataError: if there is no list and the configuration requires one for every language.
    """
    if not config.directory.is_dir():
        raise DataError(f"filter.toxicity.directory: the folder {config.directory} does not exist")
    path = find_list(config.directory, language)
    if path is None:
        if config.missing == "error":
            raise DataError(
                f"there is no toxicity list of {language} in {config.directory}; add "
                f"{language}_twl.txt, or set filter.toxicity.missing: unmeasured"
            )
        return None
    words = WordList.load(path, language=language)
    if config.always is not None:
        words = words.merged(WordList.load(config.always, language=language))
    return words


def list_files(config: ToxicityConfig, languages: tuple[str, ...]) -> list[Path]:
    """Return the files of the word lists that the languages use."""
    found = [find_list(config.directory, language) for language in languages]
    return [path for path in [*found, config.always] if path is not None]
