"""The last resort for glossary terms: words aligned to a missing term are replaced by it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nllb.inference.word_alignment import Aligner, Link

from .glossary import GlossaryEntry, term_status, terms_by_status
from .projection import Mark, project
from .retry import Attempt

Found = Sequence[tuple[GlossaryEntry, int, int]]
"""The terms of a segment, with their positions in it."""


def replace_missing_terms(
    attempts: Sequence[Attempt], found: Mapping[str, Found], aligner: Aligner
) -> list[Attempt]:
    """Return attempts in whose outputs missing terms are inserted in their preferred form.

    A term stays missing if no word of the output is aligned to it. Forms are inserted as they are
    in the glossary, so the surrounding sentence may not agree with them.
    """
    lacking = [n for n, attempt in enumerate(attempts) if attempt.trust.missing_terms]
    pairs = [(attempts[n].hypotheses[0].source, attempts[n].hypotheses[0].text) for n in lacking]
    replaced = list(attempts)
    links = aligner.align(pairs) if pairs else []
    for number, of_pair in zip(lacking, links, strict=True):
        replaced[number] = _replace(attempts[number], found, of_pair)
    return replaced


def _replace(attempt: Attempt, found: Mapping[str, Found], links: Sequence[Link]) -> Attempt:
    best, *others = attempt.hypotheses
    entries = found.get(best.source, ())
    missing = [
        (entry, Mark(start=start, end=end, is_span=True))
        for entry, start, end in entries
        if term_status(entry.targets, best.text) == "missing"
    ]
    projection = project([mark for _, mark in missing], best.source, best.text, links)
    if not links:
        return attempt
    places: dict[int, list[int]] = {}
    for event in projection.events:
        places.setdefault(event.mark, []).append(event.position)
    text = best.text
    for number, (start, end) in sorted(places.items(), key=lambda place: -place[1][0]):
        if number not in projection.unsure and start < end:
            text = text[:start] + missing[number][0].targets[0] + text[end:]
    terms = tuple(entry.targets for entry, *_ in entries)
    by_status = terms_by_status(terms, text)
    flags = tuple(f for f in attempt.trust.flags if f != "term_missing" or by_status["missing"])
    trust = replace(
        attempt.trust,
        used_terms=by_status["used"],
        inflected_terms=by_status["inflected"],
        missing_terms=by_status["missing"],
        flags=flags,
    )
    return Attempt(hypotheses=(replace(best, text=text), *others), trust=trust)
