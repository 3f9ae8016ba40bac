"""Converts sources to the states that a decoder on a pretrained encoder attends to.

Shapes: L layers of the encoder and its embeddings, T tokens of all sources, S tokens of one source,
D model dim.
"""

from collections.abc import Mapping, Sequence
from copy import copy

import torch
from torch import Tensor
from torch.nn import functional

from nllb.errors import CheckpointError
from nllb.model.configuration import ModelConfig

from .layers import read_float
from .token_states import EncoderEngine


class SourceMixer:
    """A pretrained encoder with the learned mix of its layers, equivalent to `LayerMix`."""

    def __init__(
        self, config: ModelConfig, weights: Mapping[str, Tensor], encoder: EncoderEngine | None
    ) -> None:
        """Read the weights of the mix.

        Raises:
            CheckpointError: the model requires a different encoder.
        """
        if encoder is None:
            raise ValueError("the model requires a pretrained encoder, but none was given")
        shape = encoder.config
        if (shape.model_dim, shape.num_layers) != (config.model_dim, config.pretrained_layers):
            raise CheckpointError(
                f"the model requires an encoder of width {config.model_dim} with "
                f"{config.pretrained_layers} layers, but was given one of width {shape.model_dim} "
                f"with {shape.num_layers}"
            )
        self._encoder = encoder
        self._shares_L: Tensor | None = None
        if config.memory == "mix":
            self._shares_L = read_float(weights, "encoder.mix.weight").softmax(0).cpu()

    def worker(self) -> "SourceMixer":
        """Return a copy with a single-threaded encoder."""
        worker = copy(self)
        worker._encoder = self._encoder.worker()
        return worker

    def mix(self, sources: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return float32 states_SD of each source, before the norm of the decoder's memory."""
        if self._shares_L is None:
            found = self._encoder.encode(sources)
            return list(torch.split(found.states_LTD[0], list(found.lengths)))
        found = self._encoder.encode(sources, layers=None)
        # Layer by layer, so that the result of a row does not depend on other rows.
        mixed_TD = torch.zeros_like(found.states_LTD[0])
        for share, states_TD in zip(self._shares_L.tolist(), found.states_LTD, strict=True):
            normed_TD = functional.layer_norm(states_TD, states_TD.shape[-1:])
            mixed_TD.add_(normed_TD, alpha=share)
        return list(torch.split(mixed_TD, list(found.lengths)))
