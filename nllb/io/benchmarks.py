"""Line-aligned test sets: FLORES-200, FLORES+ and any folder of files of equal length.

A set is read lazily, one language at a time, and no character is changed: scores depend on the
Unicode form of the references. `evaluation_hashes` is the basis of decontamination for everything
that reads training text.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import xxhash

from nllb.errors import DataError, LanguageError, did_you_mean
from nllb.languages.normalization import normalize_for_hashing

from .compression import COMPRESSIONS
from .parquet import read_records
from .text import read_json_lines, read_lines, read_table

FLORES_SPLITS: Final = ("dev", "devtest")
FLORES_LINES: Final = {"dev": 997, "devtest": 1012}
"""Number of lines of each public split, which is the same in FLORES-101, FLORES-200 and FLORES+."""

HOW_TO_OBTAIN: Final = (
    "FLORES-200 is one archive that unpacks to flores200_dataset/{dev,devtest}/CODE.{dev,devtest} "
    "(github.com/facebookresearch/flores, CC BY-SA 4.0); FLORES+ is the data set "
    "openlanguagedata/flores_plus on the Hugging Face hub (accept its terms; `huggingface-cli "
    "download --repo-type dataset openlanguagedata/flores_plus`), or the release archive of "
    "github.com/openlanguagedata/flores with {dev,devtest}/{dev,devtest}.CODE. It is for "
    "evaluation only and must not be in training text"
)


def sentence_hash(text: str) -> int:
    """Return the 64-bit XXH3 of a sentence in the form of `normalize_for_hashing`."""
    return xxhash.xxh3_64_intdigest(normalize_for_hashing(text).encode("utf-8"))


@dataclass(frozen=True, kw_only=True, slots=True)
class LineAlignedSet:
    """One split of a test set: one file per language, line-aligned."""

    name: str
    """Name for reports, such as `flores200`."""
    split: str
    """Name of the split, or an empty string."""
    directory: Path
    """Folder of the files."""
    files: dict[str, Path]
    """Language code -> file, in the order of the codes."""
    num_lines: int | None = None
    """Number of lines that every file must have; None uses that of the first file."""
    limit: int | None = None
    """Use only the first sentences; None uses all."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages, sorted."""
        return tuple(self.files)

    @property
    def title(self) -> str:
        """Name and split, as in `flores200/devtest`; with a limit also `[:200]`."""
        whole = f"{self.name}/{self.split}" if self.split else self.name
        return whole if self.limit is None else f"{whole}[:{self.limit}]"

    def first(self, limit: int) -> "LineAlignedSet":
        """Return the set with only its first sentences, for a quick test."""
        return replace(self, limit=limit)

    def path(self, language: str) -> Path:
        """Return the file of a language."""
        try:
            return self.files[language]
        except KeyError:
            raise LanguageError(
                f"{self.title} has no language "
                f"{language!r}{did_you_mean(language, self.files) or '.'} It has {len(self.files)} "
                f"languages, in {self.directory}"
            ) from None

    def sentences(self, language: str) -> tuple[str, ...]:
        """Return the sentences of a language exactly as in the file.

        Raises:
            DataError: a line is not UTF-8, or the file does not have the number of lines of the
                set.
        """
        sentences = _read_sentences(self.path(language))
        expected = self.num_lines or len(_read_sentences(next(iter(self.files.values()))))
        if len(sentences) != expected:
            raise DataError(
                f"{self.files[language]}: {len(sentences):,} lines, but {self.title} has "
                f"{expected:,}: the lines would not be aligned; download the file again"
            )
        return sentences[: self.limit]

    def sha256(self, language: str) -> str:
        """Return the SHA-256 of a language's sentences, each followed by a line feed."""
        return sentences_sha256(self.sentences(language))

    def metadata(self) -> list[dict[str, str]]:
        """Return url, domain and topic of each sentence, or [] if the set has none."""
        table = self.directory / f"metadata_{self.split}.tsv"
        if table.is_file():
            return list(read_table(table))
        first = next(iter(self.files.values()))
        if _suffix(first) not in (".jsonl", ".parquet"):
            return []
        return [
            {key: str(row.get(key, "")) for key in ("url", "domain", "topic")}
            for row in _read_rows(first)
        ]


