"""The vocabulary of a run, from the manifest or from the model that training starts from."""

import hashlib
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nllb.errors import DataError
from nllb.io.manifest import MANIFEST_NAME, SOURCE_TAGS, DataOrigin, Manifest, VocabularyRecord
from nllb.io.paths import path_inside
from nllb.model.token_layout import DataTag
from nllb.model.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenIds:
    """The ids of the special tokens that the reader adds.

    Attributes:
        languages: language tokens by language code.
        tags: data-source tags by origin.
        mask: `<mask>`, for denoising.
        pieces: range (first, end) of the ids of ordinary pieces.
    """

    languages: dict[str, int]
    tags: dict[DataOrigin, int] = field(default_factory=dict)
    mask: int | None = None
    pieces: tuple[int, int] = (4, 5)

    @classmethod
    def from_record(cls, record: VocabularyRecord) -> "TokenIds":
        """Return the ids that the manifest records."""
        return cls(
            languages={code: record.language_id(code) for code in record.languages},
            tags={origin: number for origin in SOURCE_TAGS if (number := record.tag_id(origin))},
            mask=record.mask_id,
            pieces=(4, record.first_language_id),
        )

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> "TokenIds":
        """Return the ids of a model's vocabulary."""
        present = tokenizer.layout.data_tags
        return cls(
            languages={code: tokenizer.language_id(code) for code in tokenizer.languages},
            tags={
                origin: tokenizer.data_tag_id(cast(DataTag, tag))
                for origin, tag in SOURCE_TAGS.items()
                if tag in present
            },
            mask=tokenizer.mask_id,
            pieces=(4, tokenizer.layout.num_pieces + 1),
        )


def manifest_tokenizer(manifest: Manifest) -> Tokenizer:
    """Return the tokenizer that the shards were written with.

    Raises:
        DataError: The vocabulary file is missing or differs from the recorded one.
    """
    record = manifest.vocabulary
    path = path_inside(
        manifest.directory, record.file, error=DataError, where=manifest.directory / MANIFEST_NAME
    )
    if not path.is_file():
        raise DataError(
            f"{manifest.directory} lacks the vocabulary file {record.file} that its manifest names;"
            f" copy it back, or run `nllb data prepare` again"
        )
    tokenizer = Tokenizer.build(path, list(record.languages)).with_mask()
    _require_same(tokenizer, record, str(path))
    if tokenizer.layout.size != record.size:
        raise DataError(
            f"{path} gives a vocabulary of {tokenizer.layout.size:,} tokens, but the manifest "
            f"records {record.size:,}; run `nllb data prepare` again"
        )
    return tokenizer


def check_fits(tokenizer: Tokenizer, manifest: Manifest, name: str) -> None:
    """Check that the data was tokenized with the model's vocabulary.

    Raises:
        DataError: The data has a different vocabulary, or languages that the model lacks.
    """
    _require_same(tokenizer, manifest.vocabulary, name)
    if missing := sorted(set(manifest.languages) - set(tokenizer.languages)):
        raise DataError(
            f"the model {name} has no language token for {', '.join(missing)}; add the language "
            f"with `nllb finetune --add`"
        )


def word_starts(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Return for each id whether the piece begins a word."""
    pieces = range(4, tokenizer.layout.num_pieces + 1)
    starts = np.ones(tokenizer.vocabulary_size, dtype=np.bool_)
    starts[4 : tokenizer.layout.num_pieces + 1] = [
        tokenizer.token(number).startswith("\u2581") for number in pieces
    ]
    return starts


def _require_same(tokenizer: Tokenizer, record: VocabularyRecord, name: str) -> None:
    got = hashlib.sha256(tokenizer.vocabulary).hexdigest()
    if got != record.sha256:
        raise DataError(
            f"the data was written with another vocabulary: {name} has SHA-256 {got[:12]}..., but "
            f"the shards were written with {record.sha256[:12]}... ({record.name}); run `nllb data "
            f"prepare` with this vocabulary"
        )
