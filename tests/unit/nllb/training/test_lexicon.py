"""Lexical initialisation: IBM model 1, pairs in both orders, and pieces that stay random."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from nllb.errors import ConfigError
from nllb.io.manifest import read_manifest
from nllb.training import lexicon
from nllb.training.batches.gathering import PairSource
from nllb.training.lexicon import Links, expected_counts, lexical_embedding, read_links
from nllb.training.train_config import LexiconSection


def links_of(pairs: list[tuple[list[int], list[int]]]) -> Links:
    """Return the links, computed by loops."""
    found = []
    sources = targets = 0
    for source, target in pairs:
        for i, a in enumerate(source):
            found += [(sources + i, targets + j, a, b) for j, b in enumerate(target)]
        sources, targets = sources + len(source), targets + len(target)
    types = sorted({(a, b) for _, _, a, b in found})
    return Links(
        sources_N=np.array([link[0] for link in found]),
        targets_N=np.array([link[1] for link in found]),
        types_N=np.array([types.index(link[2:]) for link in found]),
        source_K=np.array([a for a, _ in types]),
        target_K=np.array([b for _, b in types]),
        source_counts_V=np.zeros(20),
        target_counts_V=np.zeros(20),
    )


def test_translations_are_found_in_pairs_of_many_words() -> None:
    draw = np.random.default_rng(1)
    pairs = []
    for _ in range(200):
        words = draw.choice(8, size=4, replace=False)
        pairs.append((words.tolist(), draw.permutation(words + 10).tolist()))
    links = links_of(pairs)
    counts = expected_counts(links, iterations=5)
    table = np.zeros((20, 20))
    table[links.source_K, links.target_K] = counts
    occurrences = np.bincount(np.concatenate([source for source, _ in pairs]), minlength=8)
    for word in range(8):
        assert table[word].argmax() == word + 10
        assert 0.6 * occurrences[word] < table[word, word + 10] <= occurrences[word] + 1e-9


def test_links_pair_every_source_piece_with_every_target_piece(token_data: Path) -> None:
    manifest = read_manifest(token_data)
    for direction in manifest.directions:
        if direction.source == direction.target:
            continue
        source = PairSource(manifest, "train")
        links = read_links(source, direction, manifest.vocabulary.size, seed=1)
        pairs = [
            (shard.target(n), shard.source(n)) if turned else (shard.source(n), shard.target(n))
            for part, turned in manifest.parts_for(direction.source, direction.target)
            for shard in map(manifest.open, part.files)
            for n in range(len(shard))
        ]
        assert len(links.types_N) == sum(len(a) * len(b) for a, b in pairs)
        assert links.source_counts_V.sum() == sum(len(a) for a, _ in pairs)
        assert links.target_counts_V.sum() == sum(len(b) for _, b in pairs)
        types = {(a, b) for s, t in pairs for a in s.tolist() for b in t.tolist()}
        assert set(zip(links.source_K.tolist(), links.target_K.tolist(), strict=True)) == types


def test_an_embedding_mixes_translations_languages_and_noise(token_data: Path) -> None:
    manifest = read_manifest(token_data)
    random_VD = torch.randn(manifest.vocabulary.size, 64) / 8
    pivot = manifest.directions[0].target
    section = LexiconSection(pivot=pivot, min_pairs=1, meaning=0.8, language=0.4)
    first = lexical_embedding(manifest, random_VD, section, seed=3)
    assert torch.equal(first, lexical_embedding(manifest, random_VD, section, seed=3))
    changed = (first != random_VD).any(1)
    into = [d for d in manifest.directions if d.target == pivot and d.source != pivot]
    used = {
        int(token)
        for direction in into
        for part, _ in manifest.parts_for(direction.source, pivot)
        for shard in map(manifest.open, part.files)
        for tokens in (shard.source_tokens, shard.target_tokens)
        for token in tokens
    }
    used |= {manifest.vocabulary.language_id(code) for d in into for code in (d.source, pivot)}
    assert set(changed.nonzero().flatten().tolist()) >= used
    likeness = functional.normalize(first[changed]) @ functional.normalize(random_VD[changed]).T
    # The random part keeps pieces apart: (1 - 0.64 - 0.16) ** 0.5 of it is there.
    assert likeness.diagonal().mean().item() == pytest.approx(0.447, abs=0.1)


def test_denoising_text_of_the_pivot_is_ignored(token_data: Path) -> None:
    """Denoising text has the same language on both sides."""
    manifest = read_manifest(token_data)
    alone = next(d.target for d in manifest.directions if d.source == d.target)
    random_VD = torch.randn(manifest.vocabulary.size, 8)
    into = [d for d in manifest.directions if d.target == alone != d.source]
    section = LexiconSection(pivot=alone, min_pairs=1)
    if into:
        assert (lexical_embedding(manifest, random_VD, section, seed=3) != random_VD).any()
    else:
        with pytest.raises(ConfigError, match="no direction into"):
            lexical_embedding(manifest, random_VD, section, seed=3)


def test_large_directions_are_subsampled_from_all_shards(token_data: Path, monkeypatch) -> None:
    manifest = read_manifest(token_data)
    direction = max(manifest.directions, key=lambda d: (d.source != d.target, d.num_pairs))
    source = PairSource(manifest, "train")
    whole = read_links(source, direction, manifest.vocabulary.size, seed=1)
    monkeypatch.setattr(lexicon, "MAX_LINKS", len(whole.types_N) // 3)
    part = read_links(source, direction, manifest.vocabulary.size, seed=1)
    assert 0.2 < len(part.types_N) / len(whole.types_N) < 0.5


def test_a_pivot_without_pairs_is_refused(token_data: Path) -> None:
    manifest = read_manifest(token_data)
    random_VD = torch.randn(manifest.vocabulary.size, 8)
    with pytest.raises(ConfigError, match=r"lexicon\.pivot: no direction into 'xyz_Latn'"):
        lexical_embedding(manifest, random_VD, LexiconSection(pivot="xyz_Latn"), seed=3)
