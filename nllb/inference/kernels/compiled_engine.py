"""The compiled int8 engine: `kernel.c` computes complete layers, and this module calls it.

This module also allocates all memory. `library` loads the compiled kernel; if it is not available,
`Int8TorchEngine` is used instead. The kernel does not check its arguments, so this module validates
all ids, lengths and shapes before it calls the kernel.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from ctypes import byref
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nllb.errors import CheckpointError
from nllb.inference.engine import Decoding, Engine, Memory, OutputChoice, mixture_of_experts
from nllb.inference.layers import (
    ExpertStoreFactory,
    FeedForward,
    Layer,
    LayerReader,
    Linear,
    LoadedExperts,
    Norm,
    cross_key_value_names,
    read_float,
)
from nllb.inference.quantization import Int8TorchEngine, read_int8
from nllb.inference.source_mixer import SourceMixer
from nllb.inference.token_states import EncoderEngine
from nllb.model.configuration import ModelConfig, Side
from nllb.model.formats.weights import Weights
from nllb.model.transformer import sinusoidal_positions

from .library import (
    Kernel,
    LayerStruct,
    MemoryStruct,
    NormStruct,
    StepStruct,
    load_kernel,
    pointer,
)
from .packed_matrices import (
    MAX_DIM,
    MAX_POSITIONS,
    Arena,
    PackedMatrix,
    Runtime,
    Workspace,
    allocate,
    check_ids,
)


def int8_engine(
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    *,
    num_threads: int,
    experts: ExpertStoreFactory = LoadedExperts,
    source_encoder: EncoderEngine | None = None,
) -> Engine:
    """Return the compiled int8 engine if it supports this model, or else the torch engine."""
    kernel = load_kernel()
    if kernel is not None and _is_supported(config):
        return KernelEngine(
            config,
            weights,
            kernel=kernel,
            num_threads=num_threads,
            experts=experts,
            source_encoder=source_encoder,
        )
    return Int8TorchEngine(
        config, weights, num_threads=num_threads, experts=experts, source_encoder=source_encoder
    )


def _is_supported(config: ModelConfig) -> bool:
    return (
        config.activation == "relu"
        and config.model_dim % 16 == 0
        and max(config.encoder_ffn_dim, config.decoder_ffn_dim, config.model_dim) <= MAX_DIM
        and config.max_positions <= MAX_POSITIONS
    )


class KernelEngine(Engine):
    """A dense or sparse model in int8 on the CPU, whose dense layers run in the kernel."""

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, Tensor],
        *,
        kernel: Kernel,
        num_threads: int,
        experts: ExpertStoreFactory = LoadedExperts,
        source_encoder: EncoderEngine | None = None,
    ):
        """Pack all weights except experts, which the store created by `experts` loads.

        `source_encoder` is the pretrained encoder of a model that has one.

        Raises:
            CheckpointError: a weight is not finite, or its shape does not match the configuration.
        """
        self.config = config
        self.num_workers = num_threads
        self.runtime = Runtime(kernel=kernel, num_threads=num_threads, arena=Arena(kernel))
        self._weights = weights
        self._sources = None
        if config.pretrained_layers:
            self._sources = SourceMixer(config, weights, source_encoder)
        reader = LayerReader(
            config,
            weights,
            linear=self._pack,
            experts=experts,
            device=torch.device("cpu"),
            dtype=torch.float32,
            router_dtype=torch.float64,  # makes the experts of a token independent of its batch
        )
        self.store = reader.store
        self.embedding = self._pack_embedding()
        self._layers = {side: reader.side(side) for side in _SIDES}
        self._structs = {side: _layer_structs(config, side, self._layers[side]) for side in _SIDES}
        self._norms = {side: reader.norm(f"{side}.norm") for side in _SIDES}
        self.norm_structs = {
            side: _norm_struct(self._norms[side], config.model_dim) for side in _SIDES
        }
        self.cross_keys_values = self._pack(cross_key_value_names(config))
        dim = config.model_dim
        _check_shape("the embedding", self.embedding, (config.vocabulary_size, dim))
        _check_shape(
            "the decoder's cross-attention",
            self.cross_keys_values,
            (2 * config.decoder_layers * dim, dim),
        )
        first = config.pad_id + 1  # the first position in fairseq's numbering
        table = sinusoidal_positions(config.max_positions + first, dim, pad_id=config.pad_id)
        self._table = table[first:].contiguous()
        self._scale = math.sqrt(dim) if config.scale_embedding else 1.0

    def worker(self) -> "KernelEngine":
        """Return a single-threaded copy of this engine with shared weights."""
        worker = copy(self)
        worker.runtime = replace(self.runtime, num_threads=1)
        worker._sources = None if self._sources is None else self._sources.worker()
        return worker

    def _pack(self, names: Sequence[str]) -> PackedMatrix:
        parts = [read_int8(self._weights, f"{name}.weight") for name in names]
        # An expert may be evicted; in a block with others, its memory would stay in use.
        is_expert = ".experts." in names[0]
        runtime = self.runtime.with_own_blocks() if is_expert else self.runtime
        matrix = PackedMatrix(runtime, sum(len(part) for part, _ in parts), parts[0][0].shape[1])
        first = 0
        for name, (weight, scale) in zip(names, parts, strict=True):
            matrix.fill(first, weight, scale, read_float(self._weights, f"{name}.bias"))
            self._release(f"{name}.weight", weight)
            first += len(weight)
        return matrix

    def _pack_embedding(self) -> PackedMatrix:
        weight, scale = read_int8(self._weights, "embedding.weight")
        matrix = PackedMatrix(self.runtime, *weight.shape)
        matrix.fill(0, weight, scale, None)
        self._release("embedding.weight", weight)
        return matrix

    def _release(self, name: str, weight: Tensor) -> None:
        """Let the system drop the pages of a mapped weight that has been packed."""
        if isinstance(self._weights, Weights):
            mapped = self._weights[name]
            self.library.nllb_advise_done(mapped.data_ptr(), mapped.numel() * mapped.element_size())

    @property
    def library(self) -> Any:
        """The loaded kernel library."""
        return self.runtime.kernel.library

    def restrict(self, ids: np.ndarray) -> PackedMatrix:
        """Return the output projection for these ids."""
        return self.embedding.select(ids)

    def workspace(self, rows: int, side: Side = "decoder") -> Workspace:
        """Return buffers for calls with at most `rows` rows."""
        config = self.config
        depth = max(config.model_dim, -(-config.ffn_dim(side) // 16) * 16)
        return Workspace(
            self.runtime,
            rows=rows,
            dim=config.model_dim,
            depth=depth,
            heads=config.num_heads(side),
        )

    def embed(self, ids: np.ndarray, positions: np.ndarray, x: Tensor) -> None:
        """Write the embeddings of tokens at their positions, which the caller must validate.

        Raises:
            CheckpointError: an id is outside the vocabulary.
        """
        check_ids(ids, self.config.vocabulary_size, what="token")
        self.library.nllb_embed(
            byref(self.embedding.struct),
            pointer(ids),
            pointer(positions),
            ids.size,
            self._scale,
            self._table.data_ptr(),
            x.data_ptr(),
        )

    def run_layers(self, side: Side, x: Tensor, run: Callable[[Any, int, int], None]) -> None:
        """Call `run(structs, first, last)` for each range of layers that ends with a sparse layer.

        The kernel skips the feed-forward sublayer of a sparse layer, which is computed here.
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
        """Return a function from numbers to experts of a layer.

        The experts accept at most `rows` rows and must be called from one thread.
        """
        side: Side = "encoder" if layer.startswith("encoder") else "decoder"
        work = self.workspace(rows, side)
        dim, ffn_dim = self.config.model_dim, self.config.ffn_dim(side)

        def run(expert: FeedForward, x_TD: Tensor) -> Tensor:
            inner = _check_shape(f"an expert of {layer}", expert.inner, (ffn_dim, dim))
            outer = _check_shape(f"an expert of {layer}", expert.outer, (dim, ffn_dim))
            x_TD = x_TD.contiguous()
            y_TD = torch.empty_like(x_TD)
            self.library.nllb_feed_forward(
                byref(work.struct),
                byref(inner.struct),
                byref(outer.struct),
                x_TD.data_ptr(),
                len(x_TD),
                y_TD.data_ptr(),
            )
            return y_TD

        return lambda number: partial(run, self.store.expert_weights(layer, number))

    def encode(self, sources: Sequence[Sequence[int]]) -> "_KernelMemory":
        """Run the encoder over sources of any lengths, which are concatenated without padding.

        Raises:
            CheckpointError: an id is outside the vocabulary.
            ValueError: there are no sources, or a source is empty or exceeds the model's maximum.
        """
        config, library = self.config, self.library
        lengths = np.array([len(source) for source in sources], np.int32)
        if not lengths.size or not 1 <= lengths.min() <= lengths.max() <= config.max_positions:
            raise ValueError(
                f"the sources have the lengths {lengths.tolist()[:9]}; each must have 1 to "
                f"{config.max_positions} tokens, and there must be at least one source"
            )
        token_start = np.concatenate([[0], lengths.cumsum()[:-1]]).astype(np.int32)
        ids = np.concatenate([np.asarray(source, np.int64) for source in sources])
        sentence = np.repeat(np.arange(len(sources), dtype=np.int32), lengths)
        position = (np.arange(len(ids)) - token_start[sentence]).astype(np.int32)
        work = self.workspace(len(ids), "encoder")
        if self._sources is not None:
            x = torch.cat(self._sources.mix(sources)).contiguous()
        else:
            x = self._run_encoder(work, ids, token_start, lengths, position)
        memory = _KernelMemory(config, lengths, self.runtime.kernel)
        library.nllb_remember(
            byref(work.struct),
            byref(self.norm_structs["encoder"]),
            byref(self.cross_keys_values.struct),
            x.data_ptr(),
            len(ids),
            pointer(sentence),
            pointer(position),
            byref(memory.struct),
        )
        return memory

    def _run_encoder(
        self,
        work: Workspace,
        ids: np.ndarray,
        token_start: np.ndarray,
        lengths: np.ndarray,
        position: np.ndarray,
    ) -> Tensor:
        """Return the states of concatenated sources before the final norm."""
        dim = self.config.model_dim
        x = allocate(len(ids) * dim, kernel=self.runtime.kernel).view(len(ids), dim)
        self.embed(ids, position.astype(np.int64), x)

        def run(structs: Any, first: int, last: int) -> None:
            self.library.nllb_encode(
                byref(work.struct),
                structs,
                first,
                last,
                len(lengths),
                pointer(token_start),
                pointer(lengths),
                len(ids),
                x.data_ptr(),
            )

        self.run_layers("encoder", x, run)
        return x

    def decode(
        self, memory: Memory, *, width: int, max_positions: int, choice: OutputChoice | None = None
    ) -> "_KernelDecoding":
        """Start decoding.

        Raises:
            CheckpointError: the choice has ids outside the vocabulary, or does not match its
                projection.
            ValueError: the width or the number of positions is out of range.
        """
        assert isinstance(memory, _KernelMemory)
        if width < 1 or not 1 <= max_positions <= self.config.max_positions:
            raise ValueError(
                f"{width} rows per sentence and {max_positions} positions were requested; the "
                f"model allows at least 1 row and 1 to {self.config.max_positions} positions"
            )
        if choice is not None:
            _check_choice(choice, memory.num_sentences, self.config.vocabulary_size)
        return _KernelDecoding(
            self, memory, width=width, max_positions=max_positions, choice=choice
        )


