"""Training on one rank: both runners, resuming, stopping, and refused configurations."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from nllb.config import load_config
from nllb.errors import ConfigError, DataError, NllbError
from nllb.training.build_model import initial_model
from nllb.training.checkpoints.checkpoint import read_state
from nllb.training.checkpoints.tensor_files import WEIGHT, TensorReader
from nllb.training.distributed.ranks import Ranks
from nllb.training.estimate import estimate
from nllb.training.train_config import TrainConfig
from nllb.training.trainer import TrainingResult, train

CONFIG = """
kind: train
data: {data}
model: {{architecture: moe-tiny, model_dim: 16, heads: 2, ffn_dim: 32}}
reader: {{max_tokens: 160, batches_per_step: 2, max_length: 80}}
optimizer: {{learning_rate: 0.01, warm_up_steps: 10, clip_norm: 1.0}}
schedule: {{steps: 20, checkpoint_every: 8, validate_every: 8, log_every: 4}}
parallel: {{runner: plain}}
device: cpu
"""


@pytest.fixture
def configured(token_data: Path, tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(data=token_data))

    def load(*overrides: str) -> TrainConfig:
        return load_config(TrainConfig, path, overrides)

    return load


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for path in sorted((folder / "checkpoints" / f"step_{step:08d}").glob("*.safetensors")):
        found |= load_file(path)
    return found


def assert_same_weights(left: Path, right: Path, step: int) -> None:
    ours, theirs = weights(left, step), weights(right, step)
    assert ours.keys() == theirs.keys()
    assert any("/exp_avg" in name or name.startswith("exp_avg/") for name in ours)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def quietly(config: TrainConfig, folder: Path) -> TrainingResult:
    return train(config, folder, quiet=True)


def records(folder: Path, stream: str) -> list[dict]:
    lines = (folder / "metrics" / f"{stream}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_learns_and_records_it(configured, tmp_path: Path) -> None:
    config = configured("schedule.steps=60", "schedule.validate_every=20")
    result = quietly(config, tmp_path / "run")
    assert result.ending == "finished" and result.state.step == 60
    train_log, valid = records(tmp_path / "run", "train"), records(tmp_path / "run", "valid")
    assert [line["step"] for line in train_log] == list(range(4, 61, 4))
    assert train_log[-1]["negative_log_likelihood"] < train_log[0]["negative_log_likelihood"] - 0.5
    assert valid[-1]["loss"] < valid[0]["loss"]
    assert result.state.best == min(line["loss"] for line in valid)
    assert sum(line["targets"] for line in train_log) == result.state.tokens
    shares = train_log[-1]["expert_load"]["encoder.layers.1"]
    assert sum(shares) == pytest.approx(1, abs=1e-3) and len(shares) == 4
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert load_config(TrainConfig, tmp_path / "run" / "config.yaml") == config


@pytest.mark.slow
def test_fairseq2_trains_the_same_weights(configured, tmp_path: Path) -> None:
    pytest.importorskip("fairseq2")
    quietly(configured(), tmp_path / "plain")
    quietly(configured("parallel.runner=fairseq2"), tmp_path / "fairseq2")
    assert_same_weights(tmp_path / "plain", tmp_path / "fairseq2", 20)
    ours, theirs = (records(tmp_path / name, "train") for name in ("plain", "fairseq2"))
    for mine, other in zip(ours, theirs, strict=True):
        for name in ("loss", "tokens", "gradient_norm", "learning_rate", "expert_load"):
            assert mine[name] == other[name]


def test_recomputed_layers_train_the_same_weights(configured, tmp_path: Path) -> None:
    quietly(configured("schedule.steps=8"), tmp_path / "kept")
    quietly(configured("schedule.steps=8", "activation_checkpointing=true"), tmp_path / "again")
    assert_same_weights(tmp_path / "kept", tmp_path / "again", 8)


def test_recomputing_takes_less_memory(configured) -> None:
    sizes = [
        estimate(config, config.model.resolve(vocabulary_size=300))
        for config in (configured(*_DEEP), configured(*_DEEP, "activation_checkpointing=true"))
    ]
    kept, again = (size.memory_bytes - size.state_bytes for size in sizes)
    assert sizes[0].state_bytes == sizes[1].state_bytes and again < kept / 3


_DEEP = ("model.encoder_layers=8", "model.decoder_layers=8")


def test_a_rank_allocates_only_its_own_experts(configured) -> None:
    config = configured("parallel.experts=true", "schedule.steps=2")
    shape = config.model.resolve(vocabulary_size=300)
    cpu = torch.device("cpu")
    whole = initial_model(config, shape, Ranks(rank=0, size=1, device=cpu)).state_dict()
    halves = [
        initial_model(config, shape, Ranks(rank=rank, size=2, device=cpu)).state_dict()
        for rank in (0, 1)
    ]
    experts = [{name for name in half if ".experts." in name} for half in halves]
    assert experts[0] and not experts[0] & experts[1]
    assert experts[0] | experts[1] == {name for name in whole if ".experts." in name}
    for half in halves:
        assert [name for name in half if not torch.equal(half[name], whole[name])] == []
    assert not any(value.isnan().any() for value in whole.values())


@pytest.mark.parametrize("negatives", [0, 10])
def test_a_stopped_run_resumes_bitwise(
    configured, tmp_path: Path, monkeypatch, negatives: int
) -> None:
    from nllb.training.training_run import TrainingRun

    config = configured(f"softmax_negatives={negatives}")
    quietly(config, tmp_path / "whole")
    whole_step = TrainingRun.begin_step

    def stop_at_13(run: TrainingRun) -> None:
        whole_step(run)
        if run.state.step == 12:
            signal.raise_signal(signal.SIGUSR2)

    monkeypatch.setattr(TrainingRun, "begin_step", stop_at_13)
    first = quietly(config, tmp_path / "stopped")
    monkeypatch.undo()
    assert first.ending == "stopped" and first.state.step == 13 and first.model_dir is None
    second = quietly(config, tmp_path / "stopped")
    assert second.ending == "finished"
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped", 20)
    steps = [line["step"] for line in records(tmp_path / "stopped", "train")]
    assert steps == [4, 8, 12, 13, 16, 20]


def test_a_finished_run_ends_at_once(configured, tmp_path: Path) -> None:
    quietly(configured(), tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "step_00000020" / "manifest.json"
    before = path.stat()
    again = quietly(configured(), tmp_path / "run")
    assert again.ending == "finished" and again.state.step == 20
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("harm", ["truncate", "remove", "flip"])
def test_a_damaged_checkpoint_falls_back(configured, tmp_path: Path, caplog, harm: str) -> None:
    quietly(configured(), tmp_path / "run")
    quietly(configured("schedule.steps=24"), tmp_path / "longer")
    newest = tmp_path / "run" / "checkpoints" / "step_00000020"
    assert_same_weights(tmp_path / "run", tmp_path / "longer", 16)
    path = newest / "expert_001.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    {
        "truncate": lambda: path.write_bytes(raw[:-100]),
        "remove": path.unlink,
        "flip": lambda: path.write_bytes(raw),
    }[harm]()
    stale = tmp_path / "run" / "checkpoints" / "step_00000030.tmp"
    stale.mkdir()
    result = quietly(configured("schedule.steps=24"), tmp_path / "run")
    assert "step 20 is damaged" in caplog.text and "expert_001.safetensors" in caplog.text
    assert "training resumes from step 16" in caplog.text
    assert result.state.step == 24 and not stale.exists()
    assert_same_weights(tmp_path / "run", tmp_path / "longer", 24)


def test_a_changed_learning_rate_is_reported_and_used(configured, tmp_path: Path, caplog) -> None:
    quietly(configured(), tmp_path / "run")
    result = quietly(
        configured("schedule.steps=24", "optimizer.learning_rate=0.002"), tmp_path / "run"
    )
    assert "learning rate changes from 0.01 to 0.002 after step 20" in caplog.text
    assert result.state.learning_rate == 0.002
    rate = records(tmp_path / "run", "train")[-1]["learning_rate"]
    assert rate == pytest.approx(0.002 * (10 / 23) ** 0.5)


def test_another_order_of_batches_is_refused(configured, tmp_path: Path) -> None:
    config = configured("schedule.steps=4")
    quietly(config, tmp_path / "run")
    with pytest.raises(ConfigError, match="different reader"):
        quietly(configured("reader.seed=9"), tmp_path / "run")
    # The file that the message names is still the run's.
    assert load_config(TrainConfig, tmp_path / "run" / "config.yaml") == config
    with pytest.raises(NllbError, match="has shape"):
        quietly(configured("model.ffn_dim=48"), tmp_path / "run")


def test_early_stopping_stops_and_stays_stopped(configured, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO", logger="nllb")
    config = configured(
        *("schedule.steps=200", "schedule.validate_every=2", "schedule.patience=3"),
        *("optimizer.learning_rate=1.0", "optimizer.warm_up_steps=1"),
    )
    result = quietly(config, tmp_path / "run")
    assert result.ending == "no better result" and result.state.step < 200
    assert result.state.without_better == 3
    assert result.state.step == result.state.best_step + 6
    best = tmp_path / "run" / "checkpoints" / f"step_{result.state.best_step:08d}"
    assert read_state(best).step == result.state.best_step
    assert json.loads((result.model_dir / "nllb.json").read_text())["training"]["step"] == (
        result.state.best_step
    )
    assert f"stopped early at step {result.state.step} of 200" in caplog.text
    assert (
        f"none of the last 3 validations improved on validation loss {result.state.best:.4f}"
        in (caplog.text)
    )
    caplog.clear()
    assert quietly(config, tmp_path / "run").state.step == result.state.step
    assert "stopped early" in caplog.text  # the reason is given again


def test_a_diverged_run_is_exported_with_a_warning(configured, tmp_path: Path, caplog) -> None:
    config = configured(
        *("schedule.steps=12", "schedule.log_every=2", "optimizer.warm_up_steps=1"),
        *("optimizer.learning_rate=30.0", "optimizer.clip_norm=null"),
    )
    result = quietly(config, tmp_path / "run")
    assert result.model_dir is not None and result.warning is not None
    assert "training diverged: the training loss per label rose from" in result.warning
    assert "Lower optimizer.learning_rate (now 30)" in result.warning
    assert result.warning in caplog.text
    # A run that resumes at its end still knows it.
    assert quietly(config, tmp_path / "run").warning == result.warning


def test_a_run_that_learns_has_not_diverged(configured, tmp_path: Path) -> None:
    assert quietly(configured(), tmp_path / "run").warning is None


def test_a_measured_precision_is_kept_when_a_run_resumes(
    configured, tmp_path: Path, monkeypatch
) -> None:
    from nllb.training import precision

    speeds = {"float32": 1.0, "bfloat16": 2.0}
    monkeypatch.setattr(precision, "matmul_speed", lambda name, device: speeds[name])
    first = quietly(configured("schedule.steps=2", "precision=auto"), tmp_path / "run")
    assert first.state.precision == "bfloat16"
    speeds["float32"] = 3.0
    second = quietly(configured("schedule.steps=4", "precision=auto"), tmp_path / "run")
    assert second.state.precision == "bfloat16"
    assert (
        quietly(configured("schedule.steps=2", "precision=auto"), tmp_path / "new").state.precision
        == "float32"
    )


@pytest.mark.parametrize("runner", ["plain", pytest.param("fairseq2", marks=pytest.mark.slow)])
def test_a_gradient_that_is_not_finite_stops_the_run(
    configured, tmp_path: Path, monkeypatch, runner: str
) -> None:
    if runner == "fairseq2":
        pytest.importorskip("fairseq2")
    from nllb.training.training_run import TrainingRun

    original = TrainingRun.batch_loss

    def poisoned(run: TrainingRun, batch, number: int):
        loss = original(run, batch, number)
        if run.state.step == 10 and number == 1:
            run._losses[-1] = (batch, loss.detach() * float("nan"))
            return loss * float("nan")
        return loss

    monkeypatch.setattr(TrainingRun, "batch_loss", poisoned)
    with pytest.raises(DataError) as caught:
        quietly(configured(f"parallel.runner={runner}"), tmp_path / "run")
    text = str(caught.value)
    assert "step 10 is not finite" in text and "micro-batch 1" in text
    assert "eng_Latn-fra_Latn" in text and "is kept (step 8)" in text
    monkeypatch.undo()
    assert quietly(configured(), tmp_path / "run").ending == "finished"


def test_a_full_disk_keeps_earlier_checkpoints(configured, tmp_path: Path, monkeypatch) -> None:
    from nllb.training.checkpoints import tensor_files

    original = tensor_files.save_file

    def full(tensors, path: str) -> None:
        if "step_00000016" in path and path.endswith("expert_002.safetensors"):
            raise OSError(28, "No space left on device")
        original(tensors, path)

    monkeypatch.setattr(tensor_files, "save_file", full)
    with pytest.raises(NllbError, match="No space left on device"):
        quietly(configured(), tmp_path / "run")
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step_00000008"]
    assert quietly(configured(), tmp_path / "run").state.step == 20


def test_running_out_of_memory_names_the_settings_to_lower(
    configured, tmp_path: Path, monkeypatch
) -> None:
    from nllb.training.loss import LossModule

    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(LossModule, "forward", exhausted)
    with pytest.raises(NllbError, match=r"lower reader.max_tokens \(now 160\)"):
        quietly(configured(), tmp_path / "run")


def test_data_of_another_vocabulary_is_refused(
    configured, token_data: Path, tmp_path: Path, random_model_dir: Path
) -> None:
    with pytest.raises(DataError, match="another vocabulary"):
        quietly(configured(f"model.initial={random_model_dir}"), tmp_path / "run")
    folder = tmp_path / "data"
    shutil.copytree(token_data, folder)
    shutil.copyfile(random_model_dir / "sentencepiece.bpe.model", folder / "spm.model")
    with pytest.raises(DataError, match="another vocabulary"):
        quietly(configured(f"data={folder}"), tmp_path / "run")


@pytest.mark.parametrize("architecture", ["tiny", "moe-tiny"])
def test_transformers_loads_the_model_with_equal_logits(
    configured, tmp_path: Path, architecture: str
) -> None:
    from transformers import AutoModelForSeq2SeqLM

    from nllb.model.formats.open_model import load_model, open_model

    result = quietly(
        configured(f"model.architecture={architecture}", "schedule.steps=8"), tmp_path / "run"
    )
    assert result.model_dir is not None
    ours = load_model(open_model(result.model_dir))
    checkpoint = tmp_path / "run" / "checkpoints" / "step_00000008"
    trained = TensorReader(checkpoint)
    assert all(
        torch.equal(trained.read(f"{WEIGHT}/{name}"), value)
        for name, value in ours.state_dict().items()
    )
    theirs = AutoModelForSeq2SeqLM.from_pretrained(result.model_dir).eval()
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(4, 300, (3, 9), generator=generator)
    target = torch.randint(4, 300, (3, 7), generator=generator)
    with torch.no_grad():
        expected = theirs(
            input_ids=source,
            attention_mask=torch.ones_like(source),
            decoder_input_ids=target,
            decoder_attention_mask=torch.ones_like(target),
        ).logits
        torch.testing.assert_close(ours(source, target), expected, rtol=0, atol=1e-4)
