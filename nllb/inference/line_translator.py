"""Translates lines with one model, for back-translation, replay data and validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nllb.config.fingerprints import model_fingerprint
from nllb.languages import add_languages, parse_language
from nllb.model.configuration import ModelConfig
from nllb.model.encoder_source_tokenizer import EncoderSourceTokenizer
from nllb.model.formats.encoder_directory import EncoderDirectory
from nllb.model.formats.open_model import open_model
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import SourceStates

from .encoder_engine import load_encoder_engine
from .engine import TorchEngine
from .generator import SearchOptions
from .model_generator import ModelGenerator


class LineTranslator:
    """Translates lines; the result for a line that is too long for the model is None."""

    def __init__(self, generator: ModelGenerator, search: SearchOptions) -> None:
        self._generator, self._search = generator, search

    @classmethod
    def load(
        cls, model: str, *, device: str = "auto", beam_size: int = 1, sampling: bool = False
    ) -> "LineTranslator":
        """Load a model by name or path."""
        generator = ModelGenerator.load(model, device=device)
        add_languages(generator.tokenizer.languages)
        return cls(generator, SearchOptions(beam_size=beam_size, sampling=sampling))

    @classmethod
    def fingerprint(cls, model: str) -> str:
        """Return a hash of a model's files without loading the model."""
        return model_fingerprint(open_model(model).path)

    @classmethod
    def source_states(
        cls, encoder: Path, *, layers: Sequence[int] | None, device: str
    ) -> SourceStates:
        """Return a pretrained encoder as a function without gradients, as used in translation."""
        engine = load_encoder_engine(
            EncoderDirectory.open(encoder), device=device, num_threads=torch.get_num_threads()
        )
        pad_id = engine.config.pad_id

        def states(source_BS: Tensor) -> Tensor:
            lengths = (source_BS != pad_id).sum(1).tolist()
            rows = [row[:n] for row, n in zip(source_BS.tolist(), lengths, strict=True)]
            return engine.encode(rows, layers=layers).padded().to(source_BS.device)

        return states

    @classmethod
    def from_weights(
        cls, config: ModelConfig, weights: Mapping[str, Tensor], tokenizer: Tokenizer
    ) -> "LineTranslator":
        """Return a translator that uses weights in memory and greedy search."""
        add_languages(tokenizer.languages)
        embedding = weights["embedding.weight"]
        encoder = None
        if isinstance(tokenizer, EncoderSourceTokenizer):
            directory = EncoderDirectory.open(tokenizer.encoder_path)
            encoder = load_encoder_engine(directory, device=str(embedding.device))
        engine = TorchEngine(
            config,
            weights,
            device=embedding.device,
            dtype=embedding.dtype,
            source_encoder=encoder,
        )
        return cls(ModelGenerator(engine, tokenizer), SearchOptions(beam_size=1))

    def __call__(self, lines: Sequence[str], source: str, target: str) -> list[str | None]:
        """Translate lines between two languages, which are given by their codes."""
        source_language, target_language = parse_language(source), parse_language(target)
        fits = [self._generator.fits(line, source=source_language) for line in lines]
        outputs = iter(
            self._generator.generate(
                [line for line, is_short in zip(lines, fits, strict=True) if is_short],
                source=source_language,
                target=target_language,
                search=self._search,
            )
        )
        return [next(outputs)[0].text if is_short else None for is_short in fits]
