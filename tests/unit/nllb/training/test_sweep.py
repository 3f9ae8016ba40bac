"""Sweeps: every variant trains for the same time, resumes, and has a row in the table."""

import csv
from pathlib import Path

import pytest

from nllb.config import load_config
from nllb.config.loading import config_of
from nllb.errors import ConfigError
from nllb.training import sweep
from nllb.training.sweep import run_sweep
from nllb.training.sweep_config import SweepConfig

TRAIN = """
kind: train
data: {data}
model: {{architecture: moe-tiny, model_dim: 16, heads: 2, ffn_dim: 32}}
reader: {{max_tokens: 160, batches_per_step: 1, max_length: 80}}
parallel: {{runner: plain}}
device: cpu
"""


@pytest.fixture
def config(token_data: Path, tmp_path: Path) -> SweepConfig:
    train = tmp_path / "train.yaml"
    train.write_text(TRAIN.format(data=token_data))
    variants = [
        {"name": "sparse", "threads": 1},
        {"name": "dense", "overrides": ["model.experts=0"], "threads": 1},
    ]
    values = {"kind": "sweep", "train": str(train), "minutes": 0.01, "calibration_steps": 2}
    return config_of(SweepConfig, {**values, "variants": variants})


@pytest.mark.slow
def test_variants_train_for_the_same_time(config: SweepConfig, tmp_path: Path) -> None:
    results = run_sweep(config, tmp_path / "out")
    assert {result.name for result in results} == {"sparse", "dense"}
    assert all(result.steps >= 2 and result.labels > 0 for result in results)
    assert results[0].loss <= results[1].loss
    with (tmp_path / "out/sweep.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["name"] for row in rows] == [result.name for result in results]


def test_finished_variants_are_not_run_again(
    config: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, list[str]]] = []

    def train(config, variant, out: Path, schedule, *, quiet: bool) -> None:
        calls.append((variant.name, list(schedule)))
        (out / "metrics").mkdir(parents=True)
        line = '{"step": 4, "targets": 300, "targets_per_second": 100, "tokens": 900}\n'
        (out / "metrics/train.jsonl").write_text(line)
        losses = '{"eng_Latn-fra_Latn": 3.0, "fra_Latn-eng_Latn": 1.0}'
        (out / "metrics/valid.jsonl").write_text(f'{{"loss_by_direction": {losses}}}\n')

    monkeypatch.setattr(sweep, "_train", train)
    config = config.model_copy(update={"minutes": 1.0, "cool_down_share": 0.5})
    first = run_sweep(config, tmp_path / "out")
    assert [name for name, _ in calls] == ["sparse", "sparse", "dense", "dense"]
    # Two steps took 3 seconds, so that 40 fit into a minute.
    assert {"schedule.steps=40", "optimizer.cool_down_steps=20"} <= set(calls[1][1])
    assert (first[0].loss, first[0].loss_into_english, first[0].loss_from_english) == (2, 1, 3)
    assert run_sweep(config, tmp_path / "out") == first and len(calls) == 4


def test_what_the_time_decides_cannot_be_set(config: SweepConfig) -> None:
    values = config.model_dump(mode="json") | {"overrides": ["schedule.steps=5"]}
    with pytest.raises(ConfigError, match=r"schedule\.steps=5.* follows from minutes"):
        config_of(SweepConfig, values)


@pytest.mark.parametrize("name", ["mini", "mini-tiny"])
def test_shipped_variants_are_valid_training_configurations(name: str) -> None:
    from nllb.training.train_config import TrainConfig

    shipped = load_config(SweepConfig, name)
    for variant in shipped.variants:
        load_config(TrainConfig, shipped.train, [*shipped.overrides, *variant.overrides])
