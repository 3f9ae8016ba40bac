"""Fixtures that tests of several packages share."""

import os
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("nllb", deadline=None)  # a busy machine is not an error
settings.load_profile("nllb")
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Begin every test with the same chance."""
    random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real data; the test skips where it is missing."""
    folder = Path(os.environ.get("NLLB_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}: set NLLB_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def train_vocabulary() -> Callable[..., Path]:
    """Return a function that trains a SentencePiece model on lines and writes it into a folder."""

    def train(lines: Iterable[str], folder: Path, **options: object) -> Path:
        import sentencepiece

        path = folder / "sentencepiece.bpe.model"
        with path.open("wb") as stream:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=stream,
                num_threads=1,
                minloglevel=2,
                **options,
            )
        return path

    return train


@pytest.fixture(scope="session")
def random_model_dir(
    train_vocabulary: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a model directory: 2 + 2 layers, 4 experts in every second, all parameters random.

    The vocabulary of 800 pieces comes from the language table, so no data folder is needed.
    """
    import torch

    from nllb.languages import languages
    from nllb.model.configuration import ModelConfig
    from nllb.model.formats.hugging_face import write_hugging_face
    from nllb.model.tokenizer import Tokenizer
    from nllb.model.transformer import Transformer

    lines = [f"{language.name}: {language.own_name}." for language in languages()]
    folder = tmp_path_factory.mktemp("tiny-model")
    tokenizer = Tokenizer.build(
        train_vocabulary(lines, folder, vocab_size=800, model_type="bpe", character_coverage=0.98)
    )
    config = ModelConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        model_dim=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_heads=4,
        decoder_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        num_experts=4,
        encoder_sparse_step=2,
        decoder_sparse_step=2,
        expert_output_masking=0.2,
    )
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 1.5 * parameter.shape[-1] ** -0.5 if parameter.dim() == 2 else 0.3
            parameter.copy_(noise * scale + (name.endswith("norm.weight")))
    model_dir = folder / "model"
    write_hugging_face(
        model_dir, config, model.state_dict(), tokenizer, settings={"licence": "MIT"}
    )
    return model_dir


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tests first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def tiny_model(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the small English-Italian model that `tiny_model.py` trains, once for all workers.

    It takes 100 s of CPU: mark tests that use it with `slow` and `timeout(900)`.
    """
    # Under xdist the parent of a worker's folder is the run's, otherwise the user's.
    cache_dir = tmp_path_factory.getbasetemp().parent
    return run_path(str(ROOT / "tests" / "tiny_model.py"))["tiny_model"](data_dir, cache_dir)


@pytest.fixture(scope="session")
def sanitizers() -> Any:
    """Return the C compiler with AddressSanitizer and UBSan; the test skips where it is missing."""
    return run_path(str(ROOT / "tests" / "sanitizers.py"))["find_sanitizers"]()


@pytest.fixture(scope="session")
def token_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of token shards: English-French, English-German (mined), and denoising.

    The sentences are names of languages, so no data folder is needed; 12 pairs of each are held
    out.
    """
    folder: Path = run_path(str(ROOT / "tests" / "token_data.py"))["write_token_data"](
        tmp_path_factory.mktemp("token-data")
    )
    return folder


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a small pretrained encoder, converted from a random E5S1 file."""
    from nllb.io.corpora import open_corpus
    from nllb.model.formats.encoder_conversion import convert_e5
    from nllb.model.formats.encoder_directory import file_sha256
    from tests.tiny_encoder import WORDS, write_e5_file

    folder = tmp_path_factory.mktemp("encoder")
    source = folder / "tiny.bin"
    write_e5_file(source)
    (folder / "text").mkdir()
    (folder / "text" / "eng_Latn").write_text(" ".join(WORDS) + "\nabcdefghijklmnopqrstuvwxyz.,:\n")
    corpus = open_corpus(folder / "text", layout="lines")
    convert_e5(
        source, folder / "encoder", [corpus], expected_sha256=file_sha256(source), quiet=True
    )
    return folder / "encoder"
