"""The compiled int8 engine: `kernel.c` runs whole layers, this module owns memory and order.

`kernel_library` finds the library; where there is none, `Int8TorchEngine` takes its place.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from ctypes import byref, c_float, c_int64, c_void_p
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nllb.errors import ResourceError
from nllb.inference.engine import Decoding, Engine, Memory, OutputChoice, mixture_of_experts
from nllb.inference.kernels.library import (
    Kernel,
    LayerStruct,
    MatrixStruct,
    MemoryStruct,
    NormStruct,
    StepStruct,
    WorkStruct,
    load_kernel,
    pointer,
)
from nllb.inference.layers import (
    ExpertStoreFactory,
    FeedForward,
    Layer,
    LayerReader,
    Linear,
    LoadedExperts,
    Norm,
    cross_key_value_names,
)
from nllb.inference.quantization import Int8TorchEngine, read_int8
from nllb.model.configuration import ModelConfig, Side
from nllb.model.formats.weights import Weights
from nllb.model.transformer import sinusoidal_positions

MOST_POSITIONS = 4096
MOST_DIM = 8192
PANEL = 512
"""Rows that the kernel quantises at a time (PANEL there)."""
BLOCK_BYTES = 32 << 20
"""Weights are packed into blocks of about this size, which the system can back by huge pages."""


def int8_engine(
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    *,
    num_threads: int,
    experts: ExpertStoreFactory = LoadedExperts,
) -> Engine:
    """Make an int8 engine: the compiled one where it can run this model, else plain torch."""
    kernel = load_kernel()
    if kernel is not None and _is_supported(config):
        return KernelEngine(
            config, weights, kernel=kernel, num_threads=num_threads, experts=experts
        )
    return Int8TorchEngine(config, weights, experts=experts)


def _is_supported(config: ModelConfig) -> bool:
    return (
        config.activation == "relu"
        and config.model_dim % 16 == 0
        and max(config.encoder_ffn_dim, config.decoder_ffn_dim, config.model_dim) <= MOST_DIM
        and config.max_positions <= MOST_POSITIONS
    )


class _Arena:
    """Aligned memory for packed weights, in large blocks."""

    def __init__(self, kernel: Kernel):
        self._kernel, self._free = kernel, torch.empty(0, dtype=torch.uint8)

    def take(self, num_bytes: int) -> Tensor:
        """Return `num_bytes` of zeros that begin at a multiple of 64."""
        rounded = -(-num_bytes // 64) * 64
        if rounded > len(self._free):
            block = torch.empty(max(rounded, BLOCK_BYTES) + 64, dtype=torch.uint8)
            self._kernel.library.nllb_advise_huge(c_void_p(block.data_ptr()), c_int64(len(block)))
            self._free = block[-block.data_ptr() % 64 :]
        taken, self._free = self._free[:num_bytes], self._free[rounded:]
        return taken.zero_()


class PackedMatrix:
    """One int8 matrix as the kernel reads it, or several stacked."""

    def __init__(self, engine: "KernelEngine", outputs: int, inputs: int):
        self.engine, self.outputs, self.inputs = engine, outputs, inputs
        self.padded = -(-outputs // 16) * 16
        self.weight = engine.arena.take(self.padded * -(-inputs // 64) * 64)
        self.scale, self.bias = torch.zeros(self.padded), torch.zeros(self.padded)
        self.offset = torch.zeros(self.padded, dtype=torch.int32)
        self.struct = MatrixStruct(
            *(t.data_ptr() for t in (self.weight, self.scale, self.offset, self.bias)),
            self.padded,
            inputs,
        )

    def fill(self, first: int, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Put a matrix (rows, inputs) in the place of the outputs from `first` on."""
        count = len(weight)
        weight = weight.contiguous()
        work = WorkStruct(self.engine.num_threads, 0, 0, 0, 0)
        self.engine.kernel.library.nllb_pack(
            byref(work),
            c_void_p(weight.data_ptr()),
            c_int64(first),
            c_int64(count),
            c_int64(self.inputs),
            c_void_p(self.weight.data_ptr()),
            c_void_p(self.offset.data_ptr()),
        )
        self.scale[first : first + count] = scale
        if bias is not None:
            self.bias[first : first + count] = bias

    def __call__(self, x: Tensor) -> Tensor:
        """Project rows of any leading shape; layers do not come this way."""
        rows = x.float().reshape(-1, self.inputs).contiguous()
        y = torch.empty(len(rows), self.padded)
        work = self.engine.workspace(len(rows), dim=self.inputs)
        self.engine.kernel.library.nllb_linear(
            byref(work.struct),
            None,
            byref(self.struct),
            c_void_p(rows.data_ptr()),
            c_int64(len(rows)),
            c_void_p(y.data_ptr()),
            c_int64(self.padded),
        )
        return y[:, : self.outputs].reshape(*x.shape[:-1], self.outputs)


