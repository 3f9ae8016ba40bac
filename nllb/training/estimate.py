"""Estimates the memory and the time of a run from its configuration before it starts."""

import math
from dataclasses import dataclass

import torch

from nllb.config import format_size
from nllb.io.manifest import read_manifest
from nllb.model.configuration import ModelConfig
from nllb.model.formats.weight_names import SIDES, list_weights

from .build_model import open_tokenizer, resolve_model_config
from .precision import choose_precision, matmul_speed
from .train_config import TrainConfig

BYTES_PER_PARAMETER = 16
"""Weight, gradient and Adam's two moments, in float32."""
FLOPS_PER_PARAMETER = 6
"""Multiplications and additions per token and active parameter, forward and backward."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEstimate:
    """The memory and computation that a run needs.

    Attributes:
        parameters: parameters of the model.
        active_parameters: parameters that process one token, including those of its two experts.
        memory_bytes: memory of each rank: weights, gradients, Adam's moments and activations.
        state_bytes: the part of `memory_bytes` that does not depend on the batch size.
        steps: optimizer steps.
        tokens_per_step: maximum number of target positions per step, including padding.
        tokens: maximum number of target positions of the whole run, including padding.
        flops: floating-point operations of the whole run.
    """

    parameters: int
    active_parameters: int
    memory_bytes: int
    state_bytes: int
    steps: int
    tokens_per_step: int
    tokens: int
    flops: float

    def seconds(self, flops_per_second: float) -> float:
        """Return the duration of the run on one rank of the given speed."""
        return self.flops / flops_per_second


def estimate(config: TrainConfig, shape: ModelConfig, *, num_ranks: int = 1) -> RunEstimate:
    """Estimate the size of a run on `num_ranks` ranks."""
    weights = list(list_weights(shape))
    parameters = sum(weight.size for weight in weights)
    expert = sum(weight.size for weight in weights if weight.expert is not None)
    active = parameters - expert
    if shape.num_experts:
        active += expert * 2 // shape.num_experts
    dense = parameters - expert
    is_sharded = config.parallel.data == "fsdp2"
    if is_sharded:
        dense = math.ceil(dense / num_ranks)
    if is_sharded or config.parallel.experts:
        expert = math.ceil(expert / num_ranks)
    state = (dense + expert) * BYTES_PER_PARAMETER
    per_step = config.reader.max_tokens * config.reader.batches_per_step
    tokens = per_step * config.schedule.steps
    # Each side of a pair passes through its half of the layers. With a sampled softmax, the output
    # projection covers only a part of the vocabulary.
    projected = min(config.softmax_negatives or shape.vocabulary_size, shape.vocabulary_size)
    skipped = (shape.vocabulary_size - projected) * shape.model_dim
    return RunEstimate(
        parameters=parameters,
        active_parameters=active,
        memory_bytes=state + _activation_bytes(config, shape),
        state_bytes=state,
        steps=config.schedule.steps,
        tokens_per_step=per_step,
        tokens=tokens,
        flops=float(FLOPS_PER_PARAMETER) * (active - skipped) * tokens,
    )


def _activation_bytes(config: TrainConfig, shape: ModelConfig) -> int:
    """Return the memory of the activations of one micro-batch, to within a factor of two."""
    tokens, width = config.reader.max_tokens, 2 if config.precision == "bfloat16" else 4
    layers: list[int] = []
    for side in SIDES:
        for layer in range(shape.num_layers(side)):
            attentions = 1 if side == "encoder" else 2
            inner = shape.ffn_dim(side) * (2 if shape.is_sparse(side, layer) else 1)
            layers.append(shape.model_dim * (4 + 8 * attentions) + 3 * inner)
    kept = sum(layers)
    if config.activation_checkpointing:  # the inputs of all layers, and one layer at a time
        kept = shape.model_dim * len(layers) + max(layers)
    logits = 3 * shape.vocabulary_size * 4
    return tokens * (kept * width + logits)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """A training run on this machine that has not started yet.

    Attributes:
        size: memory and computation.
        speed: floating-point operations per second of large matrix products on this machine.
        num_pairs: training pairs.
        num_directions: directions.
    """

    size: RunEstimate
    speed: float
    num_pairs: int
    num_directions: int

    @property
    def seconds(self) -> float:
        """Lower bound of the duration on one rank of this speed."""
        return self.size.seconds(self.speed)


def estimate_run(config: TrainConfig, *, num_ranks: int = 1) -> PlannedRun:
    """Estimate a run on its data and on this machine.

    Raises:
        NllbError: The data, vocabulary or model do not fit the configuration.
    """
    manifest = read_manifest(config.data)
    shape = resolve_model_config(config, open_tokenizer(config, manifest))
    return PlannedRun(
        size=estimate(config, shape, num_ranks=num_ranks),
        speed=local_speed(config),
        num_pairs=sum(direction.num_pairs for direction in manifest.directions),
        num_directions=len(manifest.directions),
    )


def local_speed(config: TrainConfig) -> float:
    """Measure the speed of matrix products with the number type and device of a run."""
    is_cpu = config.device == "cpu" or not torch.cuda.is_available()
    device = torch.device("cpu" if is_cpu else "cuda")
    return matmul_speed(choose_precision(config.precision, device), device)


def describe(size: RunEstimate, *, speed: float) -> dict[str, str]:
    """Return an estimate as text, by heading."""
    state, memory = format_size(size.state_bytes), format_size(size.memory_bytes)
    return {
        "parameters": f"{size.parameters:,}, of which {size.active_parameters:,} per token",
        "memory per rank": f"{memory}, of which {state} for weights, gradients and the optimizer; "
        f"lower reader.max_tokens if this is too much",
        "steps": f"{size.steps:,} of at most {size.tokens_per_step:,} tokens",
        "tokens": f"at most {size.tokens:,}",
        "time": f"at least {_duration(size.seconds(speed))} on one rank: this machine computes "
        f"{speed / 1e9:,.0f} GFLOP/s in large matrix products",
    }


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s"
