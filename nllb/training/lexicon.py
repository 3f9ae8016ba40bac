"""First embeddings that know which pieces translate each other, from the training pairs alone.

Random embeddings make a short run spend most of its steps on finding out what attention to the
source is good for. Here IBM model 1 counts, between each language and a pivot, how often a piece
stands for which pieces of the pivot. A piece begins as the mean of these, with a part for its
languages and a random part that keeps it apart; directions without the pivot gain, too.

Source: Brown et al. 1993, model 1, in both directions; a link counts as much as both believe in it
(Liang et al. 2006, alignment by agreement).

Shapes: N links (one source piece and one target piece of a pair), K kinds of links (the same two
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
from nllb.training.gathering import PairSource
from nllb.training.sampling import Indices, ranges
from nllb.training.train_config import LexiconSection

MOST_LINKS: Final = 2_000_000
"""Links of one direction that are counted, about; of more pairs a random part is taken."""
LEAST_SHARE: Final = 0.02
"""Translations with a smaller share of their piece are taken for noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Every source piece of each pair with every target piece of it."""

    sources_N: Indices
    """Which occurrence of a piece on the source side."""
    targets_N: Indices
    """Which occurrence on the target side."""
    kinds_N: Indices
    """Which kind of link."""
    source_K: Indices
    """Piece of each kind on the source side."""
    target_K: Indices
    """Piece of each kind on the target side."""
    source_counts_V: NDArray[np.float64]
    """How often each piece stands on the source side."""
    target_counts_V: NDArray[np.float64]
    """How often on the target side."""


def lexical_embedding(
    manifest: Manifest, random_VD: Tensor, config: LexiconSection, *, seed: int, quiet: bool = True
) -> Tensor:
    """Return first embeddings, of norm 1 or so where a piece occurs and else as they were.

    Args:
        manifest: the training data.
        random_VD: random embeddings of norm 1 or so.
        config: the pivot, and how much of an embedding is its translations.
        seed: of the pivot's part, and of the pairs that are counted.
        quiet: show no progress.

    Raises:
        ConfigError: no direction leads into the pivot.
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
            f"lexicon.pivot: no direction into {pivot!r} has {config.min_pairs:,} pairs "
            f"or more in {manifest.directory}; lower lexicon.min_pairs, or leave lexicon out"
        )
    size, width = random_VD.shape
    generator = torch.Generator().manual_seed(seed)
    pivot_VD = torch.randn(size, width, generator=generator)
    languages = [pivot, *(direction.source for direction in directions)]
    language_LD = torch.randn(len(languages), width, generator=generator)
    meaning_VD, spoken_VD = torch.zeros(2, size, width)
    pivot_V = np.zeros(size)
    pairs = PairSource(manifest, "train")
    with Progress("lexicon", total=len(directions), unit="directions", quiet=quiet) as progress:
        for number, direction in enumerate(directions, start=1):
            links = read_links(pairs, direction, size, seed=seed)
            counts_K = agreed_counts(links, iterations=config.iterations)
            of_source_V = np.bincount(links.source_K, counts_K, minlength=size)
            kept = np.flatnonzero(counts_K > LEAST_SHARE * of_source_V[links.source_K])
            translations = pivot_VD[torch.from_numpy(links.target_K[kept])]
            translations *= torch.from_numpy(counts_K[kept]).float()[:, None]
            meaning_VD.index_add_(0, torch.from_numpy(links.source_K[kept]), translations)
            spoken_VD += (
                torch.from_numpy(links.source_counts_V).float()[:, None] * language_LD[number]
            )
            pivot_V = np.maximum(pivot_V, links.target_counts_V)
            progress.advance()
    of_pivot_V1 = torch.from_numpy(pivot_V).float()[:, None]
    meaning_VD += of_pivot_V1 * pivot_VD
    spoken_VD += of_pivot_V1 * language_LD[0]
    for code, vector_D in zip(languages, language_LD, strict=True):
        spoken_VD[manifest.vocabulary.language_id(code)] = vector_D
    normalize = torch.nn.functional.normalize
    random_part = (1 - config.meaning**2 - config.language**2) ** 0.5
    mixed_VD = (
        config.meaning * normalize(meaning_VD)
        + config.language * normalize(spoken_VD)
        + random_part * normalize(random_VD)
    )
    return torch.where(spoken_VD.any(1, keepdim=True), mixed_VD, random_VD)


def look_up_words(model: Transformer) -> None:
    """Let the last attention to the source begin as the identity.

    It then looks at the source's piece of the same place or meaning and hands its embedding on,
    which the output projection takes for its translations.
    """
    attention = model.decoder.layers[-1].cross_attention
    assert isinstance(attention, Attention)
    for linear in (attention.query, attention.key, attention.value, attention.output):
        torch.nn.init.eye_(linear.weight)


def read_links(
    pairs: PairSource, direction: TrainingDirection, vocabulary_size: int, *, seed: int
) -> Links:
    """Return the links of a direction's pairs, or of a random part of them."""
    items = np.random.default_rng(seed).permutation(pairs.size(direction))
    files = [
        file
        for part, _ in pairs.manifest.parts_for(direction.source, direction.target)
        for file in part.files
    ]
    products = sum(
        file.num_source_tokens * file.num_target_tokens / file.num_pairs for file in files
    )
    items = items[: int(len(items) * min(1.0, MOST_LINKS / max(products, 1.0)))]
    texts: tuple[list[NDArray[Any]], list[NDArray[Any]]] = ([], [])
    lengths: tuple[list[Indices], list[Indices]] = ([], [])
    for shard, _, turned, _, indices in pairs.locate(direction, items):
        assert shard.target_offsets is not None  # one-sided text is of one language
        sides = [
            (shard.source_tokens, shard.source_offsets.astype(np.int64)),
            (shard.target_tokens, shard.target_offsets.astype(np.int64)),
        ]
        for side, (tokens, offsets) in enumerate(reversed(sides) if turned else sides):
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
    kinds, kinds_N = np.unique(
        source[sources_N] * vocabulary_size + target[targets_N], return_inverse=True
    )
    return Links(
        sources_N=sources_N,
        targets_N=targets_N,
        kinds_N=kinds_N,
        source_K=kinds // vocabulary_size,
        target_K=kinds % vocabulary_size,
        source_counts_V=np.bincount(source, minlength=vocabulary_size).astype(np.float64),
        target_counts_V=np.bincount(target, minlength=vocabulary_size).astype(np.float64),
    )


def agreed_counts(links: Links, *, iterations: int) -> NDArray[np.float64]:
    """Return how often each kind of link is one of translation, as both directions of it say."""
    believed_N = np.ones(len(links.kinds_N))
    for occurrences_N, given_K in (
        (links.targets_N, links.source_K),  # a target piece comes from one source piece
        (links.sources_N, links.target_K),  # and the other way round
    ):
        probability_K = np.ones(len(links.source_K))
        for _ in range(iterations):
            posterior_N = probability_K[links.kinds_N]
            posterior_N /= np.bincount(occurrences_N, posterior_N)[occurrences_N]
            counts_K = np.bincount(links.kinds_N, posterior_N)
            probability_K = counts_K / np.bincount(given_K, counts_K)[given_K]
        believed_N *= posterior_N
    return np.bincount(links.kinds_N, believed_N).astype(np.float64)
