"""A cache of limited size for experts, for models that do not fit into memory.

The experts stay in the memory-mapped safetensors file, and the pages of an expert are read when it
is not in the cache. The cache keeps the most recently used experts. A single language pair uses few
of them, because the router sends the tokens of a language to few experts (Koishekenov et al. 2023
prune 80 % of them).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from nllb.config import format_size
from nllb.errors import ResourceError

from .layers import FeedForward
from .threads import ForkSafeLock

Load = Callable[[str, int], FeedForward]
"""`(layer, expert) -> the expert`, read from the checkpoint and prepared for computation."""


@dataclass(kw_only=True, slots=True)
class CacheStatistics:
    """Statistics of a cache.

    Attributes:
        hits: number of requests for experts in memory.
        misses: number of requests for which the checkpoint was read.
        evictions: number of experts that were evicted from the cache to make room for others.
    """

    hits: int = 0
    misses: int = 0
    evictions: int = 0


class ExpertCache:
    """An expert store with a memory limit, which evicts the least recently used expert."""

    def __init__(self, load: Load, *, expert_bytes: int, memory_bytes: int) -> None:
        """Create an empty cache.

        Args:
            load: loads one expert.
            expert_bytes: size of one expert in memory.
            memory_bytes: maximum size of the cache.

        Raises:
            ResourceError: the memory is too small for one expert.
        """
        self.capacity = memory_bytes // expert_bytes
        if self.capacity < 1:
            raise ResourceError(
                f"an expert memory of {format_size(memory_bytes)} is too small: one expert needs "
                f"{format_size(expert_bytes)}; set --expert-memory to at least this size, "
                f"preferably {format_size(8 * expert_bytes)} or more"
            )
        self.statistics = CacheStatistics()
        self._load = load
        self._experts: OrderedDict[tuple[str, int], FeedForward] = OrderedDict()
        self._lock = ForkSafeLock()

    def __len__(self) -> int:
        """Return the number of experts in the cache."""
        return len(self._experts)

    def expert_weights(self, layer: str, expert: int) -> FeedForward:
        """Return one expert from memory or from the checkpoint."""
        key = layer, expert
        with self._lock:
            if key in self._experts:
                self.statistics.hits += 1
                self._experts.move_to_end(key)
                return self._experts[key]
            self.statistics.misses += 1
            while len(self._experts) >= self.capacity:
                self._experts.popitem(last=False)
                self.statistics.evictions += 1
            loaded = self._experts[key] = self._load(layer, expert)
            return loaded
