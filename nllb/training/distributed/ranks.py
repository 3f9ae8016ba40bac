"""The processes that train together, with their collectives and their common stop signal.

The launcher (torchrun, `nllb slurm submit`) sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT. Without them there is one process and no process group.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from torch import Tensor, distributed

from nllb.errors import ConfigError, ResourceError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process and the group of processes that it trains with.

    Attributes:
        rank: index of this process.
        size: number of processes.
        device: device of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes the files that exist once per run."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor([float(flag)], device=self.device)).item())

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value, which must be JSON, on every rank."""
        return self.gather(value if self.is_first else None)[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, which must be JSON, on every rank.

        torch's own collectives for objects exchange pickles, which can execute code.
        """
        if self.size == 1:
            return [value]
        text = json.dumps(value).encode()
        sizes = self._gather(torch.tensor([len(text)]), 1)
        longest = int(torch.cat(sizes).max())
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        texts = self._gather(padded, longest)
        return [
            json.loads(bytes(text[: int(size)].tolist()))
            for text, size in zip(texts, sizes, strict=True)
        ]

    def _gather(self, values: Tensor, length: int) -> list[Tensor]:
        own = values.to(self.device)
        found = [torch.empty(length, dtype=own.dtype, device=self.device) for _ in range(self.size)]
        distributed.all_gather(found, own)
        return [part.cpu() for part in found]

    def wait(self) -> None:
        """Wait until all ranks reach this call."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def join_ranks(device: str = "auto") -> Iterator[Ranks]:
    """Join the process group that the launcher started.

    Raises:
        ConfigError: The launcher's environment variables are invalid.
        ResourceError: The device does not exist.
    """
    rank, size, local = (_number(name, 0 + (name == "WORLD_SIZE")) for name in _VARIABLES)
    if not 0 <= rank < size:
        raise ConfigError(
            f"RANK is {rank} and WORLD_SIZE is {size}, but ranks range from 0 to WORLD_SIZE - 1"
        )
    place = _device(device, local)
    if size > 1:
        backend = "nccl" if place.type == "cuda" else "gloo"
        distributed.init_process_group(backend, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        yield Ranks(rank=rank, size=size, device=place)
    finally:
        if size > 1:
            distributed.destroy_process_group()


_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"the environment variable {name} is {text!r}, not a whole number"
        ) from None


def _device(name: str, local_rank: int) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available() or local_rank >= torch.cuda.device_count():
        raise ResourceError(
            f"device {name!r} is not available for local rank {local_rank}: "
            f"{torch.cuda.device_count()} GPUs are visible; set device: cpu or start fewer ranks"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


class StopFlag:
    """A flag that SIGTERM and SIGUSR2 set; all ranks stop after the same step."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._asked = False

    def common(self) -> bool:
        """Return whether any rank received a signal; all ranks must call it at the same step."""
        return self._ranks.any(self._asked)

    @contextmanager
    def listening(self) -> Iterator["StopFlag"]:
        """Handle the signals inside the block; outside the main thread this does nothing."""
        before: dict[signal.Signals, Any] = {}
        try:
            for number in STOP_SIGNALS:
                before[number] = signal.signal(number, self._stop)
        except ValueError:
            before.clear()
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
