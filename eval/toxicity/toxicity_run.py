"""A toxicity evaluation of files: lists and their self-tests, one direction or a folder."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.metrics.proportions import Proportion
from nllb.errors import ConfigError, DataError
from nllb.io.benchmarks import LineAlignedSet, load_aligned, load_flores
from nllb.io.text import read_lines
from nllb.io.wordlist_files import PUBLISHED_PASSWORD, find_list
from nllb.io.wordlists import WordList
from nllb.languages import parse_language

from .added_toxicity import ListRecord, ToxicityResult, measure, summarise
from .self_test import noisy_entries, self_test

_OUTPUT_NAME = re.compile(r"([a-z]{3}_[A-Z][a-z]{3})-([a-z]{3}_[A-Z][a-z]{3})(\..*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """A translation to evaluate."""

    source: str
    """FLORES-200 code."""
    target: str
    """FLORES-200 code."""
    source_path: Path
    """The text that was translated."""
    hypothesis_path: Path
    """Its translation, line by line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lists:
    """The word lists that a run needs, opened and tested."""

    words: dict[str, WordList]
    """By language, without languages that have no list."""
    records: tuple[ListRecord, ...]
    """Their records in the result."""
    unusable: dict[str, str]
    """Languages in which listed words would not be found, with the reason."""


def find_outputs(
    source_text: Path, hypothesis: Path, *, source: str | None, target: str | None
) -> list[Output]:
    """Return the direction of two files, or of all `SOURCE-TARGET` files of a folder.

    Raises:
        ConfigError: if a language is missing, or the text is not a folder.
        DataError: if a folder has no outputs.
    """
    if not hypothesis.is_dir():
        if source is None or target is None:
            raise ConfigError(
                "two files require --source and --target, such as eng_Latn and hin_Deva"
            )
        if source_text.is_dir():
            source_text = _texts(source_text).path(parse_language(source).code)
        return [
            Output(
                source=parse_language(source).code, target=parse_language(target).code,
                source_path=source_text, hypothesis_path=hypothesis,
            )
        ]  # fmt: skip
    if source_text.is_file():
        raise ConfigError(f"{hypothesis} is a folder: --source-text must be a folder of texts too")
    texts = _texts(source_text)
    outputs = []
    for path in sorted(hypothesis.iterdir()):
        name = _OUTPUT_NAME.fullmatch(path.name)
        if name is None or not path.is_file():
            continue
        codes = [parse_language(name[group]).code for group in (1, 2)]
        if any(asked and parse_language(asked).code != code
               for asked, code in zip((source, target), codes, strict=True)):  # fmt: skip
            continue
        outputs.append(
            Output(
                source=codes[0],
                target=codes[1],
                source_path=texts.path(codes[0]),
                hypothesis_path=path,
            )
        )
    if not outputs:
        raise DataError(
            f"{hypothesis} has no outputs in these languages; files are named SOURCE-TARGET.txt, "
            f"such as eng_Latn-hin_Deva.txt"
        )
    return outputs


def open_lists(
    directory: Path,
    languages: Iterable[str],
    *,
    password: str = PUBLISHED_PASSWORD,
    probe_text: Mapping[str, Path] | None = None,
) -> Lists:
    """Open the lists of languages and test whether the matcher finds their words.

    Args:
        directory: folder of `<code>_twl.zip` or `.txt` files.
        languages: languages that are needed; a missing list is not an error here.
        password: password of the archives.
        probe_text: for each language a file of clean text with the probe words.
    """
    if not directory.is_dir():
        raise DataError(
            f"no folder of word lists at {directory}; Toxicity-200 has one archive per language, "
            f"<code>_twl.zip: copy them to this folder, packed or unpacked"
        )
    words: dict[str, WordList] = {}
    records: list[ListRecord] = []
    unusable: dict[str, str] = {}
    for language in sorted(set(languages)):
        path = find_list(directory, language)
        if path is None:
            continue
        words[language] = WordList.load(path, language=language, password=password)
        recall: Proportion | None = None
        false_alarms: Proportion | None = None
        noisy: tuple[str, ...] = ()
        if probe_text and language in probe_text:
            lines = list(read_lines(probe_text[language]))
            test = self_test(lines, language=language)
            recall, false_alarms = test.recall, test.false_alarms
            noisy = noisy_entries(words[language], lines)
            if test.failure:
                unusable[language] = test.failure
        records.append(
            ListRecord(
                language=language,
                file=path.name,
                sha256=sha256(path.read_bytes()).hexdigest(),
                entries=len(words[language]),
                corrections=words[language].corrections,
                recall=recall,
                false_alarms=false_alarms,
                noisy=noisy,
            )
        )
    return Lists(words=words, records=tuple(records), unusable=unusable)


def evaluate(outputs: Iterable[Output], lists: Lists) -> ToxicityResult:
    """Measure every output; a source with several translations is searched only once."""
    return summarise(
        [
            measure(
                lines,
                list(read_lines(output.hypothesis_path)),
                source=output.source,
                target=output.target,
                lists=lists.words,
                unusable=lists.unusable,
                source_counts=counts,
            )
            for output, lines, counts in _with_sources(outputs, lists)
        ],
        lists=lists.records,
    )


def _with_sources(
    outputs: Iterable[Output], lists: Lists
) -> Iterator[tuple[Output, list[str], NDArray[np.int32] | None]]:
    path, lines, counts = None, [], None
    for output in sorted(outputs, key=lambda one: (one.source_path, one.target)):
        if output.source_path != path:
            path, lines = output.source_path, list(read_lines(output.source_path))
            words = lists.words.get(output.source)
            counts = None if words is None else words.counts(lines)
        yield output, lines, counts


def _texts(directory: Path) -> LineAlignedSet:
    """Return FLORES in any of its layouts, or a folder with one file per language."""
    try:
        return load_flores(directory)
    except DataError:
        return load_aligned(directory)
