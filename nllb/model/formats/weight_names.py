"""Derives the names and shapes of a model's weights from its configuration.

The names are those of `Transformer.state_dict()`; `weight_names.tsv` maps them to the names in each
checkpoint format.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Literal

from nllb.io.text import read_table
from nllb.model.configuration import ModelConfig, Side

NameFormat = Literal["m2m_100", "nllb-moe", "nllb-pretrained-encoder", "fairseq"]
SIDES: tuple[Side, Side] = ("encoder", "decoder")
_LAYER = "{side}.layers.{layer}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """One tensor of the model.

    Attributes:
        name: name in this package.
        shape: shape of the tensor.
        template: row of the module in `weight_names.tsv`.
        leaf: `weight` or `bias`.
        side: encoder or decoder; the embedding, which belongs to both, has the default.
        layer: index of the layer, from 0.
        expert: index of the expert, from 0; None if the weight does not belong to an expert.
    """

    name: str
    shape: tuple[int, ...]
    template: str
    leaf: str
    side: Side = "encoder"
    layer: int = 0
    expert: int | None = None

    @property
    def size(self) -> int:
        """Number of parameters."""
        return prod(self.shape)

    def name_in(self, name_format: NameFormat, *, expert: int | None = None) -> str:
        """Return the name in another format; `expert` replaces the index of its expert."""
        number = self.expert if expert is None else expert
        module = _templates(name_format)[self.template]
        return f"{module.format(side=self.side, layer=self.layer, expert=number)}.{self.leaf}"


def list_weights(config: ModelConfig) -> Iterator[Weight]:
    """Yield every weight of the model."""
    dim = config.model_dim
    yield from _module("embedding", (config.vocabulary_size, dim), bias=False)
    if config.pretrained_layers and config.memory == "mix":
        yield from _module("encoder.mix", (config.pretrained_layers + 1,), bias=False)
    for side in SIDES:
        for layer in range(config.num_layers(side)):
            for attention in ("self_attention", "cross_attention")[: 1 + (side == "decoder")]:
                yield from _module(f"{_LAYER}.{attention}_norm", (dim,), side, layer)
                for part in ("query", "key", "value", "output"):
                    yield from _module(f"{_LAYER}.{attention}.{part}", (dim, dim), side, layer)
            yield from _module(f"{_LAYER}.feed_forward_norm", (dim,), side, layer)
            yield from _feed_forward(config, side, layer)
        yield from _module("{side}.norm", (dim,), side)


def num_parameters(config: ModelConfig) -> int:
    """Return the number of parameters; the shared embedding is counted once."""
    return sum(weight.size for weight in list_weights(config))


def _feed_forward(config: ModelConfig, side: Side, layer: int) -> Iterator[Weight]:
    inner, outer = (
        (config.ffn_dim(side), config.model_dim),
        (config.model_dim, config.ffn_dim(side)),
    )
    part = f"{_LAYER}.feed_forward"
    if not config.is_sparse(side, layer):
        yield from _module(f"{part}.inner", inner, side, layer)
        yield from _module(f"{part}.outer", outer, side, layer)
        return
    router = (config.num_experts, config.model_dim)
    yield from _module(f"{part}.router", router, side, layer, bias=config.router_bias)
    for expert in range(config.num_experts):
        yield from _module(f"{part}.experts.{{expert}}.inner", inner, side, layer, expert=expert)
        yield from _module(f"{part}.experts.{{expert}}.outer", outer, side, layer, expert=expert)


def _module(
    template: str,
    shape: tuple[int, ...],
    side: Side = "encoder",
    layer: int = 0,
    *,
    expert: int | None = None,
    bias: bool = True,
) -> Iterator[Weight]:
    for leaf in ("weight", "bias")[: 1 + bias]:
        yield Weight(
            name=f"{template.format(side=side, layer=layer, expert=expert)}.{leaf}",
            shape=shape if leaf == "weight" else shape[:1],
            template=template,
            leaf=leaf,
            side=side,
            layer=layer,
            expert=expert,
        )


@cache
def _templates(name_format: NameFormat) -> dict[str, str]:
    rows = read_table(Path(__file__).parent / "weight_names.tsv")
    return {row["ours"]: row.get(name_format, row["ours"]) for row in rows}
