"""The initial weights: a function of the seed, whatever the number of ranks.

As fairseq: attention Xavier uniform (queries, keys and values by 1 / sqrt 2), experts and router
uniform within 1 / sqrt(inputs), each expert with a seed of its own; the embedding is normal.
"""

import math

import numpy as np
import torch
from torch import nn

from nllb.model.moe import MixtureOfExperts
from nllb.model.transformer import Attention, Transformer


def initialize(model: Transformer, seed: int) -> None:
    """Give a model its initial weights."""
    with torch.random.fork_rng(), torch.no_grad():
        for number, part in enumerate(_parts(model)):
            _seed(seed, number)
            if isinstance(part, nn.Embedding):
                part.weight.normal_(std=model.config.model_dim**-0.5)[model.config.pad_id] = 0
            elif isinstance(part, Attention):
                for linear in (part.query, part.key, part.value):
                    nn.init.xavier_uniform_(linear.weight, gain=1 / math.sqrt(2))
                nn.init.xavier_uniform_(part.output.weight)
                part.output.bias.zero_()
            elif isinstance(part, MixtureOfExperts):
                part.router.reset_parameters()
                for expert, feed_forward in enumerate(part.experts.children()):
                    _seed(seed, number, expert)
                    for layer in feed_forward.children():
                        if isinstance(layer, nn.Linear):
                            layer.reset_parameters()


def _parts(model: Transformer) -> list[nn.Module]:
    kinds = (nn.Embedding, Attention, MixtureOfExperts)
    return [part for part in model.modules() if isinstance(part, kinds)]


def _seed(*key: int) -> None:
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0] >> np.uint64(1)))
