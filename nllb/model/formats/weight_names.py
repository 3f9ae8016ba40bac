"""The weights of a model by name and shape, from its configuration alone, and their other names.

The names are those of `Transformer.state_dict()`; `weight_names.tsv` maps them to each format.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Literal

from nllb.io.text import read_table
from nllb.model.configuration import ModelConfig, Side

NameFormat = Literal["m2m_100", "nllb-moe", "fairseq"]
SIDES: tuple[Side, Side] = ("encoder", "decoder")
_LAYER = "{side}.layers.{layer}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """One tensor of the model."""

    name: str
    """Our own name."""
    shape: tuple[int, ...]
    """Its shape."""
    template: str
    """Its module's row in `weight_names.tsv`."""
    leaf: str
    """`weight` or `bias`."""
    side: Side = "encoder"
    """The side it belongs to; the embedding belongs to both."""
    layer: int = 0
    """Its layer, from 0."""
    expert: int | None = None
    """Its expert, from 0; None outside of experts."""

    @property
    def size(self) -> int:
        """Parameters it holds."""
        return prod(self.shape)

    def name_in(self, name_format: NameFormat, *, expert: int | None = None) -> str:
        """Return its name in another format; `expert` stands in for its own expert number."""
        number = self.expert if expert is None else expert
        module = _templates(name_format)[self.template]
        return f"{module.format(side=self.side, layer=self.layer, expert=number)}.{self.leaf}"


def list_weights(config: ModelConfig) -> Iterator[Weight]:
    """Yield every weight of the model."""
    dim = config.model_dim
    yield from _module("embedding", (config.vocabulary_size, dim), bias=False)
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
    """Count the parameters; the shared embedding counts once."""
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
    return {row["ours"]: row[name_format] for row in rows}
