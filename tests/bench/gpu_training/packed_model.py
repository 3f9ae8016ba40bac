"""The decoder over rows that contain several sentences each, with its loss.

It computes what `nllb.model.transformer` and `nllb.training.loss` compute (a test compares both),
but every shape is fixed: nothing is compiled twice, no padding separates short sentences, and the
CPU never waits for the GPU. Weights of the same shape are one tensor, so that a step of the
optimizer is a few operations.

Shapes: R rows, S and T positions of a row's sources and targets, N = R T, D model dim, H heads,
C head dim, J layers, E experts, F inner dim, V vocabulary.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .output_loss import OutputLoss
from .packed_encoder import PackedEncoder
from .packed_experts import ExpertWeights, run_experts

HIDDEN = -30000.0
"""Added to attention scores between different sentences; a row of nothing else stays finite."""
PAD = -1
"""Sentence number of padding."""


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Rows of sentences: `source` and `target` ids, the place in the sentence, and its number."""

    source_RS: Tensor
    source_positions_RS: Tensor
    source_numbers_RS: Tensor
    target_RT: Tensor
    target_positions_RT: Tensor
    target_numbers_RT: Tensor
    labels_RT: Tensor


class PackedModel(nn.Module):
    """A decoder on a frozen encoder, from batches to the sums of losses."""

    def __init__(self, shape: Mapping[str, Any], encoder: PackedEncoder, dtype: torch.dtype):
        """Allocate the weights in float32; `load` fills them.

        Args:
            shape: fields of the model's configuration, with `positions`, the table of positions.
            encoder: the pretrained encoder.
            dtype: the type of products.
        """
        super().__init__()
        self.shape, self.dtype, self._encoder = shape, dtype, encoder
        dim, layers, experts = shape["model_dim"], shape["decoder_layers"], shape["num_experts"]
        inner, copies = shape["ffn_dim"], max(experts, 1)

        def empty(*sizes: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(sizes))

        self.embedding = empty(shape["vocabulary_size"], dim)
        self.attention = empty(layers, 2, 4, dim, dim)
        self.attention_bias = empty(layers, 2, 4, dim)
        self.norm, self.norm_bias = empty(layers, 3, dim), empty(layers, 3, dim)
        self.inner, self.inner_bias = (
            empty(layers, copies, inner, dim),
            empty(layers, copies, inner),
        )
        self.outer, self.outer_bias = empty(layers, copies, dim, inner), empty(layers, copies, dim)
        self.router = empty(layers, experts, dim) if experts else None
        self.last_norm, self.last_norm_bias = empty(dim), empty(dim)
        self.memory_norm, self.memory_norm_bias = empty(dim), empty(dim)
        self.mix = empty(shape["pretrained_layers"] + 1) if shape["memory"] == "mix" else None
        self.register_buffer("positions", shape["positions"].clone(), persistent=False)

    def matrices(self) -> list[nn.Parameter]:
        """Return the parameters that Muon updates, each a stack of matrices."""
        return [self.attention, self.inner, self.outer]

    def others(self) -> list[nn.Parameter]:
        """Return all other parameters."""
        stacked = {id(parameter) for parameter in self.matrices()}
        return [parameter for parameter in self.parameters() if id(parameter) not in stacked]

    def forward(self, batch: PackedBatch, *, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sums of loss and negative log-likelihood, and the sum of balance losses."""
        memory_RSD = self._memory(batch)
        is_token_RT = batch.target_numbers_RT != PAD
        # float32 rows: their gradients are added up, many of them for a frequent token.
        x = self.embedding.index_select(0, batch.target_RT.flatten()).view(
            *batch.target_RT.shape, -1
        )
        x = x * self.shape["embedding_scale"] + self.positions[batch.target_positions_RT]
        x = x.to(self.dtype)
        own_bias = attention_bias(batch.target_numbers_RT, batch.target_numbers_RT, x.dtype)
        length = x.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        own_bias = own_bias.masked_fill(later, HIDDEN)
        cross_bias = attention_bias(batch.target_numbers_RT, batch.source_numbers_RS, x.dtype)
        balance = x.new_zeros((), dtype=torch.float32)
        for layer in range(self.shape["decoder_layers"]):
            normed = self._normed(x, layer, 0)
            x = x + self._attend(normed, normed, own_bias, layer, 0)
            x = x + self._attend(self._normed(x, layer, 1), memory_RSD, cross_bias, layer, 1)
            fed, layer_balance = self._feed(
                self._normed(x, layer, 2), is_token_RT, layer, training=training
            )
            x, balance = x + fed, balance + layer_balance
        states = functional.layer_norm(x, x.shape[-1:], *self._cast("last_norm", "last_norm_bias"))
        loss, plain = OutputLoss.apply(
            states.flatten(0, 1),
            self.embedding.to(self.dtype),
            batch.labels_RT.flatten(),
            is_token_RT.flatten(),
            self.shape["label_smoothing"] if training else 0.0,
        )
        return loss, plain, balance

    def _memory(self, batch: PackedBatch) -> Tensor:
        bias = attention_bias(batch.source_numbers_RS, batch.source_numbers_RS, self.dtype)
        states_LRSD = self._encoder(
            batch.source_RS,
            batch.source_positions_RS,
            bias,
            all_layers=self.mix is not None,
        )
        if self.mix is None:
            mixed = states_LRSD[0]
        else:
            mixed = torch.einsum("l,l...->...", self.mix.softmax(0).to(self.dtype), states_LRSD)
        norm = self._cast("memory_norm", "memory_norm_bias")
        return functional.layer_norm(mixed, mixed.shape[-1:], *norm)

    def _cast(self, *names: str) -> list[Tensor]:
        return [getattr(self, name).to(self.dtype) for name in names]

    def _normed(self, x: Tensor, layer: int, place: int) -> Tensor:
        weight, bias = self.norm[layer, place], self.norm_bias[layer, place]
        return functional.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype))

    def _attend(self, x: Tensor, memory: Tensor, bias: Tensor, layer: int, place: int) -> Tensor:
        weight = self.attention[layer, place].to(self.dtype)
        offset = self.attention_bias[layer, place].to(self.dtype)

        def heads(value: Tensor) -> Tensor:
            return value.view(*value.shape[:2], self.shape["heads"], -1).transpose(1, 2)

        query = functional.linear(x, weight[0], offset[0])
        key_value = functional.linear(memory, weight[1:3].flatten(0, 1), offset[1:3].flatten())
        key, value = key_value.chunk(2, dim=-1)
        mixed = functional.scaled_dot_product_attention(
            heads(query), heads(key), heads(value), attn_mask=bias
        )
        return functional.linear(mixed.transpose(1, 2).flatten(2), weight[3], offset[3])

    def _feed(
        self, x: Tensor, is_token_RT: Tensor, layer: int, *, training: bool
    ) -> tuple[Tensor, Tensor]:
        inner, inner_bias, outer, outer_bias = (
            getattr(self, name)[layer].to(self.dtype)
            for name in ("inner", "inner_bias", "outer", "outer_bias")
        )
        if self.router is None:
            hidden = functional.relu(functional.linear(x, inner[0], inner_bias[0]))
            output = functional.linear(hidden, outer[0], outer_bias[0])
            return output, x.new_zeros((), dtype=torch.float32)
        output, balance = run_experts(
            x.flatten(0, 1),
            is_token_RT.flatten(),
            ExpertWeights(
                router=self.router[layer],
                inner=inner,
                inner_bias=inner_bias,
                outer=outer,
                outer_bias=outer_bias,
            ),
            masking=self.shape["expert_output_masking"],
            training=training,
        )
        return output.view(x.shape), balance

    def names(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each weight's name in a checkpoint, and its part of the parameters."""
        yield "embedding.weight", self.embedding.data
        yield from _pair("encoder.norm", self.memory_norm, self.memory_norm_bias)
        if self.mix is not None:
            yield "encoder.mix.weight", self.mix.data
        yield from _pair("decoder.norm", self.last_norm, self.last_norm_bias)
        for layer in range(self.shape["decoder_layers"]):
            prefix = f"decoder.layers.{layer}"
            for place, kind in enumerate(("self_attention", "cross_attention")):
                for number, leaf in enumerate(("query", "key", "value", "output")):
                    at = layer, place, number
                    name = f"{prefix}.{kind}.{leaf}"
                    yield from _pair(name, self.attention[at], self.attention_bias[at])
            for place, kind in enumerate(("self_attention", "cross_attention", "feed_forward")):
                at = layer, place
                yield from _pair(f"{prefix}.{kind}_norm", self.norm[at], self.norm_bias[at])
            if self.router is not None:
                yield f"{prefix}.feed_forward.router.weight", self.router[layer].data
            for number in range(self.inner.shape[1]):
                expert = f".experts.{number}" if self.router is not None else ""
                name, at = f"{prefix}.feed_forward{expert}", (layer, number)
                yield from _pair(f"{name}.inner", self.inner[at], self.inner_bias[at])
                yield from _pair(f"{name}.outer", self.outer[at], self.outer_bias[at])

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Fill the weights by their names in a checkpoint."""
        for name, part in self.names():
            part.copy_(weights[name])

    def weights(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return copies of all weights on the CPU; vectors stay float32."""
        return {
            name: part.to("cpu", dtype if part.ndim > 1 else torch.float32, copy=True).contiguous()
            for name, part in self.names()
        }


def _pair(name: str, weight: Tensor, bias: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", weight.data
    yield f"{name}.bias", bias.data


def attention_bias(queries_RT: Tensor, keys_RS: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (R, 1, T, S): 0 within a sentence, and a large negative number elsewhere."""
    apart = queries_RT[:, :, None] != keys_RS[:, None, :]
    bias = torch.zeros(apart.shape, dtype=dtype, device=apart.device)
    return bias.masked_fill(apart, HIDDEN)[:, None]


def embedding_scale(shape: Mapping[str, Any]) -> float:
    """Return what embeddings are multiplied with."""
    return math.sqrt(shape["model_dim"]) if shape["scale_embedding"] else 1.0
