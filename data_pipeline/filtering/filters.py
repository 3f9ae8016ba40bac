"""The filter interface, and the filters that need only the text of a line.

A filter measures score columns, and its judgements compare them with thresholds. A new filter
implements `Filter`, is built in `filter_stage.FilterChain`, and is listed in `presets`.
"""

import re
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy
import polars
from numpy.typing import NDArray
from polars import Expr, col

from nllb.languages import parse_language
from nllb.languages.scripts import unicode_class

Thresholds = Mapping[str, float]
Judgement = tuple[str, Expr]
"""A reason, and an expression that is true for the rows to reject; null does not reject."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """The languages and the corpus of a block.

    Attributes:
        source: language code of the source side.
        target: language code of the target side.
        corpus: name of the corpus.
        interface: whether the corpus consists of interface messages, where `$1` is a placeholder.
    """

    source: str
    target: str
    corpus: str
    interface: bool = False


class Filter(Protocol):
    """A filter that scores the rows of a block and rejects some of them."""

    @property
    def columns(self) -> Mapping[str, Any]:
        """Score columns and their types."""
        ...

    def measure(self, rows: polars.DataFrame, pair: Pair) -> polars.DataFrame:
        """Return the score columns of rows that no earlier filter has rejected."""
        ...

    def judge(self, thresholds: Thresholds, pair: Pair) -> Sequence[Judgement]:
        """Return the judgements over the score columns, in order."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnFilter:
    """A filter whose scores are column expressions over source and target.

    Attributes:
        columns: score columns and their types.
        scores: expressions, in the order of the columns.
        judgements: judgements over the score columns.
    """

    columns: Mapping[str, Any]
    scores: Callable[[Pair], Sequence[Expr]]
    judgements: Callable[[Thresholds, Pair], Sequence[Judgement]]

    def judge(self, thresholds: Thresholds, pair: Pair) -> Sequence[Judgement]:
        """Return the judgements."""
        return self.judgements(thresholds, pair)

    def measure(self, rows: polars.DataFrame, pair: Pair) -> polars.DataFrame:
        """Return the score columns."""
        named = zip(self.columns.items(), self.scores(pair), strict=True)
        return rows.select(score.cast(kind).alias(name) for (name, kind), score in named)


SWAPPED_SIDES: Final = "swapped_sides"
"""Reason for lines whose source is in the target language and vice versa."""
_SEPARATOR = r"[|¦»«›‹•·→←]| (?:>|>>|::|/|–|—) "
_URL = r"(?:https?://|www\.)[^\s<>\"'()\[\]]+"
_PLACEHOLDER = r"%(?:\d+\$)?[sdif]\b|\{\{?[\w.]+\}?\}"
_INTERFACE_PLACEHOLDER = rf"\$\d+|{_PLACEHOLDER}"
_THOUSANDS = r"([0-9])[.,' \u{a0}\u{202f}]([0-9]{3})\b"
_MIN_WORDS_TO_REPEAT = 10
_RUN = re.compile(r"(\S)\1\1+")
# Shifts that combine the 2 x width flags of three equal characters into one flag.
_DOUBLINGS = {1: (1,), 2: (1, 2), 3: (1, 2, 2), 4: (1, 2, 4)}


def length_filter(factors: Mapping[str, float]) -> ColumnFilter:
    """Filter by length (characters times the language's factor, at least 1) and length ratio.

    Source: NLLB Team 2022, section 5.3; a language without a factor has factor 1, as there.
    """

    def scores(pair: Pair) -> list[Expr]:
        return [
            polars.max_horizontal(1.0, col(side).str.len_chars() * factors.get(language, 1.0))
            for side, language in (("source", pair.source), ("target", pair.target))
        ]

    def judge(thresholds: Thresholds, pair: Pair) -> list[Judgement]:
        source, target = col("source_length"), col("target_length")
        smoothing = thresholds["length_ratio_smoothing"]
        longer = polars.max_horizontal(source, target) + smoothing
        shorter = polars.min_horizontal(source, target) + smoothing
        low, high = thresholds["min_length"], thresholds["max_length"]
        return [
            # The order of the published pipeline, because a line has only one reason.
            ("too_short", source < low),
            ("too_long", source > high),
            ("too_short", target < low),
            ("too_long", target > high),
            ("length_ratio", longer / shorter > thresholds["max_length_ratio"]),
        ]

    columns = {"source_length": polars.Float64, "target_length": polars.Float64}
    return ColumnFilter(columns=columns, scores=scores, judgements=judge)


