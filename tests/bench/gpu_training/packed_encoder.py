"""The frozen pretrained encoder over rows that contain several sentences each.

It computes what `nllb.model.pretrained_encoder` computes, from the same stored weights.

Shapes: R rows, S positions of a row, D model dim, H heads, C head dim, L + 1 layers with the
embeddings.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nllb.model.formats.four_bit import dequantize_blocks
from nllb.model.formats.row_codes import CodedTable

SCALE = ".scale"
EMBEDDING = "embedding.weight"


def read_weight(stored: Mapping[str, Tensor], name: str) -> Tensor:
    """Return one weight as float32 from the tensors of an encoder's file."""
    if name not in stored:
        table = CodedTable.read(name, stored.__getitem__)
        return table.rows(torch.arange(len(table.tier_V)))
    if name + SCALE in stored:
        return dequantize_blocks(stored[name], stored[name + SCALE])
    return stored[name].float()


class PackedEncoder:
    """The states of all layers, each normalised as the decoder's mix expects them."""

    def __init__(
        self,
        stored: Mapping[str, Tensor],
        shape: Mapping[str, Any],
        device: str,
        dtype: torch.dtype,
    ):
        """Decode the weights and place them on a device."""
        self._heads, self._epsilon = shape["num_heads"], shape["norm_epsilon"]
        self._num_layers = shape["num_layers"]

        def place(*names: str) -> Tensor:
            weight = torch.cat([read_weight(stored, name) for name in names])
            return weight.to(device, dtype)

        self._embedding = place(EMBEDDING)
        self._positions = place("positions.weight") + place("token_types.weight")[0]
        self._norm = place("embedding_norm.weight"), place("embedding_norm.bias")
        self._layers = [
            self._layer(f"layers.{number}", place) for number in range(self._num_layers)
        ]

    def _layer(self, prefix: str, place: Any) -> dict[str, Tensor]:
        found = {}
        for leaf in ("weight", "bias"):
            attention = [f"{prefix}.{name}.{leaf}" for name in ("query", "key", "value")]
            found[f"query_key_value.{leaf}"] = place(*attention)
            for name in ("output", "attention_norm", "inner", "outer", "feed_forward_norm"):
                found[f"{name}.{leaf}"] = place(f"{prefix}.{name}.{leaf}")
        return found

    @torch.no_grad()
    def __call__(
        self, ids_RS: Tensor, positions_RS: Tensor, bias_R1SS: Tensor, *, all_layers: bool
    ) -> Tensor:
        """Return the normalised states (L + 1, R, S, D), or the states of the last layer."""
        x = self._normed(self._embedding[ids_RS] + self._positions[positions_RS], *self._norm)
        states = [x]
        for weights in self._layers:
            x = self._run_layer(weights, x, bias_R1SS)
            states.append(x)
        if not all_layers:
            return x[None]
        return torch.stack([functional.layer_norm(state, x.shape[-1:]) for state in states])

    def _run_layer(self, weights: Mapping[str, Tensor], x: Tensor, bias_R1SS: Tensor) -> Tensor:
        def linear(value: Tensor, name: str) -> Tensor:
            return functional.linear(value, weights[f"{name}.weight"], weights[f"{name}.bias"])

        rows, length, dim = x.shape
        parts = linear(x, "query_key_value").view(rows, length, 3, self._heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias_R1SS)
        x = x + linear(mixed.transpose(1, 2).reshape(rows, length, dim), "output")
        x = self._normed(x, weights["attention_norm.weight"], weights["attention_norm.bias"])
        x = x + linear(functional.gelu(linear(x, "inner")), "outer")
        return self._normed(
            x, weights["feed_forward_norm.weight"], weights["feed_forward_norm.bias"]
        )

    def _normed(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional.layer_norm(x, weight.shape, weight, bias, self._epsilon)
