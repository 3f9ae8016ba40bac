"""XLM-R's tokenizer with the `tokenizers` library: a character map, metaspace and unigram pieces.

A sequence is `<s> x </s>`. A text that exceeds the encoder's maximum length is split into several
sequences, called windows. The names of special tokens inside a text ("</s>") are encoded as
ordinary text. The tokenizer is stateless.

`tokenizer.json.xz` has the format of the `tokenizers` library, for text that `normalization.tsv`
has normalised; it is compressed because 200,000 pieces take 5 MB. A file that is read must equal
the one that would be written here except for its pieces, so that an untrusted file can contain
neither a pattern that takes unlimited time nor another algorithm.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from nllb.errors import CheckpointError, DataError
from nllb.io.atomic import atomic_text
from nllb.io.text import read_json

from .encoder_normalization import CharacterMap
from .pretrained_encoder import EncoderConfig

TOKENIZER_FILE: Final = "tokenizer.json.xz"
NORMALIZATION_FILE: Final = "normalization.tsv"
MAX_FILE_BYTES: Final = 64 << 20
"""Maximum uncompressed size; that of XLM-R's complete vocabulary is 17 MB."""
SPACE: Final = "\u2581"
"""The character that represents a space in pieces."""
SPECIAL_SCORE: Final = -100.0
"""Score of special tokens in the file; text is never encoded as one of them."""
_SPACES: Final = " {2,}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizedText:
    """A text as sequences of token ids.

    Attributes:
        windows: the sequences `<s> prefix x </s>`; more than one if the text is too long.
        is_empty: whether the text is empty or consists of spaces only.
    """

    windows: tuple[tuple[int, ...], ...]
    is_empty: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSpan:
    """A token of a text with its position.

    Attributes:
        token_id: the id of the token.
        start: index of its first character in the text.
        end: index after its last character.
    """

    token_id: int
    start: int
    end: int


