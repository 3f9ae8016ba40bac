"""Measures which experts each language uses, and how similar the languages are in this respect.

The encoder processes text in each language as a source. The decoder processes text in each language
as a target with forced decoding and a common source language. The two experts that the router
chooses for each token are counted. Two languages are compared by the cosine similarity of their
expert shares in a layer. NLLB Team 2022, 6.2.4, find expert use to be language-specific in the
layers near the input and output text and language-agnostic in the layers between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nllb.errors import ConfigError, DataError, LanguageError
from nllb.io.benchmarks import LineAlignedSet
from nllb.io.page import Axis, Column, HeatMapLayer, Page, heat_map, table
from nllb.io.progress import Progress
from nllb.io.text import write_lines
from nllb.languages import Language, parse_language
from nllb.model.configuration import Side
from nllb.model.formats.model_directory import ModelDirectory
from nllb.model.formats.open_model import load_model
from nllb.model.formats.weight_names import SIDES
from nllb.model.moe import ExpertRunner, MixtureOfExperts
from nllb.model.tokenizer import PAD_ID, Tokenizer
from nllb.model.transformer import Transformer

BATCH_LINES = 32
COMMON_SOURCE = "eng_Latn"

Shares = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertUse:
    """The relative frequency of each expert for each language.

    Attributes:
        languages: the languages, sorted by family, branch and script.
        shares: a matrix for each sparse layer ("encoder.layers.3") with one row per language and
            one column per expert.
    """

    languages: tuple[Language, ...]
    shares: dict[str, Shares]

    def layers(self, side: Side) -> list[str]:
        """Return the sparse layers of the encoder or the decoder in order."""
        return [name for name in self.shares if name.startswith(side)]

    def similarity(self, layer: str) -> Shares:
        """Return the cosine similarities of the languages' expert shares in a layer."""
        shares = self.shares[layer]
        unit = shares / np.maximum(np.linalg.norm(shares, axis=1, keepdims=True), 1e-12)
        cosine: Shares = unit @ unit.T
        return cosine


def measure_expert_use(
    opened: ModelDirectory,
    text: LineAlignedSet,
    *,
    max_lines: int,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> ExpertUse:
    """Run a model over text in several languages and count the chosen experts.

    Raises:
        ConfigError: the model has no experts.
        DataError: there is text in fewer than two of the model's languages.
    """
    if not opened.config.num_experts:
        raise ConfigError(f"{opened.name} is a dense model: it has no experts")
    tokenizer = opened.tokenizer()
    found = [_language(code) for code in text.files if code in tokenizer.languages]
    if len(found) < 2:
        raise DataError(
            f"{text.directory} has text in {len(found)} of the model's languages; provide a "
            f"directory with line-aligned files CODE.txt in at least two of them"
        )
    languages = sorted(found, key=lambda one: (one.family, one.branch, one.script, one.code))
    common = COMMON_SOURCE if COMMON_SOURCE in text.files else languages[0].code
    sources = text.sentences(common)[:max_lines]
    if not sources:
        raise DataError(f"{text.path(common)} is empty")
    model = load_model(opened, device)
    counters = _install_counters(model)
    with Progress("routing", total=len(languages), unit="languages", quiet=quiet) as progress:
        for language in languages:
            lines = text.sentences(language.code)[:max_lines]
            for counter in counters.values():
                counter.begin()
            _encode(model, tokenizer, lines, language.code)
            _decode(model, tokenizer, (sources, common), (lines, language.code))
            progress.advance()
    return ExpertUse(
        languages=tuple(languages),
        shares={name: np.stack(counter.shares()) for name, counter in counters.items()},
    )


class _Counter:
    """An expert runner that counts the rows of each expert and calls another runner."""

    def __init__(self, runner: ExpertRunner, num_experts: int) -> None:
        self._runner, self._num_experts = runner, num_experts
        self._counts: list[NDArray[np.int64]] = []
        self.is_counting = False

    def begin(self) -> None:
        """Start counting for the next language."""
        self._counts.append(np.zeros(self._num_experts, dtype=np.int64))

    def shares(self) -> list[Shares]:
        """Return the fraction of rows of each expert for each language."""
        return [counts / max(1, counts.sum()) for counts in self._counts]

    def __call__(
        self, experts: Mapping[int, nn.Module], sorted_PD: Tensor, counts_E: Sequence[int]
    ) -> Tensor:
        if self.is_counting:
            self._counts[-1] += np.asarray(counts_E, dtype=np.int64)
        return self._runner(experts, sorted_PD, counts_E)


def _install_counters(model: Transformer) -> dict[str, _Counter]:
    counters = {}
    for name, layer in model.named_modules():
        if isinstance(layer, MixtureOfExperts):
            counter = _Counter(layer.run_experts, layer.num_experts)
            layer.run_experts = counter
            counters[name.removesuffix(".feed_forward")] = counter
    return counters


def _set_counting(model: Transformer, side: Side, *, on: bool) -> None:
    part: nn.Module = getattr(model, side)
    for layer in part.modules():
        if isinstance(layer, MixtureOfExperts) and isinstance(layer.run_experts, _Counter):
            layer.run_experts.is_counting = on


@torch.inference_mode()
def _encode(model: Transformer, tokenizer: Tokenizer, lines: Sequence[str], code: str) -> None:
    _set_counting(model, "encoder", on=True)
    for start in range(0, len(lines), BATCH_LINES):
        rows = [tokenizer.encode_source(line, code) for line in lines[start : start + BATCH_LINES]]
        model.encode(_pad(rows, model))
    _set_counting(model, "encoder", on=False)


@torch.inference_mode()
def _decode(
    model: Transformer,
    tokenizer: Tokenizer,
    source: tuple[Sequence[str], str],
    target: tuple[Sequence[str], str],
) -> None:
    _set_counting(model, "decoder", on=True)
    for start in range(0, len(target[0]), BATCH_LINES):
        part = slice(start, start + BATCH_LINES)
        source_BS = _pad(
            [tokenizer.encode_source(line, source[1]) for line in source[0][part]], model
        )
        rows = [
            [*tokenizer.decoder_start(target[1]), *tokenizer.encode(line)]
            for line in target[0][part]
        ]
        model.decode(_pad(rows, model), model.encode(source_BS), source_BS)
    _set_counting(model, "decoder", on=False)


def _pad(rows: Sequence[Sequence[int]], model: Transformer) -> Tensor:
    longest = model.config.max_positions
    tensors = [torch.tensor(row[:longest]) for row in rows]
    padded = nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=PAD_ID)
    return padded.to(model.embedding.weight.device)


