"""Estimates the memory, disk space and speed of a model on this machine before it is loaded.

The sizes are computed from the configuration, and the speeds from short measurements.
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
"""Memory of the interpreter, torch, activations and caches (measured with the 600M model)."""
PROBE_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """Memory, disk space and expected speed of a model on this machine.

    Attributes:
        dtype: dtype of the weights in memory.
        dense_bytes: size of the weights that are always in memory: all weights except experts.
        num_experts: total number of experts in all layers; 0 for a dense model.
        expert_bytes: size of one expert in memory.
        num_cached: maximum number of experts in memory at a time.
        disk_bytes: size of the checkpoint on disk.
        available_bytes: memory that is currently free.
        step_bytes: size of the weights that a decoding step for one sentence reads from memory.
        memory_bandwidth: measured memory bandwidth in bytes per second.
        disk_bandwidth: measured reading speed of the checkpoint in bytes per second, which may be
            cached.
        experts_per_step: number of experts that a decoding step requests.
    """

    dtype: Dtype
    dense_bytes: int
    num_experts: int
    expert_bytes: int
    num_cached: int
    disk_bytes: int
    available_bytes: int
    step_bytes: int
    memory_bandwidth: float
    disk_bandwidth: float
    experts_per_step: int

    @property
    def needed_bytes(self) -> int:
        """Memory for dense weights, experts in memory, and working memory."""
        return self.dense_bytes + self.num_cached * self.expert_bytes + WORKING_BYTES

    @property
    def fits(self) -> bool:
        """Whether enough memory is free."""
        return self.needed_bytes <= self.available_bytes

    @property
    def tokens_per_second(self) -> tuple[float, float]:
        """Expected speed of greedy search for one sentence in tokens per second.

        The first value applies if all requested experts are in memory, the second if none is.
        """
        warm_s = self.step_bytes / self.memory_bandwidth
        missed = (
            self.experts_per_step * self.expert_bytes if self.num_cached < self.num_experts else 0
        )
        return 1 / warm_s, 1 / (warm_s + missed / self.disk_bandwidth)

    def describe(self) -> str:
        """Return a readable description of the plan."""
        warm, cold = self.tokens_per_second
        lines = [
            f"memory: {format_size(self.needed_bytes)} needed, "
            f"{format_size(self.available_bytes)} free "
            f"({format_size(self.dense_bytes)} weights as {self.dtype}, "
            f"{format_size(WORKING_BYTES)} working memory)",
        ]
        if self.num_experts:
            lines.append(
                f"experts: {self.num_cached} of {self.num_experts} in memory, "
                f"{format_size(self.num_cached * self.expert_bytes)} in total, "
                f"{format_size(self.expert_bytes)} each"
            )
        lines.append(f"disk: {format_size(self.disk_bytes)}")
        speeds = [warm] if self.num_cached >= self.num_experts else [cold, warm]
        shown = " to ".join(f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}" for speed in speeds)
        lines.append(f"expected speed: at most about {shown} tokens/s for one sentence")
        return "\n".join(lines)

    def require(self) -> None:
        """Check that enough memory is free.

        Raises:
            ResourceError: the model needs more memory; the message suggests what to do.
        """
        if self.fits:
            return
        advice = "convert it to int8 (`nllb convert MODEL OUT --dtype int8`) or use a smaller model"
        if self.num_experts:
            advice = (
                "limit the memory of experts with --expert-memory, prune the model for a language "
                f"pair (`nllb prune`), or {advice}"
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
    """Return the plan for a model.

    Args:
        config: the model configuration.
        dtype: dtype of the weights in memory.
        expert_memory: memory for experts in bytes; None keeps all experts in memory.
        disk_bytes: size of the checkpoint.
        checkpoint: a file of the checkpoint whose reading speed is measured; None assumes a
            typical disk.
        available: free memory in bytes; None queries the operating system.
    """
    width = BYTES_PER_PARAMETER[dtype]
    weights = list(list_weights(config))
    experts = [weight for weight in weights if weight.expert is not None]
    dense = sum(weight.size for weight in weights) - sum(weight.size for weight in experts)
    # The layers of a pretrained encoder; its embedding stays in the mapped file.
    dense += config.pretrained_layers * 12 * config.model_dim**2
    num_experts = len({(weight.side, weight.layer, weight.expert) for weight in experts})
    expert_bytes = max(_expert_sizes(experts, dtype), default=0)
    num_cached = num_experts
    if expert_memory is not None and expert_bytes:
        num_cached = min(num_experts, expert_memory // expert_bytes)
    sparse_layers = sum(
        config.is_sparse("decoder", layer) for layer in range(config.decoder_layers)
    )
    return MemoryPlan(
        dtype=dtype,
        dense_bytes=int(dense * width),
        num_experts=num_experts,
        expert_bytes=expert_bytes,
        num_cached=num_cached,
        disk_bytes=disk_bytes,
        available_bytes=available_memory() if available is None else available,
        step_bytes=int(_step_parameters(config, weights) * width),
        memory_bandwidth=measure_memory(),
        disk_bandwidth=measure_disk(checkpoint) if checkpoint is not None else 500e6,
        experts_per_step=2 * sparse_layers,
    )


def _expert_sizes(experts: list[Weight], dtype: Dtype) -> list[int]:
    """Return the size of each expert in memory in bytes."""
    sizes: dict[tuple[Side | None, int | None, int | None], int] = {}
    for weight in experts:
        key = weight.side, weight.layer, weight.expert
        sizes[key] = sizes.get(key, 0) + _loaded_bytes(weight, dtype)
    return list(sizes.values())


def _loaded_bytes(weight: Weight, dtype: Dtype) -> int:
    """Return the size of a weight in memory in bytes, as int8 with the padding of the kernel."""
    if dtype != "int8":
        return int(weight.size * BYTES_PER_PARAMETER[dtype])
    rows = -(-weight.shape[0] // 16) * 16
    if len(weight.shape) == 2:  # with a scale and an offset per row
        return rows * (-(-weight.shape[1] // 64) * 64 + 8)
    return rows * 4


def _step_parameters(config: ModelConfig, weights: list[Weight]) -> int:
    """Count the parameters that a decoding step reads.

    They are the decoder with two experts per sparse layer, and the output projection.
    """
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
    """Return the best of three measurements of the memory bandwidth in bytes per second.

    Each measurement reads a block that is larger than the processor caches.
    """
    block = np.ones(PROBE_BYTES // 8, dtype=np.float64)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - start)
    return PROBE_BYTES / best


def measure_disk(path: Path) -> float:
    """Return the speed of reading at most 64 MiB from the middle of a file in bytes per second."""
    size = path.stat().st_size
    start = time.perf_counter()
    with path.open("rb", buffering=0) as stream:
        stream.seek(max(0, (size - PROBE_BYTES) // 2))
        count = len(stream.read(PROBE_BYTES))
    return max(count, 1) / (time.perf_counter() - start)
