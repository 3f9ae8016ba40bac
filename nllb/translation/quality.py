"""How far one translated segment can be trusted: named measures, flags and one confidence value.

The measures need no model. Their limits were set on FLORES-200: of 40,000 human translations
between random languages fewer than one in 500 gets any flag but `numbers_missing`, and one in 60
gets that one (people write numbers out, and count in lakhs and myriads).
"""

import math
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal, get_args

import regex

from nllb.inference.generator import Hypothesis
from nllb.languages import Language
from nllb.languages.detection import UNDETERMINED, Detection
from nllb.languages.scripts import unicode_class

Flag = Literal[
    "truncated",
    "loop",
    "off_target",
    "copy",
    "length",
    "unknown_characters",
    "low_probability",
    "numbers_missing",
    "uncertain_source",
]
FLAGS: Final[tuple[Flag, ...]] = get_args(Flag)
"""All flags, the gravest first."""

Origin = Literal[
    "first", "full_vocabulary", "repetition_block", "larger_beam", "smaller_pieces", "kept"
]

MAX_REPETITION: Final = 0.25
"""Above it an output is a loop."""
MAX_COPY: Final = 0.9
"""Above it an output is a copy of its source."""
MAX_LENGTH_RATIO: Final = 2.5
"""An output wider than this many times its source, or narrower than its inverse, is flagged."""
LENGTH_SLACK: Final = 12
"""Columns that never count against the length ratio, so that short texts are not flagged."""
MIN_LOG_PROBABILITY: Final = -2.0
"""Below it (a token probability of 0.135) the model itself did not believe its output."""
MIN_SCRIPT_SHARE: Final = 0.5
"""Share of an output's letters that are of the target's script."""
MIN_DETECTION_PROBABILITY: Final = 0.7
"""The detector must be this sure before it contradicts the target."""
MIN_DETECTION_LETTERS: Final = 20
"""Outputs with fewer letters are not held against their detected language."""
MIN_TARGET_ALTERNATIVE: Final = 0.1
"""Where the target itself is given this probability, the detected language does not contradict."""

_WORDS = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_LETTER = regex.compile(r"\p{L}")
# Digits, with what people put between groups of digits: 1,000 1.000 1 000 1'000 18:30
_NUMBER = regex.compile(r"\p{Nd}+(?:[.,'’:\u00a0\u202f\u066b\u066c ]\p{Nd}+)*")
_UNKNOWN_PIECE = "⁇"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustRecord:
    """The quality estimate of one translated segment, made without a reference.

    Attributes:
        confidence: in [0, 1]: the geometric mean of the token probabilities, halved for every flag;
            1 for text that is kept as it is. It is not calibrated: compare it only within one model
            and direction.
        log_probability: mean natural log-probability of an output token; None where nothing was
            generated.
        length_ratio: output length divided by source length, in columns of a fixed-width font (a
            CJK character takes two).
        repetition: share of the output that repeats earlier parts of it, beyond the same share of
            the source.
        copied: share of the output's five-letter sequences that also occur in the source.
        script_share: share of the output's letters that belong to the target's script; None without
            letters.
        output_language: label that the detector gave to the output; None without a detector or
            without letters.
        output_language_probability: the detector's probability of this label.
        source_probability: the detector's probability of the source language; None where the caller
            named it.
        unknown_characters: characters of the source that the model's vocabulary lacks.
        missing_numbers: numbers of two digits or more that are in the source but not in the output.
        truncated: whether the search stopped at the maximum length before the end token.
        origin: where the output comes from: the first attempt, a retry strategy, or the source.
        attempts: how often the segment was translated; 0 for text that is kept as it is.
        flags: the problems of the output that was kept, the most severe first.
    """

    confidence: float
    log_probability: float | None
    length_ratio: float
    repetition: float
    copied: float
    script_share: float | None
    output_language: str | None = None
    output_language_probability: float | None = None
    source_probability: float | None = None
    unknown_characters: tuple[str, ...] = ()
    missing_numbers: tuple[str, ...] = ()
    truncated: bool = False
    origin: Origin = "first"
    attempts: int = 1
    flags: tuple[Flag, ...] = ()


