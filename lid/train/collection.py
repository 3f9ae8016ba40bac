"""Collect training text: read and clean it, remove duplicates and lines of evaluation sets.

The text is returned as `label -> domain -> lines`; every line is already normalised by
`normalize_for_detection`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import xxhash

from lid.characters import FIRST_SCRIPT, character_classes, scripts, writable_scripts
from lid.engine import OUT_OF_SET_PREFIX
from nllb.errors import DataError
from nllb.io.benchmarks import sentence_hash
from nllb.io.corpora import KNOWN_LAYOUTS, Corpus, CorpusText, open_corpus
from nllb.io.progress import Progress
from nllb.io.text import read_lines, read_table
from nllb.languages import languages
from nllb.languages.normalization import normalize_for_detection

from .lid_config import LidConfig, SourceConfig
from .word_lists import WORDS_DOMAIN, word_lines

Item = TypeVar("Item")
Lines = dict[str, dict[str, list[str]]]
"""Label -> domain -> lines."""

_DENSE_SCRIPTS: Final = ("Hans", "Hant", "Jpan", "Hang")
_MIN_SCRIPT_FRACTION: Final = 0.5
_MAX_COPIES: Final = 3
_MAX_ENGLISH_FRACTION: Final = 0.5
_LONGER_WORDS: Final = re.compile(r"[^\W\d_]{3,}")
_MARKUP: Final = re.compile(
    r"<[^>]*>|\[?https?://\S+|&[#\w]+;|\$\d+|%\w|__\w+__|\[\[(?:[^|\]]*\|)?|\]\]|'''?|[{}]"
)
_TEMPLATE: Final = re.compile(r"\{\{[^{}]*\}\}|\{[^{}]*\}")


@dataclass(kw_only=True, slots=True)
class Collected:
    """The collected training text."""

    lines: Lines = field(default_factory=dict)
    """Text in the languages of the table."""
    out_of_set: Lines = field(default_factory=dict)
    """Text in out-of-set languages, by label with `OUT_OF_SET_PREFIX`."""
    dropped: Counter[str] = field(default_factory=Counter)
    """`source: reason` -> number of dropped lines."""
    overlap: Counter[str] = field(default_factory=Counter)
    """Source -> number of lines dropped because they are in an evaluation set."""

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of lines per label and domain."""
        return line_counts(self.lines)


def line_counts(lines: Lines) -> dict[str, dict[str, int]]:
    """Return the number of lines per label and domain."""
    return {
        label: {domain: len(texts) for domain, texts in sorted(domains.items())}
        for label, domains in sorted(lines.items())
    }


def collect(config: LidConfig, *, quiet: bool = False) -> Collected:
    """Read all sources of a run.

    Raises:
        DataError: A folder is missing, a requested label has no text, or training lines are in an
            evaluation set and `on_overlap` is `refuse`.
    """
    evaluation_set_hashes = evaluation_hashes(
        tuple(config.data_dir / path for path in config.evaluation), normalised=True
    )
    collected = Collected()
    unique: dict[str, dict[str, str]] = defaultdict(dict)
    wanted = {language.code for language in config.languages or languages()}
    with Progress("collecting", unit="texts", quiet=quiet) as progress:
        for source in config.sources:
            corpus = _open(source, config.data_dir)
            texts = _counted(_texts(corpus, collected), progress, source.name)
            wanted_texts = (text for text in texts if text.language in wanted)
            _add_source(wanted_texts, source, unique, evaluation_set_hashes, collected)
        reserved = reserved_languages(
            config.data_dir / directory for directory in config.out_of_set.sources
        )
        for directory in config.out_of_set.sources:
            texts_of_labels = _out_of_set_lines(
                config.data_dir / directory, _source_of(directory, config), wanted, reserved
            )
            for label, line, domain in _counted(texts_of_labels, progress, directory.name):
                if sentence_hash(line) in evaluation_set_hashes:
                    collected.overlap[directory.name] += 1
                else:
                    unique[label].setdefault(line, domain)
    if config.words is not None:
        for label, lines in word_lines(config.words, config.data_dir, config.seed).items():
            for line in lines:
                if label in unique and sentence_hash(line) not in evaluation_set_hashes:
                    unique[label].setdefault(line, WORDS_DOMAIN)
    if config.on_overlap == "refuse" and collected.overlap:
        listed = ", ".join(f"{count:,} of {name}" for name, count in collected.overlap.items())
        raise DataError(
            f"training lines are in an evaluation set: {listed}. Remove them from the sources, or "
            "set on_overlap: drop"
        )
    for label, domain_of_line in sorted(unique.items()):
        out_of_set = label.startswith(OUT_OF_SET_PREFIX)
        if not domain_of_line or (out_of_set and len(domain_of_line) < config.out_of_set.min_lines):
            continue
        domains = (collected.out_of_set if out_of_set else collected.lines).setdefault(label, {})
        for line, domain in domain_of_line.items():
            domains.setdefault(domain, []).append(line)
    empty = sorted({language.code for language in config.languages} - set(collected.lines))
    if empty:
        raise DataError(
            f"no training text for {', '.join(empty)} in "
            f"{', '.join(source.name for source in config.sources)}; "
            "add a source with text in these languages, or remove them from `languages`"
        )
    return collected


