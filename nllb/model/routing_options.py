"""Options for routing tokens to experts in training; this module does not import torch."""

from math import ceil
from typing import Literal, Self

from nllb.config.schema import (
    FractionBelowOne,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
)

from .configuration import ModelConfig, SecondExpertPolicy

EXPERTS_PER_TOKEN = 2
RoutingMode = Literal["gshard", "dropless"]
BalanceMethod = Literal["loss", "bias"]


class RoutingOptions(Section):
    """Options for routing in training; they have no effect on a dense model."""

    mode: RoutingMode = "gshard"
    """`gshard` drops tokens over an expert's capacity, 2 * ceil(S / E); `dropless` drops none."""
    capacity: PositiveInt | None = None
    """Capacity for `gshard` in tokens per expert, in place of 2 * ceil(S / E)."""
    second_expert_policy: SecondExpertPolicy = "all"
    """`all` uses the second-best expert; `sampling` chooses it with Gumbel noise; `random` keeps
    the second-best expert with probability min(1, 2 * its router probability)."""
    normalize_before_dropping: bool = False
    """Normalise the weights before, not after, tokens beyond the capacity are dropped."""
    batch_prioritized: bool = False
    """Fill the capacity by descending router probability instead of by position."""
    final_output_masking: FractionBelowOne = 0.0
    """Probability p that training zeroes a token's combined expert output (final output masking,
    FOM); evaluation multiplies the output by 1 - p."""
    gating_dropout: FractionBelowOne = 0.0
    """With expert parallelism, the probability that a training step does not exchange tokens
    between ranks; each rank then uses its own expert with the same local index."""
    balance_weight: NonNegativeFloat = 0.01
    """Weight of the load-balancing loss; fine-tuning uses 0."""
    balance_by: BalanceMethod = "loss"
    """`loss` adds the load-balancing loss; `bias` instead adjusts a bias of each expert after every
    step (auxiliary-loss-free balancing), which the exported model keeps."""
    bias_rate: PositiveFloat = 0.001
    """Amount by which `balance_by: bias` raises or lowers an expert's bias per step."""

    @classmethod
    def from_config(cls, config: ModelConfig) -> Self:
        """Return the routing options of a model's configuration."""
        return cls(
            second_expert_policy=config.second_expert_policy,
            normalize_before_dropping=config.normalize_before_dropping,
            batch_prioritized=config.batch_prioritized_routing,
        )

    def capacity_of(self, num_rows: int, num_experts: int) -> int | None:
        """Return the maximum number of tokens per expert for `num_rows`; None means no limit."""
        if self.mode == "dropless":
            return None
        return self.capacity or EXPERTS_PER_TOKEN * ceil(num_rows / num_experts)
