"""The trainer for a GPU: it computes what the trainer computes, and survives a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nllb.config import load_config
from nllb.inference.line_translator import LineTranslator
from nllb.model.formats.encoder_directory import EncoderDirectory
from nllb.model.formats.encoder_of_model import frozen_states
from nllb.model.transformer import Transformer
from nllb.training.batches.gathering import PAD_ID
from nllb.training.loss import LossModule
from nllb.training.train_config import TrainConfig
from nllb.training.trainer import train
from tests.bench.gpu_train import run_command
from tests.bench.gpu_training.archive import OpenedRun
from tests.bench.gpu_training.gpu_loop import Archive, GpuRun, LoopOptions
from tests.bench.gpu_training.packed_encoder import PackedEncoder
from tests.bench.gpu_training.packed_model import PackedModel
from tests.bench.gpu_training.parts import PartsError, read_parts
from tests.bench.gpu_training.placement import Pair, Placer, expand

CONFIG = """
kind: train
data: {data}
model:
  architecture: moe-tiny
  encoder: {encoder}
  model_dim: 64
  decoder_layers: 2
  sparse_step: 1
  heads: 4
  ffn_dim: 32
  dropout: 0.0
  attention_dropout: 0.0
  expert_output_masking: 0.1
routing: {{mode: dropless}}
label_smoothing: 0.05
reader: {{max_tokens: 160, max_length: 80, join: 0.2}}
optimizer:
  {{kind: muon, learning_rate: 0.01, warm_up_steps: 2, decay: constant, clip_norm: 1.0}}
schedule: {{steps: 4, checkpoint_every: 4, validate_every: 0, log_every: 2, keep_last: 9}}
parallel: {{runner: plain}}
device: cpu
"""


@pytest.fixture(scope="module")
def run(token_data: Path, encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    path = folder / "given.yaml"
    path.write_text(CONFIG.format(data=token_data, encoder=encoder_dir))
    train(load_config(TrainConfig, path, ()), folder, translators=LineTranslator, quiet=True)
    return folder


@pytest.fixture(scope="module")
def archive(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    command = ["pack", str(run), str(folder), "--megabytes", "1", "--length", "64"]
    assert run_command(command) == 0
    return folder


def dry(archive: Path, back: Path, *more: str) -> list[str]:
    return ["train", str(archive), str(back), "--dry", "--warm-up", "5", *more]


def records(back: Path) -> list[dict]:
    return [json.loads(line) for line in (back / "gpu_train.jsonl").read_text().splitlines()]


def test_loss_and_gradients_are_those_of_the_trainer(run: Path, archive: Path) -> None:
    opened, packed = OpenedRun.open(run), Archive(archive)
    theirs = Transformer(opened.shape)
    theirs.load_state_dict(packed.weights, strict=False)
    directory = EncoderDirectory.open(opened.tokenizer.encoder_path)
    theirs.source_states = frozen_states(directory, "cpu", opened.shape)
    loss = LossModule(theirs, label_smoothing=0.0, balance_weight=0.0).eval()

    encoder = PackedEncoder(packed.encoder, packed.settings["encoder"], "cpu", torch.float32)
    ours = PackedModel(packed.shape, encoder, torch.float32)
    ours.load(packed.weights)
    corpus = packed.corpus
    placer = Placer(corpus, rows=24, length=64)
    direction = packed.directions("directions")[0]
    pairs = [
        Pair([int(a)], [int(b)], direction.language)
        for a, b in zip(direction.sources[:20], direction.targets[:20], strict=True)
    ]
    pairs.sort(key=lambda pair: sum(placer.lengths(pair)))
    joined = Pair(
        [*pairs[0].sources, *pairs[1].sources],
        [*pairs[0].targets, *pairs[1].targets],
        direction.language,
    )
    assert max(placer.lengths(joined)) <= packed.settings["max_length"]
    pairs.append(joined)
    (placed,) = placer.batches(iter(pairs), flush=True)
    ours_loss, ours_plain, _ = ours(
        expand(corpus, placed.segments, rows=24, length=64), training=False
    )
    ours_loss.backward()

    used = source_ids(packed, opened)
    rows = [padded_pair(packed, used, pair) for pair in pairs]
    source, target_in, labels = (
        torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row[side]) for row in rows], batch_first=True, padding_value=PAD_ID
        )
        for side in range(3)
    )
    expected, plain, _ = loss(source, target_in, labels)
    expected.backward()
    assert placed.labels == int((labels != PAD_ID).sum())
    torch.testing.assert_close(ours_plain, plain, rtol=2e-5, atol=0)
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    swap_in_gradients(ours)
    found = dict(ours.names())
    assert gradients.keys() == found.keys()
    for name, gradient in gradients.items():
        largest = float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=2e-4 * largest + 1e-6)


def swap_in_gradients(model: PackedModel) -> None:
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.data = parameter.grad


def source_ids(packed: Archive, opened: OpenedRun) -> list[int]:
    """Return the encoder's id of each row that the archive kept."""
    encoder = opened.tokenizer.encoder
    known = {encoder.config.bos_id, encoder.config.pad_id, encoder.config.eos_id}
    for text in texts_of(packed, opened):
        known.update(encoder.encode(text))
    return sorted(known)


