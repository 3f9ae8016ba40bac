"""The optimizer, its learning-rate schedule, and the norm of the gradient."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from .muon import Muon
from .train_config import OptimizerSection, TrainConfig

INITIAL_RATE = 1e-7
RATE_FACTOR = "rate_factor"
"""Key of a parameter group: its learning rate relative to the schedule's."""


def learning_rate(config: OptimizerSection, step: int, *, steps: int) -> float:
    """Return the learning rate of a step, counted from 0, in a run of `steps` steps.

    Source: fairseq's inverse_sqrt schedule, whose first update uses the initial rate. A `constant`
    rate warms up in the same way.
    """
    peak, warm_up = config.learning_rate, config.warm_up_steps
    if step < warm_up:
        rate = INITIAL_RATE + (peak - INITIAL_RATE) * step / warm_up
    elif config.decay == "constant":
        rate = peak
    else:
        rate = peak * (max(warm_up, 1) / max(step, 1)) ** 0.5
    if config.cool_down_steps:
        rate *= min(1.0, (steps - step) / config.cool_down_steps)
    return rate


def constant_steps(config: TrainConfig) -> int | None:
    """Return the steps before the cool-down of a constant rate; None if there is no cool-down."""
    optimizer = config.optimizer
    if optimizer.decay != "constant" or not optimizer.cool_down_steps:
        return None
    return config.schedule.steps - optimizer.cool_down_steps


def build_optimizer(model: nn.Module, config: OptimizerSection) -> torch.optim.Optimizer:
    """Return the optimizer of the trainable parameters.

    Sharded and unsharded parameters form separate groups, because a GPU updates a whole group at
    once and cannot mix them.
    """
    if config.kind == "muon":
        return _build_muon(model, config)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = _is_of_encoder(name), not isinstance(parameter, DTensor)
            groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": params, RATE_FACTOR: config.encoder_rate if of_encoder else 1.0}
            for (of_encoder, _), params in sorted(groups.items(), key=lambda item: item[0])
        ],
        lr=config.learning_rate,
        betas=(config.beta_1, config.beta_2),
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )


def _build_muon(model: nn.Module, config: OptimizerSection) -> Muon:
    """Return Muon for the matrices of the layers, and AdamW for the other parameters."""
    matrices: list[nn.Parameter] = []
    encoder: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if _is_of_encoder(name):
            encoder.append(parameter)
        elif parameter.ndim == 2 and ".layers." in name and ".router." not in name:
            matrices.append(parameter)
        else:
            others.append(parameter)
    groups = [
        {"params": matrices, "muon": True},
        {"params": others, "muon": False},
        {"params": encoder, "muon": False, RATE_FACTOR: config.encoder_rate},
    ]
    return Muon(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        momentum=config.momentum,
        betas=(config.beta_1, config.beta_2),
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameter groups, each times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(RATE_FACTOR, 1.0)


def _is_of_encoder(name: str) -> bool:
    """Return whether a weight belongs to a pretrained encoder that is tuned."""
    return "pretrained." in name


def scale_gradients(parameters: Iterable[nn.Parameter], factor: Tensor) -> None:
    """Multiply the gradients by a factor, in place."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad *= factor


def squared_norm(parameters: Iterable[nn.Parameter], device: torch.device) -> Tensor:
    """Return the squared norm of this rank's gradients, in float32."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    local = [g.to_local() if isinstance(g, DTensor) else g for g in gradients]
    parts = [gradient.float().square().sum() for gradient in local]
    return torch.stack(parts).sum() if parts else torch.zeros((), device=device)
