"""Prunes the experts that a language pair does not need according to its routing.

A layer with 128 experts sends the tokens of a language to few of them. The routing is measured on
sample text: the encoder processes the source, and the decoder generates the model's own
translation. The experts with the largest sums of gate weights are kept, by default three in an
encoder layer for each one in a decoder layer. Koishekenov et al. (ACL 2023) prune up to 80 % of the
experts per language without fine-tuning, and their best ratio is 3:1.

A Hugging Face configuration has one number of experts for all layers. If the encoder and the
decoder keep different numbers, layers with fewer experts are padded with empty experts, which are
never chosen because of their router bias. transformers can load the directory, and this package
never reads the empty experts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nllb.config import format_size
from nllb.errors import ConfigError, DataError
from nllb.io.progress import Progress
from nllb.languages import Language
from nllb.model.configuration import ModelConfig, Side
from nllb.model.formats.conversion import companion_files, stored_type
from nllb.model.formats.hugging_face import write_hugging_face
from nllb.model.formats.model_directory import ModelDirectory
from nllb.model.formats.weight_files import storage_bytes
from nllb.model.formats.weight_names import SIDES, list_weights
from nllb.model.formats.weights import SCALE
from nllb.model.moe import EXPERTS_PER_TOKEN, route

from .expert_cache import ExpertCache, Load
from .generator import SearchOptions
from .layers import ExpertStore, ExpertStoreFactory, FeedForward, LoadedExperts
from .memory_plan import plan_memory
from .model_generator import ModelGenerator

NEVER = -1e4
"""Router bias of an empty expert: its probability is 0 in float32, and float16 can represent it."""
BATCH_LINES = 64

Gates = dict[str, np.ndarray]
"""The sum of the gate weights of each expert for each sparse layer ("encoder.layers.3")."""
Kept = dict[str, list[int]]
"""The kept experts of each sparse layer in ascending order."""


class CountingStore:
    """An expert store that sums the gate weights of each expert."""

    def __init__(self, store: ExpertStore, config: ModelConfig) -> None:
        self._store = store
        self.gates: Gates = {
            f"{side}.layers.{layer}": np.zeros(config.num_experts)
            for side in SIDES
            for layer in range(config.num_layers(side))
            if config.is_sparse(side, layer)
        }

    def expert_weights(self, layer: str, expert: int) -> FeedForward:
        """Return the expert from the underlying store."""
        return self._store.expert_weights(layer, expert)

    def observe(self, layer: str, logits_TE: Tensor) -> None:
        """Add the gate weights of each token's two best experts."""
        weights_TK, experts_TK = route(logits_TE.float())
        flat = experts_TK.flatten().cpu().numpy()
        share = weights_TK.flatten().double().cpu().numpy()
        self.gates[layer] += np.bincount(flat, share, minlength=logits_TE.shape[1])


def count_gates(
    opened: ModelDirectory,
    lines: Sequence[str],
    *,
    source: Language,
    target: Language,
    experts: ExpertStoreFactory = LoadedExperts,
    quiet: bool = False,
) -> Gates:
    """Translate sample lines and return the sums of the gate weights.

    Raises:
        ConfigError: the model has no experts.
        DataError: the text is empty.
    """
    if not opened.config.num_experts:
        raise ConfigError(f"{opened.name} is a dense model: it has no experts to prune")
    text = [line for line in lines if line.strip()]
    if not text:
        raise DataError(
            "the sample text is empty: provide several hundred lines in the source language"
        )
    stores: list[CountingStore] = []

    def counting(load: Load) -> CountingStore:
        stores.append(CountingStore(experts(load), opened.config))
        return stores[-1]

    generator = ModelGenerator.load(opened.path, device="cpu", experts=counting)
    greedy = SearchOptions(beam_size=1, shortlist=False)
    with Progress("routing", total=len(text), unit="lines", quiet=quiet) as progress:
        for start in range(0, len(text), BATCH_LINES):
            batch = text[start : start + BATCH_LINES]
            fitting = [line for line in batch if generator.fits(line, source=source)]
            generator.generate(fitting, source=source, target=target, search=greedy)
            progress.advance(len(batch))
    return stores[0].gates


