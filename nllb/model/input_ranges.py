"""Measures how large the inputs of a pretrained encoder's matrices become, channel by channel.

A few channels of a normalised state are up to a hundred times as large as the rest, in some layers
for some tokens only. An int8 engine that gives a row one scale would lose the other channels, so it
divides each channel by a factor that depends on these ranges (SmoothQuant, arXiv 2211.10438).
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nllb.model.pretrained_encoder import PretrainedEncoder


def measure_input_ranges(
    encoder: PretrainedEncoder, sequences: Iterable[Sequence[int]]
) -> dict[str, Tensor]:
    """Return the largest magnitude of each input channel on these sequences.

    The names are `layers.N.query`, whose inputs the keys and values share, and `layers.N.inner`.
    """
    ranges: dict[str, Tensor] = {}
    modules = {
        f"layers.{number}.{name}": getattr(layer, name)
        for number, layer in enumerate(encoder.layers)
        for name in ("query", "inner")
    }
    hooks = [
        module.register_forward_pre_hook(partial(_note, ranges, name))
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


def _note(ranges: dict[str, Tensor], name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    largest = inputs[0].abs().flatten(0, -2).amax(0)
    ranges[name] = torch.maximum(ranges[name], largest) if name in ranges else largest
