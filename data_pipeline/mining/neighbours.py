"""The k nearest neighbours of vectors by cosine: exact in blocks, or by a FAISS index.

Up to `EXACT_LIMIT` vectors the blocked product is used: it needs no index, no training and no
extra package, and nothing is lost. Above, an inverted file with vectors in 8 bits, whose number of
cells grows with the number of vectors as in stopes, and which searches `PROBES` of them.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray

from data_pipeline.mining.encoders import Vectors, normalized
from nllb.errors import ConfigError, ResourceError

EXACT_LIMIT: Final = 100_000
"""Most vectors that are searched without an index."""
LADDER: Final = (
    (80_000, 1024),
    (160_000, 2048),
    (250_000, 4096),
    (700_000, 8192),
    (4_000_000, 16384),
    (10_000_000, 32768),
    (100_000_000, 65536),
    (500_000_000, 131072),
    (1 << 62, 262144),
)
"""Number of cells for up to so many vectors."""
PROBES: Final = 64
"""Cells that are searched."""
_TRAINING_VECTORS_PER_CELL: Final = 40
_BLOCK: Final = 4096
_RESCORED: Final = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """The nearest vectors of each query, nearest first."""

    indices: NDArray[numpy.int64]
    """Numbers of the neighbours, shape (queries, k); -1 where there is none."""
    similarities: Vectors
    """Their cosines; -infinity where there is none."""


def find_neighbours(
    queries: Any, base: Any, k: int, *, method: str = "auto", probes: int = PROBES
) -> Neighbours:
    """Return the k nearest of `base` for each of `queries`, by cosine.

    Args:
        queries: rows of vectors of any float type and length, also memory-mapped.
        base: the same.
        k: how many; fewer come where `base` is smaller.
        method: `exact`, `auto`, or the name of a FAISS index such as `IVF1024,SQ8`.
        probes: cells that a FAISS index searches.
    """
    k = min(k, len(base))
    if k == 0 or len(queries) == 0:
        return Neighbours(
            indices=numpy.zeros((len(queries), k), numpy.int64),
            similarities=numpy.zeros((len(queries), k), numpy.float32),
        )
    if method == "auto":
        method = index_name(len(base))
    if method == "exact":
        return _exact(queries, base, k)
    return search_index(build_index(base, method), queries, k, probes=probes, base=base)


def index_name(count: int) -> str:
    """Return the default method for so many vectors."""
    if count <= EXACT_LIMIT:
        return "exact"
    return f"IVF{next(cells for most, cells in LADDER if count <= most)},SQ8"


def _exact(queries: Any, base: Any, k: int) -> Neighbours:
    """Multiply block by block and keep the best; ties go to the lower number."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found_indices = numpy.zeros((len(queries), k), numpy.int64)
    found = numpy.zeros((len(queries), k), numpy.float32)
    # Whole blocks of queries are kept in memory and the base passes by once for each.
    for first in range(0, len(queries), _BLOCK):
        block = torch.from_numpy(normalized(queries[first : first + _BLOCK])).to(device)
        best = torch.full((len(block), 0), -torch.inf, device=device)
        best_indices = torch.zeros((len(block), 0), dtype=torch.int64, device=device)
        for start in range(0, len(base), _BLOCK):
            part = torch.from_numpy(normalized(base[start : start + _BLOCK])).to(device)
            top, where = (block @ part.T).topk(min(k, len(part)), dim=1)
            best = torch.cat([best, top], dim=1)
            best_indices = torch.cat([best_indices, where + start], dim=1)
            if best.shape[1] > k:
                best, kept = best.topk(k, dim=1)
                best_indices = best_indices.gather(1, kept)
        found[first : first + _BLOCK] = best.cpu().numpy()
        found_indices[first : first + _BLOCK] = best_indices.cpu().numpy()
    return Neighbours(indices=found_indices, similarities=found)


def build_index(base: Any, name: str) -> Any:
    """Train a FAISS index on a fixed sample of the vectors and fill it.

    Raises:
        ConfigError: where FAISS knows no index of that name.
        ResourceError: where FAISS is not installed.
    """
    faiss = _faiss()
    dimension = int(base.shape[1])
    try:
        index = faiss.index_factory(dimension, name, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(
            f"FAISS knows no index {name!r} for vectors of {dimension}: {str(error)[:200]}; give "
            "`auto`, `exact`, or a name such as IVF4096,SQ8"
        ) from None
    cells = int(getattr(_inner(index), "nlist", 0))
    wanted = min(len(base), max(_TRAINING_VECTORS_PER_CELL * cells, 10_000))
    if cells and wanted < cells:
        raise ConfigError(f"{len(base):,} vectors are too few for {name}; use `exact`")
    # Every n-th vector, so that the index depends on the vectors alone and reads them in order.
    chosen = (numpy.arange(wanted) * len(base)) // wanted
    index.train(normalized(base[chosen]))
    for start, end in pairwise([*range(0, len(base), _BLOCK), len(base)]):
        index.add(normalized(base[start:end]))
    return index


def search_index(
    index: Any, queries: Any, k: int, *, probes: int = PROBES, base: Any = None
) -> Neighbours:
    """Search a FAISS index; neighbours that it does not find are -1.

    With `base`, the vectors that the index was built from, twice as many neighbours are asked for
    and the best by exact cosine are kept: the order of near ones is lost in 8 bits.
    """
    inner = _inner(index)
    if hasattr(inner, "nprobe"):
        inner.nprobe = min(probes, inner.nlist)
    indices = numpy.zeros((len(queries), k), numpy.int64)
    similarities = numpy.zeros((len(queries), k), numpy.float32)
    for start in range(0, len(queries), _RESCORED):
        block = slice(start, start + _RESCORED)
        vectors = normalized(queries[block])
        found, places = index.search(vectors, k if base is None else 2 * k)
        if base is not None:
            known = base[numpy.maximum(places, 0).reshape(-1)]
            near = normalized(known).reshape(*places.shape, -1)
            found = numpy.einsum("qd,qkd->qk", vectors, near)
            found = numpy.where(places < 0, -numpy.inf, found)
            best = numpy.argsort(-found, axis=1, kind="stable")[:, :k]
            found = numpy.take_along_axis(found, best, axis=1)
            places = numpy.take_along_axis(places, best, axis=1)
        similarities[block], indices[block] = found, places
    similarities[indices < 0] = -numpy.inf
    return Neighbours(indices=indices, similarities=similarities)


def _inner(index: Any) -> Any:
    """Return the inverted file within a chain of transforms."""
    faiss = _faiss()
    return faiss.downcast_index(index.index) if hasattr(index, "chain") else index


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ResourceError("large indexes need faiss; run: pip install 'nllb[data]'") from None
    return faiss
