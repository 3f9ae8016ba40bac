"""What a run will take, from its configuration and the data's manifest, before it starts."""

import math
from dataclasses import dataclass

from nllb.model.configuration import ModelConfig
from nllb.model.formats.weight_names import SIDES, list_weights
from nllb.training.train_config import TrainConfig

BYTES_PER_PARAMETER = 16
"""Weight, gradient and Adam's two moments in float32."""
FLOPS_PER_PARAMETER = 6
"""Multiplications and additions a token and active parameter, forward and backward."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The size of a run."""

    parameters: int
    """Parameters of the model."""
    active_parameters: int
    """Parameters that one token meets, its two experts included."""
    memory_bytes: int
    """Bytes on each rank: weights, gradients, Adam's moments and activations."""
    state_bytes: int
    """The part of it that does not depend on the batch."""
    steps: int
    """Optimizer steps."""
    tokens_per_step: int
    """Most target positions of a step, padding included."""
    tokens: int
    """Most target positions of the whole run."""
    flops: float
    """Floating-point operations of the whole run."""

    def seconds(self, flops_per_second: float) -> float:
        """Return the time of the run at a measured speed."""
        return self.flops / flops_per_second


def estimate(config: TrainConfig, shape: ModelConfig, *, num_ranks: int = 1) -> Estimate:
    """Estimate a run on a number of ranks."""
    weights = list(list_weights(shape))
    parameters = sum(weight.size for weight in weights)
    expert = sum(weight.size for weight in weights if weight.expert is not None)
    active = parameters - expert
    if shape.num_experts:
        active += expert * 2 // shape.num_experts
    held = parameters - expert + expert // (num_ranks if config.parallel.experts else 1)
    if config.parallel.data == "fsdp2":
        held = math.ceil(parameters / num_ranks)
    state = held * BYTES_PER_PARAMETER
    per_step = config.reader.max_tokens * config.reader.batches_per_step
    tokens = per_step * config.schedule.steps
    # Both sides of a pair pass their half of the layers. Of the embedding, products meet the tokens
    # that labels are told from.
    compared = min(config.softmax_negatives or shape.vocabulary_size, shape.vocabulary_size)
    left_out = (shape.vocabulary_size - compared) * shape.model_dim
    return Estimate(
        parameters=parameters,
        active_parameters=active,
        memory_bytes=state + _activation_bytes(config, shape),
        state_bytes=state,
        steps=config.schedule.steps,
        tokens_per_step=per_step,
        tokens=tokens,
        flops=float(FLOPS_PER_PARAMETER) * (active - left_out) * tokens,
    )


def _activation_bytes(config: TrainConfig, shape: ModelConfig) -> int:
    """Return what a backward pass keeps of one micro-batch, to within a factor of two."""
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
