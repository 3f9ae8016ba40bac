"""How training routes tokens to experts; read from configurations, so without torch."""

from math import ceil
from typing import Literal, Self

from nllb.config.schema import (
    FractionBelowOne,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
)
from nllb.model.configuration import ModelConfig, SecondExpertPolicy

EXPERTS_PER_TOKEN = 2
RoutingMode = Literal["gshard", "dropless"]
BalanceMethod = Literal["loss", "bias"]


class RoutingOptions(Section):
    """How training routes; without effect on a dense model."""

    mode: RoutingMode = "gshard"
    """`gshard` drops tokens over an expert's capacity, 2 * ceil(S / E); `dropless` drops none."""
    capacity: PositiveInt | None = None
    """Another capacity for `gshard`, in tokens per expert."""
    second_expert_policy: SecondExpertPolicy = "all"
    """`all` takes the second best; `sampling` adds Gumbel noise to choose it; `random` keeps it
    with probability min(1, 2 * its probability)."""
    normalize_before_dropping: bool = False
    """Normalise weights before, not after, tokens over capacity are dropped."""
    batch_prioritized: bool = False
    """Fill capacity by falling probability instead of by position."""
    final_output_masking: FractionBelowOne = 0.0
    """Probability that training zeroes a token's mixed output (FOM); evaluation multiplies by
    1 - p."""
    gating_dropout: FractionBelowOne = 0.0
    """Probability that a training step exchanges no tokens between ranks with spread experts: an
    expert's place is then taken by the rank's own expert of the same place."""
    balance_weight: NonNegativeFloat = 0.01
    """Weight of the load-balancing loss; fine-tuning takes 0."""
    balance_by: BalanceMethod = "loss"
    """`loss` adds the load-balancing loss; `bias` instead adjusts a bias of each expert after every
    step (auxiliary-loss-free balancing), which the exported model keeps."""
    bias_rate: PositiveFloat = 0.001
    """Amount by which `balance_by: bias` raises or lowers an expert's bias per step."""

    @classmethod
    def of_model(cls, config: ModelConfig) -> Self:
        """Take what the model's own configuration says."""
        return cls(
            second_expert_policy=config.second_expert_policy,
            normalize_before_dropping=config.normalize_before_dropping,
            batch_prioritized=config.batch_prioritized_routing,
        )

    def capacity_of(self, num_rows: int, num_experts: int) -> int | None:
        """Return the most tokens that an expert takes of `num_rows`; None is no limit."""
        if self.mode == "dropless":
            return None
        return self.capacity or EXPERTS_PER_TOKEN * ceil(num_rows / num_experts)
