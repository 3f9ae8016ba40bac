"""Alignment of documents: the best path against all paths, and steps of every kind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from data_pipeline.mining.document_alignment import STEPS, AlignedPair, align, align_vectors
from data_pipeline.mining.encoders.encoder import normalized
from data_pipeline.mining.encoders.load_encoder import load_encoder


def all_paths(height: int, width: int) -> Iterator[list[tuple[int, int]]]:
    if not height and not width:
        yield []
    for down, right in STEPS:
        if height >= down and width >= right:
            for path in all_paths(height - down, width - right):
                yield [*path, (down, right)]


def worth(path: list[tuple[int, int]], sides: Any) -> float:
    """Return the value of a path by the definition."""
    (first, first_merged), (second, second_merged) = sides
    i = j = 0
    total = 0.0
    for down, right in path:
        if down and right:
            rows = first if down == 1 else first_merged
            columns = second if right == 1 else second_merged
            cosines = rows @ columns.T
            cosine = cosines[i, j]
            margin = cosine - (cosines[i].mean() + cosines[:, j].mean()) / 2
            total += margin if down + right == 2 else 1.5 * margin - 0.02
        i, j = i + down, j + right
    return total


def steps(pairs: list[AlignedPair], height: int, width: int) -> list[tuple[int, int]]:
    """Return the path of an alignment; where there is no partner, sources come first."""
    path, i, j = [], 0, 0
    for pair in [*pairs, AlignedPair((height,), (width,), 0.0)]:
        path += [(1, 0)] * (pair.source[0] - i) + [(0, 1)] * (pair.target[0] - j)
        path.append((len(pair.source), len(pair.target)))
        i, j = pair.source[-1] + 1, pair.target[-1] + 1
    return path[:-1]


@pytest.mark.parametrize("seed", range(4))
def test_no_path_is_worth_more(seed: int) -> None:
    generator = numpy.random.default_rng(seed)

    def document(count: int) -> Any:
        vectors = normalized(generator.normal(size=(count, 6)))
        return vectors, normalized(vectors[1:] + vectors[:-1])

    sides = document(5), document(4)
    found = worth(steps(align_vectors(*sides), 5, 4), sides)
    assert found == pytest.approx(max(worth(path, sides) for path in all_paths(5, 4)), abs=1e-5)


def test_split_and_lost_sentences_are_found(random_encoder_dir: Path) -> None:
    encoder = load_encoder(random_encoder_dir)
    words = ["alpha beta gamma", "delta epsilon zeta", "eta theta iota", "kappa lambda mu"]
    words += ["nu xi omicron", "pi rho sigma", "tau upsilon phi", "chi psi omega"]
    sources = [*words[:3], f"{words[3]} {words[4]}", *words[5:]]
    targets = [words[0], "something else entirely", *words[1:6], f"{words[6]} {words[7]}"]
    found = [(pair.source, pair.target) for pair in align(sources, targets, encoder, "", "")]
    assert found == [
        ((0,), (0,)),
        ((1,), (2,)),
        ((2,), (3,)),
        ((3,), (4, 5)),
        ((4,), (6,)),
        ((5, 6), (7,)),
    ]


@pytest.mark.parametrize(("sources", "targets"), [([], []), (["a b"], []), ([], ["a b"])])
def test_an_empty_document_has_no_pairs(
    random_encoder_dir: Path, sources: list[str], targets: list[str]
) -> None:
    assert align(sources, targets, load_encoder(random_encoder_dir), "", "") == []