def write_analysis(use: ExpertUse, out_dir: Path, *, model: str) -> None:
    """Write `experts.html` and the tables with its data."""
    out_dir.mkdir(parents=True, exist_ok=True)
    codes = [language.code for language in use.languages]
    lines = ["\t".join(("layer", "language", "expert", "share"))]
    for layer, shares in use.shares.items():
        for code, row in zip(codes, shares, strict=True):
            lines += [f"{layer}\t{code}\t{e}\t{share:.6f}" for e, share in enumerate(row)]
    write_lines(out_dir / "experts.tsv", lines)
    lines = ["\t".join(("layer", "language", "other", "cosine"))]
    for layer in use.shares:
        cosine = use.similarity(layer)
        for code, row in zip(codes, cosine, strict=True):
            lines += [
                f"{layer}\t{code}\t{other}\t{value:.6f}"
                for other, value in zip(codes, row, strict=True)
            ]
    write_lines(out_dir / "similarity.tsv", lines)
    _page(use, model).save(out_dir / "experts.html")


def _page(use: ExpertUse, model: str) -> Page:
    page = Page("Experts by language", subtitle=f"{model}, {len(use.languages)} languages")
    axis = Axis(
        labels=[language.code for language in use.languages],
        titles=[language.name for language in use.languages],
        levels=[_LEVELS[language.level] for language in use.languages],
        groups={
            "family": [language.family or "unknown" for language in use.languages],
            "script": [language.script for language in use.languages],
        },
    )
    for side in SIDES:
        names = use.layers(side)
        if not names:
            continue
        layers = [
            HeatMapLayer(name=name, values=np.clip(100 * use.similarity(name), 0, 100))
            for name in dict.fromkeys([names[0], names[-1], *names])
        ]
        page.add(
            f"{side.title()}",
            f"Cosine similarity, times 100, between the languages' use of {side} experts; 100 "
            f"means identical use. The first and the last sparse layer are listed first.",
            heat_map(axis, layers, caption=f"Similarity of expert use in the {side}"),
        )
    page.add("Summary by layer", _summary(use))
    return page


def _summary(use: ExpertUse) -> str:
    columns = [
        Column(title="Layer", kind="code"),
        Column(title="Mean cosine", kind="number", digits=3),
        Column(title="Within families", kind="number", digits=3),
        Column(title="Across families", kind="number", digits=3),
        Column(title="Largest share", kind="number", digits=3),
        Column(title="Unused experts", kind="number", digits=0),
    ]
    families = np.array([language.family for language in use.languages])
    same = families[:, None] == families[None]
    others = ~np.eye(len(families), dtype=bool)
    rows = []
    for layer, shares in use.shares.items():
        cosine, mean = use.similarity(layer), shares.mean(0)
        rows.append(
            [
                layer,
                _mean(cosine[others]),
                _mean(cosine[same & others]),
                _mean(cosine[~same]),
                float(mean.max()),
                int((mean == 0).sum()),
            ]
        )
    return table(columns, rows, caption="Similarity between languages by layer")


def _mean(values: Shares) -> float | None:
    return float(values.mean()) if values.size else None


_LEVELS: Mapping[str, Literal["high", "low", "very-low"]] = {
    "high": "high",
    "low": "low",
    "very_low": "very-low",
}


def _language(code: str) -> Language:
    try:
        return parse_language(code)
    except LanguageError as error:
        raise DataError(f"{code} is in the model, but not in the language table") from error
