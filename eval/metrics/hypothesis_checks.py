"""What is wrong with a hypothesis file before its score means anything."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args
from unicodedata import is_normalized

from nllb.errors import DataError
from nllb.io.text import read_binary_lines
from nllb.languages.detection import UNDETERMINED
from nllb.translation.quality import MAX_REPETITION, repetition

Detect = Callable[[Sequence[str]], Sequence[str]]
"""Texts -> the code of each one's language, `und` where unsure."""

MOST_LINES_NAMED: Final = 5
OFF_TARGET_CHARACTERS: Final = 20
"""Shorter lines are not asked for their language: names and numbers have none."""

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
    "mixed_unicode": "in another Unicode form than NFC while others are in NFC",
    "repeated": "the same as another line although their references differ",
    "looping": "repeating themselves",
    "off_target": "in another language than the target",
    "line_breaks": "with a carriage return or another line break inside",
}
_BREAKS: Final = frozenset("\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One kind of fault in one file."""

    code: Code
    """Kind of fault."""
    count: int
    """Lines that have it."""
    total: int
    """Lines of the file."""
    lines: tuple[int, ...]
    """The first of them, counted from 1."""
    note: str = ""
    """Further detail, such as the languages found."""

    @property
    def words(self) -> str:
        """What the lines are."""
        return _WORDS[self.code]

    @property
    def message(self) -> str:
        """The finding in words."""
        named = ", ".join(map(str, self.lines)) + (", ..." if self.count > len(self.lines) else "")
        what = f"{self.count:,} of {self.total:,} lines are {self.words} (line {named})"
        return f"{what}: {self.note}" if self.note else what


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageCount:
    """What a detector says of the lines of one file."""

    judged: int
    """Lines long enough to be asked for their language."""
    right: int
    """Of them in the target language."""
    unsure: int
    """Of them in none that the detector would name."""

    @property
    def share(self) -> float | None:
        """Share of the lines in the target language, None where no line is long enough."""
        return self.right / self.judged if self.judged else None


def read_hypothesis(path: Path, *, expected: int) -> tuple[list[str], list[Finding]]:
    """Read a hypothesis file line for line; bytes that are not UTF-8 are replaced and counted.

    Raises:
        DataError: where the file is missing, empty, or has another number of lines than the
            reference: every later line would be scored against the wrong one.
    """
    lines, broken = [], []
    for number, raw in enumerate(read_binary_lines(path), 1):
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 - a byte order mark is no text
        try:
            lines.append(raw.decode("utf-8"))
        except UnicodeDecodeError:
            broken.append(number)
            lines.append(raw.decode("utf-8", "replace"))
    if not lines:
        raise DataError(f"{path} is empty; {expected:,} lines were expected")
    if len(lines) != expected:
        more = "more" if len(lines) > expected else "fewer"
        raise DataError(
            f"{path}: {len(lines):,} lines, {abs(len(lines) - expected):,} {more} than the "
            f"reference's {expected:,}; write exactly one line for each source line"
        )
    return lines, [_finding("bad_utf8", broken, expected)] if broken else []


def check_hypothesis(
    hypothesis: Sequence[str],
    reference: Sequence[str],
    *,
    source: Sequence[str] | None = None,
) -> list[Finding]:
    """Return the faults of a hypothesis; an empty list is a clean file."""
    found = [_finding("empty", _where(not line.strip() for line in hypothesis), len(hypothesis))]
    if source is not None:
        copies = _where(
            bool(mine.strip()) and mine.strip() == theirs.strip() and mine.strip() != right.strip()
            for mine, theirs, right in zip(hypothesis, source, reference, strict=True)
        )
        found.append(_finding("copy_of_source", copies, len(hypothesis)))
    composed = [is_normalized("NFC", line) for line in hypothesis]
    if 0 < sum(composed) < len(composed):
        found.append(
            _finding("mixed_unicode", _where(not form for form in composed), len(composed))
        )
    found.append(_finding("repeated", _repeated(hypothesis, reference), len(hypothesis)))
    found.append(_finding("looping", _looping(hypothesis, source), len(hypothesis)))
    inside = _where(not _BREAKS.isdisjoint(line.rstrip("\r")) for line in hypothesis)
    found.append(_finding("line_breaks", inside, len(hypothesis)))
    return [finding for finding in found if finding.count]


def _repeated(hypothesis: Sequence[str], reference: Sequence[str]) -> list[int]:
    pairs = {
        line: set[str]()
        for line, count in Counter(hypothesis).items()
        if count > 1 and line.strip()
    }
    for mine, theirs in zip(hypothesis, reference, strict=True):
        if mine in pairs:
            pairs[mine].add(theirs)
    return _where(len(pairs.get(line, ())) > 1 for line in hypothesis)


def _looping(hypothesis: Sequence[str], source: Sequence[str] | None) -> list[int]:
    """Return the lines that translation would flag as loops: sources may repeat themselves too."""
    shares = ((n, repetition(line)) for n, line in enumerate(hypothesis) if _may_loop(line))
    loops = [(n, share) for n, share in shares if share > MAX_REPETITION]
    if source is not None:
        loops = [(n, share) for n, share in loops if share - repetition(source[n]) > MAX_REPETITION]
    return [n + 1 for n, _ in loops]


def _may_loop(line: str) -> bool:
    """Say whether any of a few pieces stands in the line before: much quicker than counting all.

    Where a quarter of a line is repeated, about four of them do.
    """
    length = _PIECE if " " in line else _PIECE // 2
    last = len(line) - length
    step = max(1, last // _PIECES)
    return any(line.find(line[at : at + length], 0, at + length - 1) >= 0
               for at in range(step, last + 1, step))  # fmt: skip


def check_language(
    lines: Sequence[str], target: str, detect: Detect
) -> tuple[LanguageCount, list[Finding]]:
    """Count the lines in the target language, and name those in another."""
    long = [n for n, line in enumerate(lines, 1) if len(line.strip()) >= OFF_TARGET_CHARACTERS]
    labels = detect([lines[n - 1] for n in long])
    wrong = [
        (n, label)
        for n, label in zip(long, labels, strict=True)
        if label not in (target, UNDETERMINED)
    ]
    unsure = sum(label == UNDETERMINED for label in labels)
    count = LanguageCount(judged=len(long), right=len(long) - len(wrong) - unsure, unsure=unsure)
    if not wrong:
        return count, []
    common = Counter(label for _, label in wrong).most_common(3)
    note = "detected " + ", ".join(f"{label} {number}" for label, number in common)
    return count, [_finding("off_target", [n for n, _ in wrong], len(lines), note)]


def _where(flags: Iterable[bool]) -> list[int]:
    return [number for number, flag in enumerate(flags, 1) if flag]


def _finding(code: Code, lines: Sequence[int], total: int, note: str = "") -> Finding:
    return Finding(
        code=code, count=len(lines), total=total, lines=tuple(lines[:MOST_LINES_NAMED]), note=note
    )