def _counted(items: Iterable[Item], progress: Progress, note: str) -> Iterator[Item]:
    for item in items:
        progress.advance(note=note)
        yield item


def _add_source(
    texts: Iterable[CorpusText],
    source: SourceConfig,
    unique: dict[str, dict[str, str]],
    evaluation_set_hashes: frozenset[int],
    collected: Collected,
) -> None:
    """Add the texts of one source to `unique` (label -> line -> domain)."""
    others = {language.code for language in source.excluded_languages}
    only = {language.code for language in source.languages}
    seen: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        before = seen[text.language]
        if text.text in before:
            continue
        if text.language in others or (only and text.language not in only):
            collected.dropped[f"{source.name}: not in {text.language}"] += 1
        elif source.domain(text.key) in source.excluded_keys:
            collected.dropped[f"{source.name}: {source.domain(text.key)} is excluded"] += 1
        elif len(before) >= source.max_lines:
            collected.dropped[f"{source.name}: above max_lines"] += 1
        else:
            before.add(text.text)
            _add_line(text, source, unique[text.language], evaluation_set_hashes, collected)


def _source_of(directory: Path, config: LidConfig) -> SourceConfig:
    """Return the source that reads the same folder as a folder of out-of-set text, or a new one."""
    for source in config.sources:
        if config.data_dir / source.path == config.data_dir / directory:
            return source
    return SourceConfig(path=str(directory))


def evaluation_hashes(directories: tuple[Path, ...], *, normalised: bool = False) -> frozenset[int]:
    """Return the hashes of all lines, and of all cells of TSV lines, in the folders.

    Args:
        directories: The folders of the evaluation sets.
        normalised: Hash the output of `normalize_for_detection` instead of the original sentence.
    """
    hashes: set[int] = set()
    for directory in directories:
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        if not files:
            raise DataError(f"no evaluation text in {directory}; correct the path or remove it")
        for path in files:
            for line in read_lines(path, errors="replace"):
                for cell in {line, *line.split("\t")}:
                    if cell.strip():
                        hashes.add(
                            sentence_hash(normalize_for_detection(cell) if normalised else cell)
                        )
    return frozenset(hashes)


def is_for_tuning(code: str) -> bool:
    """Whether an out-of-set language is for training and tuning; the others are for evaluation."""
    return xxhash.xxh3_64_intdigest(f"foreign {code}".encode()) % 2 == 0


def is_for_calibration(code: str, part: float) -> bool:
    """Whether an out-of-set tuning language is for calibration instead of training."""
    return xxhash.xxh3_64_intdigest(f"threshold {code}".encode()) % 1000 < 1000 * part


def withheld_languages(config: LidConfig, out_of_set: Lines) -> dict[str, list[str]]:
    """Return the out-of-set labels that are withheld for calibration, with their prose.

    A language that only has interface messages is not withheld: messages mix too many languages to
    be useful for calibration.
    """
    messages = {domain for source in config.sources for domain in source.message_domains}
    messages |= {name for name, layout in KNOWN_LAYOUTS.items() if layout == "messages"}
    withheld: dict[str, list[str]] = {}
    for label, domains in sorted(out_of_set.items()):
        lines = [line for domain in domains if domain not in messages for line in domains[domain]]
        code = label.removeprefix(OUT_OF_SET_PREFIX)
        if lines and is_for_calibration(code, config.out_of_set.calibration_fraction):
            withheld[label] = lines
    return withheld


def out_of_set_code(path: Path) -> str:
    """Return the language code of a file `ISO__ID.tsv` or `ISO_Script.tsv`.

    For the code `und` it is `und-ID`. The locale of a file of the second kind is mapped to its
    code.
    """
    code, separator, identifier = path.name.partition(".")[0].partition("__")
    if not separator:
        return _language_code(code.partition("_")[0])
    return code if code != "und" else f"und-{identifier}"


def script_share(line: str, label: str) -> float:
    """Return the fraction of the letters of a normalised line that is in the script of a label."""
    if line.isascii():
        return float(label.endswith("Latn"))
    points = np.frombuffer(line.encode("utf-32-le", "replace"), np.uint32)
    counts = np.bincount(
        character_classes(normalised=True)[points], minlength=FIRST_SCRIPT + len(scripts())
    )
    letters = counts[FIRST_SCRIPT:]
    own = sum(int(letters[number]) for number in writable_scripts(label[-4:]))
    weight = (
        3 if label[-4:] in _DENSE_SCRIPTS else 1
    )  # an ideograph carries as much information as a few letters
    others = int(letters.sum()) - own
    return weight * own / (weight * own + others) if own else 0.0


