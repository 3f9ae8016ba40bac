"""English sentences that differ slightly in meaning from another: the distractors of xsim++.

A distractor is a copy of a sentence with one change: it is negated or a word is replaced with its
opposite (causality), a name is replaced with a name of another sentence (entity), or a number is
changed (number). An encoder that finds the copy instead of the sentence does not represent that
difference.

Source: Chen et al. 2023 (xsim++). Their rules use a parser and WordNet; ours use a table of words.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from nllb.io.benchmarks import sentence_hash
from nllb.io.text import read_table

Kind = Literal["causality", "entity", "number"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
MAX_PER_KIND: Final = 3
"""Maximum number of distractors of one kind per sentence."""
_NAME: Final = re.compile(r"(?<=[a-z,;] )[A-Z][\w'-]+(?: [A-Z][\w'-]+)*")
_DIGITS: Final = re.compile(r"\d+(?:[.,]\d+)*")


class Distractor(NamedTuple):
    """A sentence that differs slightly from another one."""

    sentence: int
    """Index of the original sentence."""
    kind: Kind
    """The kind of change."""
    text: str
    """The changed sentence."""


def make_distractors(sentences: Sequence[str]) -> list[Distractor]:
    """Return the distractors of English sentences; the result is deterministic."""
    names = sorted({name for text in sentences for name in _NAME.findall(text)})
    known = set(sentences)
    found = []
    for number, text in enumerate(sentences):
        made: dict[Kind, Iterator[str]] = {
            "causality": _replaced(text, "causality"),
            "entity": _renamed(text, names),
            "number": _renumbered(text),
        }
        for kind, others in made.items():
            fresh = list(dict.fromkeys(other for other in others if other not in known))
            found += [Distractor(number, kind, other) for other in fresh[:MAX_PER_KIND]]
    return found


def _replaced(text: str, kind: Kind) -> Iterator[str]:
    """Yield the text with the first occurrence of one word of the table replaced."""
    for word, other in _table()[kind]:
        found = re.search(rf"\b{re.escape(word)}\b", text)
        if found and not text[found.end() :].startswith((" not", "n't", "not")):
            yield text[: found.start()] + other + text[found.end() :]


def _renamed(text: str, names: Sequence[str]) -> Iterator[str]:
    for found in _NAME.finditer(text):
        others = [name for name in names if name not in text]
        if others:
            other = others[sentence_hash(text + found[0]) % len(others)]
            yield text[: found.start()] + other + text[found.end() :]


def _renumbered(text: str) -> Iterator[str]:
    for found in _DIGITS.finditer(text):
        # Only the first digit changes, so that a year still looks like a year.
        digit = str(int(found[0][0]) % 9 + 1)
        yield text[: found.start()] + digit + text[found.start() + 1 :]
    yield from _replaced(text, "number")


@cache
def _table() -> dict[str, list[tuple[str, str]]]:
    """Return the words of the table and their replacements, by kind."""
    table: dict[str, list[tuple[str, str]]] = {kind: [] for kind in KINDS}
    for row in read_table(Path(__file__).with_suffix(".tsv")):
        table[row["kind"]].append((row["word"], row["other"]))
    table["causality"] += [(other, word) for word, other in table["causality"]]
    return table
