"""Models of transformers with random parameters, and vocabularies trained on real text."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import nllb

BPE = {"model_type": "bpe", "character_coverage": 0.9995}
"""As NLLB's vocabulary was trained."""


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    """Tiny matrices are slower on many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def randomize() -> Callable[[torch.nn.Module, int], None]:
    """Return a function that makes every parameter random, biases and norms included."""

    def fill(module: torch.nn.Module, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 2:
                noise *= 1.5 * parameter.shape[1] ** -0.5
            elif "norm" in name and name.endswith("weight"):
                noise = 1 + 0.4 * noise
            else:
                noise *= 0.3
            with torch.no_grad():
                parameter.copy_(noise)

    return fill


@pytest.fixture(scope="session")
def make_reference(randomize: Any) -> Callable[..., Any]:
    """Return a function that makes a random model of transformers, ready for evaluation."""
    from transformers import (
        M2M100Config,
        M2M100ForConditionalGeneration,
        NllbMoeConfig,
        NllbMoeForConditionalGeneration,
    )

    def make(seed: int = 0, **shape: Any) -> Any:
        common = {
            "vocab_size": 211,
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": 64,
        }
        shape = common | shape
        if "num_experts" in shape:
            model: Any = NllbMoeForConditionalGeneration(NllbMoeConfig(**shape))
        else:
            model = M2M100ForConditionalGeneration(M2M100Config(**shape))
        randomize(model, seed)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def padded_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Return sources and targets of unequal lengths, padded on the right."""
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(4, 200, (4, 11), generator=generator)
    target = torch.randint(4, 200, (4, 9), generator=generator)
    for row, (source_length, target_length) in enumerate([(11, 9), (7, 5), (3, 9), (2, 2)]):
        source[row, source_length:] = 1
        target[row, target_length:] = 1
    return source, target


@pytest.fixture(scope="session")
def reference_logits() -> Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return a function that gives the logits of a model of transformers."""

    @torch.no_grad()
    def logits(model: Any, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        output = model(
            input_ids=source,
            attention_mask=(source != 1).long(),
            decoder_input_ids=target,
            decoder_attention_mask=(target != 1).long(),
        )
        return output.logits

    return logits


@pytest.fixture(scope="session")
def vocabulary(
    train_vocabulary: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a SentencePiece model of 2,000 pieces, trained on this package's tables.

    Source files would change the vocabulary, and with it the outputs of random models, too often.
    """
    paths = sorted((Path(nllb.__file__).parent / "languages").glob("*.tsv"))
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").split("\n")]
    return train_vocabulary(
        filter(None, lines), tmp_path_factory.mktemp("vocabulary"), **BPE, vocab_size=2000
    )


@pytest.fixture(scope="session")
def real_vocabulary(
    data_dir: Path,
    train_vocabulary: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a SentencePiece model of 6,000 pieces, trained on text of some 180 languages.

    Training text only; rare characters stay outside of it.
    """
    lines = []
    for path in sorted((data_dir / "nllb_seed").iterdir()):
        lines += path.read_text(encoding="utf-8").split("\n")[:200]
    for path in sorted((data_dir / "udhr").iterdir()):
        rows = path.read_text(encoding="utf-8").split("\n")[:40]
        lines += [row.partition("\t")[2] for row in rows]
    return train_vocabulary(
        filter(None, lines), tmp_path_factory.mktemp("real-vocabulary"), **BPE, vocab_size=6000
    )