def experts_of_direction(
    opened: ModelDirectory,
    lines: Sequence[str],
    *,
    source: Language,
    target: Language,
    keep: float,
    encoder_to_decoder: float = 3.0,
    expert_memory: int | None = None,
    quiet: bool = False,
) -> tuple[Gates, Kept]:
    """Measure the routing of a direction and return it with the experts to keep.

    Args:
        opened: the model.
        lines: several hundred sentences in the source language.
        source: language of the lines.
        target: language into which they are translated.
        keep: fraction of all experts to keep, greater than 0 and at most 1.
        encoder_to_decoder: number of experts in an encoder layer per expert in a decoder layer.
        expert_memory: maximum bytes for experts in memory; None loads all of them.
        quiet: no progress on stderr.

    Raises:
        ConfigError: the model has no experts, or `keep` or the ratio is out of range.
        DataError: the text is empty.
        ResourceError: the memory is too small.
    """
    check_pruning_options(keep=keep, encoder_to_decoder=encoder_to_decoder)
    plan = plan_memory(opened.config, dtype="int8", expert_memory=expert_memory)
    plan.require()
    cached = partial(ExpertCache, expert_bytes=plan.expert_bytes, memory_bytes=expert_memory or 0)
    gates = count_gates(
        opened,
        lines,
        source=source,
        target=target,
        experts=LoadedExperts if expert_memory is None else cached,
        quiet=quiet,
    )
    kept = choose_experts(gates, opened.config, keep=keep, encoder_to_decoder=encoder_to_decoder)
    return gates, kept


def choose_experts(
    gates: Gates, config: ModelConfig, *, keep: float, encoder_to_decoder: float = 3.0
) -> Kept:
    """Return the experts to keep in each layer.

    Args:
        gates: the result of `count_gates`.
        config: the model configuration.
        keep: fraction of all experts to keep, greater than 0 and at most 1.
        encoder_to_decoder: number of experts in an encoder layer per expert in a decoder layer.

    Raises:
        ConfigError: `keep` or the ratio is out of range.
    """
    check_pruning_options(keep=keep, encoder_to_decoder=encoder_to_decoder)
    layers: dict[Side, list[str]] = {
        side: [name for name in gates if name.startswith(side)] for side in SIDES
    }
    total, wanted = config.num_experts, keep * config.num_experts * len(gates)
    ratios = {"encoder": encoder_to_decoder, "decoder": 1.0}
    weight = sum(ratios[side] * len(names) for side, names in layers.items())
    numbers = {side: _bound(ratios[side] * wanted / weight, total) for side in SIDES}
    for side in SIDES:  # if one side reaches a bound, the other side compensates for it
        other: Side = "decoder" if side == "encoder" else "encoder"
        if layers[side] and layers[other] and numbers[other] in {EXPERTS_PER_TOKEN, total}:
            left = wanted - numbers[other] * len(layers[other])
            numbers[side] = _bound(left / len(layers[side]), total)
    return {
        name: sorted(np.argsort(-gates[name], kind="stable")[: numbers[side]].tolist())
        for side, names in layers.items()
        for name in names
    }


def check_pruning_options(*, keep: float, encoder_to_decoder: float) -> None:
    """Validate the options of `choose_experts` before the routing is measured.

    Raises:
        ConfigError: an option is out of range.
    """
    if not 0 < keep <= 1:
        raise ConfigError(
            f"keep is {keep}; it must be the fraction of experts to keep, such as 0.2"
        )
    if not 0 < encoder_to_decoder < float("inf"):
        raise ConfigError(
            f"the ratio is {encoder_to_decoder}; it must be the number of experts in an encoder "
            "layer per expert in a decoder layer, such as 3"
        )


