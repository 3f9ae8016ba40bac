"""int8 linear layers with one scale per output for weights and one scale per row for activations.

Each row of activations is quantised separately, so that the output for a sentence does not depend
on its batch. This implementation in plain torch is used on processors that the compiled kernel does
not support. Both compute the same integers, and their integer products are exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nllb.errors import CheckpointError
from nllb.model.formats.quantized_storage import MAX_INT8, quantize_rows
from nllb.model.formats.weight_checks import check_finite, check_storage
from nllb.model.formats.weights import SCALE

from .engine import TorchEngine
from .layers import Linear, read_float

SMALLEST = 1e-36
"""A row of activations is treated as zero if its largest magnitude is below this value."""


def read_int8(weights: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Return an int8 matrix (outputs, inputs) and its scales, quantising other storage types.

    Raises:
        CheckpointError: a value is not finite, or the scales do not match the rows.
    """
    weight, stored = weights[name], weights.get(name + SCALE)
    check_storage(weight, stored, name)
    if weight.ndim != 2:
        raise CheckpointError(
            f"the weight {name} is not a matrix: its shape is {list(weight.shape)}"
        )
    if stored is not None:
        return weight, check_finite(stored.float(), name + SCALE)
    weight, scale = quantize_rows(weight)
    return weight, check_finite(scale, name)


def quantize_activations(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 rows and the scale of each row."""
    largest = x.abs().amax(-1, keepdim=True)
    factor = torch.where(largest > SMALLEST, MAX_INT8 / largest, 0.0)
    return (x * factor + 128.5).floor().sub(128).to(torch.int8), largest / MAX_INT8


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Linear:
    """An int8 linear layer in plain torch.

    Attributes:
        weight: int8 weight (outputs, inputs).
        scale: scale of each output.
        bias: bias of each output.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """Project rows of any leading shape."""
        rows, row_scale = quantize_activations(x.reshape(-1, x.shape[-1]))
        y = torch._int_mm(rows, self.weight.t()).float() * self.scale * row_scale
        return (y if self.bias is None else y + self.bias).view(*x.shape[:-1], -1)


class Int8TorchEngine(TorchEngine):
    """The torch engine with int8 linear layers and an int8 embedding."""

    def linear(self, names: Sequence[str]) -> Linear:
        """Return one linear layer with the concatenated matrices `names`."""
        matrices = [read_int8(self._weights, f"{name}.weight") for name in names]
        return Int8Linear(
            weight=torch.cat([weight for weight, _ in matrices]),
            scale=torch.cat([scale for _, scale in matrices]),
            bias=torch.cat([read_float(self._weights, f"{name}.bias") for name in names]),
        )

    def _read_embedding(self) -> None:
        self._embedding, self._embedding_scale = read_int8(self._weights, "embedding.weight")
        self.projection = Int8Linear(weight=self._embedding, scale=self._embedding_scale, bias=None)

    def embedding_rows(self, ids: Tensor) -> Tensor:
        """Return rows of the shared embedding."""
        return self._embedding[ids].float() * self._embedding_scale[ids][..., None]

    def restrict(self, ids: np.ndarray) -> Linear:
        """Return the part of the output projection for these ids."""
        chosen = torch.from_numpy(ids)
        return Int8Linear(
            weight=self._embedding[chosen], scale=self._embedding_scale[chosen], bias=None
        )
