"""Extends a vocabulary with characters and languages, and the embedding with rows for them.

New characters become pieces after the existing ones, so that the ids of text do not change; the ids
above the pieces (languages, tags) move up. A SentencePiece model is a protocol buffer with a
repeated field of pieces, so a piece can be added by appending its record.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nllb.errors import ConfigError
from nllb.io.piece_proto import Piece
from nllb.model.encoder_source_tokenizer import EncoderSourceTokenizer
from nllb.model.tokenizer import Tokenizer
from nllb.training.finetune_config import NewLanguage

NEW_PIECE_SCORE = -1e6
"""Lower than the score of any other piece, so that known text is segmented as before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    """An extended vocabulary, and the initial values of its embedding rows.

    Attributes:
        tokenizer: the new tokenizer.
        origins: for each new row, the old rows whose mean is its initial value.
        characters: characters that were added.
    """

    tokenizer: Tokenizer
    origins: tuple[tuple[int, ...], ...]
    characters: tuple[str, ...]


def missing_characters(tokenizer: Tokenizer, lines: Iterable[str], *, min_lines: int) -> list[str]:
    """Return the characters of at least `min_lines` lines that the vocabulary lacks."""
    counts: dict[str, int] = {}
    for line in lines:
        for character in tokenizer.unknown_target_characters(line):
            counts[character] = counts.get(character, 0) + 1
    return sorted(character for character, count in counts.items() if count >= min_lines)


def extend_vocabulary(
    tokenizer: Tokenizer, languages: Sequence[NewLanguage], characters: Sequence[str]
) -> Extension:
    """Add languages and characters.

    The embedding of a language is initialised with that of a similar language, and that of a
    character with the mean of all pieces.

    Raises:
        ConfigError: A language exists already, or the similar language does not.
    """
    for language in languages:
        if language.code in tokenizer.languages:
            raise ConfigError(
                f"the model already has {language.code}: remove it from `add` to fine-tune it"
            )
        if language.like not in tokenizer.languages:
            raise ConfigError(
                f"{language.code} cannot start from {language.like!r}, which the model lacks; "
                f"run 'nllb languages' to list the languages"
            )
    new = [Piece(character, NEW_PIECE_SCORE) for character in characters]
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
        tokenizer.vocabulary + b"".join(piece.record() for piece in new),
        moved,
        vocabulary_size=tokenizer.vocabulary_size + count,
        normalize=tokenizer.normalizes,
    ).with_languages([language.code for language in languages])
    if isinstance(tokenizer, EncoderSourceTokenizer):  # its source pieces do not change
        extended = EncoderSourceTokenizer(extended, tokenizer.encoder, tokenizer.encoder_path)
    pieces = tuple(range(4, end))
    origins = [(row,) for row in range(end)] + [pieces] * count
    origins += [(row,) for row in range(end, tokenizer.vocabulary_size)]
    rows = {extended.language_id(language.code): language.like for language in languages}
    for row in range(len(origins), extended.vocabulary_size):
        origins.append((tokenizer.language_id(rows[row]),))
    return Extension(tokenizer=extended, origins=tuple(origins), characters=tuple(characters))


def extend_embedding(embedding_VD: Tensor, extension: Extension) -> Tensor:
    """Return the embedding of the new vocabulary."""
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
    """Return the weights of a model for the new vocabulary."""
    extended = {name: weights[name] for name in weights}
    extended["embedding.weight"] = extend_embedding(extended["embedding.weight"], extension)
    return extended
