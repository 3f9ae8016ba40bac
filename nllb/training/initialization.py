"""Initial weights as a function of the seed, independent of the number of ranks.

As in fairseq, attention is Xavier uniform (queries, keys and values with gain 1 / sqrt(2));
feed-forward layers, experts and routers are uniform within 1 / sqrt(inputs), each expert with its
own seed; the embedding is normal.
"""

import math

import numpy as np
import torch
from torch import nn

from nllb.model.encoder_source_tokenizer import EncoderSourceTokenizer
from nllb.model.formats.encoder_directory import EncoderDirectory
from nllb.model.moe import FeedForward, MixtureOfExperts
from nllb.model.transformer import Attention, LayerMix, Transformer


def materialize(model: nn.Module) -> None:
    """Allocate the parameters of a model on the meta device, without initialising them."""
    for part in model.modules():
        for name, parameter in part.named_parameters(recurse=False):
            empty = torch.empty_like(parameter, device="cpu")
            part.register_parameter(name, nn.Parameter(empty, parameter.requires_grad))


def initialize(model: Transformer, seed: int) -> None:
    """Fill a model, or one rank's part of it, with its initial weights."""
    kinds = (nn.Embedding, nn.LayerNorm, Attention, FeedForward, MixtureOfExperts, LayerMix)
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
            elif isinstance(part, LayerMix):
                part.weight.zero_()[-1] = 1.0
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


def initialize_on_encoder(
    model: Transformer, tokenizer: EncoderSourceTokenizer, encoder: EncoderDirectory
) -> None:
    """Start a model on a pretrained encoder: embeddings from the encoder's, sublayers from zero.

    A piece of the target vocabulary gets the embedding of the same piece of the encoder, or the
    mean of the pieces that spell it. Every sublayer starts as the identity, because its output
    projection is zero.
    """
    table = encoder.embedding()
    size = encoder.config.vocabulary_size
    rows_VD = torch.cat([table.rows(ids) for ids in torch.arange(size).split(1 << 13)])
    rows_VD -= rows_VD.mean(0)
    rows_VD *= model.config.model_dim**-0.5 / rows_VD.std()
    embedding_VD = model.embedding.weight.data
    for number in range(4, tokenizer.layout.num_pieces + 1):
        if spelled := tokenizer.encoder.spell(tokenizer.token(number)):
            mean_D = rows_VD[spelled].mean(0)
            embedding_VD[number] = mean_D * len(spelled) ** 0.5  # of about the same length
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, Attention):
                part.output.weight.zero_()
            elif isinstance(part, FeedForward):
                part.outer.weight.zero_()
                part.outer.bias.zero_()


def _reset(part: nn.Module) -> None:
    for layer in part.children():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def _seed(*key: int) -> None:
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0] >> np.uint64(1)))
