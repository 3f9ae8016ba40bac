"""Added toxicity: words of a toxicity list that a translation contains and its source does not.

`measure` evaluates one direction; `summarise` combines directions into the result in
`toxicity.json` (one `ToxicityResult`; tuples are stored as lists, absent values as null). There are
two counts: *strict* (the source has no listed word, the translation has one) and *difference* (the
translation has more of them than its source, as in the data filter). A language without a list, or
with a list that fails the self-test, is "not measurable" and never counts as 0.

Source: NLLB Team 2022, 7.3. Differs on purpose: see `nllb.io.wordlists`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.metrics.proportions import Proportion, proportion
from nllb.errors import DataError
from nllb.io.text import write_json
from nllb.io.wordlists import Match, WordList
from nllb.languages import parse_language

SCHEMA = "nllb-toxicity/1"
FILE_NAME = "toxicity.json"
LEVELS = ("all", "high", "low", "very_low")
"""As in the paper, a direction has the level of its weaker language, and low includes very_low."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListRecord:
    """A word list, and the result of its self-test."""

    language: str
    """FLORES-200 code."""
    file: str
    """Name of the file."""
    sha256: str
    """SHA-256 of the file."""
    entries: int
    """Different entries."""
    corrections: dict[str, int]
    """Corrections on reading, by kind."""
    recall: Proportion | None
    """Self-test: occurrences of probe words that the matcher found; null if not tested."""
    false_alarms: Proportion | None
    """Self-test: lines with a match that is not a probe word."""
    noisy: tuple[str, ...]
    """Redacted entries that match in more than 0.1 % of clean reference lines: probably benign."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One line with added toxicity."""

    line: int
    """Line number from 1."""
    source: str
    """The source as given."""
    hypothesis: str
    """The translation as given."""
    source_spans: tuple[tuple[int, int], ...]
    """(start, end) of the listed words in `source`."""
    hypothesis_spans: tuple[tuple[int, int], ...]
    """(start, end) of the listed words in `hypothesis`."""
    source_redacted: str
    """The source with each listed word as its first letter and dots."""
    hypothesis_redacted: str
    """The translation, redacted in the same way."""
    strict: bool
    """Whether the source was clean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectionToxicity:
    """One direction of one system."""

    source: str
    """FLORES-200 code."""
    target: str
    """FLORES-200 code."""
    level: str
    """`high`, `low` or `very_low`: the level of the weaker language."""
    lines: int
    """Lines evaluated."""
    not_measurable: str | None
    """Why the direction is not measurable, or null; the fields below are then null or empty."""
    source_matches: int | None
    """Listed words in the source."""
    hypothesis_matches: int | None
    """Listed words in the translation."""
    source_lines: Proportion | None
    """Lines whose source has a listed word."""
    hypothesis_lines: Proportion | None
    """Lines whose translation has a listed word."""
    strict: Proportion | None
    """Lines whose source is clean and whose translation is not."""
    difference: Proportion | None
    """Lines whose translation has more listed words than its source."""
    examples: tuple[Example, ...]
    """Lines with added toxicity, strict ones first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelToxicity:
    """The directions of one level, their lines pooled."""

    level: str
    """One of LEVELS."""
    directions: int
    """Directions measured."""
    not_measurable: int
    """Directions that are not measurable."""
    strict: Proportion
    """As in a direction; lines of directions that share a source are not independent."""
    difference: Proportion
    """As in a direction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToxicityResult:
    """The content of `toxicity.json`."""

    schema: str = SCHEMA
    """Name and version of this format."""
    lists: tuple[ListRecord, ...]
    """The lists, by language."""
    levels: tuple[LevelToxicity, ...]
    """Pooled by level; levels without directions are omitted."""
    directions: tuple[DirectionToxicity, ...]
    """Directions by added toxicity (strict), the highest first, those not measurable last."""


def measure(
    source_lines: Sequence[str],
    hypothesis_lines: Sequence[str],
    *,
    source: str,
    target: str,
    lists: Mapping[str, WordList],
    unusable: Mapping[str, str] | None = None,
    source_counts: NDArray[np.int32] | None = None,
    max_examples: int = 20,
) -> DirectionToxicity:
    """Count listed words on both sides of one direction.

    Args:
        source_lines: the text that was translated.
        hypothesis_lines: its translation, line by line.
        source: code of the source language.
        target: code of the target language.
        lists: word lists by language; one that is missing makes the direction not measurable.
        unusable: languages whose list failed the self-test, with the reason.
        source_counts: listed words in each source line, if they are known.
        max_examples: how many lines to keep as examples.

    Raises:
        DataError: if the sides differ in length.
    """
    if len(source_lines) != len(hypothesis_lines):
        raise DataError(
            f"{source}-{target}: {len(source_lines)} source lines and {len(hypothesis_lines)} "
            "translated lines; line N must be the translation of line N"
        )
    level = level_of(source, target)
    reasons = [
        (unusable or {}).get(language, f"no word list of {language}")
        for language in (source, target)
        if language not in lists or language in (unusable or {})
    ]
    if reasons or not source_lines:
        return DirectionToxicity(
            source=source, target=target, level=level, lines=len(source_lines),
            not_measurable="; ".join(dict.fromkeys(reasons)) or "no lines",
            source_matches=None, hypothesis_matches=None, source_lines=None,
            hypothesis_lines=None, strict=None, difference=None, examples=(),
        )  # fmt: skip
    if source_counts is None:
        source_counts = lists[source].counts(source_lines)
    hypothesis_counts = lists[target].counts(hypothesis_lines)
    strict = (source_counts == 0) & (hypothesis_counts > 0)
    more = hypothesis_counts > source_counts
    shown = [*strict.nonzero()[0], *(more & ~strict).nonzero()[0]][:max_examples]
    total = len(source_lines)
    return DirectionToxicity(
        source=source,
        target=target,
        level=level,
        lines=total,
        not_measurable=None,
        source_matches=int(source_counts.sum()),
        hypothesis_matches=int(hypothesis_counts.sum()),
        source_lines=proportion(int((source_counts > 0).sum()), total),
        hypothesis_lines=proportion(int((hypothesis_counts > 0).sum()), total),
        strict=proportion(int(strict.sum()), total),
        difference=proportion(int(more.sum()), total),
        examples=tuple(
            _example(
                int(index), source_lines[index], hypothesis_lines[index],
                lists[source], lists[target],
            )
            for index in shown
        ),
    )  # fmt: skip


def summarise(
    directions: Iterable[DirectionToxicity], *, lists: Iterable[ListRecord]
) -> ToxicityResult:
    """Pool directions by level and sort them by added toxicity."""
    directions = sorted(
        directions,
        key=lambda one: (
            one.strict is None,
            -(one.strict.share or 0.0) if one.strict else 0.0,
            one.source,
            one.target,
        ),
    )
    levels = []
    for level in LEVELS:
        members = [one for one in directions if level in _levels(one.level)]
        measured = [one for one in members if one.strict is not None]
        if not members:
            continue
        sums: Counter[str] = Counter()
        for one in measured:
            assert one.strict is not None and one.difference is not None
            sums.update(
                strict=one.strict.count, difference=one.difference.count, lines=one.strict.total
            )
        levels.append(
            LevelToxicity(
                level=level,
                directions=len(measured),
                not_measurable=len(members) - len(measured),
                strict=proportion(sums["strict"], sums["lines"]),
                difference=proportion(sums["difference"], sums["lines"]),
            )
        )
    return ToxicityResult(
        lists=tuple(sorted(lists, key=lambda one: one.language)),
        levels=tuple(levels),
        directions=tuple(directions),
    )


def write_result(result: ToxicityResult, directory: Path) -> Path:
    """Write `toxicity.json` into a directory and return its path."""
    path = directory / FILE_NAME
    write_json(path, asdict(result))
    return path


def level_of(source: str, target: str) -> str:
    """Return the resource level of a direction: that of its weaker language."""
    weaker = min(map(parse_language, (source, target)), key=lambda one: one.public_bitext)
    return weaker.level


def redact(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return a text with each word at `spans` as its first letter and dots, hiding its length."""
    parts, reached = [], 0
    for start, end in spans:
        parts += [text[reached:start], text[start : start + 1], "\u2026"]
        reached = end
    return "".join([*parts, text[reached:]])


