"""NLLB's encoder-decoder in plain torch, used for training and as the reference for `inference`.

With `pretrained_layers`, the encoder is a separate pretrained model, and this model contains only
the weights that turn its states into the decoder's memory (`PretrainedMemory`).

Architecture:
* Layers are pre-norm, all projections have biases, and encoder and decoder have a final norm.
* Source, target and output share one embedding, and input embeddings are scaled by
  sqrt(model_dim).
* Sinusoidal positions count tokens only: the first token has position pad_id + 1, and padding has
  no position.
* Every n-th feed-forward layer may be a mixture of experts (`moe.py`).
* `state_dict()` has exactly the names of `weight_names.py`, to which the names in every checkpoint
  format are mapped.

Shapes: B batch, S source length, T target length, L length of either, D model dim, H heads, C head
dim, V vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration import ModelConfig, Side
from .moe import FeedForward, MixtureOfExperts

SourceStates = Callable[[Tensor], Tensor]
"""Returns the states of a pretrained encoder, states_LBSD, of source_BS padded with `pad_id`."""


@dataclass(kw_only=True, slots=True)
class DecoderCache:
    """Keys and values of the tokens decoded so far, for one batch of sources.

    `Transformer.decode` fills the cache.

    Attributes:
        length: number of target tokens decoded so far.
        self_keys: keys_BHTC of the target for each layer.
        self_values: values_BHTC of the target for each layer.
        cross_keys: keys_BHSC of the source for each layer.
        cross_values: values_BHSC of the source for each layer.
    """

    length: int = 0
    self_keys: dict[int, Tensor] = field(default_factory=dict)
    self_values: dict[int, Tensor] = field(default_factory=dict)
    cross_keys: dict[int, Tensor] = field(default_factory=dict)
    cross_values: dict[int, Tensor] = field(default_factory=dict)


def sinusoidal_positions(num_positions: int, model_dim: int, *, pad_id: int) -> Tensor:
    """Return sinusoidal position embeddings whose rows are fairseq's positions.

    Sines precede cosines, and the row `pad_id` is zero. This matches tensor2tensor and fairseq,
    which differ from "Attention is all you need" in the order of the columns.
    """
    half = model_dim // 2
    frequencies = torch.exp(
        torch.arange(half, dtype=torch.int64).float() * -(math.log(10000) / (half - 1))
    )
    angles = torch.arange(num_positions, dtype=torch.int64).float()[:, None] * frequencies[None]
    table_LD = torch.cat([angles.sin(), angles.cos()], dim=1)
    table_LD[pad_id] = 0
    return table_LD


class SinusoidalPositions(nn.Module):
    """Position embeddings of token ids.

    The table is recomputed when a sequence exceeds its length.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.model_dim, self.pad_id = config.model_dim, config.pad_id
        with torch.device("cpu"):  # the table needs values even if the model is on the meta device
            table_LD = sinusoidal_positions(
                config.max_positions + config.pad_id + 1, config.model_dim, pad_id=config.pad_id
            )
        self.table_LD: Tensor
        self.register_buffer("table_LD", table_LD, persistent=False)

    def forward(self, ids_BL: Tensor, *, before: int = 0) -> Tensor:
        """Return embeddings_BLD; `before` is the number of preceding tokens."""
        needed = ids_BL.shape[1] + before + self.pad_id + 1
        if needed > self.table_LD.shape[0]:
            table_LD = sinusoidal_positions(needed, self.model_dim, pad_id=self.pad_id)
            self.table_LD = table_LD.to(self.table_LD)
        is_token_BL = ids_BL != self.pad_id
        positions_BL = (is_token_BL.cumsum(1) + before) * is_token_BL + self.pad_id
        return self.table_LD[positions_BL]


