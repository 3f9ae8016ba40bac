"""The layers of an inference engine, which are read from a weight mapping of `nllb.model`.

Each engine provides its own linear layers, and an expert store decides which experts are in memory.

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
"""A function from rows (..., inputs) to rows (..., outputs), which also adds the bias."""


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForward:
    """A dense feed-forward sublayer or an expert: two linear layers with an activation between.

    Attributes:
        inner: projection from the model dim to the feed-forward dim.
        outer: projection from the feed-forward dim to the model dim.
        activation: activation function between the projections.
    """

    inner: Linear
    outer: Linear
    activation: Callable[[Tensor], Tensor] = functional.relu

    def __call__(self, x_TD: Tensor) -> Tensor:
        """Return the sublayer's output, without layer norm and residual connection."""
        return self.outer(self.activation(self.inner(x_TD)))


class ExpertStore(Protocol):
    """Provides experts to an engine, from memory or through a cache of the memory-mapped file.

    If a store has a method `observe(layer, logits_TE)`, it is called with the logits of all
    routers.
    """

    def expert_weights(self, layer: str, expert: int) -> FeedForward:
        """Return the prepared expert number `expert` of `layer` ("encoder.layers.3").

        An engine requests one expert at a time and releases it before it requests the next.
        """
        ...


ExpertStoreFactory = Callable[[Callable[[str, int], FeedForward]], ExpertStore]
"""Creates a store from the engine's function that loads and prepares one expert."""


class LoadedExperts:
    """An expert store that keeps all requested experts in memory."""

    def __init__(self, load: Callable[[str, int], FeedForward]):
        self._load = load
        self._experts: dict[tuple[str, int], FeedForward] = {}

    def expert_weights(self, layer: str, expert: int) -> FeedForward:
        """Return the expert, which is read from the checkpoint on the first request."""
        key = layer, expert
        if key not in self._experts:
            self._experts[key] = self._load(layer, expert)
        return self._experts[key]


@dataclass(frozen=True, kw_only=True, slots=True)
class Norm:
    """Layer normalisation.

    Attributes:
        weight: gain (D).
        bias: bias (D).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise rows."""
        return functional.layer_norm(x, (x.shape[-1],), self.weight, self.bias, LAYER_NORM_EPSILON)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A layer of the encoder or the decoder; encoder layers have no cross-attention (None).

    Attributes:
        name: name of the layer in the weight mapping and in the expert store.
        self_norm: layer norm before self-attention.
        self_query_key_value: fused query, key and value projection from D to 3 D.
        self_output: output projection of self-attention from D to D.
        cross_norm: layer norm before cross-attention.
        cross_query: query projection from D to D; the engine fuses the key and value projections of
            all layers.
        cross_output: output projection of cross-attention from D to D.
        feed_forward_norm: layer norm before the feed-forward sublayer.
        feed_forward: the dense sublayer; None if the layer has experts.
        router: router from D to E; None if the layer is dense.
    """

    name: str
    self_norm: Norm
    self_query_key_value: Linear
    self_output: Linear
    cross_norm: Norm | None
    cross_query: Linear | None
    cross_output: Linear | None
    feed_forward_norm: Norm
    feed_forward: FeedForward | None
    router: Linear | None


def read_float(
    weights: Mapping[str, Tensor],
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return a weight with a floating-point dtype, dequantizing it if it is stored as int8.

    Raises:
        CheckpointError: its storage type is not supported, or a value is not finite.
    """
    value, scale = weights[name], weights.get(name + SCALE)
    check_storage(value, scale, name)
    if scale is not None:
        value = dequantize_rows(value, scale)
    return check_finite(value.to(device, dtype), name)


def cross_key_value_names(config: ModelConfig) -> list[str]:
    """Return the names of the key and value projections of all decoder layers.

    Together they form a projection from D to L * 2 * D.
    """
    layers = range(config.decoder_layers)
    return [
        f"decoder.layers.{layer}.cross_attention.{part}"
        for layer in layers
        for part in ("key", "value")
    ]


class LayerReader:
    """Builds layers from a weight mapping of `nllb.model` with the linear layers of an engine."""

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
        """Prepare to read layers.

        Args:
            config: the model configuration.
            weights: the weight mapping.
            linear: creates a linear layer from the names of matrices, which are concatenated.
            experts: creates the expert store.
            device: the device of the layers.
            dtype: the dtype of layer norms.
            router_dtype: the dtype of routers.
        """
        self._config, self._weights, self._linear = config, weights, linear
        self._device, self._dtype, self._router_dtype = device, dtype, router_dtype
        self._activation = ACTIVATIONS[config.activation]
        self.store = experts(self.expert)

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
        has_cross_attention = side == "decoder"
        sparse = self._config.is_sparse(side, number)
        return Layer(
            name=name,
            self_norm=self.norm(f"{name}.self_attention_norm"),
            self_query_key_value=self._linear(
                [f"{name}.self_attention.{part}" for part in ("query", "key", "value")]
            ),
            self_output=self._linear([f"{name}.self_attention.output"]),
            cross_norm=self.norm(f"{name}.cross_attention_norm") if has_cross_attention else None,
            cross_query=self._linear([f"{name}.cross_attention.query"])
            if has_cross_attention
            else None,
            cross_output=self._linear([f"{name}.cross_attention.output"])
            if has_cross_attention
            else None,
            feed_forward_norm=self.norm(f"{name}.feed_forward_norm"),
            feed_forward=None if sparse else self._feed_forward(f"{name}.feed_forward"),
            router=self._router(f"{name}.feed_forward.router") if sparse else None,
        )

    def _feed_forward(self, name: str) -> FeedForward:
        inner, outer = self._linear([f"{name}.inner"]), self._linear([f"{name}.outer"])
        return FeedForward(inner=inner, outer=outer, activation=self._activation)

    def expert(self, layer: str, expert: int) -> FeedForward:
        """Read one expert of a layer ("encoder.layers.3")."""
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
    """A linear layer with a floating-point dtype.

    Attributes:
        weight: weight (outputs, inputs).
        bias: bias (outputs).
    """

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """Project rows."""
        return functional.linear(x.to(self.weight.dtype), self.weight, self.bias)
