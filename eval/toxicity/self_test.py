"""Self-test of the matcher in a language, with ordinary words in place of a toxicity list.

A low rate of added toxicity is meaningful only if the matcher finds listed words. The test uses
ordinary words of a text as the list and compares the matches with two simple rules: words between
white space must be found (recall), and a match must not be bounded by letters, except particles of
the language (false alarms). Each line is tested as it is, decomposed (NFD) and in capitals, because
lists and texts come in all of these forms.
"""

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from eval.metrics.proportions import Proportion, proportion
from nllb.io.word_folding import fold, particles
from nllb.io.wordlists import Match, WordList
from nllb.languages.scripts import unsegmented_scripts

MIN_RECALL = 0.9
"""Recall below which a language is not measurable."""
NOISY_SHARE = 0.001
"""Fraction of clean lines above which a listed word is probably harmless in the language."""
_MIN_PLACES = 20
_MAX_CLUSTERS = 8
_CHUNK = regex.compile(r"\S+")
_DELIMITED = regex.compile(r"[^\s\p{P}\p{S}\u200b]+")
_CORE = regex.compile(r"^[\p{P}\p{S}\p{C}\p{M}]*(.*?)[\p{P}\p{S}\p{C}]*$", regex.DOTALL)
_LETTERS_BEFORE = regex.compile(r"[\p{L}\p{M}\p{N}]*$")
_LETTERS_AFTER = regex.compile(r"[\p{L}\p{M}\p{N}]*")
_DROPPED = regex.compile(
    r"[\u00ad\u0640\u07fa\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTest:
    """Result of the self-test in one language."""

    language: str
    """FLORES-200 code."""
    probes: int
    """Different probe words."""
    recall: Proportion
    """Occurrences of probe words that were found, over the three forms of each line."""
    false_alarms: Proportion
    """Lines with a match that is not a probe word."""
    missed: tuple[str, ...]
    """Up to five probe words that were missed."""

    @property
    def failure(self) -> str | None:
        """Why the language is not measurable, or None."""
        if self.recall.total < _MIN_PLACES:
            return f"self-test of {self.language}: too little text ({self.recall.total} places)"
        share = self.recall.share or 0.0
        if share < MIN_RECALL:
            return f"self-test of {self.language}: only {share:.0%} of probe words were found"
        return None


def self_test(
    lines: Sequence[str], *, language: str, num_probes: int = 200, seed: int = 0
) -> SelfTest:
    """Return how many occurrences of probe words in lines of a language are found."""
    unspaced = language.rpartition("_")[2] in unsegmented_scripts()
    places_of = _delimited_places if unspaced else _chunk_places
    words = sorted({line[start:end] for line in lines for start, end in places_of(line)})
    probes = random.Random(seed).sample(words, min(num_probes, len(words)))
    matcher = WordList.from_entries(probes, language=language)
    keys = {_key(probe) for probe in probes}
    found = places = alarmed = tried = 0
    missed: dict[str, None] = {}
    for line in lines:
        for form in (line, unicodedata.normalize("NFD", line), line.upper()):
            matches = matcher.matches(form)
            tried += 1
            alarmed += any(
                not _bounded(form, match, language, unspaced=unspaced) for match in matches
            )
            for start, end in places_of(form):
                if _key(form[start:end]) in keys:
                    places += 1
                    if any(match.start <= start and end <= match.end for match in matches):
                        found += 1
                    else:
                        missed[form[start:end]] = None
    return SelfTest(
        language=language,
        probes=len(probes),
        recall=proportion(found, places),
        false_alarms=proportion(alarmed, tried),
        missed=tuple(missed)[:5],
    )


def noisy_entries(words: WordList, clean_lines: Sequence[str]) -> tuple[str, ...]:
    """Return the redacted entries that match in more than 0.1 % of lines known to be clean."""
    fired: dict[str, int] = {}
    for line in clean_lines:
        for entry in {match.entry for match in words.matches(line)}:
            fired[entry] = fired.get(entry, 0) + 1
    limit = max(1, NOISY_SHARE * len(clean_lines))
    often = sorted(entry for entry, count in fired.items() if count > limit)
    return tuple(entry[:1] + "\u2026" for entry in often)


def _chunk_places(line: str) -> list[tuple[int, int]]:
    """Return words by white space, without signs at their edges, of two letters or more."""
    places = []
    for chunk in _CHUNK.finditer(line):
        core = _CORE.match(chunk.group())
        assert core is not None
        start, end = core.span(1)
        if sum(character.isalpha() for character in core.group(1)) >= 2:
            places.append((chunk.start() + start, chunk.start() + end))
    return places


def _delimited_places(line: str) -> list[tuple[int, int]]:
    """Return short runs between spaces and signs, which are words in unspaced scripts, too."""
    return [
        chunk.span()
        for chunk in _DELIMITED.finditer(line)
        if 2 <= len(regex.findall(r"\X", chunk.group())) <= _MAX_CLUSTERS
        and any(character.isalpha() for character in chunk.group())
    ]


def _bounded(text: str, match: Match, language: str, *, unspaced: bool) -> bool:
    """Return whether signs, spaces or particles (unspaced scripts: clusters) bound a match."""
    if unspaced:
        edges = {0, *(cluster.end() for cluster in regex.finditer(r"\X", text))}
        return match.start in edges and match.end in edges
    before = _LETTERS_BEFORE.search(_DROPPED.sub("", text[: match.start]))
    after = _LETTERS_AFTER.match(_DROPPED.sub("", text[match.end :]))
    assert before is not None and after is not None
    allowed = particles(language)
    return fold(before.group()) in {"", *allowed.prefixes} and fold(after.group()) in {
        "", *allowed.suffixes
    }  # fmt: skip


def _key(text: str) -> str:
    """Return a form that is equal for two spellings of the same word."""
    text = _DROPPED.sub("", text)
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return text.replace("i\u0307", "i").replace("\u0131", "i")
