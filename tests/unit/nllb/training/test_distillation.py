"""Online distillation: the loss against an oracle of loops, a run, and unsuitable teachers."""

import math
from pathlib import Path

import pytest
import torch

from nllb.config import load_config
from nllb.errors import ConfigError
from nllb.model.configuration import ModelConfig
from nllb.model.transformer import Transformer
from nllb.training.loss import LossModule, Teacher
from nllb.training.train_config import TrainConfig
from nllb.training.trainer import train

CONFIG = """
kind: train
data: {data}
model: {{architecture: tiny, model_dim: 16, heads: 2, ffn_dim: 32}}
reader: {{max_tokens: 160, batches_per_step: 1, max_length: 80}}
optimizer: {{learning_rate: 0.01, warm_up_steps: 5}}
schedule: {{steps: 12, checkpoint_every: 12, validate_every: 0, log_every: 1}}
parallel: {{runner: plain}}
device: cpu
"""
SHAPE = ModelConfig(
    vocabulary_size=11,
    model_dim=8,
    encoder_layers=1,
    decoder_layers=1,
    encoder_heads=1,
    decoder_heads=1,
    encoder_ffn_dim=8,
    decoder_ffn_dim=8,
    dropout=0.0,
    attention_dropout=0.0,
)


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (2.5, 0.3), (0.7, 1.0), (1, 0)])
def test_the_loss_equals_the_oracle(temperature: float, alpha: float) -> None:
    torch.manual_seed(0)
    student, teacher = Transformer(SHAPE), Transformer(SHAPE).eval()
    told = Teacher(model=teacher, temperature=temperature, alpha=alpha)
    module = LossModule(student, label_smoothing=0.0, balance_weight=0.0, teacher=told)
    source = torch.tensor([[4, 5, 2], [6, 2, 1]])
    target_in, labels = torch.tensor([[2, 7, 8], [2, 9, 1]]), torch.tensor([[7, 8, 2], [9, 2, 1]])
    loss, likelihood, _ = module(source, target_in, labels)
    expected = plain = 0.0
    ours, theirs = (
        model(source, target_in).double().detach().tolist() for model in (student, teacher)
    )
    for row in range(2):
        for place in range(3):
            label = int(labels[row, place])
            if label == 1:
                continue
            entropy = -math.log(softmax(ours[row][place], 1.0)[label])
            learned = softmax(ours[row][place], temperature)
            taught = softmax(theirs[row][place], temperature)
            divergence = sum(p * math.log(p / q) for p, q in zip(taught, learned, strict=True))
            plain += entropy
            expected += (1 - alpha) * entropy + alpha * temperature**2 * divergence
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert likelihood.item() == pytest.approx(plain, rel=1e-5)
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(
        parameter is p for p in module.parameters() for parameter in teacher.parameters()
    )
    module.eval()  # validation asks the labels only
    assert module(source, target_in, labels)[0].item() == pytest.approx(plain, rel=1e-5)


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def test_a_run_learns_from_a_teacher(
    token_data: Path, random_model_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(data=token_data))
    teacher = train(load_config(TrainConfig, path), tmp_path / "teacher", quiet=True).model_dir
    taught = [f"distillation.teacher={teacher}", "distillation.alpha=1.0", "seed=5"]
    log = tmp_path / "taught" / "metrics" / "train.jsonl"
    assert train(load_config(TrainConfig, path, taught), tmp_path / "taught", quiet=True).model_dir
    losses = [
        float(line.split('"loss":')[1].split(",")[0]) for line in log.read_text().splitlines()
    ]
    assert len(losses) == 12 and losses[-1] < losses[0] / 2  # the divergence, not the labels' loss
    stranger = [f"distillation.teacher={random_model_dir}"]
    with pytest.raises(ConfigError, match="different vocabulary"):
        train(load_config(TrainConfig, path, stranger), tmp_path / "refused", quiet=True)
