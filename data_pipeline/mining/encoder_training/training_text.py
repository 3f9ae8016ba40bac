"""The training pairs of a sentence encoder, without any sentence that it is evaluated on.

A pair is dropped if either side, normalized for hashing, is a sentence of an evaluation set or of a
held-out pair. The hash of the English side selects the `held_out_fraction` of a corpus; in keyed
corpora, the keys from `held_out_from_article` on are also held out. Held-out pairs choose the
checkpoint and measure mining.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy
import polars
from numpy.typing import NDArray
from polars import col

from data_pipeline.cleaning.clean_text import clean_columns
from data_pipeline.cleaning.markup import UNRESOLVED, contains
from data_pipeline.data_config import CleanConfig
from nllb.io.benchmarks import sentence_hash
from nllb.io.corpora import Corpus, open_corpus
from nllb.io.progress import Progress

from ..mining_config import EncoderTrainingConfig, TextSourceConfig

_PLACEHOLDER: Final = r"\$\d+|%\d*\$?[sd]|\{\{[^{}]*\}\}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingText:
    """Distinct sentences, and the pairs of sentences that are translations of each other."""

    sentences: list[str]
    """Distinct sentences."""
    languages: tuple[str, ...]
    """Language codes, to which `language` refers."""
    language: NDArray[numpy.int16]
    """Index of each sentence's language: the first language in which it occurred."""
    pairs: NDArray[numpy.int32]
    """Indices of the two sentences of each pair, shape (pairs, 2)."""
    direction: NDArray[numpy.int32]
    """Index of the language pair of each pair."""
    held_out: dict[str, list[tuple[str, str]]]
    """Language -> held-out pairs with English, in the order of the corpora."""
    facts: dict[str, Any]
    """Counts by source, for the card."""


