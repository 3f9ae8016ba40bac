"""Training configurations: the shipped ones are valid, and checking one is fast."""

import subprocess
import sys
from pathlib import Path

import pytest

from nllb.config import load_config
from nllb.errors import ConfigError
from nllb.training.train_config import TrainConfig


def test_configurations_of_training_are_checked_without_torch() -> None:
    code = (
        "import sys; from nllb.cli import main; "
        "names = ('train/moe-54b', 'finetune/add-language', 'backtranslation/tiny'); "
        "assert all(main(['config', 'check', name]) == 0 for name in names); "
        "assert not {'torch', 'sentencepiece'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_errors_of_all_sections_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "kind: train\ndata: nowhere\nrouting: {final_output_masking: 1.0, capacity: 0}\n"
        "schedule: {patience: 2, validate_every: 0}\noptimizer: {beta_1: 1.0}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(TrainConfig, path)
    errors = ("final_output_masking must", "capacity must", "patience: requires", "beta_1 must")
    for text in errors:
        assert text in str(caught.value)


def test_a_teacher_excludes_the_sampled_softmax(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "kind: train\ndata: nowhere\nsoftmax_negatives: 100\ndistillation: {teacher: other}\n"
    )
    with pytest.raises(ConfigError, match="softmax_negatives: must be 0"):
        load_config(TrainConfig, path)


def test_an_estimate_counts_the_sampled_vocabulary(tmp_path: Path) -> None:
    from nllb.training.estimate import estimate

    path = tmp_path / "config.yaml"
    path.write_text("kind: train\ndata: nowhere\nmodel: {architecture: tiny}\n")
    whole, sampled, beyond = (
        estimate(config, config.model.resolve(vocabulary_size=5000)).flops
        for config in (
            load_config(TrainConfig, path, (f"softmax_negatives={n}",)) for n in (0, 1000, 9000)
        )
    )
    assert whole == beyond
    config = load_config(TrainConfig, path)
    tokens = config.reader.max_tokens * config.schedule.steps
    assert whole - sampled == 6 * 4000 * 64 * tokens
