"""Memory that the compiled kernel works on: packed int8 matrices, and buffers sized by the call.

Everything that is copied into a matrix or selected from one is validated here, because the kernel
does not check shapes or ids.
"""

from ctypes import byref
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nllb.config import format_size
from nllb.errors import CheckpointError, ResourceError
from nllb.inference.kernels.library import Kernel, MatrixStruct, WorkStruct, pointer
from nllb.inference.threads import ForkSafeLock

MAX_DIM = 8192
"""Inputs of a matrix at most (MOST_DIM in the kernel)."""
MAX_POSITIONS = 4096
"""Positions of a sequence at most (MOST_POSITIONS in the kernel)."""
PANEL = 512
"""Rows that the kernel quantises at a time (PANEL there)."""
BLOCK_BYTES = 32 << 20
"""Weights are packed into blocks of about this size, which the system can back by huge pages."""


def allocate(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return uninitialised memory.

    Raises:
        ResourceError: there is not enough.
    """
    try:
        return torch.empty(count, dtype=dtype)
    except RuntimeError as error:
        size = format_size(count * dtype.itemsize)
        raise ResourceError(
            f"not enough memory for a buffer of {size}: use a smaller beam, smaller batches or "
            f"shorter outputs"
        ) from error


def check_ids(ids: np.ndarray, limit: int, *, what: str) -> None:
    """Refuse ids outside of 0 to `limit` - 1.

    Raises:
        CheckpointError: it names the first such id.
    """
    if ids.dtype != np.int64:
        raise CheckpointError(f"{what} must be int64, not {ids.dtype}")
    outside = ids.view(np.uint64) >= limit  # a negative number is a large one here
    if outside.any():
        raise CheckpointError(
            f"{what} {ids[outside].flat[0]} is not in the model's vocabulary, whose ids are 0 to "
            f"{limit - 1}: the tokenizer, shortlist or configuration is of another model"
        )


class Arena:
    """Aligned memory for packed weights, in large blocks."""

    def __init__(self, kernel: Kernel):
        self._kernel, self._free = kernel, torch.empty(0, dtype=torch.uint8)
        self._lock = ForkSafeLock()

    def take(self, num_bytes: int) -> Tensor:
        """Return `num_bytes` of zeros whose address is a multiple of 64."""
        rounded = -(-num_bytes // 64) * 64
        with self._lock:  # experts may be loaded by several threads at once
            if rounded > len(self._free):
                block = allocate(max(rounded, BLOCK_BYTES) + 64, torch.uint8)
                self._kernel.library.nllb_advise_huge(block.data_ptr(), len(block))
                self._free = block[-block.data_ptr() % 64 :]
            taken, self._free = self._free[:num_bytes], self._free[rounded:]
        return taken.zero_()


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """What calls of the kernel share: the library, threads, and memory for weights."""

    kernel: Kernel
    """The library and its level."""
    num_threads: int
    """Threads of a call."""
    arena: Arena = field(repr=False)
    """Where packed weights lie."""


class Workspace:
    """Buffers of one call or of one decoding, which must not be shared between threads."""

    def __init__(self, runtime: Runtime, *, rows: int, dim: int, depth: int, heads: int = 1):
        """Make room for calls of at most `rows` rows of `dim` and matrices of `depth` inputs."""
        self.rows = rows
        depth = -(-depth // 64) * 64
        panel = -(-min(rows, PANEL) // 16) * 16
        self._wide = allocate(max(rows * 3 * dim, panel * depth))
        self._mixed, self._scales = allocate(rows * dim), allocate(panel)
        tiles = allocate(panel * depth + 64, torch.uint8)
        self._tiles = tiles[-tiles.data_ptr() % 64 :]
        buffers = (self._wide, self._mixed, self._tiles, self._scales)
        self.struct = WorkStruct(
            *(runtime.num_threads, runtime.kernel.level, dim, heads, rows, depth, 0),
            *(buffer.data_ptr() for buffer in buffers),
        )


class PackedMatrix:
    """One int8 matrix as the kernel reads it, or several stacked."""

    def __init__(self, runtime: Runtime, outputs: int, inputs: int):
        """Make a matrix of zeros.

        Raises:
            CheckpointError: the kernel does not know matrices of this shape.
        """
        if outputs < 1 or not 1 <= inputs <= MAX_DIM:
            raise CheckpointError(
                f"a matrix of {outputs} x {inputs} cannot be packed: it must have 1 or more "
                f"outputs and 1 to {MAX_DIM} inputs"
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
        """Outputs and inputs."""
        return self.outputs, self.inputs

    def fill(self, first: int, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Put int8 rows (count, inputs) in the place of the outputs from `first` on.

        Raises:
            CheckpointError: shapes or types do not fit.
        """
        count = len(weight)
        wrong = [
            f"{name} is {tensor.dtype} of {list(tensor.shape)}, not {list(shape)}"
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
        """Return a matrix of these outputs, in their order, without a bias.

        Raises:
            CheckpointError: there are none, or an id is not an output.
        """
        ids = np.ascontiguousarray(ids, np.int64)
        if ids.ndim != 1 or not ids.size:
            raise CheckpointError(f"a list of output tokens has the shape {list(ids.shape)}")
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
        """Project rows of any leading shape; layers do not come this way."""
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
