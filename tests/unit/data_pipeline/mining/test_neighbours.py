"""Neighbours: exact blocks against one product, FAISS against exact, sizes, errors."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pytest

from data_pipeline.mining import neighbours
from data_pipeline.mining.neighbours import (
    EXACT_LIMIT,
    IVF_CELLS,
    build_index,
    find_neighbours,
    index_name,
    load_index,
    save_index,
    search_index,
)
from nllb.errors import ConfigError, DataError


def clustered(count: int, seed: int) -> Any:
    """Vectors in clusters, as sentences are."""
    generator = numpy.random.default_rng(seed)
    centres = generator.normal(size=(50, 32))
    chosen = centres[generator.integers(50, size=count)]
    return (chosen + 0.7 * generator.normal(size=(count, 32))).astype(numpy.float32)


def test_blocks_give_what_one_product_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", 7)
    base, queries = clustered(50, 0).astype(numpy.float16), clustered(20, 1) * 5
    base[13] = 0
    found = find_neighbours(queries, base, 9)
    wide = base.astype(numpy.float64)
    cosines = queries @ wide.T / numpy.linalg.norm(queries, axis=1)[:, None]
    cosines = cosines / numpy.maximum(numpy.linalg.norm(wide, axis=1), 1e-9)
    order = numpy.argsort(-cosines, axis=1)[:, :9]
    assert (found.indices == order).all()
    numpy.testing.assert_allclose(
        found.similarities, numpy.take_along_axis(cosines, order, 1), atol=1e-5
    )


def test_an_inverted_file_finds_nearly_all() -> None:
    base, queries = clustered(6000, 0), clustered(300, 1)
    exact = find_neighbours(queries, base, 4)
    found = find_neighbours(queries, base, 4, method="IVF64,SQ8", probes=24)
    assert (exact.indices[:, 0] == found.indices[:, 0]).mean() >= 0.97
    # What is found has its exact cosine, not that of the 8 bits in the index.
    same = exact.indices == found.indices
    numpy.testing.assert_allclose(found.similarities[same], exact.similarities[same], atol=1e-6)
    again = find_neighbours(queries, base, 4, method="IVF64,SQ8", probes=24)
    assert (again.indices == found.indices).all()


def test_a_search_that_runs_dry_says_so() -> None:
    base = clustered(2000, 0)
    found = find_neighbours(base[:50], base, 1500, method="IVF64,Flat", probes=1)
    assert (found.indices == -1).any()
    assert numpy.isneginf(found.similarities[found.indices == -1]).all()


def test_the_number_of_cells_grows_with_the_text() -> None:
    assert index_name(10) == index_name(EXACT_LIMIT) == "exact"
    assert index_name(200_000) == "IVF4096,SQ8"
    assert index_name(5_000_000) == "IVF32768,SQ8"
    for (smaller, few), (larger, many) in pairwise(IVF_CELLS):
        assert smaller < larger
        assert few < many


def test_impossible_indexes_are_refused() -> None:
    with pytest.raises(ConfigError, match="FAISS has no index 'Tree7'"):
        find_neighbours(clustered(9, 0), clustered(9, 0), 2, method="Tree7")
    with pytest.raises(ConfigError, match="too few for the index IVF64"):
        find_neighbours(clustered(9, 0), clustered(9, 0), 2, method="IVF64,SQ8")


def test_vectors_of_different_dimensions_are_an_error() -> None:
    with pytest.raises(DataError, match=r"shape \(9, 32\) and \(9, 16\).*the same encoder"):
        find_neighbours(clustered(9, 0), clustered(9, 0)[:, :16], 2)
    index = build_index(clustered(300, 0), "IVF4,SQ8")
    with pytest.raises(DataError, match="queries have dimension 16, but the index has 32"):
        search_index(index, clustered(9, 0)[:, :16], 2)


def test_an_index_that_is_not_written_completely_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import faiss

    index = build_index(clustered(300, 0), "IVF4,SQ8")
    path = tmp_path / "fra.faiss"
    save_index(index, path)
    assert load_index(path).ntotal == 300

    def truncated(index: Any, name: str) -> None:
        write(index, name)
        Path(name).write_bytes(Path(name).read_bytes()[:500])

    write = faiss.write_index
    monkeypatch.setattr(faiss, "write_index", truncated)
    with pytest.raises(DataError):
        save_index(index, tmp_path / "new.faiss")
    assert [found.name for found in tmp_path.iterdir()] == ["fra.faiss"]
