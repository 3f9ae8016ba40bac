"""Data parallelism around the loss: DDP or FSDP2, experts copied or spread.

Both leave the mean of the ranks' gradients; the step multiplies by ranks / labels of all ranks.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from nllb.errors import NllbError
from nllb.model.transformer import Transformer
from nllb.training.checkpoint import Moments
from nllb.training.expert_parallel import own_parameters
from nllb.training.loss import LossModule
from nllb.training.optimization import squared_norm
from nllb.training.ranks import Ranks
from nllb.training.train_config import ParallelSection


class ParallelModel:
    """The loss on this rank, and what has to be done together with the other ranks."""

    def __init__(self, module: LossModule, config: ParallelSection, ranks: Ranks) -> None:
        self.module, self._ranks = module, ranks
        self.wrapper: nn.Module = module
        self._own = own_parameters(module.model, ranks)
        self.spreads_experts = bool(self._own)
        if ranks.size > 1 and config.data == "fsdp2":
            self._shard()
        elif ranks.size > 1:
            self._copy()

    def _copy(self) -> None:
        names = [name for name, p in self.module.named_parameters() if p in self._own]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.module, names)
        self.wrapper = DistributedDataParallel(
            self.module, broadcast_buffers=False, gradient_as_bucket_view=True
        )

    def _shard(self) -> None:
        mesh = init_device_mesh(self._ranks.device.type, (self._ranks.size,))
        model = self.module.model
        for layer in [*model.encoder.layers, *model.decoder.layers]:
            fully_shard(layer, mesh=mesh)
        fully_shard(self.module, mesh=mesh)

    @property
    def passes_are_common(self) -> bool:
        """Whether a pass of one rank needs all ranks to do one: experts or weights are shared."""
        return self.spreads_experts or isinstance(self.wrapper, FSDPModule)

    def no_sync(self, *, last: bool) -> AbstractContextManager[None]:
        """Leave the exchange of gradients to the last micro-batch of a step."""
        if isinstance(self.wrapper, DistributedDataParallel) and not last:
            return self.wrapper.no_sync()
        if isinstance(self.wrapper, FSDPModule):
            self.wrapper.set_requires_gradient_sync(last)
        return nullcontext()

    def clip(self, most: float | None, *, fault: Callable[[], NllbError]) -> Tensor:
        """Return the norm of the whole gradient, and cut it to `most`.

        Raises:
            NllbError: the norm is no number; `fault` makes the error, on all ranks.
        """
        parameters = list(self.module.parameters())
        device = self._ranks.device
        own = squared_norm((p for p in parameters if p in self._own), device)
        if self.spreads_experts:
            own = self._ranks.sum(own)
        shared = squared_norm((p for p in parameters if p not in self._own), device)
        if isinstance(self.wrapper, FSDPModule):
            shared = self._ranks.sum(shared)
        norm = (own + shared).sqrt()
        if not torch.isfinite(norm):
            raise fault()
        if most is not None:
            factor = (most / (norm + 1e-6)).clamp(max=1.0)
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        return norm

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that this rank has, whole; all ranks must ask."""
        return {name: whole(value) for name, value in self.module.model.state_dict().items()}

    def moments(self, optimizer: torch.optim.Optimizer) -> dict[str, Moments]:
        """Return Adam's state by the names of the weights, whole; all ranks must ask."""
        found = {}
        for name, parameter in self.module.model.named_parameters():
            if state := optimizer.state.get(parameter):
                found[name] = Moments(
                    first=whole(state["exp_avg"]), second=whole(state["exp_avg_sq"])
                )
        return found

    def restore(
        self, optimizer: torch.optim.Optimizer, moments: Mapping[str, Moments], *, step: int
    ) -> None:
        """Give Adam its state back, after `step` steps."""
        for name, parameter in self.module.model.named_parameters():
            if name in moments:
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": _like(moments[name].first, parameter),
                    "exp_avg_sq": _like(moments[name].second, parameter),
                }


def recompute_layers(model: Transformer) -> None:
    """Keep only the inputs of layers in training and run each again for its gradient.

    The same masks are drawn again, so gradients are the same to the last bit.
    """
    for layer in [*model.encoder.layers, *model.decoder.layers]:
        layer.forward = partial(_recompute, layer, layer.forward)


def _recompute(layer: nn.Module, forward: Callable[..., Tensor], *inputs: Any, **more: Any) -> Any:
    if not layer.training:
        return forward(*inputs, **more)
    return checkpoint(forward, *inputs, use_reentrant=False, **more)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that may be sharded as a plain one; all ranks must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(tensor: Tensor, parameter: nn.Parameter) -> Tensor:
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor
