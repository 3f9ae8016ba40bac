"""The pretrained encoder in int8 with the compiled kernel (`kernel_encoder.h`).

Weights have one scale per output and activations one per row. Inputs that come from a norm are
equalized first: some channels are up to a hundred times as large as others, so each channel is
divided by a factor, and the matrix is multiplied by it (SmoothQuant, arXiv 2211.10438, with an
exponent of 0.5). The result of a row depends only on its own sequence, regardless of the batch.
"""

import threading
from collections.abc import Sequence
from copy import copy
from ctypes import byref
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nllb.inference.threads import with_torch_threads
from nllb.inference.token_states import TokenStates, check_sequences
from nllb.model.formats.encoder_directory import EncoderDirectory
from nllb.model.formats.quantized_storage import quantize_rows
from nllb.model.pretrained_encoder import EncoderConfig, layer_numbers

from .library import (
    Kernel,
    NormStruct,
    PostNormLayerStruct,
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
)

_LANES = 16
"""Number of floats that the kernel's attention processes at a time; head sizes are multiples."""
_CHUNK_TOKENS = 256
"""Tokens that a thread passes through all layers together, so that states stay in the cache."""
_LEAST_RANGE = 1e-5


def find_encoder_kernel(config: EncoderConfig) -> Kernel | None:
    """Return the compiled kernel if it can run an encoder of this shape."""
    head_dim = config.model_dim // config.num_heads
    fits = (
        head_dim % _LANES == 0
        and max(config.ffn_dim + _LANES, config.model_dim) <= MAX_DIM
        and config.ffn_dim % _LANES == 0
        and config.max_positions <= MAX_POSITIONS
    )
    return load_kernel() if fits else None