KEPT: Final = TrustRecord(
    confidence=1.0,
    log_probability=None,
    length_ratio=1.0,
    repetition=0.0,
    copied=1.0,
    script_share=None,
    origin="kept",
    attempts=0,
)
"""The record of text that stands in the output as it stood in the input."""


def with_source(record: TrustRecord, *, probability: float, uncertain: bool) -> TrustRecord:
    """Return the record of a segment whose source language was detected."""
    if not uncertain:
        return replace(record, source_probability=probability)
    return replace(
        record,
        source_probability=probability,
        confidence=record.confidence / 2,
        flags=(*record.flags, "uncertain_source"),
    )


def judge(
    hypothesis: Hypothesis,
    *,
    source: Language,
    target: Language,
    detection: Detection | None = None,
    origin: Origin = "first",
    attempts: int = 1,
) -> TrustRecord:
    """Measure one output against its source.

    Args:
        hypothesis: The output and its source text.
        source: Language of the source.
        target: Language that was asked for.
        detection: What a detector said of the output, where there is one.
        origin: The rung of the ladder that the output comes from.
        attempts: How many outputs were made until now.
    """
    text, output = hypothesis.source, hypothesis.text
    log_probability = hypothesis.log_probability / max(1, hypothesis.num_tokens)
    repeated = max(0.0, repetition(output) - repetition(text))
    copied = 0.0
    if source.code != target.code:
        untranslated = _is_untranslated(output, text, source, detection)
        copied = 1.0 if untranslated else copied_share(text, output)
    in_script = script_share(output, target.script)
    unknown = hypothesis.unknown_source
    if _UNKNOWN_PIECE in output and _UNKNOWN_PIECE not in (*unknown, *text):
        unknown = (*unknown, _UNKNOWN_PIECE)
    missing = missing_numbers(text, output)
    wrong: dict[Flag, bool] = {
        "truncated": not hypothesis.finished,
        "loop": repeated > MAX_REPETITION,
        "off_target": _off_target(output, text, target, in_script, detection),
        "copy": copied > MAX_COPY,
        "length": not _length_is_likely(text, output),
        "unknown_characters": bool(unknown),
        "low_probability": log_probability < MIN_LOG_PROBABILITY,
        "numbers_missing": bool(missing),
        "uncertain_source": False,
    }
    flags = tuple(flag for flag in FLAGS if wrong[flag])
    return TrustRecord(
        confidence=min(1.0, math.exp(log_probability)) * 0.5 ** len(flags),
        log_probability=log_probability,
        length_ratio=columns(output) / max(1, columns(text)),
        repetition=repeated,
        copied=copied,
        script_share=in_script,
        output_language=None if detection is None else detection.language,
        output_language_probability=None if detection is None else detection.probability,
        unknown_characters=unknown,
        missing_numbers=missing,
        truncated=not hypothesis.finished,
        origin=origin,
        attempts=attempts,
        flags=flags,
    )


def columns(text: str) -> int:
    """Return the width of a text in a fixed-width font: two for CJK characters, none for marks."""
    if text.isascii():
        return len(text)
    return sum(
        2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
        if unicodedata.category(character) not in {"Mn", "Me"}
    )


def repetition(text: str) -> float:
    """Return the share of a text's character sequences that occurred in it before.

    Sequences are eight characters long, four where characters are wide (Chinese, Japanese, Korean),
    so that loops of tokens, words and characters count alike in every script.
    """
    folded = " ".join(text.casefold().split())
    length = 4 if columns(folded) > 1.5 * len(folded) else 8
    sequences = _sequences(folded, length)
    return 1 - len(set(sequences)) / len(sequences) if len(sequences) >= 8 else 0.0


