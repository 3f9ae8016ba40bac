"""Quality checks of one translated segment: measures, flags and a confidence value.

The checks require neither a reference nor a model. Their thresholds were chosen on FLORES-200: of
40,000 human translations between random languages, fewer than one in 500 has any flag other than
`numbers_missing`, and one in 55 has that one (people write numbers as words, and count in lakhs and
myriads).
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal, get_args

import regex

from nllb.inference.generator import Hypothesis, Terms
from nllb.languages import Language
from nllb.languages.detection import UNDETERMINED, Detection
from nllb.languages.scripts import unicode_class

from .glossary import terms_by_status
from .literals import missing_literals, missing_numbers
from .text_width import columns

Flag = Literal[
    "truncated",
    "loop",
    "off_target",
    "copy",
    "meaning",
    "length",
    "unknown_characters",
    "low_probability",
    "literals_missing",
    "numbers_missing",
    "term_missing",
    "markup",
    "uncertain_source",
]
FLAGS: Final[tuple[Flag, ...]] = get_args(Flag)
"""All flags, the most severe first."""

MeaningVerdict = Literal["kept", "changed", "unknown"]
"""Whether an output has the same meaning as its source, according to `meaning.py`."""

AttemptOrigin = Literal[
    "first", "full_vocabulary", "repetition_block", "larger_beam", "smaller_pieces", "kept"
]
"""The first search, one of the retry strategies, or source text that is kept unchanged."""

MAX_REPETITION: Final = 0.25
"""Maximum share of an output that repeats earlier parts; above it, it is flagged as a loop."""
MAX_COPY: Final = 0.9
"""Maximum share of an output that occurs in its source; above it, it is flagged as a copy."""
MAX_LENGTH_RATIO: Final = 2.5
"""Maximum ratio between the widths of an output and its source, in either direction."""
LENGTH_SLACK: Final = 12
"""Columns that are not counted in the length ratio, so that short texts are not flagged."""
MIN_LOG_PROBABILITY: Final = -2.0
"""Minimum mean log-probability (a token probability of 0.135) of an output that is not flagged."""
MIN_SCRIPT_SHARE: Final = 0.5
"""Minimum share of an output's letters that must be in the target's script."""
MIN_DETECTION_PROBABILITY: Final = 0.7
"""Minimum probability of a detected language that counts against an output."""
MIN_COPY_PROBABILITY: Final = 0.6
"""The same for a few words without change, which then count as copied."""
MIN_DETECTION_LETTERS: Final = 20
"""Minimum number of letters of an output whose detected language is compared with the target."""
MIN_TARGET_ALTERNATIVE: Final = 0.1
"""Probability of the target from which the detector's first answer does not count against it."""

_WORDS = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_LETTER = regex.compile(r"\p{L}")
_REPLACEMENT = "\ufffd"
_UNKNOWN_PIECE = "⁇"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustRecord:
    """Quality estimate of one translated segment, made without a reference translation.

    It contains the measurements that the estimate is based on, the flags that they raise, and one
    confidence value. (In the literature, this is called quality estimation.)

    Attributes:
        confidence: in [0, 1]: the geometric mean of the token probabilities, halved for every
            flag; 1 for text that is kept unchanged. It is not calibrated: compare it only within
            one model and direction.
        log_probability: mean natural log-probability of the output tokens; None if nothing was
            generated.
        length_ratio: width of the output divided by that of the source, in columns of a
            fixed-width font.
        repetition: share of the output that repeats earlier parts of it, minus the same share
            of the source.
        copied: share of the output's five-letter sequences that also occur in the source.
        script_share: share of the output's letters that are in the target's script; None
            without letters.
        output_language: the detector's label for the output; None without a detector or without
            letters.
        output_language_probability: probability of that label.
        source_probability: probability of the detected source language; None if the caller
            named the language.
        unknown_characters: characters of the source that the model's vocabulary lacks. U+FFFD
            and U+2047 are listed if the output contains them and the source does not.
        missing_literals: addresses, @names, placeholders and tags of the source that the output
            lacks.
        missing_numbers: numbers of two digits or more that occur in the source and not in the
            output.
        meaning: whether the output has the same meaning as its source: `kept`, `changed`, or
            `unknown` for languages that the sentence encoder does not know and for very short
            outputs; None if it was not checked.
        similarity: how well the output covers the source in the encoder's states, at most 1; None
            if they were not compared.
        used_terms: glossary terms whose exact form the output contains, by their preferred form.
        inflected_terms: glossary terms of which the output seems to contain another form.
        missing_terms: glossary terms that the output lacks.
        truncated: true if the search stopped at its maximum length before the end token.
        origin: source of the output: the first search, a retry strategy, or the source text.
        pivot_text: the English translation that the output was made from, if the model translates
            this direction in two steps; otherwise None.
        attempts: number of translations of the segment; 0 for text that is kept unchanged.
        flags: problems of the chosen output, the most severe first.
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
    missing_literals: tuple[str, ...] = ()
    missing_numbers: tuple[str, ...] = ()
    meaning: MeaningVerdict | None = None
    similarity: float | None = None
    used_terms: tuple[str, ...] = ()
    inflected_terms: tuple[str, ...] = ()
    missing_terms: tuple[str, ...] = ()
    truncated: bool = False
    origin: AttemptOrigin = "first"
    pivot_text: str | None = None
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
"""The trust record of text that is kept unchanged."""


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
    origin: AttemptOrigin = "first",
    attempts: int = 1,
    terms: Terms = (),
) -> TrustRecord:
    """Measure one output against its source.

    Args:
        hypothesis: The output and its source text.
        source: Language of the source.
        target: Language that was requested.
        detection: The detector's answer for the output, if there is a detector.
        origin: The retry strategy that produced the output.
        attempts: How often the segment has been translated so far.
        terms: The terms that the output must contain.
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
    for sign in (_UNKNOWN_PIECE, _REPLACEMENT):
        if sign in output and sign not in text and sign not in unknown:
            unknown = (*unknown, sign)
    by_status = terms_by_status(terms, output)
    literals, numbers = missing_literals(text, output), missing_numbers(text, output)
    wrong: dict[Flag, bool] = {
        "truncated": not hypothesis.finished,
        "loop": repeated > MAX_REPETITION,
        "off_target": _is_off_target(
            output, text, source=source, target=target, in_script=in_script, detection=detection
        ),
        "copy": copied > MAX_COPY,
        "meaning": False,
        "length": not _length_is_likely(text, output),
        "unknown_characters": bool(unknown),
        "low_probability": log_probability < MIN_LOG_PROBABILITY,
        "literals_missing": bool(literals),
        "numbers_missing": bool(numbers),
        "term_missing": bool(by_status["missing"]),
        "markup": False,
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
        missing_literals=literals,
        missing_numbers=numbers,
        used_terms=by_status["used"],
        inflected_terms=by_status["inflected"],
        missing_terms=by_status["missing"],
        truncated=not hypothesis.finished,
        origin=origin,
        pivot_text=hypothesis.pivot_text,
        attempts=attempts,
        flags=flags,
    )


