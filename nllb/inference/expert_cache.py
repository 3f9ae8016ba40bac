"""Experts on a small machine: a bounded cache over experts that stay in the checkpoint file.

The safetensors file is memory-mapped, so an expert that is not in the cache costs one read of its
pages. The cache keeps the experts last used; with the language pair fixed these are few, because
the router sends a language's tokens to few experts (Koishekenov et al. 2023 prune 80 % of them).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from nllb.config import format_size
from nllb.errors import ResourceError
from nllb.inference.layers import FeedForward
from nllb.inference.threads import ForkSafeLock

Load = Callable[[str, int], FeedForward]
"""`(layer, expert) -> the expert`, read from the checkpoint and made ready to compute."""


@dataclass(kw_only=True, slots=True)
class ExpertUse:
    """What a cache did so far."""

    hits: int = 0
    """Requests answered from memory."""
    misses: int = 0
    """Requests that read the checkpoint."""
    evictions: int = 0
    """Experts dropped to make room."""


class ExpertCache:
    """An expert store of at most `memory_bytes`, dropping the expert least recently used."""

    def __init__(self, load: Load, *, expert_bytes: int, memory_bytes: int) -> None:
        """Bound a cache.

        Args:
            load: reads one expert.
            expert_bytes: what one expert takes in memory, ready to compute.
            memory_bytes: the bound.

        Raises:
            ResourceError: not even one expert fits.
        """
        self.capacity = memory_bytes // expert_bytes
        if self.capacity < 1:
            raise ResourceError(
                f"expert memory of {format_size(memory_bytes)} holds no expert: one takes "
                f"{format_size(expert_bytes)}; give --expert-memory at least that, better "
                f"{format_size(8 * expert_bytes)} or more"
            )
        self.use = ExpertUse()
        self._load = load
        self._experts: OrderedDict[tuple[str, int], FeedForward] = OrderedDict()
        self._lock = ForkSafeLock()

    def __len__(self) -> int:
        """Return how many experts are held now."""
        return len(self._experts)

    def expert_weights(self, layer: str, expert: int) -> FeedForward:
        """Return one expert, from memory or from the checkpoint."""
        key = layer, expert
        with self._lock:
            if key in self._experts:
                self.use.hits += 1
                self._experts.move_to_end(key)
                return self._experts[key]
            self.use.misses += 1
            while len(self._experts) >= self.capacity:
                self._experts.popitem(last=False)
                self.use.evictions += 1
            loaded = self._experts[key] = self._load(layer, expert)
            return loaded