def _bound(number: float, total: int) -> int:
    return min(total, max(EXPERTS_PER_TOKEN, round(number)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruning:
    """The result of pruning a model.

    Attributes:
        experts_before: number of experts in all layers.
        experts_after: number of kept experts in all layers.
        bytes_before: size of the weights before pruning.
        bytes_after: size of the weights after pruning, without empty experts.
        gate_kept: fraction of the gate weights on the sample text of kept experts, averaged over
            layers.
    """

    experts_before: int
    experts_after: int
    bytes_before: int
    bytes_after: int
    gate_kept: float

    def describe(self) -> str:
        """Return the result in one line."""
        return (
            f"kept {self.experts_after} of {self.experts_before} experts, with "
            f"{self.gate_kept:.1%} of the gate weights on the sample text; reduced "
            f"{format_size(self.bytes_before)} to {format_size(self.bytes_after)}"
        )


class PrunedWeights(Mapping[str, Tensor]):
    """The weights of the pruned model, which are read from the complete model on access."""

    def __init__(self, whole: Mapping[str, Tensor], config: ModelConfig, kept: Kept) -> None:
        self._whole, self._kept, self._config = whole, kept, config
        names = [weight.name for weight in list_weights(config)]
        scaled = [name + SCALE for name in names if self._original(name) + SCALE in whole]
        self._names = dict.fromkeys([*names, *scaled])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        layer, _, rest = name.partition(".feed_forward.")
        if layer not in self._kept or not rest:
            return self._whole[name]
        if rest.startswith("router."):
            return self._router(layer, rest.removeprefix("router."))
        if self._is_empty(layer, rest):
            like = self._whole[self._original(name.removesuffix(SCALE))]
            if name.endswith(SCALE):
                return torch.zeros(like.shape[0])
            return torch.zeros_like(like)
        return self._whole[self._original(name)]

    def _is_empty(self, layer: str, rest: str) -> bool:
        return int(rest.split(".")[1]) >= len(self._kept[layer])

    def _original(self, name: str) -> str:
        """Return the name of an expert's weight in the complete model."""
        layer, _, rest = name.partition(".feed_forward.experts.")
        if not rest:
            return name
        number, _, part = rest.partition(".")
        kept = self._kept[layer]
        original = kept[min(int(number), len(kept) - 1)]
        return f"{layer}.feed_forward.experts.{original}.{part}"

    def _router(self, layer: str, leaf: str) -> Tensor:
        kept, name = self._kept[layer], f"{layer}.feed_forward.router.{leaf}"
        rows = self._config.num_experts
        if leaf == "weight":
            whole = self._whole[name]
            weight = torch.zeros(rows, whole.shape[1], dtype=whole.dtype)
            weight[: len(kept)] = whole[kept]
            return weight
        bias = torch.full((rows,), NEVER)
        bias[: len(kept)] = self._whole[name][kept].float() if name in self._whole else 0.0
        return bias


def prune(
    opened: ModelDirectory, output: Path, gates: Gates, kept: Kept, *, quiet: bool = False
) -> Pruning:
    """Write the model with the kept experts only.

    Raises:
        CheckpointError: the output already exists.
        ConfigError: the model is not a directory.
        ResourceError: the disk has too little free space.
    """
    whole = opened.config
    largest = max(len(experts) for experts in kept.values())
    filled = any(len(experts) < largest for experts in kept.values())
    config = replace(whole, num_experts=largest, router_bias=whole.router_bias or filled)
    storage = stored_type(opened)
    after = sum(len(experts) for experts in kept.values())
    per_expert = (storage_bytes(whole, storage) - storage_bytes(config, storage)) / max(
        1, (whole.num_experts - largest) * len(kept)
    )
    empty = largest * len(kept) - after
    pruning = Pruning(
        experts_before=whole.num_experts * len(kept),
        experts_after=after,
        bytes_before=storage_bytes(whole, storage),
        bytes_after=int(storage_bytes(config, storage) - empty * per_expert),
        gate_kept=float(
            np.mean([gates[n][kept[n]].sum() / max(gates[n].sum(), 1e-12) for n in kept])
        ),
    )
    if not opened.path.is_dir():
        raise ConfigError(f"{opened.name} is not a directory: convert it with `nllb convert` first")
    total = storage_bytes(config, storage)
    with Progress("prune", total=total, unit="bytes", quiet=quiet) as progress:
        write_hugging_face(
            output,
            config,
            PrunedWeights(opened.weights, config, kept),
            opened.tokenizer(),
            settings={**opened.settings, "pruning": {"from": opened.name, "kept": kept}},
            generation=opened.generation,
            storage=storage,
            companions=companion_files(opened),
            advance=progress.advance,
        )
    return pruning
