"""The memory plan against plain arithmetic on the published shapes."""

from pathlib import Path

import pytest

from nllb.errors import ResourceError
from nllb.inference.memory_plan import measure_disk, plan_memory
from nllb.model.configuration import ModelConfig

GIB = 1 << 30
DENSE_600M = ModelConfig(
    vocabulary_size=256206,
    model_dim=1024,
    encoder_layers=12,
    decoder_layers=12,
    encoder_heads=16,
    decoder_heads=16,
    encoder_ffn_dim=4096,
    decoder_ffn_dim=4096,
)
MOE_54B = ModelConfig(
    vocabulary_size=256206,
    model_dim=2048,
    encoder_layers=24,
    decoder_layers=24,
    encoder_heads=16,
    decoder_heads=16,
    encoder_ffn_dim=8192,
    decoder_ffn_dim=8192,
    num_experts=128,
    encoder_sparse_step=4,
    decoder_sparse_step=4,
)


def test_600m_is_counted_as_published() -> None:
    plan = plan_memory(DENSE_600M, dtype="int8", available=8 * GIB)
    assert plan.dense_bytes == pytest.approx(615.07e6, rel=1e-4)
    assert plan.num_experts == plan.experts_per_step == 0
    # embedding projection 262.4 M + decoder without cross-attention keys and values 176.4 M
    assert plan.step_bytes == pytest.approx(438.5e6, rel=5e-3)
    assert plan.needed_bytes < 1.2 * GIB and plan.fits
    plan.require()


def test_54b_needs_its_experts_on_disk() -> None:
    whole = plan_memory(MOE_54B, dtype="int8", available=24 * GIB)
    assert whole.num_experts == whole.num_cached == 12 * 128
    assert whole.num_experts * whole.expert_bytes == pytest.approx(51.5e9, rel=2e-2)
    with pytest.raises(ResourceError, match="--expert-memory") as refusal:
        whole.require()
    assert "24.0 GiB free" in str(refusal.value)
    cached = plan_memory(MOE_54B, dtype="int8", expert_memory=8 * GIB, available=24 * GIB)
    assert cached.fits
    assert cached.num_cached * cached.expert_bytes <= 8 * GIB
    warm, cold = cached.tokens_per_second
    assert warm > cold
    assert cached.experts_per_step == 12
    assert f"{cached.num_cached} of 1536 in memory" in cached.describe()


def test_wider_types_need_more() -> None:
    needs = [
        plan_memory(DENSE_600M, dtype=dtype, available=GIB).dense_bytes
        for dtype in ("int8", "float16", "float32")
    ]
    assert needs[1] == 2 * needs[0] and needs[2] == 4 * needs[0]


def test_a_dense_model_that_does_not_fit_says_what_helps() -> None:
    plan = plan_memory(DENSE_600M, dtype="float32", available=GIB)
    with pytest.raises(ResourceError, match="nllb convert") as refusal:
        plan.require()
    assert "expert" not in str(refusal.value)


def test_the_machine_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(1 << 20))
    assert measure_disk(path) > 0