class EncoderTokenizer:
    """Encodes text as token ids."""

    def __init__(
        self, tokenizer: Tokenizer, characters: CharacterMap, config: EncoderConfig
    ) -> None:
        self.config, self._characters, self._tokenizer = config, characters, tokenizer
        self._space_id: int | None = tokenizer.token_to_id(SPACE)
        self._prefixes: dict[str, list[int]] = {}

    @classmethod
    def build(
        cls, pieces: Sequence[tuple[str, float]], characters: CharacterMap, config: EncoderConfig
    ) -> Self:
        """Build a tokenizer from scored pieces in the order of their ids, and a character map.

        Raises:
            CheckpointError: the pieces are damaged, or do not match the configuration.
        """
        if len(pieces) != config.vocabulary_size:
            raise CheckpointError(
                f"the tokenizer has {len(pieces):,} pieces, but the encoder's vocabulary has "
                f"{config.vocabulary_size:,}; the files are from different models"
            )
        # Words contain no spaces, so that a special token with one never matches text.
        matched = [
            (f" {piece}", 0.0) if score == SPECIAL_SCORE else (piece, score)
            for piece, score in pieces
        ]
        try:
            model = models.Unigram(matched, config.unk_id, byte_fallback=False)
        except BaseException as error:  # a panic of the library is not an Exception
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            raise CheckpointError(f"the tokenizer's pieces are damaged: {error}") from None
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.Replace(Regex(_SPACES), " ")
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement=SPACE, prepend_scheme="always"
        )
        return cls(tokenizer, characters, config)

    @classmethod
    def open(cls, directory: Path, config: EncoderConfig) -> Self:
        """Open the `tokenizer.json.xz` of a directory.

        Raises:
            CheckpointError: the file is missing, damaged, of another kind, or does not match the
                encoder.
        """
        path = directory / TOKENIZER_FILE
        try:
            document = read_json(path, max_bytes=MAX_FILE_BYTES)
        except DataError as error:
            raise CheckpointError(str(error)) from error
        pieces = _read_document(path, document, config)
        return cls.build(pieces, CharacterMap.read(directory / NORMALIZATION_FILE), config)

    def spell(self, piece: str) -> list[int]:
        """Return the ids that spell a piece of another vocabulary; empty where that is impossible.

        It is a single id if this vocabulary has the same piece. Otherwise, the space that begins a
        text is ignored, since the piece may be from within a word.
        """
        if (found := self._tokenizer.token_to_id(piece)) is not None:
            return [found]
        ids = self.encode(piece.replace(SPACE, " ").strip())
        if ids[:1] == [self._space_id]:
            ids = ids[1:]
        return [] if self.config.unk_id in ids else ids

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text without special tokens."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of several texts without special tokens."""
        normalized = [self.normalize(text) for text in texts]
        if len(texts) == 1:
            return [self._tokenizer.encode(normalized[0], add_special_tokens=False).ids]
        encodings = self._tokenizer.encode_batch_fast(normalized, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def token(self, number: int) -> str:
        """Return the piece of an id."""
        piece: str = self._tokenizer.id_to_token(number)
        return piece

    def token_spans(self, text: str) -> list[TokenSpan]:
        """Return the tokens of a text with their positions, without special tokens."""
        aligned = self._characters.align(text)
        encoding = self._tokenizer.encode(aligned.text, add_special_tokens=False)
        return [
            TokenSpan(
                token_id=number,
                start=aligned.starts[first] if first < last else 0,
                end=aligned.ends[last - 1] if first < last else 0,
            )
            for number, (first, last) in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def tokenize(self, texts: Sequence[str], *, prefix: str = "") -> list[TokenizedText]:
        """Return texts as input sequences of the encoder.

        Args:
            texts: the texts.
            prefix: the beginning of each window, such as `query: `.

        Raises:
            ValueError: the prefix is too long.
        """
        before = self._encode_prefix(prefix.strip())
        room = self.config.max_positions - 2 - len(before)
        if room < 1:
            raise ValueError(f"the prefix {prefix[:60]!r} is as long as the longest sequence")
        bos, eos = self.config.bos_id, self.config.eos_id
        found = []
        for ids in self.encode_batch(texts):
            is_empty = all(number == self._space_id for number in ids)
            starts = range(0, 0 if is_empty else len(ids), room)
            windows = ((bos, *before, *ids[first : first + room], eos) for first in starts)
            found.append(TokenizedText(windows=tuple(windows), is_empty=is_empty))
        return found

    def _encode_prefix(self, prefix: str) -> list[int]:
        found = self._prefixes.get(prefix)
        if found is None:
            found = self.encode(prefix)
            self._prefixes = {prefix: found}  # callers use one prefix, or a few one after the other
        return found

    def normalize(self, text: str) -> str:
        """Return the normalised text, which is split into pieces."""
        return self._characters.normalize(text)


def write_tokenizer(
    directory: Path,
    pieces: Sequence[tuple[str, float]],
    characters: CharacterMap,
    config: EncoderConfig,
) -> None:
    """Write the scored pieces in the order of their ids, and the character map."""
    vocabulary = [[piece, float(f"{score:.8g}")] for piece, score in pieces]
    document = _document(vocabulary, config)
    characters.write(directory / NORMALIZATION_FILE)
    with atomic_text(directory / TOKENIZER_FILE) as stream:
        json.dump(document, stream, ensure_ascii=False, separators=(",", ":"))


def _document(vocabulary: Any, config: EncoderConfig) -> dict[str, Any]:
    begin, end = vocabulary[config.bos_id][0], vocabulary[config.eos_id][0]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Replace", "pattern": {"Regex": _SPACES}, "content": " "},
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": SPACE,
            "prepend_scheme": "always",
            "split": True,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": begin, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": end, "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": begin, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": end, "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
                {"SpecialToken": {"id": end, "type_id": 0}},
            ],
            "special_tokens": {
                begin: {"id": begin, "ids": [config.bos_id], "tokens": [begin]},
                end: {"id": end, "ids": [config.eos_id], "tokens": [end]},
            },
        },
        "decoder": {
            "type": "Metaspace",
            "replacement": SPACE,
            "prepend_scheme": "always",
            "split": True,
        },
        "model": {
            "type": "Unigram",
            "unk_id": config.unk_id,
            "vocab": vocabulary,
            "byte_fallback": False,
        },
    }


def _read_document(path: Path, document: Any, config: EncoderConfig) -> list[tuple[str, float]]:
    """Return the pieces of a `tokenizer.json` that `write_tokenizer` could have written."""
    try:
        vocabulary = document["model"]["vocab"]
        pieces = [(piece, float(score)) for piece, score in vocabulary]
        is_usable = all(isinstance(piece, str) and score <= 0 for piece, score in pieces)
        if len(pieces) != config.vocabulary_size:
            raise CheckpointError(
                f"{path} has {len(pieces):,} pieces, but the encoder's vocabulary has "
                f"{config.vocabulary_size:,}; the files are from different models"
            )
        if is_usable and document == _document(vocabulary, config):
            return pieces
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        pass
    raise CheckpointError(
        f"{path} is not a tokenizer of this encoder, or is damaged: unigram pieces without further "
        f"rules are expected, as 'nllb convert e5' writes them"
    )
