"""Lexical initialisation: embeddings of pieces that translate each other start out similar.

With random embeddings, a short run spends most of its steps on learning to attend to the source.
Here, IBM model 1 estimates from the training pairs how pieces of each language translate into
pieces of a pivot language. The initial embedding of a piece is the mean of its translations plus a
component for its languages and a random component that keeps it distinct. Directions without the
pivot benefit as well.

Source: Brown et al. 1993, model 1, in both directions; the two posteriors are multiplied (Liang et
al. 2006, "Alignment by agreement").

Shapes: N links (a source piece and a target piece of the same pair), K link types (pairs of
pieces), V vocabulary, D model dim.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nllb.errors import ConfigError
from nllb.io.manifest import Manifest, TrainingDirection
from nllb.io.progress import Progress
from nllb.model.transformer import Attention, Transformer

from .batches.gathering import PairSource
from .batches.sampling import Indices, ranges
from .train_config import LexiconSection

MAX_LINKS: Final = 2_000_000
"""Approximate maximum of links per direction; larger directions are subsampled."""
MIN_PROBABILITY: Final = 0.02
"""Translations of a piece below this probability are discarded as noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """All links of the pairs of one direction: every source piece with every target piece.

    Attributes:
        sources_N: index of the source occurrence of each link.
        targets_N: index of the target occurrence of each link.
        types_N: type of each link.
        source_K: source piece of each link type.
        target_K: target piece of each link type.
        source_counts_V: number of occurrences of each piece on the source side.
        target_counts_V: number of occurrences of each piece on the target side.
    """

    sources_N: Indices
    targets_N: Indices
    types_N: Indices
    source_K: Indices
    target_K: Indices
    source_counts_V: NDArray[np.float64]
    target_counts_V: NDArray[np.float64]


def lexical_embedding(
    manifest: Manifest, random_VD: Tensor, config: LexiconSection, *, seed: int, quiet: bool = True
) -> Tensor:
    """Return initial embeddings; pieces that do not occur in the data keep their random ones.

    Args:
        manifest: the training data.
        random_VD: random embeddings with norms of about 1.
        config: the pivot, and the weights of the components.
        seed: seed of the random vectors and of the subsampling.
        quiet: whether to hide the progress bar.

    Raises:
        ConfigError: No direction into the pivot has enough pairs.
    """
    pivot = config.pivot
    assert pivot is not None
    directions = [
        direction
        for direction in manifest.directions
        if direction.target == pivot != direction.source and direction.num_pairs >= config.min_pairs
    ]
    if not directions:
        raise ConfigError(
            f"lexicon.pivot: no direction into {pivot!r} has at least {config.min_pairs:,} pairs "
            f"in {manifest.directory}; lower lexicon.min_pairs, or set lexicon.pivot: null"
        )
    size, width = random_VD.shape
    generator = torch.Generator().manual_seed(seed)
    pivot_VD = torch.randn(size, width, generator=generator)
    languages = [pivot, *(direction.source for direction in directions)]
    language_LD = torch.randn(len(languages), width, generator=generator)
    translation_VD, languages_VD = torch.zeros(2, size, width)
    pivot_V = np.zeros(size)
    pairs = PairSource(manifest, "train")
    with Progress("lexicon", total=len(directions), unit="directions", quiet=quiet) as progress:
        for number, direction in enumerate(directions, start=1):
            links = read_links(pairs, direction, size, seed=seed)
            counts_K = expected_counts(links, iterations=config.iterations)
            total_V = np.bincount(links.source_K, counts_K, minlength=size)
            kept = np.flatnonzero(counts_K > MIN_PROBABILITY * total_V[links.source_K])
            translations = pivot_VD[torch.from_numpy(links.target_K[kept])]
            translations *= torch.from_numpy(counts_K[kept]).float()[:, None]
            translation_VD.index_add_(0, torch.from_numpy(links.source_K[kept]), translations)
            languages_VD += (
                torch.from_numpy(links.source_counts_V).float()[:, None] * language_LD[number]
            )
            pivot_V = np.maximum(pivot_V, links.target_counts_V)
            progress.advance()
    pivot_V1 = torch.from_numpy(pivot_V).float()[:, None]
    translation_VD += pivot_V1 * pivot_VD
    languages_VD += pivot_V1 * language_LD[0]
    for code, vector_D in zip(languages, language_LD, strict=True):
        languages_VD[manifest.vocabulary.language_id(code)] = vector_D
    normalize = torch.nn.functional.normalize
    random_part = (1 - config.meaning**2 - config.language**2) ** 0.5
    mixed_VD = (
        config.meaning * normalize(translation_VD)
        + config.language * normalize(languages_VD)
        + random_part * normalize(random_VD)
    )
    return torch.where(languages_VD.any(1, keepdim=True), mixed_VD, random_VD)