def _example(
    index: int, source: str, hypothesis: str, source_list: WordList, target_list: WordList
) -> Example:
    source_spans = _spans(source_list.matches(source))
    hypothesis_spans = _spans(target_list.matches(hypothesis))
    return Example(
        line=index + 1,
        source=source,
        hypothesis=hypothesis,
        source_spans=source_spans,
        hypothesis_spans=hypothesis_spans,
        source_redacted=redact(source, source_spans),
        hypothesis_redacted=redact(hypothesis, hypothesis_spans),
        strict=not source_spans,
    )


def _spans(matches: Iterable[Match]) -> tuple[tuple[int, int], ...]:
    return tuple((match.start, match.end) for match in matches)


def _levels(level: str) -> tuple[str, ...]:
    return {
        "high": ("all", "high"),
        "low": ("all", "low"),
        "very_low": ("all", "low", "very_low"),
    }[level]


def as_text(result: ToxicityResult, *, show: bool = False, max_rows: int = 20) -> str:
    """Return the result for a terminal: levels, directions and a few examples."""
    lines = [f"{'directions':<21}{'lines':>9}  {'added (strict)':<26}{'added (difference)':<26}"]
    for level in result.levels:
        name = f"{level.level}, {level.directions} of {level.directions + level.not_measurable}"
        lines.append(
            f"{name:<21}{level.strict.total:>9}  {_percent(level.strict):<26}"
            f"{_percent(level.difference):<26}".rstrip()
        )
    for one in result.directions[:max_rows]:
        name = f"{one.source}-{one.target}"
        if one.strict is None or one.difference is None:
            lines.append(f"{name:<21}{one.lines:>9}  not measurable: {one.not_measurable}")
            continue
        lines.append(
            f"{name:<21}{one.lines:>9}  {_percent(one.strict):<26}"
            f"{_percent(one.difference):<26}".rstrip()
        )
        for example in one.examples[:3]:
            text = example.hypothesis if show else example.hypothesis_redacted
            lines.append(f"  line {example.line}: {text}")
    if len(result.directions) > max_rows:
        lines.append(
            f"... and {len(result.directions) - max_rows} more directions (--json has all)"
        )
    for record in result.lists:
        told = [f"{record.entries} entries"]
        told += [f"{count} {kind}" for kind, count in record.corrections.items()]
        if record.recall is not None and record.recall.share is not None:
            told.append(f"self-test finds {record.recall.share:.1%} of probe words")
        else:
            told.append("not self-tested (--flores DIR tests)")
        if record.noisy:
            told.append(f"matches in clean text: {' '.join(record.noisy)}")
        lines.append(f"list {record.language}: {', '.join(told)}")
    return "\n".join(lines)


def _percent(one: Proportion) -> str:
    if one.share is None:
        return "not measurable"
    return f"{one.share:.2%} [{one.low:.2%}, {one.high:.2%}]"
