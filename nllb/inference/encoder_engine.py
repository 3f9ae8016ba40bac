"""Loads the pretrained encoder for a device, in int8 with the compiled kernel or with torch."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from nllb.errors import ConfigError
from nllb.model.formats.encoder_directory import EncoderDirectory
from nllb.model.pretrained_encoder import PretrainedEncoder, layer_numbers

from .batching import plan_batches
from .kernels.post_norm_encoder import KernelEncoder, find_encoder_kernel
from .threads import resolve_threads, with_torch_threads
from .token_states import EncoderEngine, TokenStates, check_sequences

EncoderType = Literal["auto", "int8", "float32", "bfloat16", "float16"]
"""The number type of the computation; `auto` is int8 on the CPU and float32 on a GPU."""
_CPU_BATCH_TOKENS = 2048
_GPU_BATCH_TOKENS = 65536
_MAX_BATCH = 1024


def load_encoder_engine(
    directory: EncoderDirectory,
    *,
    device: str = "cpu",
    dtype: EncoderType = "auto",
    num_threads: int | None = None,
) -> EncoderEngine:
    """Load the weights of a directory for a device.

    int8 requires the compiled kernel; `auto` is float32 where the kernel cannot run.

    Raises:
        ConfigError: int8 was requested but cannot run, or the number of threads is invalid.
        CheckpointError: weights are damaged.
    """
    threads = resolve_threads(num_threads)
    kernel = find_encoder_kernel(directory.config) if device == "cpu" else None
    if dtype == "int8" and kernel is None:
        raise ConfigError(
            f"int8 was requested on {device!r}, but the compiled kernel cannot run this encoder "
            f"there; use 'auto' or 'float32'"
        )
    if kernel is not None and dtype in ("auto", "int8"):
        return KernelEncoder(directory, kernel, num_threads=threads)
    torch_type = torch.float32 if dtype in ("auto", "int8") else getattr(torch, dtype)
    return TorchEncoderEngine(directory.load(device, torch_type), num_threads=threads)


class TorchEncoderEngine:
    """Runs the torch module, on the CPU or on a GPU."""

    def __init__(self, encoder: PretrainedEncoder, *, num_threads: int = 1) -> None:
        self.encoder, self.config, self._num_threads = encoder, encoder.config, num_threads
        self._device = encoder.embedding.weight.device
        on_cpu = self._device.type == "cpu"
        self._batch_tokens = _CPU_BATCH_TOKENS if on_cpu else _GPU_BATCH_TOKENS

    def worker(self) -> "TorchEncoderEngine":
        """Return an engine for one of several threads; it is this one, as torch shares threads."""
        return self

    def encode(
        self, sequences: Sequence[Sequence[int]], *, layers: Sequence[int] | None = (-1,)
    ) -> TokenStates:
        """Return the states of sequences; see `EncoderEngine`."""
        numbers = layer_numbers(self.config, layers)
        lengths = check_sequences(sequences, self.config)
        return with_torch_threads(self._num_threads, self._encode, sequences, numbers, lengths)

    def _encode(
        self, sequences: Sequence[Sequence[int]], layers: list[int], lengths: tuple[int, ...]
    ) -> TokenStates:
        found: list[Tensor] = [torch.empty(0)] * len(sequences)
        batches = plan_batches(lengths, max_tokens=self._batch_tokens, max_sentences=_MAX_BATCH)
        with torch.inference_mode():
            for batch in batches:
                rows = [torch.tensor(sequences[number]) for number in batch]
                ids_BS = torch.nn.utils.rnn.pad_sequence(
                    rows, batch_first=True, padding_value=self.config.pad_id
                ).to(self._device)
                states_LBSD = self.encoder(ids_BS, layers=layers).float().cpu()
                for row, number in enumerate(batch):
                    found[number] = states_LBSD[:, row, : lengths[number]]
        empty = torch.empty(len(layers), 0, self.config.model_dim)
        return TokenStates(states_LTD=torch.cat([empty, *found], dim=1), lengths=lengths)
