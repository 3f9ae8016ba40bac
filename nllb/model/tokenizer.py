"""NLLB's tokenizer: converts text to ids and back, and adds the language tokens.

* A source is `__src__ x </s>`, the decoder input starts with `</s> __tgt__`, and a target is
  `__tgt__ x </s>`. `TokenLayout.prompt` describes the models that differ.
* Punctuation is normalised first, as in training. Hugging Face's tokenizer does not normalise, and
  it drops quotation marks that are missing from the vocabulary.
* The names of special tokens inside a text ("</s>", "eng_Latn") are encoded as ordinary text.
* The tokenizer is stateless: the languages are arguments of each call.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nllb.errors import CheckpointError, LanguageError, did_you_mean
from nllb.io.atomic import atomic_binary
from nllb.io.paths import path_inside
from nllb.io.piece_models import load_pieces, read_piece_model
from nllb.io.pointers import refuse_pointer
from nllb.languages.normalization import normalize_punctuation

from .formats.tokenizer_json import (
    TOKENIZER_FILE,
    piece_model_of_json,
    write_tokenizer_json,
)
from .m2m_vocabulary import ORDER_FILE, read_m2m_layout, write_m2m_layout
from .token_layout import (
    DataTag,
    TokenLayout,
    language_code,
    new_layout,
    read_layout,
    write_layout,
)

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

VOCABULARY_FILE = "sentencepiece.bpe.model"
BOS_ID, PAD_ID, EOS_ID, UNK_ID = range(4)
_SURROGATES = re.compile("[\ud800-\udfff]")
_SPACES = " \u2581"
_OFFSET = 1
"""The id of a piece is its index in the SentencePiece model plus this offset."""


class Tokenizer:
    """A SentencePiece vocabulary with the language tokens and the other added tokens."""

    def __init__(
        self,
        vocabulary: bytes,
        layout: TokenLayout,
        *,
        vocabulary_size: int | None = None,
        normalize: bool = True,
    ) -> None:
        self.vocabulary = vocabulary
        self.layout = layout
        self.vocabulary_size = layout.size if vocabulary_size is None else vocabulary_size
        self.normalizes = normalize
        self._processor = _load_processor(vocabulary, "the vocabulary")
        self._language_ids = _language_ids(layout)
        added = sorted(layout.added, key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, added))) if added else None
        self._added_names = {number: token for token, number in layout.added.items()}

    @classmethod
    def open(cls, directory: Path, *, vocabulary_size: int, normalize: bool = True) -> "Tokenizer":
        """Open the tokenizer of a Hugging Face directory.

        It has the SentencePiece model of NLLB, that of M2M-100 with its `vocab.json`, or only the
        `tokenizer.json` that transformers 5 writes.

        Raises:
            CheckpointError: the tokenizer is missing, or does not match a model with
                `vocabulary_size` embedding rows.
        """
        path = path_inside(directory, VOCABULARY_FILE)
        if not path.is_file() and (directory / TOKENIZER_FILE).is_file():
            vocabulary = piece_model_of_json(directory)
        else:
            vocabulary = read_vocabulary(path)
        processor = _load_processor(vocabulary, path)
        if (directory / ORDER_FILE).is_file():
            vocabulary, layout = read_m2m_layout(
                directory, vocabulary, vocabulary_size=vocabulary_size
            )
        else:
            layout = read_layout(
                directory, num_pieces=processor.get_piece_size(), vocabulary_size=vocabulary_size
            )
        return cls(
            vocabulary,
            layout,
            vocabulary_size=vocabulary_size,
            normalize=normalize,
        )

    @classmethod
    def build(
        cls,
        vocabulary_path: Path,
        languages: Sequence[str] | None = None,
        *,
        normalize: bool = True,
    ) -> "Tokenizer":
        """Build a tokenizer in NLLB's layout from a SentencePiece model.

        By default it has the 202 languages of the NLLB-200 release.
        """
        vocabulary = read_vocabulary(vocabulary_path)
        num_pieces = _load_processor(vocabulary, vocabulary_path).get_piece_size()
        layout = new_layout(num_pieces, languages)
        return cls(vocabulary, layout, normalize=normalize)

    @property
    def languages(self) -> tuple[str, ...]:
        """FLORES-200 codes of the model's languages, in the order of their ids."""
        return tuple(map(language_code, self.layout.languages))

    @property
    def max_source_tokens(self) -> int:
        """Maximum length of a source that the tokenizer allows; the model may allow less."""
        return 1 << 30

    def language_id(self, language: str) -> int:
        """Return the id of a language's token.

        The language is given by its FLORES-200 code or by the model's own name for it.

        Raises:
            LanguageError: the model does not have the language.
        """
        try:
            return self._language_ids[language]
        except KeyError:
            near = did_you_mean(language, self.languages)
            raise LanguageError(
                f"the model has no token for {language!r}{near or ';'} the model has "
                f"{len(self.languages)} languages; run 'nllb languages' to list the codes"
            ) from None

    def data_tag_id(self, tag: DataTag) -> int:
        """Return the id of a data tag, which follows the source language token in training.

        Raises:
            CheckpointError: the model's vocabulary has no row for the tag.
        """
        if tag not in self.layout.data_tags:
            raise CheckpointError(f"the model's vocabulary has no row for {tag}")
        return self.layout.data_tags[tag]

    @property
    def mask_id(self) -> int | None:
        """Id of `<mask>` if the model has a separate row for it; this is never a data tag's id."""
        return self.layout.mask_id

    def normalize(self, text: str) -> str:
        """Return the text that SentencePiece encodes; unpaired surrogates become U+FFFD."""
        if not text.isascii():
            text = _SURROGATES.sub("\ufffd", text)
        return normalize_punctuation(text) if self.normalizes else text

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text without language or end tokens."""
        return [number for part in self._split(self.normalize(text)) for number in self._ids(part)]

    def copied_ids(self, text: str) -> list[int]:
        """Return the output tokens that spell a source, which a shortlist must not exclude."""
        return [*self.encode(text), EOS_ID]

    def encode_source(
        self, text: str, language: str, *, target: str | None = None, tag: DataTag | None = None
    ) -> list[int]:
        """Return the encoder input: language token, optional data tag, text, end token.

        `target` is the target language, which only SMaLL-100 requires.
        """
        ids = self.encode(text)
        if self.layout.prompt == "source last":
            return [*ids, EOS_ID, self.language_id(language)]
        if self.layout.prompt == "target first":
            if target is None:
                raise ValueError("this model's encoder input depends on the target language")
            language = target
        tags = [] if tag is None else [self.data_tag_id(tag)]
        return [self.language_id(language), *tags, *ids, EOS_ID]

    def encode_target(self, text: str, language: str) -> list[int]:
        """Return the decoder target after the start token: language token, text, end token."""
        return [*self.decoder_start(language)[1:], *self.encode(text), EOS_ID]

    def decoder_start(self, language: str) -> list[int]:
        """Return the decoder prompt: end token, and in most models the language token."""
        language_id = self.language_id(language)
        return [EOS_ID] if self.layout.prompt == "target first" else [EOS_ID, language_id]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids; `<unk>` becomes U+2047, other special tokens are omitted."""
        parts: list[str] = []
        run: list[int] = []
        for number in ids:
            if number == UNK_ID or 3 < number <= self.layout.num_pieces:
                run.append(0 if number == UNK_ID else number - _OFFSET)
            elif number in self._added_names:
                parts += [self._processor.decode(run), self._added_names[number]]
                run = []
        return "".join([*parts, self._processor.decode(run)]).strip()

    def token(self, number: int) -> str:
        """Return a readable name for an id."""
        if number == UNK_ID:
            return "<unk>"
        if number <= UNK_ID:
            return ("<s>", "<pad>", "</s>")[number]
        if number <= self.layout.num_pieces:
            return str(self._processor.id_to_piece(number - _OFFSET))
        return self.layout.names().get(number, f"<row {number}>")

    def byte_values(self, size: int) -> np.ndarray:
        """Return the byte of each of `size` ids that is a byte piece (`<0xE2>`), -1 for others."""
        values = np.full(size, -1, np.int16)
        for piece in range(self.layout.num_pieces):
            if self._processor.is_byte(piece):
                values[piece + _OFFSET] = int(self._processor.id_to_piece(piece)[3:5], 16)
        return values

    def unknown_characters(self, text: str) -> tuple[str, ...]:
        """Return the distinct characters of a normalised source that the vocabulary lacks."""
        return self.unknown_target_characters(text)

    def unknown_target_characters(self, text: str) -> tuple[str, ...]:
        """Return the distinct characters of a normalised target that the vocabulary lacks."""
        found: dict[str, None] = {}
        for part in self._split(self.normalize(text)):
            if isinstance(part, str) and 0 in self._processor.encode(part):
                for piece in self._processor.encode(part, out_type=str):
                    if self._processor.piece_to_id(piece) == 0:  # a run of unknown characters
                        found |= dict.fromkeys(piece)
        return tuple(character for character in found if character not in _SPACES)

    def with_languages(self, languages: Sequence[str]) -> "Tokenizer":
        """Return a tokenizer with additional languages, each of which needs a new model row."""
        layout = self.layout.with_languages(languages, vocabulary_size=self.vocabulary_size)
        return self._with_layout(layout)

    def with_mask(self) -> "Tokenizer":
        """Return a tokenizer with a `<mask>` token for denoising, which needs a new model row."""
        return self._with_layout(self.layout.with_mask(vocabulary_size=self.vocabulary_size))

    def save(self, directory: Path, *, max_positions: int = 1024) -> None:
        """Write the files that this class and both NLLB tokenizers of transformers can open."""
        directory.mkdir(parents=True, exist_ok=True)
        with atomic_binary(directory / VOCABULARY_FILE) as stream:
            stream.write(self.vocabulary)
        if self.layout.family == "m2m_100":
            write_m2m_layout(self.layout, directory, self.vocabulary, max_positions=max_positions)
            return
        write_layout(self.layout, directory, max_positions=max_positions)
        special = {*self.layout.languages, *self.layout.data_tags}
        names = self.layout.names()
        write_tokenizer_json(directory, self.vocabulary, names, special=special)

    def _with_layout(self, layout: TokenLayout) -> "Tokenizer":
        return Tokenizer(
            self.vocabulary,
            layout,
            vocabulary_size=max(self.vocabulary_size, layout.size),
            normalize=self.normalizes,
        )

    def _split(self, text: str) -> Iterator[str | int]:
        # Added tokens are split off before SentencePiece runs, as in transformers.
        start = 0
        for match in self._added.finditer(text) if self._added else ():
            if match.start() > start:
                yield text[start : match.start()]
            yield self.layout.added[match.group()]
            start = match.end()
        if start < len(text):
            yield text[start:]

    def _ids(self, part: str | int) -> list[int]:
        if isinstance(part, int):
            return [part]
        end = self.layout.num_pieces  # in M2M-100, pieces without an id follow after the others
        return [
            number + _OFFSET if 0 < number < end else UNK_ID
            for number in self._processor.encode(part)
        ]


def read_vocabulary(path: Path) -> bytes:
    """Read a SentencePiece model file.

    Raises:
        CheckpointError: the file is missing, or is not a valid SentencePiece model.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path.parent} has no tokenizer: {path.name} is missing, and so is {TOKENIZER_FILE}; "
            f"copy it from the original model of these weights"
        )
    refuse_pointer(path)
    return read_piece_model(path)


def _load_processor(vocabulary: bytes, where: Path | str) -> "SentencePieceProcessor":
    processor = load_pieces(vocabulary, where)
    ids = [processor.piece_to_id(piece) for piece in ("<unk>", "<s>", "</s>")]
    if ids != [0, 1, 2]:
        raise CheckpointError(
            f"{where} has <unk>, <s>, </s> at {ids}; NLLB's layout requires [0, 1, 2]"
        )
    return processor


def _language_ids(layout: TokenLayout) -> dict[str, int]:
    by_code = {language_code(token): number for token, number in layout.languages.items()}
    return by_code | dict(layout.languages)