class Attention(nn.Module):
    """Multi-head attention to keys and values that the caller provides."""

    def __init__(self, config: ModelConfig, side: Side) -> None:
        super().__init__()
        self.num_heads, self.dropout = config.num_heads(side), config.attention_dropout
        self.query = nn.Linear(config.model_dim, config.model_dim)
        self.key = nn.Linear(config.model_dim, config.model_dim)
        self.value = nn.Linear(config.model_dim, config.model_dim)
        self.output = nn.Linear(config.model_dim, config.model_dim)

    def keys_and_values(self, memory_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projections keys_BHLC and values_BHLC of the attended states."""
        return self._split(self.key(memory_BLD)), self._split(self.value(memory_BLD))

    def forward(
        self, x_BTD: Tensor, keys_BHLC: Tensor, values_BHLC: Tensor, *, mask: Tensor | None
    ) -> Tensor:
        """Compute attention; `mask` broadcasts to B, H, T, L and is true for visible keys."""
        mixed_BHTC = functional.scaled_dot_product_attention(
            self._split(self.query(x_BTD)),
            keys_BHLC,
            values_BHLC,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        output: Tensor = self.output(mixed_BHTC.transpose(1, 2).flatten(2))
        return output

    def _split(self, x_BLD: Tensor) -> Tensor:
        batch, length, dim = x_BLD.shape
        return x_BLD.view(batch, length, self.num_heads, dim // self.num_heads).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Self-attention and a dense or sparse feed-forward layer."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attention_norm = nn.LayerNorm(config.model_dim)
        self.self_attention = Attention(config, "encoder")
        self.feed_forward_norm = nn.LayerNorm(config.model_dim)
        self.feed_forward = _feed_forward(config, "encoder", layer)
        self.dropout = config.dropout

    def forward(self, x_BSD: Tensor, is_token_BS: Tensor, mask: Tensor) -> Tensor:
        """Return the residual stream after this layer."""
        normed_BSD = self.self_attention_norm(x_BSD)
        keys, values = self.self_attention.keys_and_values(normed_BSD)
        attended_BSD = self.self_attention(normed_BSD, keys, values, mask=mask)
        x_BSD = x_BSD + functional.dropout(attended_BSD, self.dropout, self.training)
        return x_BSD + _feed(self.feed_forward, self.feed_forward_norm(x_BSD), is_token_BS)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the source, and a dense or sparse feed-forward layer."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.self_attention_norm = nn.LayerNorm(config.model_dim)
        self.self_attention = Attention(config, "decoder")
        self.cross_attention_norm = nn.LayerNorm(config.model_dim)
        self.cross_attention = Attention(config, "decoder")
        self.feed_forward_norm = nn.LayerNorm(config.model_dim)
        self.feed_forward = _feed_forward(config, "decoder", layer)
        self.dropout = config.dropout

    def forward(
        self,
        x_BTD: Tensor,
        is_token_BT: Tensor,
        mask: Tensor,
        memory_BSD: Tensor,
        *,
        memory_mask: Tensor,
        cache: DecoderCache | None,
    ) -> Tensor:
        """Return the residual stream after this layer."""
        normed_BTD = self.self_attention_norm(x_BTD)
        keys, values = self.self_attention.keys_and_values(normed_BTD)
        if cache is not None:
            if self.layer in cache.self_keys:
                keys = torch.cat([cache.self_keys[self.layer], keys], dim=2)
                values = torch.cat([cache.self_values[self.layer], values], dim=2)
            cache.self_keys[self.layer], cache.self_values[self.layer] = keys, values
        attended_BTD = self.self_attention(normed_BTD, keys, values, mask=mask)
        x_BTD = x_BTD + functional.dropout(attended_BTD, self.dropout, self.training)

        if cache is None:
            keys, values = self.cross_attention.keys_and_values(memory_BSD)
        else:
            if self.layer not in cache.cross_keys:
                projected = self.cross_attention.keys_and_values(memory_BSD)
                cache.cross_keys[self.layer], cache.cross_values[self.layer] = projected
            keys, values = cache.cross_keys[self.layer], cache.cross_values[self.layer]
        attended_BTD = self.cross_attention(
            self.cross_attention_norm(x_BTD), keys, values, mask=memory_mask
        )
        x_BTD = x_BTD + functional.dropout(attended_BTD, self.dropout, self.training)
        return x_BTD + _feed(self.feed_forward, self.feed_forward_norm(x_BTD), is_token_BT)


def _feed_forward(config: ModelConfig, side: Side, layer: int) -> FeedForward | MixtureOfExperts:
    return (
        MixtureOfExperts(config, side)
        if config.is_sparse(side, layer)
        else FeedForward(config, side)
    )


def _feed(
    feed_forward: FeedForward | MixtureOfExperts, x_BLD: Tensor, is_token_BL: Tensor
) -> Tensor:
    output_BLD: Tensor
    if isinstance(feed_forward, MixtureOfExperts):
        output_BLD = feed_forward(x_BLD, is_token_BL)
    else:
        output_BLD = feed_forward(x_BLD)
    return output_BLD


class Encoder(nn.Module):
    """The encoder layers and the final norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(config, layer) for layer in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(config.model_dim)

    def forward(self, x_BSD: Tensor, is_token_BS: Tensor) -> Tensor:
        """Return the encoder states of embedded sources."""
        for layer in self.layers:
            x_BSD = layer(x_BSD, is_token_BS, is_token_BS[:, None, None, :])
        output_BSD: Tensor = self.norm(x_BSD)
        return output_BSD


class LayerMix(nn.Module):
    """A learned weighted mean of the states of all layers of a pretrained encoder.

    Each state is normalized first, because the layers differ in the magnitude of their states.
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_layers + 1))

    def forward(self, states_LBSD: Tensor) -> Tensor:
        """Return the mean states_BSD."""
        with torch.autocast(states_LBSD.device.type, enabled=False):
            normed_LBSD = functional.layer_norm(states_LBSD, states_LBSD.shape[-1:])
            weight_L = self.weight.softmax(0).to(normed_LBSD.dtype)
            # One pass over the states, which are the largest tensors of a training step.
            mixed_N = weight_L @ normed_LBSD.flatten(1)
            return mixed_N.view(states_LBSD.shape[1:])


class PretrainedMemory(nn.Module):
    """The memory that a decoder attends to, from the states of a pretrained encoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        """Empty, because the layers belong to the pretrained encoder."""
        self.mix = LayerMix(config.pretrained_layers) if config.memory == "mix" else None
        self.norm = nn.LayerNorm(config.model_dim)

    def forward(self, states_LBSD: Tensor) -> Tensor:
        """Return memory_BSD; with `memory: last`, only the last of the given layers is used."""
        mixed_BSD = states_LBSD[-1] if self.mix is None else self.mix(states_LBSD)
        output_BSD: Tensor = self.norm(mixed_BSD)
        return output_BSD


class Decoder(nn.Module):
    """The decoder layers and the final norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer) for layer in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(config.model_dim)

    def forward(
        self,
        x_BTD: Tensor,
        is_token_BT: Tensor,
        memory_BSD: Tensor,
        is_source_BS: Tensor,
        cache: DecoderCache | None,
    ) -> Tensor:
        """Return the decoder states of embedded targets, the inputs of the output projection."""
        before = cache.length if cache is not None else 0
        length = x_BTD.shape[1]
        seen_TL = torch.ones(length, before + length, dtype=torch.bool, device=x_BTD.device)
        mask_TL, memory_mask = seen_TL.tril(before), is_source_BS[:, None, None, :]
        for layer in self.layers:
            x_BTD = layer(
                x_BTD, is_token_BT, mask_TL, memory_BSD, memory_mask=memory_mask, cache=cache
            )
        if cache is not None:
            cache.length += length
        output_BTD: Tensor = self.norm(x_BTD)
        return output_BTD


class Transformer(nn.Module):
    """The complete encoder-decoder model, from token ids to logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.model_dim)
        self.positions = SinusoidalPositions(config)
        self.encoder = PretrainedMemory(config) if config.pretrained_layers else Encoder(config)
        self.decoder = Decoder(config)
        self.source_states: SourceStates | None = None
        """Computes states_LBSD of sources if the model uses a pretrained encoder."""
        self.embedding_scale = math.sqrt(config.model_dim) if config.scale_embedding else 1.0
        with torch.no_grad():
            self.embedding.weight.normal_(std=config.model_dim**-0.5)[config.pad_id] = 0

    def attach_encoder(self, encoder: nn.Module) -> None:
        """Make a pretrained encoder a submodule of this model, named `pretrained`, to train it."""
        assert isinstance(self.encoder, PretrainedMemory)
        self.pretrained = encoder
        layers = None if self.config.memory == "mix" else (-1,)
        self.source_states = partial(encoder, layers=layers)

    def embed(self, ids_BL: Tensor, *, before: int = 0) -> Tensor:
        """Embed tokens and their positions; `before` is the number of preceding tokens."""
        x_BLD = self.embedding(ids_BL) * self.embedding_scale
        x_BLD = x_BLD + self.positions(ids_BL, before=before).to(x_BLD.dtype)
        return functional.dropout(x_BLD, self.config.dropout, self.training)

    def encode(self, source_BS: Tensor) -> Tensor:
        """Encode sources padded with `pad_id`: memory_BSD. States at padding are undefined."""
        if isinstance(self.encoder, PretrainedMemory):
            assert self.source_states is not None, "the pretrained encoder has not been attached"
            memory_BSD: Tensor = self.encoder(self.source_states(source_BS))
        else:
            memory_BSD = self.encoder(self.embed(source_BS), source_BS != self.config.pad_id)
        return memory_BSD

    def decode(
        self,
        target_BT: Tensor,
        memory_BSD: Tensor,
        source_BS: Tensor,
        *,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Run the decoder over right-padded target inputs: states_BTD for `project`.

        With a cache, `target_BT` contains only the tokens that follow the tokens in the cache, and
        no padding.
        """
        embedded_BTD = self.embed(target_BT, before=cache.length if cache is not None else 0)
        states_BTD: Tensor = self.decoder(
            embedded_BTD,
            target_BT != self.config.pad_id,
            memory_BSD,
            source_BS != self.config.pad_id,
            cache,
        )
        return states_BTD

    def project(self, states_BTD: Tensor) -> Tensor:
        """Return logits_BTV of decoder states."""
        return functional.linear(states_BTD, self.embedding.weight)

    def forward(self, source_BS: Tensor, target_in_BT: Tensor) -> Tensor:
        """Return logits_BTV of the token that follows each target input."""
        return self.project(self.decode(target_in_BT, self.encode(source_BS), source_BS))
