"""The pretrained encoder in mining: the default, one key for its files, empty and long texts."""

import logging
import shutil
from pathlib import Path

import numpy
import pytest

from data_pipeline.mining.encoders.load_encoder import encoder_path, load_encoder
from data_pipeline.mining.encoders.pretrained import PretrainedSentences
from data_pipeline.mining.xsim import error_rates
from nllb.errors import CheckpointError
from nllb.io.benchmarks import load_flores
from nllb.io.corpora import open_corpus
from nllb.model.formats.encoder_conversion import convert_e5
from nllb.model.formats.encoder_directory import WEIGHTS_FILE, file_sha256
from nllb.model.shipped_encoder import SHIPPED_ENCODER
from tests.tiny_encoder import write_e5_file


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "text").mkdir()
    (folder / "text" / "eng_Latn").write_text("the old house by the river\n", "utf-8")
    write_e5_file(folder / "tiny.bin")
    corpus = open_corpus(folder / "text", layout="lines")
    source = folder / "tiny.bin"
    convert_e5(
        source, folder / "encoder", [corpus], expected_sha256=file_sha256(source), quiet=True
    )
    return folder / "encoder"


def test_a_converted_folder_is_an_encoder(tiny_dir: Path) -> None:
    encoder = load_encoder(tiny_dir)
    assert isinstance(encoder, PretrainedSentences)
    vectors = encoder.encode(["the old house", "", "  "], "eng_Latn")
    assert vectors.shape == (3, encoder.dimension)
    assert numpy.linalg.norm(vectors, axis=1) == pytest.approx([1, 0, 0], abs=1e-5)
    assert encoder.encode([], "").shape == (0, encoder.dimension)
    assert encoder.languages is None


def test_the_key_depends_on_the_files(tiny_dir: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(tiny_dir, tmp_path / "copy"))
    assert load_encoder(copied).key == load_encoder(tiny_dir).key
    (copied / "nllb.json").write_text("{}")
    assert len(load_encoder(copied).key) == 16


def test_long_texts_are_encoded_in_windows_and_reported(tiny_dir: Path, caplog) -> None:
    caplog.set_level(logging.INFO, "nllb.mining")
    vectors = load_encoder(tiny_dir).encode(["the old house " * 100, "the house"], "")
    assert numpy.isfinite(vectors).all()
    assert "1 of 2 texts are longer" in caplog.text


def test_damaged_weights_are_refused(tiny_dir: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(tiny_dir, tmp_path / "copy"))
    whole = (copied / WEIGHTS_FILE).read_bytes()
    (copied / WEIGHTS_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is not the file that"):
        load_encoder(copied)


def test_the_pretrained_encoder_ships() -> None:
    assert encoder_path("pretrained") == SHIPPED_ENCODER
    files = [path for path in SHIPPED_ENCODER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 32_000_000


@pytest.mark.slow
def test_the_shipped_encoder_finds_translations(data_dir: Path) -> None:
    flores, encoder = load_flores(data_dir), load_encoder("pretrained")
    assert "fin_Latn" in encoder.languages
    english = encoder.encode(list(flores.sentences("eng_Latn"))[:300], "eng_Latn")
    for code in ("fin_Latn", "arb_Arab"):
        vectors = encoder.encode(list(flores.sentences(code))[:300], code)
        assert max(error_rates(vectors, english)) < 0.02
