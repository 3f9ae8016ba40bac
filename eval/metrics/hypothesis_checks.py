"""Checks of hypothesis files for problems that affect the scores."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Final, Literal, get_args
from unicodedata import is_normalized

import numpy as np
import xxhash
from numpy.typing import NDArray

from nllb.errors import DataError
from nllb.io.compression import COMPRESSIONS
from nllb.io.text import read_binary_lines
from nllb.languages.detection import UNDETERMINED
from nllb.translation.quality import MAX_REPETITION, repetition

Detect = Callable[[Sequence[str]], Sequence[str]]
"""Texts -> the language code of each text, `und` if it is uncertain."""

MAX_LINES_NAMED: Final = 5
OFF_TARGET_CHARACTERS: Final = 20
"""The language of shorter lines is not detected, because names and numbers have no language."""
_MARGIN_DEVIATIONS: Final = 2.0
"""Lines in other languages are reported if they are more than in the references by this many
standard deviations."""
_HEAD_BYTES: Final = 1 << 16
_MAGIC: Final = {
    b"BZh": "compressed with bzip2, which is not supported; decompress it, or use .gz, .xz or .zst",
    b"\x1f\x8b": "compressed with gzip; name it .gz",
    b"\xfd7zXZ": "compressed with xz; name it .xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstandard; name it .zst",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
}

_PIECE: Final = 8
_PIECES: Final = 16

Code = Literal[
    "empty", "bad_utf8", "copy_of_source", "mixed_unicode", "repeated", "looping", "off_target",
    "line_breaks",
]  # fmt: skip
CODES: Final[tuple[Code, ...]] = get_args(Code)
_WORDS: Final[dict[Code, str]] = {
    "empty": "empty",
    "bad_utf8": "not UTF-8, read with replacement characters",
    "copy_of_source": "equal to the source",
    "mixed_unicode": "not in Unicode form NFC while others are",
    "repeated": "equal to another line although their references differ",
    "looping": "repeating themselves",
    "off_target": "not in the target language",
    "line_breaks": "with a carriage return or another line break inside",
}
_BREAKS: Final = frozenset("\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One kind of problem in one file."""

    code: Code
    """Kind of problem."""
    count: int
    """Number of lines with the problem."""
    total: int
    """Number of lines in the file."""
    lines: tuple[int, ...]
    """The first line with the problem, counted from 1."""
    note: str = ""
    """Further detail, such as the languages found."""

    @property
    def words(self) -> str:
        """The problem as text, as in `3 lines are ...`."""
        return _WORDS[self.code]

    @property
    def message(self) -> str:
        """The finding as text."""
        named = ", ".join(map(str, self.lines)) + (", ..." if self.count > len(self.lines) else "")
        what = f"{self.count:,} of {self.total:,} lines are {self.words} (line {named})"
        return f"{what}: {self.note}" if self.note else what


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageCount:
    """How a detector classified the lines of one file."""

    judged: int
    """Number of lines that are long enough for language identification."""
    right: int
    """Number of these lines in the target language."""
    unsure: int
    """Number of these lines without a clear language."""

    @property
    def share(self) -> float | None:
        """Fraction of these lines in the target language; None if no line is long enough."""
        return self.right / self.judged if self.judged else None


def read_hypothesis(path: Path, *, expected: int) -> tuple[list[str], list[Finding]]:
    """Read the lines of a hypothesis file; bytes that are not UTF-8 are replaced and counted.

    Raises:
        DataError: if the file is missing, empty, in an unsupported format, or has a different
            number of lines than the reference, so that lines would be scored against wrong
            references.
    """
    reader = LineReader(path)
    lines = list(reader)
    check_line_count(path, len(lines), expected)
    return lines, reader.findings(expected)


def check_line_count(path: Path, count: int, expected: int) -> None:
    """Reject a hypothesis file whose number of lines differs from the reference."""
    if not count:
        raise DataError(f"{path} is empty; {expected:,} lines were expected")
    if count != expected:
        more = "more" if count > expected else "fewer"
        raise DataError(
            f"{path}: {count:,} lines, {abs(count - expected):,} {more} than the reference's "
            f"{expected:,}; write exactly one line for each source line"
        )


