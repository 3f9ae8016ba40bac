"""Translates segments with placeholders so that each placeholder is in the output exactly once.

The model receives a stand-in for each placeholder, such as `X71`, because it often keeps stand-ins;
terms that are not translated are first left as they are. If the output lacks a placeholder or has
one too many, the segment is translated with other stand-ins and finally in pieces: the text between
the placeholders is translated piece by piece, and the segment is flagged `markup`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import regex

from nllb.inference.generator import Hypothesis
from nllb.languages.segmentation import translatable

from .placeholders import Protection, term_pattern
from .quality import FLAGS, KEPT, TrustRecord
from .retry import Attempt

Translate = Callable[[Sequence[str]], list[Attempt]]

STAND_INS: Final = ("X{}", "P{}")
"""Numbered stand-ins for placeholders, in the order in which they are tried."""
FIRST_NUMBER: Final = 71
_SIGNS: Final = "{}`"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Form:
    """A segment with stand-ins for its placeholders, as the model receives it."""

    text: str
    given: tuple[tuple[str, str], ...]
    """The character of each placeholder, in order, with a pattern of its stand-in."""

    def restore(self, output: str) -> str | None:
        """Return an output with placeholder characters; None unless it has each stand-in once."""
        for pattern in {each[1] for each in self.given}:
            signs = [sign for sign, own in self.given if own == pattern]
            places = list(regex.finditer(pattern, output, flags=regex.VERSION1))
            if len(places) != len(signs):
                return None
            for place, sign in reversed(list(zip(places, signs, strict=True))):
                output = output[: place.start()] + sign + output[place.end() :]
        return output


def translate_protected(
    segments: Sequence[str], protection: Protection, translate: Translate
) -> list[Attempt]:
    """Translate segments; outputs have the same placeholder characters as their segments.

    Args:
        segments: texts with a character in place of each placeholder.
        protection: the placeholders that the characters represent.
        translate: translates texts without placeholders.
    """
    found: dict[int, Attempt] = {}
    waiting = list(range(len(segments)))
    previous: dict[int, str] = {}
    for style in (None, *STAND_INS):
        forms = {n: _form(segments[n], protection, style) for n in waiting}
        asked = [n for n in waiting if previous.get(n) != forms[n].text]
        for number, attempt in zip(asked, translate([forms[n].text for n in asked]), strict=True):
            previous[number] = forms[number].text
            kept = _restore(segments[number], attempt, forms[number], protection)
            if kept is not None:
                found[number] = kept
        waiting = [n for n in waiting if n not in found]
        if not waiting:
            break
    found |= _in_pieces({n: segments[n] for n in waiting}, protection, translate)
    return [found[number] for number in range(len(segments))]


def _form(segment: str, protection: Protection, style: str | None) -> _Form:
    """Return a segment with stand-ins; without a style, terms are left as they are."""
    if not protection.signs(segment):
        return _Form(text=segment, given=())
    template = style or STAND_INS[0]
    number = FIRST_NUMBER
    text, given = "", []
    for sign in segment:
        placeholder = protection.placeholders.get(sign)
        if placeholder is None:
            text += sign
            continue
        if style is None and placeholder.kind == "term":
            stand_in = placeholder.text
            given.append((sign, term_pattern(stand_in)))
        else:
            while template.format(number) in segment:
                number += 1
            stand_in = template.format(number)
            number += 1
            given.append((sign, rf"{stand_in}(?!\p{{N}})"))
        text += stand_in
    return _Form(text=text, given=tuple(given))


def _restore(segment: str, attempt: Attempt, form: _Form, protection: Protection) -> Attempt | None:
    """Return an attempt with placeholder characters; None if its output lacks any stand-in."""
    kept: list[Hypothesis] = []
    for number, hypothesis in enumerate(attempt.hypotheses):
        text = form.restore(hypothesis.text)
        if text is not None and is_faithful(segment, text, protection):
            kept.append(replace(hypothesis, source=segment, text=text))
        elif number == 0:
            return None
    return replace(attempt, hypotheses=tuple(kept))


def is_faithful(segment: str, output: str, protection: Protection) -> bool:
    """Return whether an output has exactly the placeholders of its segment."""
    if segment == output:
        return True
    if sorted(protection.signs(segment)) != sorted(protection.signs(output)):
        return False
    # Signs that could form a placeholder together with signs of another segment.
    if any(output.count(sign) > segment.count(sign) for sign in _SIGNS):
        return False
    count = protection.pattern.count
    return count(protection.restore(segment)) == count(protection.restore(output))


def _in_pieces(
    segments: dict[int, str], protection: Protection, translate: Translate
) -> dict[int, Attempt]:
    """Translate the text between the placeholders of segments."""
    pieces = {n: _split(segment, protection) for n, segment in segments.items()}
    wanted = list(
        dict.fromkeys(
            piece.strip() for parts in pieces.values() for piece in parts if translatable(piece)
        )
    )
    attempts = dict(zip(wanted, translate(wanted), strict=True)) if wanted else {}
    return {n: _join(segments[n], parts, attempts, protection) for n, parts in pieces.items()}


def _split(segment: str, protection: Protection) -> list[str]:
    """Return the placeholder characters of a segment and the texts between them, in order."""
    pieces = [""]
    for sign in segment:
        if sign in protection.placeholders:
            pieces += [sign, ""]
        else:
            pieces[-1] += sign
    return pieces


def _join(
    segment: str, pieces: Sequence[str], attempts: dict[str, Attempt], protection: Protection
) -> Attempt:
    joined = ""
    used = []
    for piece in pieces:
        core = piece.strip()
        attempt = attempts.get(core)
        output = "" if attempt is None else _without_placeholders(core, attempt, protection)
        if attempt is None or not output:
            joined += piece
            continue
        used.append(attempt)
        start = piece.index(core)
        joined += piece[:start] + output + piece[start + len(core) :]
    if not is_faithful(segment, joined, protection):
        joined, used = segment, []
    best = [attempt.hypotheses[0] for attempt in used]
    hypothesis = Hypothesis(
        source=segment,
        text=joined,
        token_ids=tuple(token for each in best for token in each.token_ids),
        log_probability=sum(each.log_probability for each in best),
        score=sum(each.score for each in best) / max(1, len(best)),
        num_tokens=sum(each.num_tokens for each in best),
        finished=all(each.finished for each in best),
        unknown_source=tuple(dict.fromkeys(c for each in best for c in each.unknown_source)),
    )
    return Attempt(hypotheses=(hypothesis,), trust=markup_record([each.trust for each in used]))


def _without_placeholders(source: str, attempt: Attempt, protection: Protection) -> str:
    """Return the output of a piece without placeholders, because its source has none."""
    text = " ".join(attempt.hypotheses[0].text.split())
    for sign in _SIGNS:
        if text.count(sign) > source.count(sign):
            text = text.replace(sign, "")
    for _ in range(len(text)):
        found = [each for each in protection.pattern.find(text) if each.kind != "term"]
        if not found:
            break
        for each in reversed(found):
            text = text[: each.start] + text[each.end :]
    return text.strip()


def markup_record(records: Sequence[TrustRecord]) -> TrustRecord:
    """Return the record of a segment with uncertain markup, given the records of its pieces."""
    worst = min(records, key=lambda record: record.confidence, default=KEPT)
    flags = {flag for record in records for flag in record.flags} | {"markup"}
    attempts = max((record.attempts for record in records), default=1)
    return replace(
        worst,
        confidence=worst.confidence / 2,
        flags=tuple(flag for flag in FLAGS if flag in flags),
        attempts=attempts,
        origin="smaller_pieces" if records else "kept",
    )