class _Workspace:
    """Buffers of one call or of one decoding, which must not be shared between threads."""

    def __init__(self, engine: "KernelEngine", rows: int, dim: int, heads: int):
        config = engine.config
        depth = max(dim, config.model_dim, config.encoder_ffn_dim, config.decoder_ffn_dim) + 64
        panel = min(rows, PANEL) + 32
        self.wide = torch.empty(max(rows * 3 * dim, panel * depth))
        self.mixed, self.scales = torch.empty(rows * dim), torch.empty(panel)
        tiles = torch.empty(panel * depth + 64, dtype=torch.uint8)
        self.tiles = tiles[-tiles.data_ptr() % 64 :]
        buffers = (self.wide, self.mixed, self.tiles, self.scales)
        self.struct = WorkStruct(
            engine.num_threads, engine.kernel.level, dim, heads, 0, *(t.data_ptr() for t in buffers)
        )


class KernelEngine(Engine):
    """The dense or sparse model in int8 on the CPU, its dense layers run whole by the kernel."""

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, Tensor],
        *,
        kernel: Kernel,
        num_threads: int,
        experts: ExpertStoreFactory = LoadedExperts,
    ):
        """Pack all weights but the experts, which `experts` decides on."""
        self.config, self.kernel = config, kernel
        self.num_threads = self.num_workers = num_threads
        self.arena = _Arena(kernel)
        self._weights = weights
        reader = LayerReader(
            config,
            weights,
            linear=self._pack,
            experts=experts,
            device=torch.device("cpu"),
            dtype=torch.float32,
            router_dtype=torch.float64,  # so that a token's experts do not depend on its batch
        )
        self.store = reader.store
        self.embedding = self._pack_embedding()
        self._layers = {side: reader.side(side) for side in _SIDES}
        self._structs = {side: _layer_structs(self._layers[side]) for side in _SIDES}
        self._norms = {side: reader.norm(f"{side}.norm") for side in _SIDES}
        self.norm_structs = {side: _norm_struct(self._norms[side]) for side in _SIDES}
        self.cross_keys_values = self._pack(cross_key_value_names(config))
        first = config.pad_id + 1  # fairseq numbers positions from here
        table = sinusoidal_positions(
            config.max_positions + first, config.model_dim, pad_id=config.pad_id
        )
        self._table = table[first:].contiguous()
        self._scale = math.sqrt(config.model_dim) if config.scale_embedding else 1.0

    def worker(self) -> "KernelEngine":
        """Return this engine with one thread; the weights are the same."""
        worker = copy(self)
        worker.num_threads = 1
        return worker

    def _pack(self, names: Sequence[str]) -> "PackedMatrix":
        parts = [read_int8(self._weights, f"{name}.weight") for name in names]
        matrix = PackedMatrix(self, sum(len(part) for part, _ in parts), parts[0][0].shape[1])
        first = 0
        for name, (weight, scale) in zip(names, parts, strict=True):
            matrix.fill(first, weight, scale, self._weights[f"{name}.bias"])
            self._release(f"{name}.weight", weight)
            first += len(weight)
        return matrix

    def _pack_embedding(self) -> "PackedMatrix":
        weight, scale = read_int8(self._weights, "embedding.weight")
        matrix = PackedMatrix(self, *weight.shape)
        matrix.fill(0, weight, scale, None)
        self._release("embedding.weight", weight)
        return matrix

    def _release(self, name: str, weight: Tensor) -> None:
        """Let the system drop what was read of a mapped file: the packed form takes its place."""
        if isinstance(self._weights, Weights):
            mapped = self._weights[name]
            self.kernel.library.nllb_advise_done(
                c_void_p(mapped.data_ptr()), c_int64(mapped.numel() * mapped.element_size())
            )

    def restrict(self, ids: np.ndarray) -> "PackedMatrix":
        """Return the output projection for these ids."""
        part = PackedMatrix(self, len(ids), self.config.model_dim)
        ids = np.ascontiguousarray(ids, np.int64)
        self.kernel.library.nllb_select(
            byref(self.embedding.struct),
            pointer(ids),
            c_int64(len(ids)),
            *(c_void_p(t.data_ptr()) for t in (part.weight, part.scale, part.offset)),
        )
        return part

    def workspace(
        self, rows: int, side: Side = "decoder", *, dim: int | None = None
    ) -> "_Workspace":
        """Return buffers for calls with up to `rows` rows of `dim`, by default the model's."""
        return _Workspace(self, rows, dim or self.config.model_dim, self.config.num_heads(side))

    def embed(self, ids: np.ndarray, positions: np.ndarray, x: Tensor) -> None:
        """Write the embeddings of tokens at their positions."""
        self.kernel.library.nllb_embed(
            byref(self.embedding.struct),
            pointer(ids),
            pointer(positions),
            c_int64(ids.size),
            c_float(self._scale),
            c_void_p(self._table.data_ptr()),
            c_void_p(x.data_ptr()),
        )

    def run_layers(self, side: Side, x: Tensor, run: Callable[[Any, int, int], None]) -> None:
        """Call `run(structs, first, last)` for each span of layers up to the next sparse one.

        The kernel leaves out the feed-forward sublayer of a sparse layer, which follows here.
        """
        first, layers = 0, self._layers[side]
        for number, layer in enumerate(layers, 1):
            if layer.router is None and number < len(layers):
                continue
            run(self._structs[side], first, number)
            first = number
            if layer.router is not None:
                x += mixture_of_experts(
                    layer.feed_forward_norm(x),
                    layer.router,
                    self.experts_of(layer.name, len(x)),
                    output_masking=self.config.expert_output_masking,
                )

    def experts_of(self, layer: str, rows: int) -> Callable[[int], Linear]:
        """Return a layer's experts by number, for calls of at most `rows` rows, in one thread."""
        work = self.workspace(rows)

        def run(expert: FeedForward, x_TD: Tensor) -> Tensor:
            y_TD = torch.empty_like(x_TD)
            assert isinstance(expert.inner, PackedMatrix)
            assert isinstance(expert.outer, PackedMatrix)
            self.kernel.library.nllb_feed_forward(
                byref(work.struct),
                byref(expert.inner.struct),
                byref(expert.outer.struct),
                c_void_p(x_TD.data_ptr()),
                c_int64(len(x_TD)),
                c_void_p(y_TD.data_ptr()),
            )
            return y_TD

        return lambda number: partial(run, self.store.expert_weights(layer, number))

    def encode(self, sources: Sequence[Sequence[int]]) -> "_KernelMemory":
        """Run the encoder over sources of any lengths, one after another without padding."""
        config, library = self.config, self.kernel.library
        lengths = np.array([len(source) for source in sources], np.int32)
        token_start = np.concatenate([[0], lengths.cumsum()[:-1]]).astype(np.int32)
        ids = np.concatenate([np.asarray(source, np.int64) for source in sources])
        sentence = np.repeat(np.arange(len(sources), dtype=np.int32), lengths)
        position = (np.arange(len(ids)) - token_start[sentence]).astype(np.int32)
        x = torch.empty(len(ids), config.model_dim)
        self.embed(ids, position.astype(np.int64), x)
        work = self.workspace(len(ids), "encoder")

        def run(structs: Any, first: int, last: int) -> None:
            library.nllb_encode(
                byref(work.struct),
                structs,
                c_int64(first),
                c_int64(last),
                c_int64(len(sources)),
                pointer(token_start),
                pointer(lengths),
                c_int64(len(ids)),
                c_void_p(x.data_ptr()),
            )

        self.run_layers("encoder", x, run)
        memory = _KernelMemory(config, lengths)
        library.nllb_remember(
            byref(work.struct),
            byref(self.norm_structs["encoder"]),
            byref(self.cross_keys_values.struct),
            c_void_p(x.data_ptr()),
            c_int64(len(ids)),
            pointer(sentence),
            pointer(position),
            byref(memory.struct),
        )
        return memory

    def decode(
        self, memory: Memory, *, width: int, max_positions: int, choice: OutputChoice | None = None
    ) -> "_KernelDecoding":
        """Begin outputs."""
        assert isinstance(memory, _KernelMemory)
        return _KernelDecoding(
            self, memory, width=width, max_positions=max_positions, choice=choice
        )