class LineReader:
    """The lines of a hypothesis file; bytes that are not UTF-8 are replaced and counted."""

    def __init__(self, path: Path) -> None:
        check_text_form(path)
        self._path = path
        self._broken = _Lines()

    def __iter__(self) -> Iterator[str]:
        for number, raw in enumerate(read_binary_lines(self._path), 1):
            line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                self._broken.add(number)
                yield line.decode("utf-8", "replace")

    def findings(self, total: int) -> list[Finding]:
        """Return the replacements so far as a finding."""
        return [self._broken.finding("bad_utf8", total)] if self._broken.count else []


def check_text_form(path: Path | str) -> None:
    """Reject files that are not lines of UTF-8; the error names their format.

    Raises:
        DataError: for bzip2, other compression under a wrong name, UTF-16, and lines that end with
            carriage returns only.
    """
    if str(path) == "-" or not Path(path).is_file():
        return  # reading the file gives the error
    with Path(path).open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    suffix = Path(path).suffix
    what = next((words for magic, words in _MAGIC.items() if head.startswith(magic)), None)
    if what is not None and suffix not in COMPRESSIONS:
        raise DataError(f"{path} is {what}")
    if suffix in COMPRESSIONS:
        return
    if b"\0" in head:
        raise DataError(f"{path} contains NUL bytes: it is UTF-16 or not text; save it as UTF-8")
    if b"\r" in head and b"\n" not in head and len(head.rstrip(b"\r").split(b"\r")) > 1:
        raise DataError(
            f"{path} ends its lines with carriage returns only (an old Mac format); convert it "
            f"with: tr '\\r' '\\n'"
        )


class HypothesisChecks:
    """Checks of a hypothesis that is read in blocks; 16 bytes per line are kept in memory."""

    def __init__(self) -> None:
        self._seen = 0
        self._empty, self._copies, self._decomposed = _Lines(), _Lines(), _Lines()
        self._loops, self._breaks = _Lines(), _Lines()
        self._hashes: list[NDArray[np.uint64]] = []

    def add(
        self,
        hypothesis: Sequence[str],
        references: Sequence[Sequence[str]],
        source: Sequence[str] | None = None,
    ) -> None:
        """Check the next lines.

        Args:
            hypothesis: lines of the file.
            references: for each line its references.
            source: the source lines.
        """
        hashes = np.zeros((len(hypothesis), 2), dtype=np.uint64)
        for number, (line, texts) in enumerate(zip(hypothesis, references, strict=True)):
            place = self._seen + number + 1
            stripped = line.strip()
            if not stripped:
                self._empty.add(place)
            else:
                hashes[number] = _hash(line), _hash("\n".join(texts))
            if not is_normalized("NFC", line):
                self._decomposed.add(place)
            if not _BREAKS.isdisjoint(line.rstrip("\r")):
                self._breaks.add(place)
            if source is not None and stripped and stripped == source[number].strip():
                if all(stripped != text.strip() for text in texts):
                    self._copies.add(place)
            if _loops(line, source[number] if source is not None else None):
                self._loops.add(place)
        self._hashes.append(hashes)
        self._seen += len(hypothesis)

    def findings(self) -> list[Finding]:
        """Return the problems of the file; the list is empty if there are none."""
        total = self._seen
        found = [self._empty.finding("empty", total), self._copies.finding("copy_of_source", total)]
        if self._decomposed.count < total:
            found.append(self._decomposed.finding("mixed_unicode", total))
        found += [
            self._repeated().finding("repeated", total),
            self._loops.finding("looping", total),
            self._breaks.finding("line_breaks", total),
        ]
        return [one for one in found if one.count]

    def _repeated(self) -> "_Lines":
        """Return the lines that equal another line although their references differ."""
        hashes = np.concatenate(self._hashes) if self._hashes else np.zeros((0, 2), np.uint64)
        pairs = np.unique(hashes[hashes[:, 0] != 0], axis=0)
        mine, references = np.unique(pairs[:, 0], return_counts=True)
        lines = _Lines()
        for place in np.flatnonzero(np.isin(hashes[:, 0], mine[references > 1])).tolist():
            lines.add(place + 1)
        return lines


