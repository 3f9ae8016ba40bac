"""The layers of a model as an engine computes them, read from the weight mapping of `nllb.model`.

An engine brings its own kind of linear, and an expert store decides which experts are in memory.

Shapes: T tokens, D model dim, E experts, L layers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from nllb.model.configuration import ModelConfig, Side
from nllb.model.formats.quantized_storage import dequantize_rows
from nllb.model.formats.weight_checks import check_finite, check_storage
from nllb.model.formats.weights import SCALE

LAYER_NORM_EPSILON = 1e-5
Linear = Callable[[Tensor], Tensor]
"""Rows (..., inputs) to rows (..., outputs), the bias included."""


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForward:
    """Two linears with an activation between: the dense sublayer, or one expert."""

    inner: Linear
    """Model dim to feed-forward dim."""
    outer: Linear
    """Back to the model dim."""
    activation: Callable[[Tensor], Tensor] = functional.relu
    """Applied between them."""

    def __call__(self, x_TD: Tensor) -> Tensor:
        """Return the sublayer's output, without norm and residual."""
        return self.outer(self.activation(self.inner(x_TD)))


class ExpertStore(Protocol):
    """Where an engine gets experts: all in memory, or a cache over the memory-mapped file.

    One that has a method `observe(layer, logits_TE)` is told what every router said.
    """

    def expert_weights(self, layer: str, expert: int) -> FeedForward:
        """Return expert number `expert` of `layer` ("encoder.layers.3"), ready to compute.

        An engine asks for one expert at a time and drops it before it asks for the next.
        """
        ...


ExpertStoreFactory = Callable[[Callable[[str, int], FeedForward]], ExpertStore]
"""Makes a store from the engine's function that loads one expert, ready to compute."""


class LoadedExperts:
    """The expert store that holds every expert it was asked for."""

    def __init__(self, load: Callable[[str, int], FeedForward]):
        self._load = load
        self._experts: dict[tuple[str, int], FeedForward] = {}

    def expert_weights(self, layer: str, expert: int) -> FeedForward:
        """Return the expert, read from the checkpoint the first time."""
        key = layer, expert
        if key not in self._experts:
            self._experts[key] = self._load(layer, expert)
        return self._experts[key]


@dataclass(frozen=True, kw_only=True, slots=True)
class Norm:
    """Layer normalisation."""

    weight: Tensor
    """Gain (D)."""
    bias: Tensor
    """Offset (D)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise rows."""
        return functional.layer_norm(x, (x.shape[-1],), self.weight, self.bias, LAYER_NORM_EPSILON)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One layer of either side; the cross-attention parts are None in the encoder."""

    name: str
    """Name in the weight mapping, which is also the expert store's name."""
    self_norm: Norm
    """Before self-attention."""
    self_query_key_value: Linear
    """D to 3 D."""
    self_output: Linear
    """D to D."""
    cross_norm: Norm | None
    """Before cross-attention."""
    cross_query: Linear | None
    """D to D; keys and values of all layers are one linear of the engine."""
    cross_output: Linear | None
    """D to D."""
    feed_forward_norm: Norm
    """Before the feed-forward sublayer."""
    feed_forward: FeedForward | None
    """The dense sublayer; None where the layer has experts."""
    router: Linear | None
    """D to experts, in float32; None where the layer is dense."""


def read_float(
    weights: Mapping[str, Tensor],
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return a weight in a floating type, also where it is stored as int8.

    Raises:
        CheckpointError: it is stored in a type that is not read, or has values that are not finite.
    """
    value, scale = weights[name], weights.get(name + SCALE)
    check_storage(value, scale, name)
    if scale is not None:
        value = dequantize_rows(value, scale)
    return check_finite(value.to(device, dtype), name)


def cross_key_value_names(config: ModelConfig) -> list[str]:
    """Name the keys' and values' projections of all decoder layers: stacked, D to L * 2 * D."""
    layers = range(config.decoder_layers)
    return [
        f"decoder.layers.{layer}.cross_attention.{part}"
        for layer in layers
        for part in ("key", "value")
    ]


class LayerReader:
    """Builds layers from the weight mapping of `nllb.model` with an engine's own kind of linear."""

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, Tensor],
        *,
        linear: Callable[[Sequence[str]], Linear],
        experts: ExpertStoreFactory,
        device: torch.device,
        dtype: torch.dtype,
        router_dtype: torch.dtype = torch.float32,
    ):
        """Take what makes one linear of matrices stacked by name, and what makes the store."""
        self._config, self._weights, self._linear = config, weights, linear
        self._device, self._dtype, self._router_dtype = device, dtype, router_dtype
        self._activation = ACTIVATIONS[config.activation]
        self.store = experts(self._expert)

    def norm(self, name: str) -> Norm:
        """Read a layer norm."""
        weight, bias = (
            read_float(self._weights, f"{name}.{part}", self._device, self._dtype)
            for part in ("weight", "bias")
        )
        return Norm(weight=weight, bias=bias)

    def side(self, side: Side) -> list[Layer]:
        """Read all layers of the encoder or the decoder."""
        return [self._layer(side, number) for number in range(self._config.num_layers(side))]

    def _layer(self, side: Side, number: int) -> Layer:
        name = f"{side}.layers.{number}"
        crossed = side == "decoder"
        sparse = self._config.is_sparse(side, number)
        return Layer(
            name=name,
            self_norm=self.norm(f"{name}.self_attention_norm"),
            self_query_key_value=self._linear(
                [f"{name}.self_attention.{part}" for part in ("query", "key", "value")]
            ),
            self_output=self._linear([f"{name}.self_attention.output"]),
            cross_norm=self.norm(f"{name}.cross_attention_norm") if crossed else None,
            cross_query=self._linear([f"{name}.cross_attention.query"]) if crossed else None,
            cross_output=self._linear([f"{name}.cross_attention.output"]) if crossed else None,
            feed_forward_norm=self.norm(f"{name}.feed_forward_norm"),
            feed_forward=None if sparse else self._feed_forward(f"{name}.feed_forward"),
            router=self._router(f"{name}.feed_forward.router") if sparse else None,
        )

    def _feed_forward(self, name: str) -> FeedForward:
        inner, outer = self._linear([f"{name}.inner"]), self._linear([f"{name}.outer"])
        return FeedForward(inner=inner, outer=outer, activation=self._activation)

    def _expert(self, layer: str, expert: int) -> FeedForward:
        return self._feed_forward(f"{layer}.feed_forward.experts.{expert}")

    def _router(self, name: str) -> Linear:
        weight, bias = (
            read_float(self._weights, f"{name}.{part}", self._device, self._router_dtype)
            if f"{name}.{part}" in self._weights
            else None
            for part in ("weight", "bias")
        )
        assert weight is not None
        router = TorchLinear(weight=weight, bias=bias)
        observe = getattr(self.store, "observe", None)
        if observe is None:
            return router

        def observed(x_TD: Tensor) -> Tensor:
            observe(name.removesuffix(".feed_forward.router"), logits_TE := router(x_TD))
            return logits_TE

        return observed


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchLinear:
    """A linear in a floating type."""

    weight: Tensor
    """(outputs, inputs)."""
    bias: Tensor | None
    """(outputs)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Project rows."""
        return functional.linear(x.to(self.weight.dtype), self.weight, self.bias)