def _open(source: SourceConfig, data: Path) -> Corpus:
    return open_corpus(data / source.path, layout=source.layout)


def _texts(corpus: Corpus, collected: Collected) -> Iterator[CorpusText]:
    """Yield the texts of a corpus, without interface messages copied from other locales."""
    if corpus.layout != "messages":
        yield from corpus.texts()
        return
    copies = Counter((text.key, text.text.strip().lower()) for text in corpus.texts())
    english = {text.key: text.text.strip().lower() for text in corpus.texts("eng_Latn")}
    for text in corpus.texts():
        folded = text.text.strip().lower()
        original = english.get(text.key, "")
        if text.language == "eng_Latn":
            yield text
        elif original == folded or copies[text.key, folded] > _MAX_COPIES:
            collected.dropped[f"{corpus.name}: copy of another locale"] += 1
        elif _shared_words(folded, original) > _MAX_ENGLISH_FRACTION:
            collected.dropped[f"{corpus.name}: mostly English"] += 1
        else:
            yield text


def _shared_words(message: str, original: str) -> float:
    """Return the fraction of the longer words of a message that are also in the original."""
    words = _LONGER_WORDS.findall(clean_message(message))
    originals = set(_LONGER_WORDS.findall(original))
    return sum(word in originals for word in words) / len(words) if words else 0.0


def _add_line(
    text: CorpusText,
    source: SourceConfig,
    lines: dict[str, str],
    evaluation_set_hashes: frozenset[int],
    collected: Collected,
) -> None:
    """Add a text to the lines of its label, or count the reason for dropping it."""
    plain = (
        clean_message(text.text) if source.layout == "messages" or "{{" in text.text else text.text
    )
    line = normalize_for_detection(plain)
    min_letters = (
        source.min_letters // 3 if text.language[-4:] in _DENSE_SCRIPTS else source.min_letters
    )
    if len(line) - line.count(" ") < min_letters:
        collected.dropped[f"{source.name}: short"] += 1
    elif script_share(line, text.language) < _MIN_SCRIPT_FRACTION:
        collected.dropped[f"{source.name}: another script"] += 1
    elif evaluation_set_hashes and sentence_hash(line) in evaluation_set_hashes:
        collected.overlap[source.name] += 1
    elif line in lines:
        collected.dropped[f"{source.name}: duplicate"] += 1
    else:
        lines[line] = source.domain(text.key)


def clean_message(text: str) -> str:
    """Return an interface message without templates, tags, placeholders and link targets."""
    for _ in range(3):  # templates nest
        text = _TEMPLATE.sub(" ", text)
    return _MARKUP.sub(" ", text)


@cache
def _language_of_locale() -> dict[str, str]:
    """Return the map from locales to ISO 639-3 codes; `skip` marks varieties of our languages."""
    table = Path(__file__).with_name("locales.tsv")
    return {row["locale"]: row["language"] for row in read_table(table)}


def reserved_languages(directories: Iterable[Path]) -> frozenset[str]:
    """Return the out-of-set languages reserved for evaluation: half of those of `ISO__ID` files."""
    codes = {
        out_of_set_code(path)
        for directory in directories
        for path, _ in open_corpus(directory).files()
        if "__" in path.name
    }
    return frozenset(code for code in codes if not is_for_tuning(code))


def _out_of_set_lines(
    directory: Path, source: SourceConfig, wanted: set[str], reserved: frozenset[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield (label, line, domain) for the languages of a folder that are not reserved.

    A source of text that names domains is read for all languages: its text is worth more to users
    than more languages that no text was seen of. Evaluation reports both kinds apart.
    """
    corpus = open_corpus(directory)
    known = {code[:3] for code in wanted}
    if corpus.layout == "messages":
        named = [(_language_code(locale), path) for locale, path in corpus.unmapped()]
    else:
        named = [(out_of_set_code(path), path) for path, _ in corpus.files()]
    for code, path in named:
        is_reserved = code in reserved and not source.keys_as_domains
        if code == "skip" or code in known or is_reserved:
            continue
        for text in corpus.read(path, code):
            domain = source.domain(text.key)
            line = normalize_for_detection(clean_message(text.text))
            if len(line) - line.count(" ") >= 12 and domain not in source.excluded_keys:
                yield OUT_OF_SET_PREFIX + code, line, domain


def _language_code(locale: str) -> str:
    """Return the language code of a locale; it decides between tuning and evaluation."""
    table = _language_of_locale()
    first = locale.partition("-")[0]
    return table.get(locale) or table.get(first) or first