def empty_filter() -> ColumnFilter:
    """Filter lines with an empty side."""
    return ColumnFilter(
        columns={"empty": polars.Boolean},
        scores=lambda pair: [(col("source") == "") | (col("target") == "")],
        judgements=lambda thresholds, pair: [("empty", col("empty"))],
    )


def copy_filter() -> ColumnFilter:
    """Filter lines whose sides have the same letters and digits, and at least one letter."""

    def scores(pair: Pair) -> list[Expr]:
        source, target = (
            col(side).str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]+", "")
            for side in ("source", "target")
        )
        return [(source == target) & source.str.contains(r"\p{L}")]

    return ColumnFilter(
        columns={"copy": polars.Boolean},
        scores=scores,
        judgements=lambda thresholds, pair: [("copy", col("copy"))],
    )


def letters_in(script: str) -> str:
    """Return the pattern of a letter of a script, or of one that its text may be mixed with."""
    return rf"[{unicode_class(script, mixed=True)}&&\p{{L}}]"


def script_filter() -> ColumnFilter:
    """Filter by the share of letters in the language's script; 0 if there are no letters.

    If each side is in the script of the other side's language, the sides are swapped.
    """

    def swapped(pair: Pair) -> Expr:
        scripts = {parse_language(code).script for code in (pair.source, pair.target)}
        if len({unicode_class(script) for script in scripts}) < 2:
            return polars.lit(False)
        return (share("source", pair.target) > 0.5) & (share("target", pair.source) > 0.5)

    def share(side: str, language: str) -> Expr:
        script = parse_language(language).script
        inside = col(side).str.count_matches(letters_in(script))
        return inside / polars.max_horizontal(1, col(side).str.count_matches(r"\p{L}"))

    def judge(thresholds: Thresholds, pair: Pair) -> list[Judgement]:
        low = thresholds["min_script_share"]
        both_low = (col("source_script_share") < low) & (col("target_script_share") < low)
        return [
            (SWAPPED_SIDES, col("swapped_scripts") & both_low),
            ("source_script", col("source_script_share") < low),
            ("target_script", col("target_script_share") < low),
        ]

    return ColumnFilter(
        columns={
            "source_script_share": polars.Float32,
            "target_script_share": polars.Float32,
            "swapped_scripts": polars.Boolean,
        },
        scores=lambda pair: [
            share("source", pair.source),
            share("target", pair.target),
            swapped(pair),
        ],
        judgements=judge,
    )


def placeholder_filter() -> ColumnFilter:
    """Filter lines with placeholders that occur on only one side."""
    return ColumnFilter(
        columns={"placeholder_mismatch": polars.Int32},
        scores=lambda pair: [_mismatch(_INTERFACE_PLACEHOLDER if pair.interface else _PLACEHOLDER)],
        judgements=lambda thresholds, pair: [("placeholders", col("placeholder_mismatch") > 0)],
    )


def url_filter() -> ColumnFilter:
    """Filter lines with URLs that occur on only one side."""
    return ColumnFilter(
        columns={"url_mismatch": polars.Int32},
        scores=lambda pair: [_mismatch(_URL)],
        judgements=lambda thresholds, pair: [("urls", col("url_mismatch") > 0)],
    )


def number_filter() -> ColumnFilter:
    """Filter by the share of numbers that occur on only one side.

    Digits of all scripts are equal, and thousands separators are ignored. Numbers of one digit do
    not count, because they are often written as words.
    """

    def numbers(side: str) -> Expr:
        plain = (
            polars.when(col(side).str.contains(r"[\p{Nd}--[0-9]]"))
            .then(col(side).str.replace_many(_DIGITS, _ASCII_DIGITS))
            .otherwise(col(side))
        )
        joined = plain.str.replace_all(_THOUSANDS, "$1$2")
        return joined.str.extract_all("[0-9]{2,}")

    def scores(pair: Pair) -> list[Expr]:
        source, target = numbers("source"), numbers("target")
        union = source.list.set_union(target).list.len()
        apart = source.list.set_symmetric_difference(target).list.len()
        return [apart / polars.max_horizontal(1, union)]

    return ColumnFilter(
        columns={"number_mismatch": polars.Float32},
        scores=scores,
        judgements=lambda thresholds, pair: [
            ("numbers", col("number_mismatch") > thresholds["max_number_mismatch"])
        ],
    )


