"""The evaluation sets of a run: their sentences, and the index that decontamination searches."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import xxhash

from data_pipeline.data_config import EvaluationConfig
from nllb.errors import DataError
from nllb.io.benchmarks import load_flores
from nllb.io.corpora import open_corpus
from nllb.io.text import read_lines

from .index import EvaluationIndex


def evaluation_sentences(
    sets: Sequence[EvaluationConfig], data_dir: Path
) -> Iterator[tuple[str, str]]:
    """Yield every sentence of the sets in every language, and its place for reports.

    Raises:
        DataError: if a set is missing, because a run must not begin without it.
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
            raise DataError(f"evaluation set {config.name!r}: the folder {path} does not exist")
        for file in sorted(path.rglob("*")):
            if file.is_file() and not file.name.startswith((".", "README", "LICENSE")):
                for number, line in enumerate(read_lines(file), 1):
                    for sentence in line.split("\t"):
                        yield sentence, f"{file.relative_to(path)}:{number}"
    else:
        for text in open_corpus(path, layout=config.layout, name=config.name).texts():
            yield text.text, f"{text.language}:{text.path.name}:{text.line}"


@lru_cache(maxsize=4)
def evaluation_key(sets: tuple[EvaluationConfig, ...], data_dir: Path) -> str:
    """Return a hash of all sentences of the sets and of the search options."""
    digest = xxhash.xxh3_128(repr([section.min_words for section in sets]).encode())
    for sentence, place in evaluation_sentences(sets, data_dir):
        digest.update(f"{place}\t{sentence}\n".encode())
    return digest.hexdigest()[:16]


def index_sets(sets: tuple[EvaluationConfig, ...], data_dir: Path, directory: Path) -> Path:
    """Index the sets unless an index exists, and return its folder."""
    path = directory / f"index.{evaluation_key(sets, data_dir)}"
    if not path.exists():
        build_evaluation_index(sets, data_dir).save(path)
    return path


def build_evaluation_index(sets: Sequence[EvaluationConfig], data_dir: Path) -> EvaluationIndex:
    """Build the index in memory."""
    sentences: list[str] = []
    places: list[str] = []
    min_words: list[int] = []
    for section in sets:
        for sentence, place in evaluation_sentences([section], data_dir):
            sentences.append(sentence)
            places.append(place)
            min_words.append(section.min_words)
    return EvaluationIndex.build(sentences, places, min_words)


@lru_cache(maxsize=1)
def open_evaluation_index(path: Path) -> EvaluationIndex:
    """Memory-map an index, once per process."""
    return EvaluationIndex.load(path)
