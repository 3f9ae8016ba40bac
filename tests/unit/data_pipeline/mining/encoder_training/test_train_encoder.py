"""Encoder training: what is kept out, that it learns, that it resumes; distillation."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from data_pipeline.data_config import EvaluationConfig
from data_pipeline.mining.encoder_training import contrastive
from data_pipeline.mining.encoder_training import distill as distillation
from data_pipeline.mining.encoder_training.contrastive import contrastive_loss
from data_pipeline.mining.encoder_training.train_encoder import read_training_text, train_encoder
from data_pipeline.mining.encoder_training.training_hashes import overlap, read_hashes, write_hashes
from data_pipeline.mining.encoders.load_encoder import load_encoder
from data_pipeline.mining.encoders.static_encoder import StaticEncoder
from data_pipeline.mining.mining_config import (
    ContrastiveConfig,
    DistillationConfig,
    EncoderTrainingConfig,
    TableConfig,
    TextSourceConfig,
)
from data_pipeline.mining.xsim import error_rates
from nllb.errors import DataError

WORDS = {
    f"{onset}{vowel}{coda}": f"{coda}u{onset}{vowel}{vowel}k"
    for onset in "bdfgklmnprst"
    for vowel in "aeio"
    for coda in "mnrs"
}


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """Sentences of two invented languages that differ in every word."""
    generator = numpy.random.default_rng(seed)
    own = list(WORDS)
    found = []
    for _ in range(count):
        chosen = [own[number] for number in generator.integers(len(own), size=6)]
        found.append((" ".join(chosen), " ".join(WORDS[word] for word in reversed(chosen))))
    return found


def make_config(folder: Path, **changes: Any) -> EncoderTrainingConfig:
    corpus, shielded = folder / "corpus", folder / "shielded"
    corpus.mkdir(exist_ok=True)
    shielded.mkdir(exist_ok=True)
    pairs = sentences(1500, 0)
    lines = "".join(f"{source}\t{target}\n" for source, target in pairs)
    (corpus / "fra_Latn-eng_Latn.tsv").write_text(lines, encoding="utf-8")
    (shielded / "eng").write_text("".join(f" {t.upper()} \n" for _, t in pairs[:40]), "utf-8")
    (shielded / "fra").write_text("".join(f"{s}\n" for s, _ in pairs[40:60]), "utf-8")
    fields: dict[str, Any] = {
        "kind": "encoder",
        "data_dir": folder,
        "sources": (
            TextSourceConfig(name="own", path="corpus", layout="pairs", held_out_fraction=0.1),
        ),
        "decontamination": (EvaluationConfig(name="test", path="shielded"),),
        "table": TableConfig(dimension=32, rows=3000, owned_rows=2000),
        "contrastive": ContrastiveConfig(
            batch_pairs=128, steps=60, learning_rate=0.05, evaluate_every=10
        ),
    }
    return EncoderTrainingConfig(**{**fields, **changes})


def test_evaluation_and_held_out_text_stays_out_on_both_sides(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    text = read_training_text(config, quiet=True)
    pairs = sentences(1500, 0)
    kept = set(text.sentences)
    # Upper case and space do not hide a sentence: they are compared in the form for hashing.
    assert not kept & {side for pair in pairs[:60] for side in pair}
    held_out = text.held_out["fra_Latn"]
    assert 100 < len(held_out) < 200
    assert not kept & {side for pair in held_out for side in pair}
    assert len(text.pairs) + len(held_out) + 60 >= 1490
    assert text.facts["own"]["shielded"] >= 60
    assert len(text.sentences) == len(kept)


def test_training_learns_and_an_interrupted_one_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path)
    whole = train_encoder(config, tmp_path / "whole", quiet=True)
    assert whole.held_out_error < 20

    class Stop(Exception):
        pass

    def stop(run: Any) -> None:
        save(run)
        if run.step == 30:
            raise Stop

    save = contrastive._ContrastiveRun.save
    monkeypatch.setattr(contrastive._ContrastiveRun, "save", stop)
    with pytest.raises(Stop):
        train_encoder(config, tmp_path / "parts", quiet=True)
    monkeypatch.undo()
    train_encoder(config, tmp_path / "parts", quiet=True)
    files = [(tmp_path / name / "encoder.safetensors").read_bytes() for name in ("whole", "parts")]
    assert files[0] == files[1]
    fresh = sentences(200, 5)
    encoder = load_encoder(tmp_path / "whole")
    sides = [encoder.encode([pair[side] for pair in fresh], "") for side in (0, 1)]
    assert max(error_rates(*sides)) < 0.2
    hashes = read_hashes(tmp_path / "whole" / "training_hashes.bin.zst")
    assert overlap(hashes, [text for pair in sentences(1500, 0)[:60] for text in pair]) == []
    with pytest.raises(DataError, match="another configuration"):
        train_encoder(make_config(tmp_path, seed=1), tmp_path / "whole", quiet=True)


def test_plain_steps_leave_nothing_out_and_join_nothing(tmp_path: Path) -> None:
    plain = ContrastiveConfig(batch_pairs=128, steps=10, plain_fraction=0.5)
    config = make_config(tmp_path, contrastive=plain)
    text = read_training_text(config, quiet=True)
    numbered = contrastive.number_features(config, text, quiet=True)
    run = contrastive._ContrastiveRun(config, text, numbered, tmp_path)
    batch = next(run.batches())
    pairs, _, counts = run._draw(batch)
    whole = numpy.diff(numbered.sentences.bounds)[pairs].reshape(-1)
    assert (counts == whole).all()
    run.step = 5
    _, _, counts = run._draw(batch)
    assert (counts < whole).any()
    assert (counts > whole).any()


def test_a_student_comes_nearer_to_its_teacher(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    weak = make_config(
        tmp_path, contrastive=ContrastiveConfig(batch_pairs=128, steps=6, evaluate_every=6)
    )
    train_encoder(weak, teacher, quiet=True)
    student = make_config(
        tmp_path,
        distillation=DistillationConfig(teacher=str(teacher), learning_rate=0.02, epochs=3),
    )
    train_encoder(student, tmp_path / "student", quiet=True)
    errors = json.loads((tmp_path / "student" / "epochs.json").read_text())["held_out_error"]
    assert len(errors) == 4
    assert min(errors) < 0.7 * errors[0]


def test_a_student_answers_for_its_teachers_text_and_licence(tmp_path: Path) -> None:
    teacher, out = tmp_path / "teacher", tmp_path / "student"
    few = ContrastiveConfig(batch_pairs=128, steps=2, evaluate_every=2)
    train_encoder(make_config(tmp_path, contrastive=few, licence="A"), teacher, quiet=True)
    (tmp_path / "other").mkdir()
    own = [(f"{source} x", f"{target} y") for source, target in sentences(80, 1)]
    lines = "".join(f"{source}\t{target}\n" for source, target in own)
    (tmp_path / "other" / "fra_Latn-eng_Latn.tsv").write_text(lines, encoding="utf-8")
    other = TextSourceConfig(name="other", path="other", layout="pairs")
    student = make_config(
        tmp_path,
        sources=(other,),
        licence="B",
        distillation=DistillationConfig(teacher=str(teacher), epochs=1, bits=2),
    )
    train_encoder(student, out, quiet=True)
    card = json.loads((out / "encoder.json").read_text())
    assert (card["licence"], card["teacher"]["licence"]) == ("B", "A")
    assert (list(card["sources"]), list(card["teacher"]["sources"])) == (["other"], ["own"])
    sides = [text for pair in (*sentences(1500, 0), *own) for text in pair]
    before, after = (
        set(overlap(read_hashes(folder / "training_hashes.bin.zst"), sides))
        for folder in (teacher, out)
    )
    assert after == before | set(range(3000, 3160))
    # Two bits instead of the teacher's: the file says how it is to be read.
    encoder = load_encoder(out)
    assert isinstance(encoder, StaticEncoder)
    assert encoder.bits == 2


def test_an_interrupted_distillation_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tmp_path / "teacher"
    weak = ContrastiveConfig(batch_pairs=128, steps=4, evaluate_every=4)
    train_encoder(make_config(tmp_path, contrastive=weak), teacher, quiet=True)
    config = make_config(
        tmp_path,
        distillation=DistillationConfig(teacher=str(teacher), learning_rate=0.02, epochs=3),
    )
    train_encoder(config, tmp_path / "whole", quiet=True)
    calls = []

    def stop(*arguments: Any) -> float:
        calls.append(arguments)
        # Once before the first epoch, and once behind each: the second epoch is lost.
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*arguments)

    measure = distillation._held_out_error
    monkeypatch.setattr(distillation, "_held_out_error", stop)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(config, tmp_path / "parts", quiet=True)
    monkeypatch.undo()
    assert not (tmp_path / "parts" / "encoder.safetensors").exists()
    train_encoder(config, tmp_path / "parts", quiet=True)
    for name in ("encoder.safetensors", "epochs.json", "training_hashes.bin.zst"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


@pytest.mark.slow
def test_a_transformer_student_is_read_as_laser3(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    train_encoder(make_config(tmp_path), teacher, quiet=True)
    config = make_config(
        tmp_path,
        name="small",
        distillation=DistillationConfig(
            teacher=str(teacher),
            student="transformer",
            learning_rate=4e-3,
            warmup_steps=50,
            epochs=12,
            layers=1,
            feed_forward=64,
            dropout=0.0,
            vocabulary=600,
            batch_tokens=250,
        ),
    )
    train_encoder(config, tmp_path / "student", quiet=True)
    errors = json.loads((tmp_path / "student" / "epochs.json").read_text())["held_out_error"]
    assert min(errors) < 0.5 * errors[0]
    encoder = load_encoder(tmp_path / "student" / "small.pt")
    held_out = read_training_text(config, quiet=True).held_out["fra_Latn"]
    sources = encoder.encode([pair[0] for pair in held_out], "fra_Latn")
    targets = load_encoder(teacher).encode([pair[1] for pair in held_out], "eng_Latn")
    assert 100 * error_rates(sources, targets)[0] == pytest.approx(min(errors), abs=3)


def test_equal_sentences_are_no_wrong_answers() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(3, 2, 8), dim=2)
    vectors[1, 1] = vectors[0, 1]
    apart = torch.tensor([[0, 1], [2, 3], [4, 5]])
    shared = torch.tensor([[0, 1], [2, 1], [4, 5]])
    scale = torch.tensor(10.0)
    logits = 10 * vectors[:, 0] @ vectors[:, 1].T
    masked = logits.clone()
    masked[0, 1] = masked[1, 0] = -torch.inf
    for pairs, table in ((apart, logits), (shared, masked)):
        right = (table.log_softmax(1).diag() + table.log_softmax(0).diag()).mean() / -2
        assert float(contrastive_loss(vectors, pairs, scale)) == pytest.approx(float(right), 1e-4)


def test_hashes_know_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "hashes.bin.zst"
    texts = [f"sentence {chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(600)]
    assert write_hashes(path, texts) == 600
    hashes = read_hashes(path)
    assert overlap(hashes, texts) == list(range(600))
    assert overlap(hashes, ["", "another", " SENTENCE AA"]) == [2]
    write_hashes(path, [])
    assert overlap(read_hashes(path), texts) == []
