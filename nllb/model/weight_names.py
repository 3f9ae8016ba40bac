"""The weights of a model by name and shape, from its configuration alone, and their names in other formats.

The names are those of `Transformer.state_dict()`; `weight_names.tsv` maps them to each format.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Literal

from nllb.model.config import ModelConfig, Side
from nllb.textio import read_table

NameFormat = Literal["m2m_100", "nllb-moe", "fairseq"]
SIDES: tuple[Side, Side] = ("encoder", "decoder")


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
    """Yield every weight of the model, in the order of `Transformer.state_dict()` within a layer's parts."""
    dim = config.model_dim
    yield Weight(
        name="embedding.weight",
        shape=(config.vocabulary_size, dim),
        template="embedding",
        leaf="weight",
    )
    for side in SIDES:
        attentions = (
            ["self_attention", "cross_attention"] if side == "decoder" else ["self_attention"]
        )
        for layer in range(config.num_layers(side)):
            for attention in attentions:
                yield from _norm(f"{attention}_norm", dim, side, layer)
                for part in ("query", "key", "value", "output"):
                    yield from _linear(f"{attention}.{part}", dim, dim, side, layer)
            yield from _norm("feed_forward_norm", dim, side, layer)
            yield from _feed_forward(config, side, layer)
        for leaf in ("weight", "bias"):
            yield Weight(
                name=f"{side}.norm.{leaf}",
                shape=(dim,),
                template="{side}.norm",
                leaf=leaf,
                side=side,
            )


def num_parameters(config: ModelConfig) -> int:
    """Count the parameters; the shared embedding counts once."""
    return sum(weight.size for weight in list_weights(config))


def _feed_forward(config: ModelConfig, side: Side, layer: int) -> Iterator[Weight]:
    outside, inside = config.model_dim, config.ffn_dim(side)
    if not config.is_sparse(side, layer):
        yield from _linear("feed_forward.inner", outside, inside, side, layer)
        yield from _linear("feed_forward.outer", inside, outside, side, layer)
        return
    router = _linear("feed_forward.router", outside, config.num_experts, side, layer)
    yield from (weight for weight in router if weight.leaf == "weight" or config.router_bias)
    for expert in range(config.num_experts):
        yield from _linear(
            "feed_forward.experts.{expert}.inner", outside, inside, side, layer, expert
        )
        yield from _linear(
            "feed_forward.experts.{expert}.outer", inside, outside, side, layer, expert
        )


def _linear(
    part: str, dim_in: int, dim_out: int, side: Side, layer: int, expert: int | None = None
) -> Iterator[Weight]:
    yield _layer_weight(part, "weight", (dim_out, dim_in), side, layer, expert)
    yield _layer_weight(part, "bias", (dim_out,), side, layer, expert)


def _norm(part: str, dim: int, side: Side, layer: int) -> Iterator[Weight]:
    for leaf in ("weight", "bias"):
        yield _layer_weight(part, leaf, (dim,), side, layer, None)


def _layer_weight(
    part: str, leaf: str, shape: tuple[int, ...], side: Side, layer: int, expert: int | None
) -> Weight:
    template = f"{{side}}.layers.{{layer}}.{part}"
    return Weight(
        name=f"{template.format(side=side, layer=layer, expert=expert)}.{leaf}",
        shape=shape,
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