def load_flores(directory: Path | str, split: str = "devtest") -> LineAlignedSet:
    """Find FLORES-200 or FLORES+ under a folder, in any of the official layouts.

    Layouts: `SPLIT/CODE.SPLIT` (FLORES-200 archive), `SPLIT/SPLIT.CODE` (FLORES+ archive),
    `SPLIT/CODE.jsonl` and `SPLIT/CODE.parquet` (FLORES+ on the hub). The folder may also be the
    parent of `flores200_dataset`, or the split's folder itself.

    Raises:
        DataError: no layout fits; the message says how to obtain the set.
    """
    directory = Path(directory)
    if split not in FLORES_SPLITS:
        raise DataError(f"unknown split {split!r}; FLORES has {' and '.join(FLORES_SPLITS)}")
    roots = [directory, *sorted(directory.glob("flores*/")), directory.parent]
    for root in roots:
        folder = root / split
        if root == directory.parent and directory.name != split:
            continue
        for name, pattern in (
            ("flores200", f"*.{split}"),
            ("flores_plus", f"{split}.*"),
            ("flores_plus", "*.jsonl"),
            ("flores_plus", "*.parquet"),
        ):
            files = {
                _code(path.name.removesuffix(f".{split}").removeprefix(f"{split}.")): path
                for path in sorted(folder.glob(pattern))
            }
            if files:
                return LineAlignedSet(
                    name=name,
                    split=split,
                    directory=root,
                    files=files,
                    num_lines=FLORES_LINES[split],
                )
    raise DataError(f"no FLORES {split} files under {directory}. {HOW_TO_OBTAIN}")


def load_aligned(directory: Path | str, *, name: str = "") -> LineAlignedSet:
    """Open a folder of line-aligned files `CODE`, `CODE.txt`, ... (compressed or not).

    The code of a file is its name up to the first full stop. Hidden files and README are ignored.

    Raises:
        DataError: the folder is missing or empty, or two files have the same code.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(
            f"the folder {directory} is missing; give a folder of files CODE or CODE.txt"
        )
    files: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        code = _code(path.name)
        if not path.is_file() or not code or code.upper() == "README":
            continue
        if code in files:
            raise DataError(f"{files[code]} and {path} both have the code {code!r}; keep one")
        files[code] = path
    if not files:
        raise DataError(f"{directory} is empty; give a folder of files CODE or CODE.txt")
    return LineAlignedSet(name=name or directory.name, split="", directory=directory, files=files)


def evaluation_hashes(
    sets: Iterable[LineAlignedSet], languages: Iterable[str] | None = None
) -> frozenset[int]:
    """Return the hashes of all sentences of the sets, which must not be in training text.

    Args:
        sets: the test sets.
        languages: use only these codes, if a set has them; None uses all.
    """
    wanted = None if languages is None else set(languages)
    return frozenset(
        sentence_hash(sentence)
        for test_set in sets
        for language in test_set.languages
        if wanted is None or language in wanted
        for sentence in test_set.sentences(language)
    )


def sentences_sha256(sentences: Iterable[str]) -> str:
    """Return the SHA-256 of sentences, each followed by a line feed; it identifies a text."""
    digest = hashlib.sha256()
    for sentence in sentences:
        digest.update(sentence.encode("utf-8"))
        digest.update(b"\n")
    return digest.hexdigest()


def _code(file_name: str) -> str:
    return file_name.split(".", 1)[0]


_COLUMNS = ("text", "url", "domain", "topic")
"""The columns of FLORES+ that are read."""


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix in COMPRESSIONS else path).suffix


def _read_sentences(path: Path) -> tuple[str, ...]:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return _read_version(path, status.st_mtime_ns, status.st_size)


# All of FLORES-200 uses about 60 MB as strings; scoring reads every source for every target.
@lru_cache(maxsize=256)
def _read_version(path: Path, mtime_ns: int, size: int) -> tuple[str, ...]:
    if _suffix(path) in (".jsonl", ".parquet"):
        return tuple(_text_of(row, path) for row in _read_rows(path))
    return tuple(read_lines(path))


def _text_of(row: Any, path: Path) -> str:
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise DataError(f"{path}: a row lacks the column 'text': {json.dumps(row)[:80]}")
    return str(row["text"])


def _read_rows(path: Path) -> Iterator[Any]:
    if _suffix(path) == ".jsonl":
        yield from read_json_lines(path)
        return
    yield from read_records(path, columns=_COLUMNS)
