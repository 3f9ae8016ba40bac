"""`precision: auto` takes the faster number type, logs both, and keeps it when a run resumes."""

import logging

import pytest
import torch

from nllb.training import precision
from nllb.training.precision import choose_precision, matmul_speed

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({"float32": 338e9, "bfloat16": 63e9}, "float32"),
        ({"float32": 185e9, "bfloat16": 370e9}, "bfloat16"),
    ],
)
def test_the_faster_type_is_taken_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog, speeds: dict[str, float], expected: str
) -> None:
    monkeypatch.setattr(precision, "matmul_speed", lambda name, device: speeds[name])
    with caplog.at_level(logging.INFO, logger="nllb"):
        assert choose_precision("auto", CPU) == expected
    assert f"precision: {expected}" in caplog.text
    for name, speed in speeds.items():
        assert f"{name} {speed / 1e9:,.0f} GFLOP/s" in caplog.text


def test_a_configured_type_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "matmul_speed", None)
    assert choose_precision("bfloat16", CPU) == "bfloat16"


def test_a_measurement_is_a_positive_speed() -> None:
    assert matmul_speed("float32", CPU) > 0