def initialize_lookup(model: Transformer) -> None:
    """Initialise the last cross-attention as the identity.

    It then attends to source pieces with the same position or meaning and passes on their
    embedding, which the output projection maps to their translations.
    """
    attention = model.decoder.layers[-1].cross_attention
    assert isinstance(attention, Attention)
    for linear in (attention.query, attention.key, attention.value, attention.output):
        torch.nn.init.eye_(linear.weight)


def read_links(
    pairs: PairSource, direction: TrainingDirection, vocabulary_size: int, *, seed: int
) -> Links:
    """Return the links of a direction, subsampled to about `MAX_LINKS`."""
    items = np.random.default_rng(seed).permutation(pairs.size(direction))
    files = [
        file
        for part, _ in pairs.manifest.parts_for(direction.source, direction.target)
        for file in part.files
    ]
    products = sum(
        file.num_source_tokens * file.num_target_tokens / file.num_pairs for file in files
    )
    items = items[: int(len(items) * min(1.0, MAX_LINKS / max(products, 1.0)))]
    texts: tuple[list[NDArray[Any]], list[NDArray[Any]]] = ([], [])
    lengths: tuple[list[Indices], list[Indices]] = ([], [])
    for shard, _, is_reversed, _, indices in pairs.locate(direction, items):
        assert shard.target_offsets is not None  # only denoising text has no target side
        sides = [
            (shard.source_tokens, shard.source_offsets.astype(np.int64)),
            (shard.target_tokens, shard.target_offsets.astype(np.int64)),
        ]
        for side, (tokens, offsets) in enumerate(reversed(sides) if is_reversed else sides):
            starts = offsets[indices]
            length = offsets[indices + 1] - starts
            lengths[side].append(length)
            texts[side].append(tokens[np.repeat(starts, length) + ranges(length)])
    source, target = (np.concatenate(side).astype(np.int64) for side in texts)
    source_length, target_length = (np.concatenate(side) for side in lengths)
    per_pair = source_length * target_length
    within = ranges(per_pair)
    width = np.repeat(target_length, per_pair)
    sources_N = np.repeat(np.cumsum(source_length) - source_length, per_pair) + within // width
    targets_N = np.repeat(np.cumsum(target_length) - target_length, per_pair) + within % width
    types, types_N = np.unique(
        source[sources_N] * vocabulary_size + target[targets_N], return_inverse=True
    )
    return Links(
        sources_N=sources_N,
        targets_N=targets_N,
        types_N=types_N,
        source_K=types // vocabulary_size,
        target_K=types % vocabulary_size,
        source_counts_V=np.bincount(source, minlength=vocabulary_size).astype(np.float64),
        target_counts_V=np.bincount(target, minlength=vocabulary_size).astype(np.float64),
    )


def expected_counts(links: Links, *, iterations: int) -> NDArray[np.float64]:
    """Return the expected count of each link type under both directions of IBM model 1."""
    joint_N = np.ones(len(links.types_N))
    for occurrences_N, given_K in (
        (links.targets_N, links.source_K),  # each target piece is generated by one source piece
        (links.sources_N, links.target_K),  # and vice versa
    ):
        probability_K = np.ones(len(links.source_K))
        for _ in range(iterations):
            posterior_N = probability_K[links.types_N]
            posterior_N /= np.bincount(occurrences_N, posterior_N)[occurrences_N]
            counts_K = np.bincount(links.types_N, posterior_N)
            probability_K = counts_K / np.bincount(given_K, counts_K)[given_K]
        joint_N *= posterior_N
    return np.bincount(links.types_N, joint_N).astype(np.float64)
