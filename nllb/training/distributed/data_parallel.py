"""Data parallelism around the loss: DDP or FSDP2, with experts replicated or spread over ranks.

Both leave the mean of the gradients over ranks; each step multiplies it by the number of ranks and
divides it by the number of labels on all ranks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from nllb.errors import NllbError
from nllb.model.transformer import SinusoidalPositions, Transformer
from nllb.training.checkpoints.tensor_files import (
    FIRST_MOMENT,
    SECOND_MOMENT,
    WEIGHT,
    TensorReader,
)
from nllb.training.loss import LossModule
from nllb.training.optimization import squared_norm
from nllb.training.train_config import ParallelSection

from .expert_parallel import spread_parameters
from .ranks import Ranks


class ParallelModel:
    """The loss on this rank, and the operations that all ranks perform together."""

    def __init__(self, module: LossModule, config: ParallelSection, ranks: Ranks) -> None:
        """Wrap the loss.

        A model on the meta device is first wrapped and then allocated, so that with FSDP2 a rank
        never allocates more than its shards; `load` must fill it.
        """
        self.module, self._ranks = module, ranks
        self.wrapper: nn.Module = module
        is_meta = any(parameter.is_meta for parameter in module.parameters())
        if ranks.size > 1 and config.data == "fsdp2":
            self._shard()
        if is_meta:
            model = module.model
            module.to_empty(device=ranks.device)
            model.positions = SinusoidalPositions(model.config).to(ranks.device)
        self._own = set(spread_parameters(module.model))
        for parameter in self._own:
            # The rows of all ranks passed through these experts, so their gradient is already a
            # sum over ranks, whereas data parallelism leaves the mean.
            parameter.register_hook(lambda gradient: gradient / ranks.size)
        if ranks.size > 1 and config.data == "ddp":
            self._replicate()

    @property
    def spreads_experts(self) -> bool:
        """Whether each rank has its own experts."""
        return bool(self._own)

    @property
    def has_collective_passes(self) -> bool:
        """Whether a forward pass involves all ranks, because they share experts or weights."""
        return self.spreads_experts or isinstance(self.wrapper, FSDPModule)

    def _replicate(self) -> None:
        names = [name for name, p in self.module.named_parameters() if p in self._own]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.module, names)
        self.wrapper = DistributedDataParallel(
            self.module, broadcast_buffers=False, gradient_as_bucket_view=True
        )

    def _shard(self) -> None:
        mesh = init_device_mesh(self._ranks.device.type, (self._ranks.size,))
        model = self.module.model
        # Spread experts stay on their rank as a whole. Frozen parameters (a router's balancing
        # bias) are small, and every rank updates its own copy.
        ignored = {*spread_parameters(model)}
        ignored |= {p for p in model.parameters() if not p.requires_grad}
        for layer in [*model.encoder.layers, *model.decoder.layers]:
            fully_shard(layer, mesh=mesh, ignored_params=ignored)
        fully_shard(self.module, mesh=mesh, ignored_params=ignored)

    @contextmanager
    def no_sync(self, *, last: bool) -> Iterator[None]:
        """Postpone the exchange of gradients to the last micro-batch of a step."""
        if last:
            yield
        elif isinstance(self.wrapper, DistributedDataParallel):
            with self.wrapper.no_sync():
                yield
        elif isinstance(self.wrapper, FSDPModule):
            self.wrapper.set_requires_gradient_sync(False)
            try:
                yield
            finally:
                self.wrapper.set_requires_gradient_sync(True)
        else:
            yield

    def clip(self, max_norm: float | None, *, error: Callable[[], NllbError]) -> Tensor:
        """Return the norm of the whole gradient, and scale the gradient down to `max_norm`.

        Raises:
            NllbError: The norm is not finite; `error` builds the exception, on all ranks.
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
            raise error()
        if max_norm is not None:
            factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        return norm

    def tensors(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Return this rank's weights and Adam's moments by KIND/NAME, sharded as they are."""
        model = self.module.model
        found = {f"{WEIGHT}/{name}": value for name, value in model.state_dict().items()}
        for name, parameter in model.named_parameters():
            if state := optimizer.state.get(parameter):
                found[f"{FIRST_MOMENT}/{name}"] = state["exp_avg"]
                if "exp_avg_sq" in state:  # Muon has only one moment
                    found[f"{SECOND_MOMENT}/{name}"] = state["exp_avg_sq"]
        return found

    def load(self, reader: TensorReader, optimizer: torch.optim.Optimizer, *, step: int) -> None:
        """Restore the weights, and Adam's moments after `step` steps, from a checkpoint.

        Raises:
            CheckpointError: A tensor is missing, of another shape, or damaged.
        """
        present = set(reader.names())
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        muon_groups = [group for group in optimizer.param_groups if group.get("muon")]
        by_muon = {id(p) for group in muon_groups for p in group["params"]}
        for name, parameter in self.module.model.named_parameters():
            moments = {"exp_avg": FIRST_MOMENT}
            if id(parameter) not in by_muon:
                moments["exp_avg_sq"] = SECOND_MOMENT
            if id(parameter) in trained and {f"{m}/{name}" for m in moments.values()} <= present:
                zeros = {m: torch.zeros_like(parameter, requires_grad=False) for m in moments}
                optimizer.state[parameter] = {"step": torch.tensor(float(step)), **zeros}
        reader.read_into(self.tensors(optimizer))


def recompute_layers(model: Transformer) -> None:
    """Keep only the inputs of layers in training, and recompute each layer for its gradient.

    The same dropout masks are drawn again, so the gradients are bitwise the same.
    """
    for layer in [*model.encoder.layers, *model.decoder.layers]:
        layer.forward = partial(_recompute, layer, layer.forward)


def _recompute(layer: nn.Module, forward: Callable[..., Tensor], *inputs: Any, **more: Any) -> Any:
    if not layer.training:
        return forward(*inputs, **more)
    return checkpoint(forward, *inputs, use_reentrant=False, **more)
