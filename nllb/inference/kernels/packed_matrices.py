"""Memory of the compiled kernel: packed int8 matrices and the buffers of calls.

All data that is copied into a matrix or selected from it is validated here, because the kernel does
not check shapes or ids.
"""

from ctypes import byref
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from nllb.config import format_size
from nllb.errors import CheckpointError, ResourceError
from nllb.inference.threads import ForkSafeLock

from .library import Kernel, MatrixStruct, WorkStruct, pointer

MAX_DIM = 8192
"""Maximum number of inputs of a matrix (MOST_DIM in the kernel)."""
MAX_POSITIONS = 4096
"""Maximum number of positions of a sequence (MOST_POSITIONS in the kernel)."""
PANEL = 512
"""Number of rows that the kernel quantises at a time (PANEL in the kernel)."""
HUGE_BYTES = 4 << 20
"""Size from which memory is requested in huge pages, which are 2 MiB."""
BLOCK_BYTES = 32 << 20
"""Approximate size of the blocks of packed weights, for which the system can use huge pages."""


def allocate(
    count: int, dtype: torch.dtype = torch.float32, *, kernel: Kernel | None = None
) -> Tensor:
    """Return uninitialised memory; with the kernel, in huge pages if it is large.

    Raises:
        ResourceError: there is not enough memory.
    """
    try:
        memory = torch.empty(count, dtype=dtype)
    except RuntimeError as error:
        size = format_size(count * dtype.itemsize)
        raise ResourceError(
            f"not enough memory for a buffer of {size}: use a smaller beam, smaller batches or "
            f"shorter outputs"
        ) from error
    if kernel is not None and count * dtype.itemsize >= HUGE_BYTES:
        kernel.library.nllb_advise_huge(memory.data_ptr(), count * dtype.itemsize)
    return memory


def check_ids(ids: np.ndarray, limit: int, *, what: str) -> None:
    """Check that all ids are in 0 to `limit` - 1.

    Raises:
        CheckpointError: an id is out of range; the message names the first one.
    """
    if ids.dtype != np.int64:
        raise CheckpointError(f"{what} must be int64, not {ids.dtype}")
    outside = ids.view(np.uint64) >= limit  # negative ids become large unsigned numbers
    if outside.any():
        raise CheckpointError(
            f"{what} {ids[outside].flat[0]} is not in the model's vocabulary, whose ids are 0 to "
            f"{limit - 1}: the tokenizer, shortlist or configuration belongs to another model"
        )


