"""The tokenizer of a model on a pretrained encoder, whose pieces the sources consist of.

* A source is `<s> x </s>` in the encoder's pieces, without its language.
* The decoder starts with `__tgt__`, and a target is `x </s>`, in NLLB's layout of a separate
  SentencePiece vocabulary.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from .encoder_tokenizer import EncoderTokenizer
from .shipped_encoder import OWN_ENCODER, SHIPPED_ENCODER
from .token_layout import DataTag, TokenLayout
from .tokenizer import Tokenizer


class EncoderSourceTokenizer(Tokenizer):
    """A target vocabulary together with the tokenizer of a pretrained encoder."""

    def __init__(self, target: Tokenizer, encoder: EncoderTokenizer, encoder_path: Path) -> None:
        """Combine two tokenizers.

        Args:
            target: tokenizer of the target vocabulary, with the language tokens of the decoder.
            encoder: the tokenizer of the pretrained encoder.
            encoder_path: the directory of the pretrained encoder.
        """
        super().__init__(
            target.vocabulary,
            target.layout,
            vocabulary_size=target.vocabulary_size,
            normalize=target.normalizes,
        )
        self.encoder, self.encoder_path = encoder, encoder_path

    @property
    def max_source_tokens(self) -> int:
        """Maximum length of a source, including `<s>` and `</s>`."""
        return self.encoder.config.max_positions

    def encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the encoder inputs of several texts, of any length."""
        config = self.encoder.config
        parts = self.encoder.encode_batch([self.normalize(text) for text in texts])
        return [[config.bos_id, *ids, config.eos_id] for ids in parts]

    def encode_source(
        self, text: str, language: str, *, target: str | None = None, tag: DataTag | None = None
    ) -> list[int]:
        """Return the encoder input; the language must exist but does not affect the result."""
        self.language_id(language)
        return self.encode_sources([text])[0]

    def decoder_start(self, language: str) -> list[int]:
        """Return the decoder prompt: the language token."""
        return [self.language_id(language)]

    def unknown_characters(self, text: str) -> tuple[str, ...]:
        """Return the distinct characters of the text that the encoder's vocabulary lacks."""
        text = self.normalize(text)
        unknown = self.encoder.config.unk_id
        spans = [p for p in self.encoder.token_spans(text) if p.token_id == unknown]
        found = [character for piece in spans for character in text[piece.start : piece.end]]
        return tuple(dict.fromkeys(found))

    def save(self, directory: Path, *, max_positions: int = 1024) -> None:
        """Write the target vocabulary, and the encoder unless it is the shipped one."""
        super().save(directory, max_positions=max_positions)
        if self.encoder_path != SHIPPED_ENCODER and not (directory / OWN_ENCODER).is_dir():
            shutil.copytree(self.encoder_path, directory / OWN_ENCODER)

    def _with_layout(self, layout: TokenLayout) -> "EncoderSourceTokenizer":
        target = super()._with_layout(layout)
        return EncoderSourceTokenizer(target, self.encoder, self.encoder_path)
