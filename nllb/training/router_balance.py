"""Load balancing of experts by a router bias, without an auxiliary loss.

After each step, the bias of every overloaded expert is lowered by a constant, and that of every
underloaded expert is raised. Gradients do not flow into the bias.

Source: Wang et al. 2024, "Auxiliary-loss-free load balancing strategy for mixture-of-experts".
There, the bias affects only the choice of experts. Here, it is the bias of the router's linear
layer and thus also affects their weights. The exported model is therefore an ordinary `nllb-moe`
checkpoint, which every program routes as in training.
"""

from collections.abc import Iterator

import torch
from torch import nn

from nllb.model.moe import MixtureOfExperts

from .distributed.ranks import Ranks


def freeze_router_biases(model: nn.Module) -> None:
    """Exclude the biases of all routers from the gradient."""
    for layer in _layers(model):
        layer.router.bias.requires_grad_(False)


def reset_router_biases(model: nn.Module) -> None:
    """Start with biases of 0."""
    with torch.no_grad():
        for layer in _layers(model):
            layer.router.bias.zero_()


class RouterBalancer:
    """Adjusts the router biases of a model after each step."""

    def __init__(self, model: nn.Module, ranks: Ranks, *, rate: float) -> None:
        self._layers, self._ranks, self._rate = list(_layers(model)), ranks, rate
        self._reset()

    def _reset(self) -> None:
        self._loads = [
            torch.zeros(layer.num_experts, dtype=torch.float64, device=self._ranks.device)
            for layer in self._layers
        ]

    def add(self) -> None:
        """Add the expert loads of the last forward pass of this rank."""
        for load_E, layer in zip(self._loads, self._layers, strict=True):
            assert layer.report is not None
            load_E.add_(layer.report.requested_E)

    @torch.no_grad()
    def update(self) -> None:
        """Adjust the biases by the loads of the step on all ranks; all ranks must call it."""
        for load_E, layer in zip(self._loads, self._layers, strict=True):
            total_E = self._ranks.sum(load_E)
            layer.router.bias.add_((total_E.mean() - total_E).sign().float(), alpha=self._rate)
        self._reset()


def _layers(model: nn.Module) -> Iterator[MixtureOfExperts]:
    for layer in model.modules():
        if isinstance(layer, MixtureOfExperts):
            yield layer