class _KernelMemory(Memory):
    """Keys and values of sentences, each padded to a multiple of 16 positions."""

    def __init__(self, config: ModelConfig, lengths: np.ndarray):
        self.num_sentences, self.lengths = len(lengths), lengths
        padded = -(-lengths // 16) * 16
        self.start = np.concatenate([[0], padded.cumsum()[:-1]]).astype(np.int32)
        total = int(padded.sum())
        size = config.decoder_layers * 2 * total * config.model_dim
        self.keys_values = torch.empty(size, dtype=torch.int16)
        self.struct = MemoryStruct(
            total, self.start.ctypes.data, lengths.ctypes.data, self.keys_values.data_ptr()
        )


class _KernelDecoding(Decoding):
    def __init__(
        self,
        engine: KernelEngine,
        memory: _KernelMemory,
        *,
        width: int,
        max_positions: int,
        choice: OutputChoice | None,
    ):
        config = engine.config
        self._engine, self._memory, self._choice = engine, memory, choice
        self._slots, self._capacity = memory.num_sentences * width, max_positions
        size = config.decoder_layers * 2 * max_positions * self._slots * config.model_dim
        self._cache = torch.empty(size, dtype=torch.int16)
        # A row's past lies in the slots of the rows that it descends from: beams are never copied.
        self._ancestors = np.zeros((self._slots, max_positions), np.int32)
        self._work = engine.workspace(max(self._slots, 2 * memory.num_sentences))
        self._length = self._rows = 0

    def advance(self, tokens_RP: np.ndarray, parents_R: np.ndarray, sentences: np.ndarray) -> None:
        engine, before = self._engine, self._length
        rows, new = tokens_RP.shape
        own = np.arange(rows, dtype=np.int32)
        if before and (rows != self._rows or (parents_R != own).any()):
            self._ancestors[:rows, :before] = self._ancestors[parents_R, :before]
        self._ancestors[:rows, before : before + new] = own[:, None]
        self._rows, self._length = rows, before + new
        self._sentence = np.repeat(sentences, rows // len(sentences)).astype(np.int32)
        positions = np.tile(np.arange(before, before + new), rows)
        x = torch.empty(rows * new, engine.config.model_dim)
        engine.embed(np.ascontiguousarray(tokens_RP, np.int64), positions, x)
        step = StepStruct(
            *(rows, new, before, self._slots, self._capacity),
            self._sentence.ctypes.data,
            self._ancestors.ctypes.data,
            self._cache.data_ptr(),
            x.data_ptr(),
        )

        def run(structs: Any, first: int, last: int) -> None:
            engine.kernel.library.nllb_decode(
                byref(self._work.struct),
                structs,
                c_int64(first),
                c_int64(last),
                byref(self._memory.struct),
                byref(step),
            )

        engine.run_layers("decoder", x, run)
        self._state = x if new == 1 else x.view(rows, new, -1)[:, -1].contiguous()

    def best(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        engine, choice = self._engine, self._choice
        matrix = engine.embedding if choice is None else choice.projection
        assert isinstance(matrix, PackedMatrix)
        if choice is None:
            lengths, further = np.zeros(self._rows, np.int64), np.zeros(1, np.int64)
        else:
            extras = [choice.extra[sentence] for sentence in self._sentence]
            lengths = np.array([len(extra) for extra in extras])
            further = np.concatenate([*extras, [0]]).astype(np.int64)
        start = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
        count = min(count, matrix.outputs + int(lengths.min()))
        values = np.empty((self._rows, count), np.float32)
        ids = np.empty((self._rows, count), np.int64)
        failed = engine.kernel.library.nllb_best(
            byref(self._work.struct),
            byref(engine.norm_structs["decoder"]),
            byref(matrix.struct),
            c_int64(matrix.outputs),
            None if choice is None else pointer(choice.ids),
            byref(engine.embedding.struct),
            pointer(start),
            pointer(further),
            c_void_p(self._state.data_ptr()),
            c_int64(self._rows),
            c_int64(count),
            pointer(values),
            pointer(ids),
        )
        if failed:
            raise ResourceError("not enough memory for the output projection; use smaller batches")
        return values, ids

    def logits(self) -> Tensor:
        engine, choice = self._engine, self._choice
        if choice is None:
            return self._project(engine.embedding)
        assert isinstance(choice.projection, PackedMatrix)
        whole = torch.full((self._rows, engine.config.vocabulary_size), -math.inf)
        whole[:, torch.from_numpy(choice.ids)] = self._project(choice.projection)
        extras = [choice.extra[sentence] for sentence in self._sentence]
        ids = np.unique(np.concatenate(extras))
        if len(ids):
            further = self._project(engine.restrict(ids))
            for row, extra in enumerate(extras):
                whole[row, torch.from_numpy(extra)] = further[row, np.searchsorted(ids, extra)]
        return whole

    def _project(self, matrix: PackedMatrix) -> Tensor:
        y = torch.empty(self._rows, matrix.padded)
        self._engine.kernel.library.nllb_linear(
            byref(self._work.struct),
            byref(self._engine.norm_structs["decoder"]),
            byref(matrix.struct),
            c_void_p(self._state.data_ptr()),
            c_int64(self._rows),
            c_void_p(y.data_ptr()),
            c_int64(matrix.padded),
        )
        return y[:, : matrix.outputs]


_SIDES: tuple[Side, Side] = ("encoder", "decoder")


def _norm_struct(norm: Norm) -> NormStruct:
    return NormStruct(norm.weight.data_ptr(), norm.bias.data_ptr())


def _layer_structs(layers: Sequence[Layer]) -> Any:
    """Return the array of layers that the kernel reads; it points into the layers' tensors."""
    structs = (LayerStruct * len(layers))()
    for struct, layer in zip(structs, layers, strict=True):
        struct.self_norm = _norm_struct(layer.self_norm)
        struct.feed_norm = _norm_struct(layer.feed_forward_norm)
        matrices: dict[str, Linear | None] = {
            "self_qkv": layer.self_query_key_value,
            "self_out": layer.self_output,
        }
        if layer.cross_norm is not None:
            struct.cross_norm = _norm_struct(layer.cross_norm)
            matrices |= {"cross_query": layer.cross_query, "cross_out": layer.cross_output}
        if layer.feed_forward is not None:
            matrices |= {"inner": layer.feed_forward.inner, "outer": layer.feed_forward.outer}
        for name, matrix in matrices.items():
            assert isinstance(matrix, PackedMatrix)
            setattr(struct, name, matrix.struct)
    return structs
