"""Translates segments with placeholders so that each placeholder is in the output exactly once.

A model receives a stand-in for each placeholder. If it loses one, the segment is translated with
other stand-ins; then the words of an output that are aligned to the stand-ins are replaced; as a
last resort, the text between the placeholders is translated piece by piece. In the last two cases,
the segment is flagged `markup`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from nllb.inference.generator import Hypothesis
from nllb.inference.word_alignment import Aligner
from nllb.languages.segmentation import translatable

from .placeholders import Protection
from .quality import FLAGS, KEPT, AttemptOrigin, TrustRecord
from .retry import Attempt
from .stand_ins import Form, Style, make_form

Translate = Callable[[Sequence[str]], list[Attempt]]

STYLES: Final[tuple[Style, ...]] = ("word", "code")
"""Stand-ins in the order in which they are tried; measured in docs/benchmarks/translation.md."""
_SIGNS: Final = "{}`"
_Tried = list[tuple[Form, Attempt]]


def translate_protected(
    segments: Sequence[str],
    protection: Protection,
    translate: Translate,
    aligner: Aligner | None = None,
) -> list[Attempt]:
    """Translate segments; outputs have the same placeholder characters as their segments.

    Args:
        segments: texts with a character in place of each placeholder.
        protection: the placeholders that the characters represent.
        translate: translates texts without placeholders.
        aligner: aligns words, to replace those that are aligned to stand-ins.
    """
    found: dict[int, Attempt] = {}
    tried: dict[int, _Tried] = {number: [] for number in range(len(segments))}
    waiting = list(tried)
    for style in STYLES:
        forms = {n: make_form(segments[n], protection, style) for n in waiting}
        asked = [n for n in waiting if not tried[n] or tried[n][-1][0].text != forms[n].text]
        for number, attempt in zip(asked, translate([forms[n].text for n in asked]), strict=True):
            tried[number].append((forms[number], attempt))
            kept = _restore(segments[number], attempt, forms[number], protection)
            if kept is not None:
                found[number] = kept
        waiting = [n for n in waiting if n not in found]
        if not waiting:
            break
    if aligner is not None and waiting:
        lacking = {number: tried[number] for number in waiting}
        found |= _projected(segments, lacking, protection, aligner)
        waiting = [n for n in waiting if n not in found]
    found |= _in_pieces({n: segments[n] for n in waiting}, protection, translate)
    return [found[number] for number in range(len(segments))]


def _restore(segment: str, attempt: Attempt, form: Form, protection: Protection) -> Attempt | None:
    """Return an attempt with the characters of placeholders; None if its output lacks any."""
    kept: list[Hypothesis] = []
    for number, hypothesis in enumerate(attempt.hypotheses):
        text = form.restore(hypothesis.text)
        if text is not None and is_faithful(segment, text, protection):
            kept.append(replace(hypothesis, source=segment, text=text))
        elif number == 0:
            return None
    return replace(attempt, hypotheses=tuple(kept))


def _projected(
    segments: Sequence[str],
    lacking: dict[int, _Tried],
    protection: Protection,
    aligner: Aligner,
) -> dict[int, Attempt]:
    """Return outputs in which characters replace the words that are aligned to stand-ins."""
    asked = [(n, form, attempt) for n, tried in lacking.items() for form, attempt in tried]
    links = aligner.align([(form.text, attempt.hypotheses[0].text) for _, form, attempt in asked])
    found: dict[int, Attempt] = {}
    for (number, form, attempt), of_pair in zip(asked, links, strict=True):
        if number in found:
            continue
        best = attempt.hypotheses[0]
        text = form.project(best.text, of_pair)
        if text is not None and is_faithful(segments[number], text, protection):
            hypothesis = replace(best, source=segments[number], text=text)
            trust = markup_record([attempt.trust], origin=attempt.trust.origin)
            found[number] = Attempt(hypotheses=(hypothesis,), trust=trust)
    return found


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


def markup_record(
    records: Sequence[TrustRecord], *, origin: AttemptOrigin = "smaller_pieces"
) -> TrustRecord:
    """Return the record of a segment whose markup is uncertain, given those of its pieces."""
    worst = min(records, key=lambda record: record.confidence, default=KEPT)
    flags = {flag for record in records for flag in record.flags} | {"markup"}
    attempts = max((record.attempts for record in records), default=1)
    return replace(
        worst,
        confidence=worst.confidence / 2,
        flags=tuple(flag for flag in FLAGS if flag in flags),
        attempts=attempts,
        origin=origin if records else "kept",
    )