def texts_of(packed: Archive, opened: OpenedRun) -> list[str]:
    corpus = packed.corpus
    return [
        opened.tokenizer.normalize(opened.tokenizer.decode(target_tokens(packed, number)))
        for number in range(corpus.bos)
    ]


def target_tokens(packed: Archive, number: int) -> list[int]:
    corpus = packed.corpus
    begin = int(corpus.target_begins[number])
    return corpus.target_tokens[begin : begin + int(corpus.target_lengths[number])].tolist()


def padded_pair(packed: Archive, used: list[int], pair: Pair) -> tuple[list[int], ...]:
    corpus = packed.corpus
    source: list[int] = []
    for number in pair.sources:
        begin = int(corpus.source_begins[number])
        source += corpus.source_tokens[begin : begin + int(corpus.source_lengths[number])].tolist()
    target = [token for number in pair.targets for token in target_tokens(packed, number)]
    return [0, *(used[row] for row in source), 2], [pair.language, *target], [*target, 2]


def test_training_is_killed_resumed_and_merged(
    run: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    back = tmp_path / "back"
    environment = {**os.environ, "PYTHONPATH": str(archive / "code"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.bench.gpu_train", *dry(archive, back)]
    process = subprocess.Popen(
        [*command, "--save-every", "0"], env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    while not (back / "state.json").is_file():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = json.loads((back / "state.json").read_text())
    assert first["steps"] >= 20

    assert run_command(dry(archive, back, "--steps", "60")) == 0
    last = json.loads((back / "state.json").read_text())
    assert last["steps"] == first["steps"] + 60 and last["labels"] > first["labels"]
    losses = [r["from_english"] for r in records(back) if r["what"] == "validation"]
    assert losses[-1] < losses[0] - 0.3
    assert len(list(back.iterdir())) <= 8

    assert run_command(["merge", str(run), str(archive), str(back)]) == 0
    assert f"checkpoint of step {4 + last['steps']:,}" in capsys.readouterr().out
    config = load_config(TrainConfig, run / "config.yaml", (f"schedule.steps={6 + last['steps']}",))
    result = train(config, run, translators=LineTranslator, quiet=True)
    assert result.state.step == 6 + last["steps"] and result.model_dir is not None
    translate = LineTranslator.load(str(result.model_dir))
    assert translate(["French"], "eng_Latn", "fra_Latn")[0]


def test_parts_of_different_moments_are_refused(archive: Path, tmp_path: Path) -> None:
    back = tmp_path / "back"
    assert run_command(dry(archive, back, "--steps", "20")) == 0
    part = back / "weights-0.bin"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(PartsError, match="written at different times"):
        read_parts(back)
    assert run_command(dry(archive, back, "--steps", "20")) == 1


def test_code_that_travels_imports_only_torch(archive: Path) -> None:
    program = (
        "import sys, tests.bench.gpu_training.gpu_loop;"
        "print([n for n in ('pydantic', 'numpy.random', 'safetensors', 'tokenizers')"
        " if n in sys.modules and n != 'numpy.random'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(archive / "code")},
        cwd=archive,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_step_on_a_gpu_never_makes_the_cpu_wait(archive: Path, tmp_path: Path) -> None:
    run = GpuRun(
        LoopOptions(
            archive=archive,
            out=tmp_path / "back",
            started=time.monotonic(),
            minutes=1,
            margin_s=0,
            save_every_s=60,
            rows=8,
            device="cuda",
            compile=False,
            rate=None,
            warm_up=5,
            cool_down=0,
            max_steps=None,
        )
    )
    batches = run.batches()
    first, second = (next(batches)[0] for _ in range(2))
    run.step(first)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run.step(second)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    run.stop()
