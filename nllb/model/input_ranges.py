"""Measures the range of each input channel of a pretrained encoder's matrices.

A few channels of a normalised state are up to a hundred times larger than the rest, in some layers
only for some tokens. With one scale per row, an int8 engine would lose the precision of the other
channels, so it divides each channel by a factor derived from these ranges (SmoothQuant, arXiv
2211.10438).
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .pretrained_encoder import PretrainedEncoder


def measure_input_ranges(
    encoder: PretrainedEncoder, sequences: Iterable[Sequence[int]]
) -> dict[str, Tensor]:
    """Return the largest magnitude of each input channel on these sequences.

    The names are `layers.N.query`, which shares its inputs with the key and value projections, and
    `layers.N.inner`.
    """
    ranges: dict[str, Tensor] = {}
    modules = {
        f"layers.{number}.{name}": getattr(layer, name)
        for number, layer in enumerate(encoder.layers)
        for name in ("query", "inner")
    }
    hooks = [
        module.register_forward_pre_hook(partial(_update_range, ranges, name))
        for name, module in modules.items()
    ]
    try:
        with torch.inference_mode():
            for ids in sequences:
                encoder(torch.tensor([ids]))
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


def _update_range(
    ranges: dict[str, Tensor], name: str, module: nn.Module, inputs: tuple[Any, ...]
) -> None:
    largest = inputs[0].abs().flatten(0, -2).amax(0)
    ranges[name] = torch.maximum(ranges[name], largest) if name in ranges else largest
