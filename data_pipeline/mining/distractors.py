"""English sentences that nearly say what another says: the wrong answers of xsim++.

One thing is changed in a copy of a sentence: it is negated, or a word becomes its opposite
(causality); a name becomes a name of another sentence (entity); a number becomes another (number).
An encoder that finds the copy instead of the sentence has not seen that one thing.

Source: Chen et al. 2023 (xsim++); their rules use a parser and word nets, these a table of words.
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
MOST_OF_A_KIND: Final = 3
"""Distractors of one kind that one sentence gets."""
_NAME: Final = re.compile(r"(?<=[a-z,;] )[A-Z][\w'-]+(?: [A-Z][\w'-]+)*")
_DIGITS: Final = re.compile(r"\d+(?:[.,]\d+)*")


class Distractor(NamedTuple):
    """A sentence that is nearly right."""

    sentence: int
    """Number of the sentence that it was made of."""
    kind: Kind
    """What was changed."""
    text: str
    """The sentence."""


def make_distractors(sentences: Sequence[str]) -> list[Distractor]:
    """Return the distractors of English sentences; the same ones for the same sentences."""
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
            found += [Distractor(number, kind, other) for other in fresh[:MOST_OF_A_KIND]]
    return found


def _replaced(text: str, kind: Kind) -> Iterator[str]:
    """Yield the text with one word of the table replaced, where it stands first."""
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
        # The first digit changes, so that a year stays a year and a price a price.
        digit = str(int(found[0][0]) % 9 + 1)
        yield text[: found.start()] + digit + text[found.start() + 1 :]
    yield from _replaced(text, "number")


@cache
def _table() -> dict[str, list[tuple[str, str]]]:
    """Return the words of the table by kind, and what takes their place."""
    table: dict[str, list[tuple[str, str]]] = {kind: [] for kind in KINDS}
    for row in read_table(Path(__file__).with_suffix(".tsv")):
        table[row["kind"]].append((row["word"], row["other"]))
    table["causality"] += [(other, word) for word, other in table["causality"]]
    return table
