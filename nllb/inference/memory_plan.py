"""What a model will need on this machine, worked out and shown before anything large is read.

Counts come from the configuration alone; the speeds come from a short measurement of this machine.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nllb.config import format_size
from nllb.errors import ResourceError
from nllb.io.machine import available_memory
from nllb.model.configuration import ModelConfig, Side
from nllb.model.formats.weight_names import Weight, list_weights

Dtype = Literal["float32", "bfloat16", "float16", "int8"]
BYTES_PER_PARAMETER = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0}
WORKING_BYTES = 300 << 20
"""Interpreter, torch, activations and caches beside the weights (measured, 600M shape)."""
PROBE_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """Memory, disk and expected speed of one model on this machine."""

    dtype: Dtype
    """Type of the weights in memory."""
    dense_bytes: int
    """Weights that are always in memory: everything but experts."""
    num_experts: int
    """Experts of all layers together; 0 for a dense model."""
    expert_bytes: int
    """What one expert takes in memory."""
    num_held: int
    """Experts held in memory at a time."""
    disk_bytes: int
    """What the checkpoint takes on disk."""
    available_bytes: int
    """Memory that is free here now."""
    step_bytes: int
    """Weights that one step of decoding one sentence reads, with experts in memory."""
    memory_bandwidth: float
    """Bytes a second that this machine reads from memory, measured."""
    disk_bandwidth: float
    """Bytes a second that the checkpoint is read with, measured (cached or not, as it is now)."""
    experts_per_step: int
    """Experts that one decoding step asks for."""

    @property
    def needed_bytes(self) -> int:
        """Memory for weights, held experts and work."""
        return self.dense_bytes + self.num_held * self.expert_bytes + WORKING_BYTES

    @property
    def fits(self) -> bool:
        """Whether the need is below what is free."""
        return self.needed_bytes <= self.available_bytes

    @property
    def tokens_per_second(self) -> tuple[float, float]:
        """Expected speed of one sentence, greedy: (experts in memory, experts all read anew)."""
        warm_s = self.step_bytes / self.memory_bandwidth
        missed = (
            self.experts_per_step * self.expert_bytes if self.num_held < self.num_experts else 0
        )
        return 1 / warm_s, 1 / (warm_s + missed / self.disk_bandwidth)

    def describe(self) -> str:
        """Return the plan in a few lines for people."""
        warm, cold = self.tokens_per_second
        lines = [
            f"memory: {format_size(self.needed_bytes)} needed, "
            f"{format_size(self.available_bytes)} free "
            f"({format_size(self.dense_bytes)} weights as {self.dtype}, "
            f"{format_size(WORKING_BYTES)} to work with)",
        ]
        if self.num_experts:
            lines.append(
                f"experts: {self.num_held} of {self.num_experts} held in "
                f"{format_size(self.num_held * self.expert_bytes)}, "
                f"{format_size(self.expert_bytes)} each"
            )
        lines.append(f"disk: {format_size(self.disk_bytes)}")
        speeds = [warm] if self.num_held >= self.num_experts else [cold, warm]
        shown = " to ".join(f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}" for speed in speeds)
        lines.append(f"expected speed: at most about {shown} tokens/s for one sentence")
        return "\n".join(lines)

    def require(self) -> None:
        """Refuse a plan that does not fit.

        Raises:
            ResourceError: with what is needed, what is free and what would help.
        """
        if self.fits:
            return
        advice = (
            "convert it to int8 (`nllb convert MODEL OUT --dtype int8`) or take a smaller model"
        )
        if self.num_experts:
            advice = (
                "give --expert-memory to leave experts in the file, prune it for a language pair "
                f"(`nllb prune`), or {advice}"
            )
        raise ResourceError(f"not enough memory for this model: {advice}\n{self.describe()}")


def plan_memory(
    config: ModelConfig,
    *,
    dtype: Dtype,
    expert_memory: int | None = None,
    disk_bytes: int = 0,
    checkpoint: Path | None = None,
    available: int | None = None,
) -> MemoryPlan:
    """Work out a plan.

    Args:
        config: the model's shape.
        dtype: type of the weights in memory.
        expert_memory: bytes for experts; None holds all of them.
        disk_bytes: size of the checkpoint, for the record.
        checkpoint: a file of it, to measure the reading speed; None assumes a common disk.
        available: free memory; None asks the machine.
    """
    width = BYTES_PER_PARAMETER[dtype]
    weights = list(list_weights(config))
    experts = [weight for weight in weights if weight.expert is not None]
    dense = sum(weight.size for weight in weights) - sum(weight.size for weight in experts)
    num_experts = len({(weight.side, weight.layer, weight.expert) for weight in experts})
    expert_bytes = int(max(_expert_sizes(experts), default=0) * width)
    num_held = num_experts
    if expert_memory is not None and expert_bytes:
        num_held = min(num_experts, expert_memory // expert_bytes)
    sparse_layers = sum(
        config.is_sparse("decoder", layer) for layer in range(config.decoder_layers)
    )
    return MemoryPlan(
        dtype=dtype,
        dense_bytes=int(dense * width),
        num_experts=num_experts,
        expert_bytes=expert_bytes,
        num_held=num_held,
        disk_bytes=disk_bytes,
        available_bytes=available_memory() if available is None else available,
        step_bytes=int(_step_parameters(config, weights) * width),
        memory_bandwidth=measure_memory(),
        disk_bandwidth=measure_disk(checkpoint) if checkpoint is not None else 500e6,
        experts_per_step=2 * sparse_layers,
    )


def _expert_sizes(experts: list[Weight]) -> list[int]:
    sizes: dict[tuple[Side | None, int | None, int | None], int] = {}
    for weight in experts:
        key = weight.side, weight.layer, weight.expert
        sizes[key] = sizes.get(key, 0) + weight.size
    return list(sizes.values())


def _step_parameters(config: ModelConfig, weights: list[Weight]) -> int:
    """Count what a decoding step reads: decoder, two experts a sparse layer, the projection."""
    count = config.vocabulary_size * config.model_dim
    for weight in weights:
        cross_cached = (
            "cross_attention.key" in weight.name or "cross_attention.value" in weight.name
        )
        if weight.side != "decoder" or cross_cached:
            continue
        if weight.expert is None or weight.expert < 2:
            count += weight.size
    return count


def measure_memory() -> float:
    """Return bytes a second of reading a block larger than the caches, best of three."""
    block = np.ones(PROBE_BYTES // 8, dtype=np.float64)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - start)
    return PROBE_BYTES / best


def measure_disk(path: Path) -> float:
    """Return bytes a second of reading up to 64 MiB from the middle of a file."""
    size = path.stat().st_size
    start = time.perf_counter()
    with path.open("rb", buffering=0) as stream:
        stream.seek(max(0, (size - PROBE_BYTES) // 2))
        count = len(stream.read(PROBE_BYTES))
    return max(count, 1) / (time.perf_counter() - start)
