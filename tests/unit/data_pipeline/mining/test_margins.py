"""Margins and retrieval against loops over all pairs."""

from typing import Any

import numpy
import pytest

from data_pipeline.mining.margins import MARGINS, margins, neighbourhood, retrieve
from data_pipeline.mining.neighbours import Neighbours, find_neighbours
from nllb.errors import ConfigError


def unit_vectors(count: int, seed: int) -> Any:
    vectors = numpy.random.default_rng(seed).normal(size=(count, 16)).astype(numpy.float32)
    return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def sides() -> tuple[Any, Any]:
    return unit_vectors(40, 0), unit_vectors(55, 1)


def blocks(found: Neighbours) -> list[Neighbours]:
    """Return neighbours cut in two."""
    return [
        Neighbours(indices=found.indices[part], similarities=found.similarities[part])
        for part in (slice(0, 3), slice(3, None))
    ]


def by_loops(sources: Any, targets: Any, k: int, margin: str) -> Any:
    cosines = sources.astype(float) @ targets.astype(float).T
    scores = numpy.empty_like(cosines)
    for i, row in enumerate(cosines):
        for j, cosine in enumerate(row):
            mean = (sorted(row)[-k:], sorted(cosines[:, j])[-k:])
            b = (sum(mean[0]) / (2 * k)) + (sum(mean[1]) / (2 * k))
            scores[i, j] = {"ratio": cosine / b, "distance": cosine - b, "absolute": cosine}[margin]
    return cosines, scores


@pytest.mark.parametrize("margin", MARGINS)
def test_margins_and_retrieval_equal_loops(sides: tuple[Any, Any], margin: Any) -> None:
    sources, targets = sides
    k = 5
    cosines, scores = by_loops(sources, targets, k, margin)
    forward, backward = find_neighbours(sources, targets, k), find_neighbours(targets, sources, k)
    ahead = {}
    for i, row in enumerate(cosines):
        near = sorted(range(len(row)), key=lambda j: -row[j])[:k]
        ahead[i] = max(near, key=lambda j: scores[i, j])
    back = {}
    for j, column in enumerate(cosines.T):
        near = sorted(range(len(column)), key=lambda i: -column[i])[:k]
        back[j] = max(near, key=lambda i: scores[i, j])
    expected = {
        "forward": set(ahead.items()),
        "backward": {(i, j) for j, i in back.items()},
    }
    expected["intersect"] = expected["forward"] & expected["backward"]
    used: tuple[set[int], set[int]] = (set(), set())
    greedy = set()
    for i, j in sorted(expected["forward"] | expected["backward"], key=lambda p: -scores[p]):
        if i not in used[0] and j not in used[1]:
            greedy.add((i, j))
            used[0].add(i)
            used[1].add(j)
    expected["max"] = greedy
    for retrieval, pairs in expected.items():
        found = retrieve(blocks(forward), blocks(backward), margin=margin, retrieval=retrieval)  # type: ignore[arg-type]
        assert set(zip(found.source.tolist(), found.target.tolist(), strict=True)) == pairs
        wanted = [scores[i, j] for i, j in zip(found.source, found.target, strict=True)]
        numpy.testing.assert_allclose(found.margin, wanted, rtol=1e-4)
        assert (numpy.diff(found.margin) <= 0).all()


def test_missing_neighbours_are_never_retrieved() -> None:
    forward = Neighbours(
        indices=numpy.array([[1, -1], [-1, -1]]),
        similarities=numpy.array([[0.5, -numpy.inf], [-numpy.inf, -numpy.inf]], numpy.float32),
    )
    backward = Neighbours(
        indices=numpy.array([[-1], [0]]),
        similarities=numpy.array([[-numpy.inf], [0.5]], numpy.float32),
    )
    assert neighbourhood(forward).tolist() == [0.5, 0.0]
    found = retrieve(blocks(forward), blocks(backward), margin="ratio", retrieval="max")
    assert list(zip(found.source.tolist(), found.target.tolist(), strict=True)) == [(0, 1)]
    assert found.margin.tolist() == [1.0]


@pytest.mark.parametrize("retrieval", ["forward", "backward", "intersect", "max"])
def test_an_empty_side_gives_no_pairs(retrieval: Any) -> None:
    some, none = unit_vectors(3, 0), unit_vectors(0, 0)
    forward, backward = find_neighbours(some, none, 4), find_neighbours(none, some, 4)
    assert (
        len(retrieve(blocks(forward), blocks(backward), margin="ratio", retrieval=retrieval)) == 0
    )


def test_fewer_sentences_than_k_take_what_there_is() -> None:
    some = unit_vectors(3, 0)
    found = find_neighbours(some, some[:2], 16)
    assert found.indices.shape == (3, 2)
    assert found.indices[:2, 0].tolist() == [0, 1]


def test_unknown_kinds_are_named() -> None:
    some = unit_vectors(2, 0)
    near = find_neighbours(some, some, 1)
    with pytest.raises(ConfigError, match="forward, backward, intersect, max"):
        retrieve([near], [near], margin="ratio", retrieval="union")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="ratio, distance, absolute"):
        margins(near.similarities, near.similarities, near.similarities, "sum")  # type: ignore[arg-type]