def copied_share(source: str, output: str) -> float:
    """Return the share of the output's five-letter sequences that stand in the source too."""
    of_output = _sequences("".join(_WORDS.findall(output.casefold())), 5)
    if len(of_output) < 8:
        return 0.0
    of_source = set(_sequences("".join(_WORDS.findall(source.casefold())), 5))
    return sum(sequence in of_source for sequence in of_output) / len(of_output)


def _is_untranslated(
    output: str, source_text: str, source: Language, detection: Detection | None
) -> bool:
    """Say whether a few words, too few for `copied_share`, were left in the source's language.

    One word may be a name, and so may several that no detector takes for the source's language.
    """
    if detection is None or detection.language != source.code:
        return False
    words = _WORDS.findall(output.casefold())
    return (
        detection.probability >= MIN_DETECTION_PROBABILITY
        and len(words) > 1
        and words == _WORDS.findall(source_text.casefold())
    )


def script_share(text: str, script: str) -> float | None:
    """Return the share of a text's letters that are of a script; None without letters."""
    letters = len(_LETTER.findall(text))
    return len(_letters_of(script).findall(text)) / letters if letters else None


def missing_numbers(source: str, output: str) -> tuple[str, ...]:
    """Return the numbers of two digits or more that the output lacks, as they stand in the source.

    Digits of all scripts are equal and separators do not count. Of numbers from 10,000 on, whose
    last digits languages like to write as a word, the digits before the zeros are enough.
    """
    there = Counter(_digits(number) for number in _NUMBER.findall(output))
    all_digits = " ".join(there)
    missing = []
    for number in _NUMBER.findall(source):
        digits = _digits(number)
        enough = digits.rstrip("0") if len(digits) >= 5 else digits
        if len(digits) >= 2 and not (enough in all_digits or _parts_stand_in(number, all_digits)):
            missing.append(number)
    return tuple(missing)


def _parts_stand_in(number: str, all_digits: str) -> bool:
    # "18,10" may have become "18h10", and "2 500" may be two numbers side by side
    parts = regex.findall(r"\p{Nd}+", number)
    return len(parts) > 1 and all(_digits(part) in all_digits for part in parts)


def _digits(number: str) -> str:
    return "".join(str(unicodedata.decimal(c)) for c in number if c.isdecimal())


def _sequences(text: str, length: int) -> list[str]:
    return [text[i : i + length] for i in range(len(text) - length + 1)]


@cache
def _letters_of(script: str) -> "regex.Pattern[str]":
    classes = unicode_class(script) + r"\p{Script=Zyyy}\p{Script=Zinh}"
    return regex.compile(rf"(?V1)[[{classes}]&&\p{{L}}]")


def _length_is_likely(source: str, output: str) -> bool:
    there, here = columns(source), columns(output)
    longer, shorter = max(there, here), min(there, here)
    return longer <= MAX_LENGTH_RATIO * shorter + LENGTH_SLACK


def _off_target(
    output: str,
    source: str,
    target: Language,
    in_script: float | None,
    detection: Detection | None,
) -> bool:
    """Say whether the output is in another script or language than the target.

    Names that stand in the source in another script ("iPhone 15 Pro") may stay in it.
    """
    letters = len(_LETTER.findall(output))
    if in_script is not None and in_script < MIN_SCRIPT_SHARE:
        names_only = letters < MIN_DETECTION_LETTERS and output.casefold() in source.casefold()
        if not names_only:
            return True
    if detection is None or letters < MIN_DETECTION_LETTERS:
        return False
    if detection.language in (target.code, UNDETERMINED):
        return False
    for_target = dict(detection.alternatives).get(target.code, 0.0)
    if detection.macro_group is not None and for_target > 0:
        return False  # one of a group of languages that detectors confuse, the target too
    return (
        detection.probability >= MIN_DETECTION_PROBABILITY and for_target < MIN_TARGET_ALTERNATIVE
    )
