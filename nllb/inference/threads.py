"""Controls the number of threads of a model, and keeps threads and locks usable after a fork.

One setting controls all threads. The compiled kernel has its own threads. Torch, which computes
everything else, is limited to the model's number of threads while the model computes.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TypeVar
from weakref import WeakSet

import torch

from nllb.errors import ConfigError

from .kernels.library import MAX_THREADS

Result = TypeVar("Result")


def resolve_threads(num_threads: int | None) -> int:
    """Return the requested number of threads, or the number of available processors for None.

    Raises:
        ConfigError: the number is out of range.
    """
    if num_threads is None:
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    if not 1 <= num_threads <= MAX_THREADS:
        raise ConfigError(f"num_threads is {num_threads}; it must be 1 to {MAX_THREADS}")
    return num_threads


class ForkSafeLock:
    """A lock that is released in a forked process, even if a thread of the parent held it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def open(self) -> None:
        """Replace the lock with a released one."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Acquire the lock."""
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock."""
        self._lock.release()


_locks: WeakSet[ForkSafeLock] = WeakSet()


class _TorchThreads:
    """Sets torch's number of threads, which is global to the process, for the duration of calls.

    OpenMP keeps worker threads for each thread that calls torch. `fork` copies the calling thread
    but not its OpenMP workers, so that the copied thread would wait for them forever. A new thread
    in the forked process gets its own workers.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._num_active, self._before = 0, 0
        self._copied_thread: int | None = None

    def after_fork(self) -> None:
        """Record which thread was copied; the calls of all other threads do not exist here."""
        self._copied_thread = threading.get_ident()
        if self._num_active:
            torch.set_num_threads(self._before)
            self._num_active = 0

    def call(self, count: int, function: Callable[[], Result]) -> Result:
        if count > 1 and threading.get_ident() == self._copied_thread:
            with ThreadPoolExecutor(1) as executor:
                return executor.submit(self._call, count, function).result()
        return self._call(count, function)

    def _call(self, count: int, function: Callable[[], Result]) -> Result:
        with self._lock:
            if not self._num_active:
                self._before = torch.get_num_threads()
            self._num_active += 1
            torch.set_num_threads(count)
        try:
            return function()
        finally:
            with self._lock:
                self._num_active = max(self._num_active - 1, 0)
                torch.set_num_threads(self._before)


_torch_threads = _TorchThreads()


def with_torch_threads(
    count: int, function: Callable[..., Result], *arguments: object, **options: object
) -> Result:
    """Call a function while torch uses `count` threads, and restore the previous number."""
    return _torch_threads.call(count, partial(function, *arguments, **options))


def _after_fork() -> None:
    for lock in _locks:
        lock.open()
    _torch_threads.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
