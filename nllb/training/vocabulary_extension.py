"""New characters and languages in a vocabulary, and rows for them in the embedding.

Characters become pieces behind the model's own, so that ids of text stay; what stands above the
pieces (languages, tags) moves up by as many rows. A SentencePiece model is a protocol buffer whose
pieces are a repeated field, so a piece is added by appending its record.
"""

import dataclasses
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nllb.errors import ConfigError
from nllb.model.tokenizer import Tokenizer
from nllb.training.finetune_config import NewLanguage

NEW_PIECE_SCORE = -1e6
"""Below every other piece, so that no text that was known is cut in another way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    """A vocabulary with new rows, and where each row begins from."""

    tokenizer: Tokenizer
    """The new tokenizer."""
    origins: tuple[tuple[int, ...], ...]
    """For each new row the old rows whose mean it starts from; one for a row that only moved."""
    characters: tuple[str, ...]
    """Characters that were added."""


def missing_characters(tokenizer: Tokenizer, lines: Iterable[str], *, least: int) -> list[str]:
    """Return the characters that stand in at least `least` lines and that the vocabulary lacks."""
    counts: dict[str, int] = {}
    for line in lines:
        for character in tokenizer.unknown_characters(line):
            counts[character] = counts.get(character, 0) + 1
    return sorted(character for character, count in counts.items() if count >= least)


def extend_vocabulary(
    tokenizer: Tokenizer, languages: Sequence[NewLanguage], characters: Sequence[str]
) -> Extension:
    """Add languages, each like one of the model's, and characters, like the mean of all pieces.

    Raises:
        ConfigError: a language is there already, or its model is not.
    """
    for language in languages:
        if language.code in tokenizer.languages:
            raise ConfigError(
                f"the model has {language.code} already: leave it out of `add` to fine-tune it"
            )
        if language.like not in tokenizer.languages:
            raise ConfigError(
                f"{language.code} cannot begin like {language.like!r}, which the model lacks; "
                f"see 'nllb languages'"
            )
    layout, count = tokenizer.layout, len(characters)
    end = layout.num_pieces + 1
    moved = dataclasses.replace(
        layout,
        num_pieces=layout.num_pieces + count,
        languages={token: number + count for token, number in layout.languages.items()},
        data_tags={tag: number + count for tag, number in layout.data_tags.items()},
        mask_id=None if layout.mask_id is None else layout.mask_id + count,
        added={token: number + count for token, number in layout.added.items()},
    )
    extended = Tokenizer(
        tokenizer.vocabulary + b"".join(map(_piece, characters)),
        moved,
        vocabulary_size=tokenizer.vocabulary_size + count,
        normalize=tokenizer.normalizes,
    ).with_languages([language.code for language in languages])
    pieces = tuple(range(4, end))
    origins = [(row,) for row in range(end)] + [pieces] * count
    origins += [(row,) for row in range(end, tokenizer.vocabulary_size)]
    rows = {extended.language_id(language.code): language.like for language in languages}
    for row in range(len(origins), extended.vocabulary_size):
        origins.append((tokenizer.language_id(rows[row]),))
    return Extension(tokenizer=extended, origins=tuple(origins), characters=tuple(characters))


def extend_embedding(embedding_VD: Tensor, extension: Extension) -> Tensor:
    """Return the embedding with the rows of the new vocabulary."""
    means: dict[tuple[int, ...], Tensor] = {}
    rows = []
    for origin in extension.origins:
        if len(origin) == 1:
            rows.append(embedding_VD[origin[0]])
            continue
        if origin not in means:
            means[origin] = embedding_VD[list(origin)].float().mean(0).to(embedding_VD.dtype)
        rows.append(means[origin])
    return torch.stack(rows)


def extended_weights(weights: Mapping[str, Tensor], extension: Extension) -> dict[str, Tensor]:
    """Return a model's weights for the new vocabulary."""
    extended = {name: weights[name] for name in weights}
    extended["embedding.weight"] = extend_embedding(extended["embedding.weight"], extension)
    return extended


def _piece(character: str) -> bytes:
    """Return a piece as SentencePiece's model file writes it: field 1 of the model."""
    text = character.encode()
    record = b"\x0a" + _length(len(text)) + text + b"\x15" + struct.pack("<f", NEW_PIECE_SCORE)
    return b"\x0a" + _length(len(record)) + record


def _length(number: int) -> bytes:
    assert number < 128, "a piece of one character has few bytes"
    return bytes([number])