class ExcludedSentences:
    """Hashes of sentences that must not be trained on."""

    def __init__(self, hashes: frozenset[int] | set[int]) -> None:
        self.hashes = set(hashes)
        self._known: dict[str, int] = {}

    def hash(self, text: str) -> int:
        """Return the hash of a text; hashes are cached, because corpora repeat texts."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = sentence_hash(text)
        return known

    def __contains__(self, text: str) -> bool:
        return self.hash(text) in self.hashes


def collect(
    config: EncoderTrainingConfig, evaluation: frozenset[int], *, quiet: bool = False
) -> TrainingText:
    """Read the sources, hold out pairs, exclude evaluation sentences, number the sentences."""
    excluded = ExcludedSentences(evaluation)
    held_out = _hold_out(config, excluded)
    numbers: dict[str, int] = {}
    languages: dict[str, int] = {}
    language: list[int] = []
    pairs: list[tuple[int, int]] = []
    direction: list[int] = []
    directions: dict[tuple[str, str], int] = {}
    seen: set[tuple[int, int]] = set()
    facts: dict[str, Any] = {}

    def number(text: str, code: str) -> int:
        found = numbers.get(text)
        if found is None:
            found = numbers[text] = len(numbers)
            language.append(languages.setdefault(code, len(languages)))
        return found

    with Progress("training text", unit="pairs", quiet=quiet) as progress:
        for source in config.sources:
            corpus = _open(config, source)
            counts = {"pairs": 0, "shielded": 0}
            for first, second in _directions(corpus, source):
                taken = 0
                for key, *texts in _texts(corpus, source, first, second):
                    if taken >= source.max_pairs:
                        break
                    if _is_held_out_key(source, key):
                        continue
                    if texts[0] in excluded or texts[1] in excluded:
                        counts["shielded"] += 1
                        continue
                    ends = (number(texts[0], first), number(texts[1], second))
                    if ends[0] == ends[1] or ends in seen:
                        continue
                    seen.add(ends)
                    pairs.append(ends)
                    direction.append(directions.setdefault((first, second), len(directions)))
                    taken += 1
                counts["pairs"] += taken
                progress.advance(taken)
            facts[source.name] = {**counts, "licence": source.licence}
    text = TrainingText(
        sentences=list(numbers),
        languages=tuple(languages),
        language=numpy.array(language, numpy.int16),
        pairs=numpy.array(pairs, numpy.int32).reshape(-1, 2),
        direction=numpy.array(direction, numpy.int32),
        held_out=held_out,
        facts=facts,
    )
    return _thin_out(text, config)


def _thin_out(text: TrainingText, config: EncoderTrainingConfig) -> TrainingText:
    """Sample the pairs without the pivot, and drop the sentences that no pair uses."""
    codes = numpy.array(text.languages)[text.language] if len(text.language) else numpy.zeros(0)
    with_pivot = (codes[text.pairs] == config.pivot.code).any(axis=1)
    drawn = numpy.random.default_rng(config.seed).random(len(text.pairs))
    kept = with_pivot | (drawn < config.fraction_without_pivot)
    used, pairs = numpy.unique(text.pairs[kept].reshape(-1), return_inverse=True)
    return dataclasses.replace(
        text,
        sentences=[text.sentences[number] for number in used.tolist()],
        language=text.language[used],
        pairs=pairs.reshape(-1, 2).astype(numpy.int32),
        direction=text.direction[kept],
    )


def _hold_out(
    config: EncoderTrainingConfig, excluded: ExcludedSentences
) -> dict[str, list[tuple[str, str]]]:
    """Return the held-out pairs, and add both of their sides to the excluded sentences."""
    held_out: dict[str, list[tuple[str, str]]] = {}
    hashes: set[int] = set()
    for source in config.sources:
        if not source.held_out_fraction and not source.held_out_from_article:
            continue
        corpus = _open(config, source)
        ratio = Fraction(source.held_out_fraction).limit_denominator(1000)
        for code in corpus.languages():
            if code == config.pivot.code or not _is_wanted(source, code):
                continue
            for key, own, english in _texts(corpus, source, code, config.pivot.code):
                chosen = excluded.hash(english) % ratio.denominator < ratio.numerator
                if not chosen and not _is_held_out_key(source, key):
                    continue
                hashes.update((excluded.hash(own), excluded.hash(english)))
                if chosen and own not in excluded and english not in excluded:
                    held_out.setdefault(code, []).append((own, english))
    excluded.hashes |= hashes
    return held_out


def _texts(
    corpus: Corpus, source: TextSourceConfig, first: str, second: str
) -> Iterator[tuple[str, str, str]]:
    """Yield the key and both texts of each pair; markup of interface messages is removed."""
    pairs = (
        (pair.source.key, pair.source.text.strip(), pair.target.text.strip())
        for pair in corpus.pairs(first, second)
    )
    if not source.interface:
        yield from pairs
        return
    rows = polars.DataFrame(list(pairs), ["key", "first", "second"], orient="row")
    if not len(rows):
        return
    sides = ("first", "second")
    cleaned = clean_columns(rows, sides, CleanConfig(punctuation=False), interface=True)
    cleaned = cleaned.filter(~contains("first", UNRESOLVED) & ~contains("second", UNRESOLVED))
    cleaned = cleaned.with_columns(
        col(sides).str.replace_all(_PLACEHOLDER, " ").str.strip_chars()
    ).filter(
        col("first") != col("second"), contains("first", r"\pL{2}"), contains("second", r"\pL{2}")
    )
    yield from cleaned.iter_rows()


def _is_wanted(source: TextSourceConfig, code: str) -> bool:
    return not source.languages or code in {language.code for language in source.languages}


def _is_held_out_key(source: TextSourceConfig, key: str) -> bool:
    if not source.held_out_from_article:
        return False
    article = key.partition(".")[0]
    return article.isdigit() and int(article) >= source.held_out_from_article


def _open(config: EncoderTrainingConfig, source: TextSourceConfig) -> Corpus:
    return open_corpus(config.data_dir / source.path, layout=source.layout, name=source.name)


def _directions(corpus: Corpus, source: TextSourceConfig) -> Iterator[tuple[str, str]]:
    """Yield the language pairs to read: with each pivot, or all pairs of a corpus of pairs."""
    pivots = {language.code for language in source.pivots}
    wanted = {*(language.code for language in source.languages), *pivots}
    if corpus.layout in ("pairs", "tables"):
        found: Sequence[tuple[str, ...]] = sorted({codes for _, codes in corpus.files()})
        for first, second in found:
            if source.languages and not wanted.issuperset((first, second)):
                continue
            if not pivots or first in pivots or second in pivots:
                yield (first, second)
        return
    for pivot in (language.code for language in source.pivots):
        for code in corpus.languages():
            if code != pivot and (not source.languages or code in wanted):
                yield (code, pivot)