def repetition(text: str) -> float:
    """Return the share of a text's character sequences that occur earlier in it.

    Sequences are eight characters long, or four where characters are wide (Chinese, Japanese,
    Korean), so that loops of tokens, words and characters count alike in every script.
    """
    folded = " ".join(text.casefold().split())
    length = 4 if columns(folded) > 1.5 * len(folded) else 8
    sequences = _sequences(folded, length)
    return 1 - len(set(sequences)) / len(sequences) if len(sequences) >= 8 else 0.0


def copied_share(source: str, output: str) -> float:
    """Return the share of the output's five-letter sequences that occur in the source."""
    of_output = _sequences("".join(_WORDS.findall(output.casefold())), 5)
    if len(of_output) < 8:
        return 0.0
    of_source = set(_sequences("".join(_WORDS.findall(source.casefold())), 5))
    return sum(sequence in of_source for sequence in of_output) / len(of_output)


def _is_untranslated(
    output: str, source_text: str, source: Language, detection: Detection | None
) -> bool:
    """Return whether a few words, too few for `copied_share`, were left untranslated.

    A single word may be a name. Several words count only if the detector recognizes them as text in
    the source language.
    """
    if detection is None or detection.language != source.code:
        return False
    words = _WORDS.findall(output.casefold())
    return (
        detection.probability > MIN_COPY_PROBABILITY
        and len(words) > 1
        and words == _WORDS.findall(source_text.casefold())
    )


def script_share(text: str, script: str) -> float | None:
    """Return the share of a text's letters that belong to a script; None without letters."""
    letters = len(_LETTER.findall(text))
    return len(_letters_of(script).findall(text)) / letters if letters else None


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


def _is_off_target(
    output: str,
    text: str,
    *,
    source: Language,
    target: Language,
    in_script: float | None,
    detection: Detection | None,
) -> bool:
    """Return whether the script or the language of an output differs from the target's.

    An output without letters has lost the words of its source, so it counts as well.
    """
    letters = len(_LETTER.findall(output))
    if in_script is None:
        return bool(_LETTER.search(text))
    if in_script < MIN_SCRIPT_SHARE and not _is_kept_name(output, text, source):
        return True
    if detection is None or letters < MIN_DETECTION_LETTERS:
        return False
    if detection.language in (target.code, UNDETERMINED):
        return False
    for_target = dict(detection.alternatives).get(target.code, 0.0)
    if detection.macro_group is not None and for_target > 0:
        return False  # The target belongs to the same group of easily confused languages.
    return (
        detection.probability >= MIN_DETECTION_PROBABILITY and for_target < MIN_TARGET_ALTERNATIVE
    )


def _is_kept_name(output: str, text: str, source: Language) -> bool:
    """Return whether a short output in another script is a name that may remain unchanged.

    Latin names in a Russian text ("iPhone 15") may. Words in the source's own script may only if
    they look like a Latin name: "iPhone 15 Pro", but not "Привет" or "Hello".
    """
    if len(_LETTER.findall(output)) >= MIN_DETECTION_LETTERS:
        return False
    if output.casefold() not in text.casefold():
        return False
    in_source_script = script_share(output, source.script) or 0.0
    if in_source_script < MIN_SCRIPT_SHARE:
        return True
    words = _WORDS.findall(output)
    named = [word for word in words if word[0].isupper() or not word.islower()]
    marked = any(word[1:] != word[1:].lower() or word.isdecimal() for word in words)
    return source.script == "Latn" and len(named) == len(words) and (marked or len(words) > 1)
