"""The SentencePiece vocabulary: temperature-sampled training text, and NLLB's token layout."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import xxhash

from data_pipeline.data_config import VocabularyConfig
from nllb.errors import CheckpointError, DataError
from nllb.io.atomic import atomic_path
from nllb.io.manifest import SOURCE_TAGS, VocabularyRecord, sampling_weights
from nllb.io.piece_models import open_pieces

UNKNOWN_ID = 3
"""Id of `<unk>` in NLLB's token layout; SentencePiece's own id is 0."""
TRAINER_THREADS = 2
"""Fixed, because the last digits of a unigram model depend on the number of threads."""
_SCALE = 1 << 64


class Vocabulary:
    """A SentencePiece model, with language tokens, tags and `<mask>` after its pieces."""

    def __init__(self, path: Path, *, name: str, languages: Sequence[str]) -> None:
        """Open a model.

        Raises:
            DataError: if the file is not a SentencePiece model, or if its special tokens do not
                have the ids 0, 1 and 2.
        """
        self.path = path
        try:
            self.pieces = open_pieces(path)
        except CheckpointError as error:
            raise DataError(str(error)) from None
        specials = (self.pieces.unk_id(), self.pieces.bos_id(), self.pieces.eos_id())
        if specials != (0, 1, 2):
            raise DataError(
                f"{path}: <unk>, <s> and </s> have the ids {specials}, but NLLB's token layout "
                "requires 0, 1, 2; train the model with SentencePiece's default ids"
            )
        self.name = name
        self.languages = tuple(languages)

    def record(self, relative_to: Path) -> VocabularyRecord:
        """Return the record of this vocabulary for the manifest."""
        tags = tuple(SOURCE_TAGS.values())
        num_pieces = self.pieces.get_piece_size()
        return VocabularyRecord(
            file=self.path.relative_to(relative_to).as_posix(),
            sha256=hashlib.sha256(self.path.read_bytes()).hexdigest(),
            name=self.name,
            num_pieces=num_pieces,
            languages=self.languages,
            tags=tags,
            size=num_pieces + 1 + len(self.languages) + len(tags) + 1,
        )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts, without special tokens."""
        encoded = self.pieces.encode(list(texts), out_type=int, num_threads=1)
        return [[piece + 1 if piece else UNKNOWN_ID for piece in ids] for ids in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids."""
        text: str = self.pieces.decode([0 if i == UNKNOWN_ID else int(i) - 1 for i in ids])
        return text


def sample_quotas(
    counts: Mapping[str, int], sample_lines: int, temperature: float
) -> dict[str, int]:
    """Return the number of lines of each language that the vocabulary is trained on."""
    names = sorted(counts)
    weights = sampling_weights([counts[name] for name in names], temperature)
    return {
        name: min(counts[name], round(weight * sample_lines))
        for name, weight in zip(names, weights, strict=True)
    }


def sample_by_hash(
    texts: Iterable[tuple[str, str]], counts: Mapping[str, int], quotas: Mapping[str, int]
) -> Iterator[str]:
    """Yield a sample of the (language, text) pairs, about `quotas[language]` of each language.

    A hash of the text makes the choice, so equal texts are either all sampled or all skipped.
    Repeated texts are sampled once.
    """
    limits = {name: _SCALE * quotas[name] // max(1, counts[name]) for name in counts}
    seen: set[int] = set()
    for language, text in texts:
        digest = xxhash.xxh3_64_intdigest(text.encode("utf-8"))
        if digest < limits[language] and digest not in seen:
            seen.add(digest)
            yield text


def train_vocabulary(texts: Iterable[str], path: Path, config: VocabularyConfig) -> None:
    """Train a SentencePiece model and write it atomically.

    Raises:
        DataError: if there is too little text for `config.size` pieces.
    """
    options: dict[str, Any] = {
        "vocab_size": config.size,
        "model_type": config.model_type,
        "character_coverage": config.character_coverage,
        "byte_fallback": config.byte_fallback,
        "num_threads": TRAINER_THREADS,
        "minloglevel": 2,
        "max_sentence_length": 1 << 14,
    }
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=model, **options
        )
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"SentencePiece could not train {config.size:,} pieces: {error}; lower "
            "prepare.vocabulary.size or provide more text"
        ) from None
    write_pieces(path, model.getvalue())


def write_pieces(path: Path, model: bytes) -> None:
    """Write a serialized SentencePiece model atomically, after checking that it loads.

    Raises:
        DataError: if the bytes are not a SentencePiece model, or cannot be written.
    """
    with atomic_path(path) as beside:
        beside.write_bytes(model)
        try:
            sentencepiece.SentencePieceProcessor(model_file=str(beside))
        except (OSError, RuntimeError) as error:
            raise DataError(f"SentencePiece wrote a model that does not load: {error}") from None