class Arena:
    """Aligned memory for packed weights, in large blocks."""

    def __init__(self, kernel: Kernel, *, block_bytes: int | None = None):
        """Create an arena without memory.

        Args:
            kernel: the library.
            block_bytes: minimum size of a block, which is freed when nothing in it is used; by
                default BLOCK_BYTES.
        """
        self._kernel = kernel
        self._block_bytes = BLOCK_BYTES if block_bytes is None else block_bytes
        self._free = torch.empty(0, dtype=torch.uint8)
        self._lock = ForkSafeLock()

    def take(self, num_bytes: int) -> Tensor:
        """Return `num_bytes` zero bytes whose address is a multiple of 64."""
        rounded = -(-num_bytes // 64) * 64
        with self._lock:  # several threads may load experts at the same time
            if rounded > len(self._free):
                size = max(rounded, self._block_bytes) + 64
                block = allocate(size, torch.uint8, kernel=self._kernel)
                self._free = block[-block.data_ptr() % 64 :]
            taken, self._free = self._free[:num_bytes], self._free[rounded:]
        return taken.zero_()


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """The library, the number of threads and the memory for weights of kernel calls."""

    kernel: Kernel
    """The library and its level."""
    num_threads: int
    """Number of threads of a call."""
    arena: Arena = field(repr=False)
    """Memory of the packed weights."""

    def with_own_blocks(self) -> "Runtime":
        """Return a copy that allocates each matrix separately, so that it can be freed alone."""
        return replace(self, arena=Arena(self.kernel, block_bytes=0))


class Workspace:
    """Buffers of a call or of a decoding, which must not be shared between threads."""

    def __init__(self, runtime: Runtime, *, rows: int, dim: int, depth: int, heads: int = 1):
        """Allocate buffers for at most `rows` rows of `dim` and matrices with `depth` inputs."""
        self.rows = rows
        depth = -(-depth // 64) * 64
        panel = -(-min(rows, PANEL) // 16) * 16
        kernel = runtime.kernel
        self._wide = allocate(max(rows * 3 * dim, panel * depth), kernel=kernel)
        self._mixed, self._scales = allocate(rows * dim, kernel=kernel), allocate(panel)
        tiles = allocate(panel * depth + 64, torch.uint8, kernel=kernel)
        self._tiles = tiles[-tiles.data_ptr() % 64 :]
        buffers = (self._wide, self._mixed, self._tiles, self._scales)
        self.struct = WorkStruct(
            *(runtime.num_threads, kernel.level, dim, heads, rows, depth, 0),
            *(buffer.data_ptr() for buffer in buffers),
        )


class PackedMatrix:
    """An int8 matrix in the kernel's format, which may consist of several stacked matrices."""

    def __init__(self, runtime: Runtime, outputs: int, inputs: int):
        """Create a matrix of zeros.

        Raises:
            CheckpointError: the kernel does not support this shape.
        """
        if outputs < 1 or not 1 <= inputs <= MAX_DIM:
            raise CheckpointError(
                f"a matrix of {outputs} x {inputs} cannot be packed: it must have at least 1 "
                f"output and 1 to {MAX_DIM} inputs"
            )
        self._runtime, self.outputs, self.inputs = runtime, outputs, inputs
        self.padded = -(-outputs // 16) * 16
        self.weight = runtime.arena.take(self.padded * -(-inputs // 64) * 64)
        self.scale, self.bias = torch.zeros(self.padded), torch.zeros(self.padded)
        self.offset = torch.zeros(self.padded, dtype=torch.int32)
        self.struct = MatrixStruct(
            *(t.data_ptr() for t in (self.weight, self.scale, self.offset, self.bias)),
            self.padded,
            inputs,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of outputs and inputs."""
        return self.outputs, self.inputs

    def fill(self, first: int, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Set the outputs from `first` on to int8 rows (count, inputs).

        Raises:
            CheckpointError: a shape or dtype does not match.
        """
        count = len(weight)
        wrong = [
            f"{name} is {tensor.dtype} of shape {list(tensor.shape)}, not {list(shape)}"
            for name, tensor, shape in (
                ("the weight", weight, (count, self.inputs)),
                ("its scale", scale, (count,)),
                ("its bias", bias, (count,)),
            )
            if tensor is not None and tuple(tensor.shape) != shape
        ]
        if weight.dtype != torch.int8:
            wrong.append(f"the weight is {weight.dtype}, not int8")
        if not 0 <= first <= first + count <= self.outputs:
            wrong.append(f"rows {first} to {first + count} are not within its {self.outputs}")
        if wrong:
            raise CheckpointError(
                f"a matrix of {self.outputs} x {self.inputs} cannot be filled: {'; '.join(wrong)}"
            )
        weight = weight.contiguous()
        work = WorkStruct(threads=self._runtime.num_threads)
        self._runtime.kernel.library.nllb_pack(
            byref(work),
            weight.data_ptr(),
            first,
            count,
            self.inputs,
            self.weight.data_ptr(),
            self.offset.data_ptr(),
        )
        self.scale[first : first + count] = scale
        if bias is not None:
            self.bias[first : first + count] = bias

    def select(self, ids: np.ndarray) -> "PackedMatrix":
        """Return a matrix of these outputs in the given order and without a bias.

        Raises:
            CheckpointError: there are no ids, or an id is not an output.
        """
        ids = np.ascontiguousarray(ids, np.int64)
        if ids.ndim != 1 or not ids.size:
            raise CheckpointError(
                f"a list of output tokens has the shape {list(ids.shape)}; it must be a nonempty "
                f"vector"
            )
        check_ids(ids, self.outputs, what="output token")
        part = PackedMatrix(self._runtime, len(ids), self.inputs)
        self._runtime.kernel.library.nllb_select(
            byref(self.struct),
            pointer(ids),
            len(ids),
            *(t.data_ptr() for t in (part.weight, part.scale, part.offset)),
        )
        return part

    def __call__(self, x: Tensor) -> Tensor:
        """Project rows of any leading shape; the layers do not use this method."""
        rows = x.float().reshape(-1, self.inputs).contiguous()
        y = torch.empty(len(rows), self.padded)
        work = Workspace(self._runtime, rows=len(rows), dim=self.inputs, depth=self.inputs)
        self._runtime.kernel.library.nllb_linear(
            byref(work.struct),
            None,
            byref(self.struct),
            rows.data_ptr(),
            len(rows),
            y.data_ptr(),
            self.padded,
        )
        return y[:, : self.outputs].reshape(*x.shape[:-1], self.outputs)
