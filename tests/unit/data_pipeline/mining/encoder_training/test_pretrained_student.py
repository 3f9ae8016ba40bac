"""The pretrained encoder learns a language, resumes, and loads as an encoder of mining."""

from pathlib import Path
from typing import Any

import numpy
import pytest

from data_pipeline.mining.encoder_training import distill
from data_pipeline.mining.encoder_training.train_encoder import read_training_text, train_encoder
from data_pipeline.mining.encoders.load_encoder import load_encoder
from data_pipeline.mining.encoders.pretrained import PretrainedSentences
from data_pipeline.mining.mining_config import DistillationConfig, EncoderTrainingConfig
from nllb.errors import ConfigError
from nllb.io.corpora import open_corpus
from nllb.model.formats import encoder_conversion
from nllb.model.formats.encoder_directory import EncoderDirectory, file_sha256
from tests.tiny_encoder import write_e5_file

from .test_train_encoder import make_config, sentences

LETTERS = "bdfgklmnprstaeiou"
SHIFTED = str.maketrans(LETTERS, LETTERS[1:] + LETTERS[:1])


@pytest.fixture(scope="module")
def teacher_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "text").mkdir()
    lines = [f"{LETTERS[place:]} {LETTERS[:place]}" for place in range(len(LETTERS))]
    (folder / "text" / "eng_Latn").write_text("\n".join(lines), "utf-8")
    source = folder / "tiny.bin"
    write_e5_file(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_conversion, "MIN_SPACE_SAMPLES", 5)
        encoder_conversion.convert_e5(
            source,
            folder / "encoder",
            [open_corpus(folder / "text", layout="lines")],
            expected_sha256=file_sha256(source),
            quiet=True,
        )
    return folder / "encoder"


def distillation(teacher_dir: Path, folder: Path, **fields: Any) -> EncoderTrainingConfig:
    settings = {
        "teacher": str(teacher_dir),
        "student": "pretrained",
        "learning_rate": 2e-3,
        "warmup_steps": 5,
        "epochs": 3,
        "epoch_pairs": 500,
        "batch_tokens": 500,
    }
    config = make_config(folder, distillation=DistillationConfig(**{**settings, **fields}))
    # The other language has each letter of English replaced by the next one.
    english = dict.fromkeys(target for _, target in sentences(900, 0))
    lines = [f"{text.translate(SHIFTED)}\t{text}\n" for text in english]
    (folder / "corpus" / "fra_Latn-eng_Latn.tsv").write_text("".join(lines), "utf-8")
    return config


def test_a_language_is_learnt_and_an_interrupted_run_ends_the_same(
    teacher_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = distillation(teacher_dir, tmp_path)
    train_encoder(config, tmp_path / "whole", quiet=True)
    measure, calls = distill._held_out_error, []

    def stop(*arguments: Any) -> float:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(distill, "_held_out_error", stop)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(config, tmp_path / "parts", quiet=True)
    monkeypatch.undo()
    train_encoder(config, tmp_path / "parts", quiet=True)
    names = ("model.safetensors", "sentence_space.safetensors", "nllb.json", "calibration.json")
    for name in names:
        whole, parts = ((tmp_path / run / name).read_bytes() for run in ("whole", "parts"))
        assert whole == parts, name

    student = load_encoder(tmp_path / "whole", "float32")
    assert isinstance(student, PretrainedSentences)
    teacher = load_encoder(teacher_dir, "float32")
    pairs = read_training_text(config, quiet=True).held_out["fra_Latn"]
    targets = teacher.encode([pair[1] for pair in pairs], "eng_Latn")
    cosines = [
        (encoder.encode([pair[0] for pair in pairs], "fra_Latn") * targets).sum(1).mean()
        for encoder in (teacher, student)
    ]
    assert 1 - cosines[1] < (1 - cosines[0]) / 2
    before, after = EncoderDirectory.open(teacher_dir), EncoderDirectory.open(tmp_path / "whole")
    assert numpy.array_equal(before.read("embedding.weight"), after.read("embedding.weight"))


@pytest.mark.parametrize("student", ["static", "pretrained"])
def test_the_teacher_must_be_of_the_same_kind(
    teacher_dir: Path, tmp_path: Path, student: str
) -> None:
    teacher = teacher_dir
    if student == "pretrained":
        teacher = tmp_path / "static"
        train_encoder(make_config(tmp_path), teacher, quiet=True)
    with pytest.raises(ConfigError, match=f"a {student} student requires a {student} teacher"):
        train_encoder(
            distillation(teacher, tmp_path, student=student), tmp_path / "out", quiet=True
        )
