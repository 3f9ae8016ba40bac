"""The initial weights: a function of the seed, whatever the number of ranks.

As fairseq: attention Xavier uniform (queries, keys and values by 1 / sqrt 2), feed-forward layers,
experts and router uniform within 1 / sqrt(inputs), each expert with a seed of its own; the
embedding is normal.
"""

import math

import numpy as np
import torch
from torch import nn

from nllb.model.moe import FeedForward, MixtureOfExperts
from nllb.model.transformer import Attention, Transformer


def materialize(model: nn.Module) -> None:
    """Give the parameters of a model on the meta device memory, without any content."""
    for part in model.modules():
        for name, parameter in part.named_parameters(recurse=False):
            empty = nn.Parameter(torch.empty_like(parameter, device="cpu"))
            part.register_parameter(name, empty)


def initialize(model: Transformer, seed: int) -> None:
    """Give a model its initial weights; experts that another rank has are left out."""
    kinds = (nn.Embedding, nn.LayerNorm, Attention, FeedForward, MixtureOfExperts)
    mixtures = [part for part in model.modules() if isinstance(part, MixtureOfExperts)]
    of_experts = {id(expert) for part in mixtures for expert in part.experts.children()}
    parts = [part for part in model.modules() if isinstance(part, kinds)]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for number, part in enumerate(part for part in parts if id(part) not in of_experts):
            _seed(seed, number)
            if isinstance(part, nn.Embedding):
                part.weight.normal_(std=model.config.model_dim**-0.5)[model.config.pad_id] = 0
            elif isinstance(part, nn.LayerNorm):
                part.reset_parameters()
            elif isinstance(part, MixtureOfExperts):
                part.router.reset_parameters()
                for expert, feed_forward in part.by_number().items():
                    _seed(seed, number, expert)
                    _reset(feed_forward)
            else:
                _reset(part)
                if isinstance(part, Attention):
                    for linear in (part.query, part.key, part.value):
                        nn.init.xavier_uniform_(linear.weight, gain=1 / math.sqrt(2))
                    nn.init.xavier_uniform_(part.output.weight)
                    part.output.bias.zero_()


def _reset(part: nn.Module) -> None:
    for layer in part.children():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def _seed(*key: int) -> None:
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0] >> np.uint64(1)))