def looks_like_navigation(text: Expr) -> Expr:
    """Return whether a text looks like the navigation of a web page.

    It does if it has at least two separators such as `|`, `»` or ` > `, at most four words between
    them on average, and does not end like a sentence.
    """
    separators = text.str.count_matches(_SEPARATOR)
    words = text.str.replace_all(_SEPARATOR, " ").str.extract_all(r"\S+").list.len()
    ends_like_sentence = text.str.contains(r"[.!?。！？…।؟።]['\")\]»”’]*\s*$")
    return (separators >= 2) & (words <= 4 * (separators + 1)) & ~ends_like_sentence


def navigation_filter() -> ColumnFilter:
    """Filter lines with a side that looks like the navigation of a web page."""
    return ColumnFilter(
        columns={"navigation": polars.Boolean},
        scores=lambda pair: [
            looks_like_navigation(col("source")) | looks_like_navigation(col("target"))
        ],
        judgements=lambda thresholds, pair: [("navigation", col("navigation"))],
    )


def margin_filter() -> ColumnFilter:
    """Filter by the embedding margin, if the corpus has one."""
    return ColumnFilter(
        columns={"margin": polars.Float32},
        scores=lambda pair: [col("margin")],
        judgements=lambda thresholds, pair: [("margin", col("margin") < thresholds["min_margin"])],
    )


class RepetitionFilter:
    """Filter repetitive text: few distinct words, or long runs of one character.

    Attributes:
        columns: score columns and their types.
    """

    columns: Mapping[str, Any] = {
        "unique_words": polars.Float32,
        "longest_run": polars.Int32,
    }

    def measure(self, rows: polars.DataFrame, pair: Pair) -> polars.DataFrame:
        """Return the share of distinct words and the longest run of the worse side."""
        words = [col(side).str.split(" ") for side in ("source", "target")]
        shares = [
            polars.when(split.list.len() >= _MIN_WORDS_TO_REPEAT)
            .then(split.list.n_unique() / split.list.len())
            .otherwise(1.0)
            for split in words
        ]
        runs = numpy.maximum(longest_runs(rows["source"]), longest_runs(rows["target"]))
        return rows.select(
            polars.min_horizontal(shares).cast(polars.Float32).alias("unique_words")
        ).with_columns(polars.Series("longest_run", runs, dtype=polars.Int32))

    def judge(self, thresholds: Thresholds, pair: Pair) -> list[Judgement]:
        """Reject lines with too few distinct words or too long a run."""
        return [
            ("repetition", col("unique_words") < thresholds["min_unique_words"]),
            ("repetition", col("longest_run") > thresholds["max_run"]),
        ]


def longest_runs(texts: polars.Series) -> NDArray[numpy.int64]:
    """Return the length of the longest run of one non-space character, or 0 if it is below 3.

    Candidates are found by comparing bytes with those one character earlier, for characters of one
    to four bytes. Only texts with three equal characters in a row are counted exactly.
    """
    found = numpy.zeros(len(texts), dtype=numpy.int64)
    joined = "\n".join(texts.to_list()).encode("utf-8", "surrogatepass")
    raw = numpy.frombuffer(joined, dtype=numpy.uint8)
    ends = numpy.cumsum(texts.str.len_bytes().to_numpy().astype(numpy.int64) + 1)
    suspects: set[int] = set()
    for width in (1, 2, 3, 4):
        same = raw[width:] == raw[:-width]
        for shift in _DOUBLINGS[width]:
            same = same[shift:] & same[:-shift]
        suspects.update(numpy.searchsorted(ends, numpy.flatnonzero(same), side="right").tolist())
    for place in sorted(suspects):
        runs = (match.end() - match.start() for match in _RUN.finditer(texts[place]))
        found[place] = max(runs, default=0)
    return found


def _mismatch(pattern: str) -> Expr:
    source, target = (col(side).str.extract_all(pattern) for side in ("source", "target"))
    return source.list.set_symmetric_difference(target).list.len()


def _all_digits() -> tuple[list[str], list[str]]:
    found = [chr(point) for point in range(128, sys.maxunicode + 1) if chr(point).isdecimal()]
    return found, [str(unicodedata.decimal(digit)) for digit in found]


_DIGITS, _ASCII_DIGITS = _all_digits()