def check_hypothesis(
    hypothesis: Sequence[str],
    reference: Sequence[str],
    *,
    source: Sequence[str] | None = None,
) -> list[Finding]:
    """Return the problems of a hypothesis; the list is empty if there are none."""
    checks = HypothesisChecks()
    checks.add(hypothesis, [(text,) for text in reference], source)
    return checks.findings()


def _loops(line: str, source: str | None) -> bool:
    """Return whether a line is a loop; the translator uses the same rule."""
    if not _may_loop(line):
        return False
    share = repetition(line)
    if share <= MAX_REPETITION:
        return False
    return source is None or share - repetition(source) > MAX_REPETITION


def _hash(text: str) -> int:
    # 0 marks an empty line.
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) or 1


def _may_loop(line: str) -> bool:
    """Return whether any of a few pieces occurs earlier in the line: a quick test before counting.

    Where a quarter of a line is repeated, about four of the pieces do.
    """
    length = _PIECE if " " in line else _PIECE // 2
    last = len(line) - length
    step = max(1, last // _PIECES)
    return any(line.find(line[at : at + length], 0, at + length - 1) >= 0
               for at in range(step, last + 1, step))  # fmt: skip


class LanguageChecks:
    """Counts of lines in the target language, for a file that is read in blocks."""

    def __init__(self, target: str, detect: Detect) -> None:
        self._target, self._detect = target, detect
        self._seen = self._judged = self._unsure = 0
        self._wrong = _Lines()
        self._labels: Counter[str] = Counter()

    def add(self, lines: Sequence[str]) -> None:
        """Detect the language of the next lines that are long enough."""
        long = [n for n, line in enumerate(lines) if len(line.strip()) >= OFF_TARGET_CHARACTERS]
        labels = self._detect([lines[n] for n in long])
        for n, label in zip(long, labels, strict=True):
            if label == UNDETERMINED:
                self._unsure += 1
            elif label != self._target:
                self._wrong.add(self._seen + n + 1)
                self._labels[label] += 1
        self._seen += len(lines)
        self._judged += len(long)

    def count(self) -> LanguageCount:
        """Return the counts so far."""
        right = self._judged - self._wrong.count - self._unsure
        return LanguageCount(judged=self._judged, right=right, unsure=self._unsure)

    def findings(self, expected_share: float | None = None) -> list[Finding]:
        """Return the lines in other languages if they are more than in the references.

        Args:
            expected_share: fraction of the references' lines that the detector identifies as the
                target language. The remaining lines are errors of the detector.
        """
        if not self._wrong.count:
            return []
        if expected_share is not None:
            missed = (1 - expected_share) * self._judged
            margin = _MARGIN_DEVIATIONS * sqrt(max(missed, 1.0))
            if self._wrong.count + self._unsure <= missed + margin:
                return []
        common = ", ".join(f"{label} {number}" for label, number in self._labels.most_common(3))
        note = f"detected {common}"
        if expected_share is not None:
            note += f"; of the references, {1 - expected_share:.1%} are not recognised"
        return [self._wrong.finding("off_target", self._seen, note)]


def check_language(
    lines: Sequence[str], target: str, detect: Detect, *, expected_share: float | None = None
) -> tuple[LanguageCount, list[Finding]]:
    """Count the lines in the target language and report the others.

    Args:
        lines: lines of a file.
        target: expected language of the lines.
        detect: identifies the language of texts.
        expected_share: see `LanguageChecks.findings`.
    """
    checks = LanguageChecks(target, detect)
    checks.add(lines)
    return checks.count(), checks.findings(expected_share)


class _Lines:
    """The number of lines with a property, and the first of them."""

    __slots__ = ("count", "first")

    def __init__(self) -> None:
        self.count = 0
        self.first: list[int] = []

    def add(self, number: int) -> None:
        self.count += 1
        if len(self.first) < MAX_LINES_NAMED:
            self.first.append(number)

    def finding(self, code: Code, total: int, note: str = "") -> Finding:
        return Finding(code=code, count=self.count, total=total, lines=tuple(self.first), note=note)