class _KernelMemory(Memory):
    """Keys and values of sentences, each padded to a multiple of 16 positions."""

    def __init__(self, config: ModelConfig, lengths: np.ndarray, kernel: Kernel):
        self.num_sentences, self.lengths = len(lengths), lengths
        padded = -(-lengths // 16) * 16
        self.start = np.concatenate([[0], padded.cumsum()[:-1]]).astype(np.int32)
        total = int(padded.sum())
        size = config.decoder_layers * 2 * total * config.model_dim
        self.keys_values = allocate(size, torch.int16, kernel=kernel)
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
        self._cache = allocate(size, torch.int16, kernel=engine.runtime.kernel)
        # The keys and values of a row stay in the slots of its ancestors: beams are not copied.
        self._ancestors = np.zeros((self._slots, max_positions), np.int32)
        self._work = engine.workspace(max(self._slots, 2 * memory.num_sentences))
        extra = () if choice is None else choice.extra
        stops = np.cumsum([0, *map(len, extra)])
        self._extra_ids = np.concatenate([*extra, np.zeros(0, np.int64)])
        self._extra = engine.restrict(self._extra_ids) if len(self._extra_ids) else None
        self._extra_ranges = stops[:-1], stops[1:]
        self._length = self._rows = 0
        self._highest: tuple[np.ndarray, np.ndarray] | None = None

    def advance(self, tokens_RP: np.ndarray, parents_R: np.ndarray, sentences: np.ndarray) -> None:
        engine, before = self._engine, self._length
        rows, new = tokens_RP.shape
        if rows > self._slots or before + new > self._capacity or rows % len(sentences):
            raise ValueError(
                f"{rows} rows of {new} tokens for {len(sentences)} sentences do not fit into "
                f"{self._slots} rows and {self._capacity} positions, {before} of them used"
            )
        if not 0 <= sentences.min() <= sentences.max() < self._memory.num_sentences:
            raise ValueError(f"sentences {sentences.tolist()[:9]} of {self._memory.num_sentences}")
        if rows * new > self._work.rows:
            self._work = engine.workspace(rows * new)
        own = np.arange(rows, dtype=np.int32)
        if before and (rows != self._rows or (parents_R != own).any()):
            self._ancestors[:rows, :before] = self._ancestors[parents_R, :before]
        self._ancestors[:rows, before : before + new] = own[:, None]
        self._rows, self._length, self._highest = rows, before + new, None
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
            engine.library.nllb_decode(
                byref(self._work.struct),
                structs,
                first,
                last,
                byref(self._memory.struct),
                byref(step),
            )

        engine.run_layers("decoder", x, run)
        self._state = x if new == 1 else x.view(rows, new, -1)[:, -1].contiguous()

    def best(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        engine, choice = self._engine, self._choice
        matrix = engine.embedding if choice is None else choice.projection
        assert isinstance(matrix, PackedMatrix)
        starts = stops = np.zeros(self._rows, np.int64)
        if choice is not None:
            starts, stops = (ends[self._sentence] for ends in self._extra_ranges)
        count = min(count, matrix.outputs + int((stops - starts).min()))
        if count < 1:
            raise ValueError("at least one token must be requested")
        values = np.empty((self._rows, count), np.float32)
        ids = np.empty((self._rows, count), np.int64)
        engine.library.nllb_best(
            byref(self._work.struct),
            byref(engine.norm_structs["decoder"]),
            byref(matrix.struct),
            matrix.outputs,
            None if choice is None else pointer(choice.ids),
            None if self._extra is None else byref(self._extra.struct),
            pointer(self._extra_ids),
            pointer(starts),
            pointer(stops),
            self._state.data_ptr(),
            self._rows,
            count,
            pointer(values),
            pointer(ids),
        )
        self._highest = ids[:, 0].copy(), values[:, 0].copy()
        return values, ids

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        # The best token of each row has a known log-probability, which gives the row's normalizer.
        if self._highest is None:
            self.best(1)
        assert self._highest is not None
        highest, logged = self._highest
        both = np.union1d(ids, highest)
        check_ids(both, self._engine.config.vocabulary_size, what="output token")
        logits = self._project(self._engine.restrict(both)).numpy()
        own = logits[np.arange(self._rows), np.searchsorted(both, highest)]
        found: np.ndarray = logits[:, np.searchsorted(both, ids)] + (logged - own)[:, None]
        return found

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
        self._engine.library.nllb_linear(
            byref(self._work.struct),
            byref(self._engine.norm_structs["decoder"]),
            byref(matrix.struct),
            self._state.data_ptr(),
            self._rows,
            y.data_ptr(),
            matrix.padded,
        )
        return y[:, : matrix.outputs]


_SIDES: tuple[Side, Side] = ("encoder", "decoder")


def _norm_struct(norm: Norm, dim: int) -> NormStruct:
    for part in (norm.weight, norm.bias):
        if part.shape != (dim,) or part.dtype != torch.float32 or not part.is_contiguous():
            raise CheckpointError(
                f"a layer norm is {part.dtype} of shape {list(part.shape)}; it must be float32 of "
                f"shape [{dim}]"
            )
    return NormStruct(norm.weight.data_ptr(), norm.bias.data_ptr())


def _check_shape(what: str, linear: Linear | None, shape: tuple[int, int]) -> PackedMatrix:
    assert isinstance(linear, PackedMatrix)
    if linear.shape != shape:
        raise CheckpointError(
            f"{what} is a matrix of shape {linear.shape}, but the configuration requires {shape}"
        )
    return linear


def _check_choice(choice: OutputChoice, num_sentences: int, vocabulary_size: int) -> None:
    assert isinstance(choice.projection, PackedMatrix)
    if len(choice.ids) != choice.projection.outputs or len(choice.extra) != num_sentences:
        raise CheckpointError(
            f"a choice of {len(choice.ids)} output tokens and {len(choice.extra)} lists of extra "
            f"tokens does not match a projection of {choice.projection.outputs} tokens and "
            f"{num_sentences} sentences"
        )
    for ids in (choice.ids, *choice.extra):
        check_ids(ids, vocabulary_size, what="output token")


def _layer_structs(config: ModelConfig, side: Side, layers: Sequence[Layer]) -> Any:
    """Return the kernel's array of layers, which points to the memory of the layers' tensors."""
    structs = (LayerStruct * len(layers))()
    dim, ffn_dim = config.model_dim, config.ffn_dim(side)
    for struct, layer in zip(structs, layers, strict=True):
        struct.self_norm = _norm_struct(layer.self_norm, dim)
        struct.feed_norm = _norm_struct(layer.feed_forward_norm, dim)
        matrices: dict[str, tuple[Linear | None, tuple[int, int]]] = {
            "self_qkv": (layer.self_query_key_value, (3 * dim, dim)),
            "self_out": (layer.self_output, (dim, dim)),
        }
        if layer.cross_norm is not None:
            struct.cross_norm = _norm_struct(layer.cross_norm, dim)
            matrices["cross_query"] = (layer.cross_query, (dim, dim))
            matrices["cross_out"] = (layer.cross_output, (dim, dim))
        if layer.feed_forward is not None:
            matrices["inner"] = (layer.feed_forward.inner, (ffn_dim, dim))
            matrices["outer"] = (layer.feed_forward.outer, (dim, ffn_dim))
        for name, (matrix, shape) in matrices.items():
            packed = _check_shape(f"{name} of {layer.name}", matrix, shape)
            setattr(struct, name, packed.struct)
    return structs