class KernelEncoder:
    """An encoder in int8, whose embedding stays in the memory-mapped file."""

    def __init__(self, directory: EncoderDirectory, kernel: Kernel, *, num_threads: int) -> None:
        self.config = directory.config
        self._runtime = Runtime(kernel=kernel, num_threads=num_threads, arena=Arena(kernel))
        self._directory = directory
        self._kept: list[Any] = []  # what the structs point to
        self._structs = (PostNormLayerStruct * self.config.num_layers)()
        for layer in range(self.config.num_layers):
            self._fill(self._structs[layer], f"layers.{layer}")
        self._embedding = directory.embedding()
        token_type_D = directory.read("token_types.weight")[0]
        self._positions = directory.read("positions.weight") + token_type_D
        self._norm = [directory.read(f"embedding_norm.{leaf}") for leaf in ("weight", "bias")]
        self._local = threading.local()

    def worker(self) -> "KernelEncoder":
        """Return a single-threaded copy of this encoder with shared weights."""
        worker = copy(self)
        worker._runtime = replace(self._runtime, num_threads=1)
        worker._local = threading.local()
        return worker

    def encode(
        self, sequences: Sequence[Sequence[int]], *, layers: Sequence[int] | None = (-1,)
    ) -> TokenStates:
        """Return the states of sequences; see `EncoderEngine`."""
        numbers = layer_numbers(self.config, layers)
        lengths = check_sequences(sequences, self.config)
        states_LTD = allocate(len(numbers) * sum(lengths) * self.config.model_dim)
        states_LTD = states_LTD.view(len(numbers), -1, self.config.model_dim)
        # Torch only reads embeddings here, for which waking its threads costs more than they gain.
        with_torch_threads(1, self._encode_all, sequences, lengths, numbers, states_LTD)
        return TokenStates(states_LTD=states_LTD, lengths=lengths)

    def _encode_all(
        self,
        sequences: Sequence[Sequence[int]],
        lengths: Sequence[int],
        layers: list[int],
        states_LTD: Tensor,
    ) -> None:
        first_token, first = 0, 0
        while first < len(sequences):
            last, tokens = self._next_chunk(lengths, first)
            chunk_LTD = states_LTD[:, first_token : first_token + tokens]
            self._encode_chunk(sequences[first:last], lengths[first:last], layers, chunk_LTD)
            first, first_token = last, first_token + tokens

    def _next_chunk(self, lengths: Sequence[int], first: int) -> tuple[int, int]:
        """Return the end of the chunk of sequences that begins with `first`, and its tokens."""
        limit = _CHUNK_TOKENS * self._runtime.num_threads
        last, tokens = first + 1, lengths[first]
        while last < len(lengths) and tokens + lengths[last] <= limit:
            tokens += lengths[last]
            last += 1
        return last, tokens

    def _encode_chunk(
        self,
        sequences: Sequence[Sequence[int]],
        lengths: Sequence[int],
        layers: list[int],
        states_LTD: Tensor,
    ) -> None:
        length = np.array(lengths, np.int32)
        start = np.cumsum(length, dtype=np.int32) - length
        x_TD = self._embed(sequences, lengths)
        work = self._workspace(len(x_TD))
        done = 0
        for layer in sorted(set(layers)):
            if layer > done:
                self._runtime.kernel.library.nllb_encode_post_norm(
                    byref(work.struct),
                    self._structs,
                    done,
                    layer,
                    self.config.norm_epsilon,
                    len(lengths),
                    pointer(start),
                    pointer(length),
                    len(x_TD),
                    x_TD.data_ptr(),
                )
            done = layer
            for place, wanted in enumerate(layers):
                if wanted == layer:
                    states_LTD[place] = x_TD

    def _embed(self, sequences: Sequence[Sequence[int]], lengths: Sequence[int]) -> Tensor:
        ids = torch.tensor([number for ids in sequences for number in ids])
        positions = torch.cat([self._positions[:length] for length in lengths])
        summed_TD = self._embedding.rows(ids) + positions
        weight, bias = self._norm
        return functional.layer_norm(
            summed_TD, weight.shape, weight, bias, self.config.norm_epsilon
        ).contiguous()

    def _workspace(self, rows: int) -> Workspace:
        """Return this thread's buffers, which are kept between calls."""
        kept: Workspace | None = getattr(self._local, "workspace", None)
        if kept is None or kept.rows < rows:
            config = self.config
            kept = self._local.workspace = Workspace(
                self._runtime,
                rows=max(rows, _CHUNK_TOKENS),
                dim=config.model_dim,
                depth=max(config.model_dim, config.ffn_dim + _LANES),
                heads=config.num_heads,
            )
        return kept

    def _fill(self, struct: Any, layer: str) -> None:
        attention = [f"{layer}.{name}" for name in ("query", "key", "value")]
        struct.qkv, struct.qkv_factors = self._pack_evened(attention)
        struct.out = self._pack([f"{layer}.output"], self._weight([f"{layer}.output"]))
        struct.inner, struct.inner_factors = self._pack_evened([f"{layer}.inner"])
        struct.outer = self._pack([f"{layer}.outer"], self._weight([f"{layer}.outer"]))
        struct.attention_norm = self._norm_struct(f"{layer}.attention_norm")
        struct.feed_norm = self._norm_struct(f"{layer}.feed_forward_norm")

    def _weight(self, names: list[str]) -> Tensor:
        return torch.cat([self._directory.read(f"{name}.weight") for name in names])

    def _pack_evened(self, names: list[str]) -> tuple[Any, int]:
        """Pack matrices with a common input, and return the factors of the input channels."""
        weight_RD = self._weight(names)
        factor_D = evening_factors(weight_RD, self._directory.input_range(names[0]))
        inverse_D = (1 / factor_D).contiguous()
        self._kept.append(inverse_D)
        return self._pack(names, weight_RD.mul_(factor_D)), inverse_D.data_ptr()

    def _pack(self, names: list[str], weight_RD: Tensor) -> Any:
        bias_R = torch.cat([self._directory.read(f"{name}.bias") for name in names])
        matrix = PackedMatrix(self._runtime, *weight_RD.shape)
        matrix.fill(0, *quantize_rows(weight_RD), bias_R)
        self._kept.append(matrix)
        return matrix.struct

    def _norm_struct(self, name: str) -> NormStruct:
        parts = [self._directory.read(f"{name}.{leaf}").contiguous() for leaf in ("weight", "bias")]
        self._kept.append(parts)
        return NormStruct(*(part.data_ptr() for part in parts))


def evening_factors(weight_RD: Tensor, range_D: Tensor | None) -> Tensor:
    """Return the factors of a matrix's columns that equalize its input channels.

    Each input channel gets the magnitude of its column: both become their geometric mean. Without
    measured ranges of the inputs, all factors are 1.
    """
    if range_D is None:
        return torch.ones(weight_RD.shape[1])
    column_D = weight_RD.abs().amax(0).clamp_min(_LEAST_RANGE)
    factor_D = (range_D.clamp_min(_LEAST_RANGE) / column_D).sqrt()
    return factor_D / factor_D.median()
