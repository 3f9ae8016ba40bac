"""Short training lines from lists of frequent words.

Sentences teach the model little about texts of one to three words. A frequency list supplies words
as they occur in running text. Words that are also frequent in English are omitted, because the
lists contain names and English words.
"""

import random
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path
from typing import Final

from nllb.errors import DataError
from nllb.io.text import read_lines
from nllb.languages import languages
from nllb.languages.normalization import normalize_for_detection

from .lid_config import WordListConfig

WORDS_DOMAIN: Final = "words"
"""Domain of the composed lines."""

_ENGLISH: Final = "eng_Latn"
_MAX_LINE_WORDS: Final = 3
_MAX_WORD_CHARACTERS: Final = 40
_FREQUENCY_EXPONENT: Final = 0.5


def word_lines(config: WordListConfig, data_dir: Path, seed: int) -> dict[str, list[str]]:
    """Return composed lines of one to three words per label, normalised.

    Raises:
        DataError: The folder has no lists.
    """
    lists = word_frequencies(config, data_dir)
    by_rank = sorted(lists.get(_ENGLISH, {}).items(), key=lambda item: -item[1])
    english = {word for word, _ in by_rank[: config.max_shared_rank]}
    lines: dict[str, list[str]] = {}
    for label, frequencies in sorted(lists.items()):
        shared = set() if label == _ENGLISH else english
        words = [word for word in sorted(frequencies) if word not in shared]
        weights = [frequencies[word] ** _FREQUENCY_EXPONENT for word in words]
        rng = random.Random(f"{seed} {label}")
        lines[label] = [
            " ".join(rng.choices(words, weights, k=rng.randint(1, _MAX_LINE_WORDS)))
            for _ in range(config.lines if words else 0)
        ]
    return lines


def word_frequencies(config: WordListConfig, data_dir: Path) -> dict[str, dict[str, float]]:
    """Return label -> word -> relative frequency, the mean of the lists of the label.

    Raises:
        DataError: The folder has no lists.
    """
    directory = data_dir / config.path
    known = {language.code for language in languages()}
    lists: dict[str, dict[str, float]] = defaultdict(dict)
    num_lists = Counter[str]()
    for path in sorted(directory.glob("*.*.tsv*")):
        label = path.name.split(".")[1]
        if label not in known:
            continue
        rows = [row.split("\t") for row in islice(read_lines(path), config.max_words)]
        total = sum(float(row[1]) for row in rows) or 1.0
        num_lists[label] += 1
        for row in rows:
            word = normalize_for_detection(row[0])
            if word and len(word) <= _MAX_WORD_CHARACTERS:
                lists[label][word] = lists[label].get(word, 0.0) + float(row[1]) / total
    if not lists:
        raise DataError(f"{directory} has no word lists LIST.CODE.tsv; correct the path")
    return {
        label: {word: value / num_lists[label] for word, value in frequencies.items()}
        for label, frequencies in lists.items()
    }
