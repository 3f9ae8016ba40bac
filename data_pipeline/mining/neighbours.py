"""The k nearest neighbours of vectors by cosine: exact, or by a FAISS index.

Up to `EXACT_LIMIT` vectors, a blocked matrix product finds the exact neighbours without an index or
an extra package. Larger sets use an inverted file with 8-bit vectors. The number of its cells grows
with the number of vectors, as in stopes; `PROBES` of them are searched.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray

from nllb.errors import ConfigError, DataError, ResourceError
from nllb.io.atomic import atomic_path

from .encoders.encoder import Vectors, normalized

EXACT_LIMIT: Final = 100_000
"""Maximum number of vectors that are searched without an index."""
IVF_CELLS: Final = (
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
"""(Maximum number of vectors, number of cells), in ascending order."""
PROBES: Final = 64
"""Number of cells that are searched."""
_TRAINING_VECTORS_PER_CELL: Final = 40
_BLOCK: Final = 4096
_RESCORED: Final = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """The nearest vectors of each query, nearest first."""

    indices: NDArray[numpy.int64]
    """Indices of the neighbours, shape (queries, k); -1 where fewer were found."""
    similarities: Vectors
    """Their cosines; -infinity where fewer were found."""


def find_neighbours(
    queries: Any, base: Any, k: int, *, method: str = "auto", probes: int = PROBES
) -> Neighbours:
    """Return the k nearest vectors of `base` for each of `queries`, by cosine.

    Args:
        queries: vectors of any float type and norm, also memory-mapped; one per row.
        base: the same.
        k: number of neighbours; fewer are returned if `base` is smaller.
        method: `exact`, `auto`, or the name of a FAISS index such as `IVF1024,SQ8`.
        probes: number of cells that a FAISS index searches.

    Raises:
        DataError: if the vectors of both sides have different dimensions.
    """
    check_dimensions(queries, base)
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
    """Return the default search method for `count` vectors."""
    if count <= EXACT_LIMIT:
        return "exact"
    return f"IVF{next(cells for limit, cells in IVF_CELLS if count <= limit)},SQ8"


def check_dimensions(queries: Any, base: Any) -> None:
    """Raise DataError unless both sides are matrices with equally long rows."""
    shapes = tuple(queries.shape), tuple(base.shape)
    if all(len(shape) == 2 for shape in shapes):
        if queries.shape[1] == base.shape[1] or not len(queries) or not len(base):
            return
    raise DataError(
        f"the vectors of both sides must have the same dimension, got arrays of shape {shapes[0]} "
        f"and {shapes[1]}; encode both sides with the same encoder"
    )


def _exact(queries: Any, base: Any, k: int) -> Neighbours:
    """Multiply block by block and keep the best neighbours; ties go to the lower index."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found_indices = numpy.zeros((len(queries), k), numpy.int64)
    found = numpy.zeros((len(queries), k), numpy.float32)
    # One block of queries is held in memory at a time; the base is read once for each.
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
    """Train a FAISS index on a fixed sample of the vectors and add all of them.

    Raises:
        ConfigError: if FAISS does not know an index of that name, or there are too few vectors.
        ResourceError: if FAISS is not installed.
    """
    faiss = _faiss()
    dimension = int(base.shape[1])
    try:
        index = faiss.index_factory(dimension, name, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(
            f"FAISS has no index {name!r} for vectors of dimension {dimension}: "
            f"{str(error)[:200]}; use `auto`, `exact`, or a name such as IVF4096,SQ8"
        ) from None
    cells = int(getattr(_inner(index), "nlist", 0))
    wanted = min(len(base), max(_TRAINING_VECTORS_PER_CELL * cells, 10_000))
    if cells and wanted < cells:
        raise ConfigError(f"{len(base):,} vectors are too few for the index {name}; use `exact`")
    # Every n-th vector, so that the index depends only on the vectors and reads them in order.
    chosen = (numpy.arange(wanted) * len(base)) // wanted
    index.train(normalized(base[chosen]))
    for start, end in pairwise([*range(0, len(base), _BLOCK), len(base)]):
        index.add(normalized(base[start:end]))
    return index


def save_index(index: Any, path: Path) -> None:
    """Write a FAISS index atomically, after checking that it can be read back.

    Raises:
        DataError: if the index cannot be written completely.
    """
    faiss = _faiss()
    with atomic_path(path) as beside:
        try:
            faiss.write_index(index, str(beside))
            found = load_index(beside).ntotal
        except RuntimeError as error:
            raise DataError(f"cannot write {path}: {str(error)[:200]}") from None
        if found != index.ntotal:
            raise DataError(
                f"cannot write {path}: {found:,} of {index.ntotal:,} vectors were written"
            )


def load_index(path: Path) -> Any:
    """Memory-map a FAISS index.

    Raises:
        DataError: if the file is damaged.
    """
    faiss = _faiss()
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        raise DataError(f"{path}: damaged: {str(error)[:200]}; remove it and run again") from None


def search_index(
    index: Any, queries: Any, k: int, *, probes: int = PROBES, base: Any = None
) -> Neighbours:
    """Search a FAISS index; the index of a neighbour that is not found is -1.

    If `base`, the vectors of the index, is given, twice as many neighbours are retrieved and the
    best by exact cosine are kept, because 8-bit vectors do not order close neighbours well.
    """
    if int(queries.shape[1]) != index.d and len(queries):
        raise DataError(
            f"the queries have dimension {queries.shape[1]}, but the index has {index.d}; encode "
            "both sides with the same encoder"
        )
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
    """Return the inverted file inside a chain of transforms."""
    faiss = _faiss()
    return faiss.downcast_index(index.index) if hasattr(index, "chain") else index


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ResourceError("FAISS is not installed; run: pip install 'nllb[data]'") from None
    return faiss
