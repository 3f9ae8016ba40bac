"""Memory and processors that this process may use, within the limits of a container."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MALLOC_OPTIONS: Final = (
    (-4, 0),  # M_MMAP_MAX: large blocks come from the heap, too
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: up to 2 GiB at the end of the heap are kept
    (-2, 1 << 28),  # M_TOP_PAD: the heap grows by 256 MiB
    (-8, 1),  # M_ARENA_MAX: all threads use the same heap
)
"""Numbers of options of glibc's mallopt(3), and their values."""
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def available_memory() -> int:
    """Return the bytes of memory that are free, within the limits of a container or a job.

    Memory that a container's processes already use is subtracted from its limit; page cache that
    the kernel can drop counts as free.
    """
    return min([_free_memory(), *(max(0, free) for free in _free_in_cgroups())])


def usable_processors() -> int:
    """Return the number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Make the allocator of this process reuse large blocks instead of returning them.

    glibc returns a large block to the operating system as soon as it is freed, so that a training
    step on a CPU, which allocates the same tensors again and again, spends an eighth of its time on
    page faults. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for option, value in _MALLOC_OPTIONS:
            mallopt(option, value)


def _free_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _free_in_cgroups() -> Iterator[int]:
    """Yield the free memory of each control group of this process."""
    for folder in _own_cgroups():
        versions = (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        )
        for limit_file, usage_file, cache_key in versions:
            limit, usage = _number(folder / limit_file), _number(folder / usage_file)
            if limit is not None and usage is not None:
                yield limit - max(0, usage - _statistic(folder / "memory.stat", cache_key))


def _own_cgroups() -> Iterator[Path]:
    """Yield the folders of this process's memory groups and of their parents."""
    roots = [(_CGROUPS, "/"), (_CGROUPS / "memory", "/")]
    try:
        for line in _OWN_CGROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                roots.append((_CGROUPS, path))
            elif "memory" in controllers.split(","):
                roots.append((_CGROUPS / "memory", path))
    except (OSError, ValueError):
        pass
    seen = set()
    for root, path in roots:
        folder = root / path.lstrip("/")
        while folder not in seen and folder.is_relative_to(root):
            seen.add(folder)
            yield folder
            folder = folder.parent


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # `max` is no limit


def _statistic(path: Path, key: str) -> int:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [key]), 0)
