"""Glossary terms as tokens of a model, for constrained search."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import regex

from nllb.languages import Language
from nllb.languages.scripts import script_of
from nllb.model.tokenizer import Tokenizer

from .generator import MAX_BEAM_SIZE, SearchOptions

EXTRA_BEAMS: Final = 2
"""Additional hypotheses of constrained search, for those that begin a term."""
MIN_BEAMS: Final = 4
_INSIDE_WORD: Final = regex.compile(r"[\p{L}\p{M}\p{N}]")
_FULL_STOP: Final = "。"


def constrained_options(options: SearchOptions) -> SearchOptions:
    """Return search options for segments with terms."""
    width = min(max(MIN_BEAMS, options.beam_size + EXTRA_BEAMS), MAX_BEAM_SIZE)
    return replace(options, beam_size=width)


def term_alternatives(
    tokenizer: Tokenizer, forms: Sequence[str], target: Language
) -> tuple[tuple[int, ...], ...]:
    """Return token sequences of a term's forms, also capitalized as at the start of a sentence.

    In scripts without spaces between words, a form may also follow another word directly.
    """
    found: dict[tuple[int, ...], None] = {}
    for form in forms:
        for written in (form, form[:1].upper() + form[1:]):
            found[tuple(tokenizer.encode(written))] = None
            if not script_of(target.script).spaces_words:
                before = tokenizer.encode(_FULL_STOP)
                ids = tokenizer.encode(_FULL_STOP + written)
                if ids[: len(before)] == before:
                    found[tuple(ids[len(before) :])] = None
    return tuple(ids for ids in found if ids)


def find_word_pieces(tokenizer: Tokenizer, vocabulary_size: int) -> frozenset[int]:
    """Return the tokens that continue a word: pieces that begin with a letter or a digit."""
    num_pieces = min(tokenizer.layout.num_pieces + 1, vocabulary_size)
    return frozenset(n for n in range(4, num_pieces) if _INSIDE_WORD.match(tokenizer.token(n)))
