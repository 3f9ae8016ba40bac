"""The expert cache: bounded, least recently used first out, shared by threads."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nllb.errors import ResourceError
from nllb.inference.expert_cache import ExpertCache


def make_cache(capacity: int, log: list[tuple[str, int]] | None = None) -> ExpertCache:
    def load(layer: str, expert: int):
        if log is not None:
            log.append((layer, expert))
        return layer, expert

    return ExpertCache(load, expert_bytes=100, memory_bytes=100 * capacity + 99)


def test_the_bound_holds_and_the_oldest_leaves() -> None:
    log: list[tuple[str, int]] = []
    cache = make_cache(2, log)
    for expert in (0, 1, 0, 2, 0, 1):
        assert cache.expert_weights("encoder.layers.3", expert) == ("encoder.layers.3", expert)
        assert len(cache) <= 2
    assert [expert for _, expert in log] == [0, 1, 2, 1]
    assert (cache.statistics.hits, cache.statistics.misses, cache.statistics.evictions) == (2, 4, 2)


def test_layers_are_kept_apart() -> None:
    cache = make_cache(4)
    assert cache.expert_weights("encoder.layers.1", 0) != cache.expert_weights(
        "decoder.layers.1", 0
    )


def test_a_bound_below_one_expert_is_refused_with_what_is_needed() -> None:
    with pytest.raises(ResourceError, match=r"one expert needs 2\.0 GiB"):
        ExpertCache(lambda layer, expert: None, expert_bytes=2 << 30, memory_bytes=1 << 30)


def test_threads_share_one_bound() -> None:
    cache = make_cache(3)

    def work(seed: int) -> bool:
        draw = random.Random(seed)
        for _ in range(300):
            expert = draw.randrange(10)
            if cache.expert_weights("layer", expert) != ("layer", expert) or len(cache) > 3:
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
    assert cache.statistics.hits + cache.statistics.misses == 2400


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_the_memory_of_evicted_experts_is_free_again(random_model_dir, dtype) -> None:
    """An evicted expert must not stay in memory because it shares a block with others."""
    from functools import partial

    from nllb.inference.engine import TorchEngine
    from nllb.inference.kernels.compiled_engine import int8_engine
    from nllb.inference.memory_plan import plan_memory
    from nllb.model.formats.open_model import open_model

    opened = open_model(random_model_dir)
    bound = 3 * plan_memory(opened.config, dtype=dtype).expert_bytes
    store = partial(ExpertCache, expert_bytes=bound // 3, memory_bytes=bound)
    make = int8_engine if dtype == "int8" else TorchEngine
    engine = make(opened.config, opened.weights, num_threads=1, experts=store)
    for layer in ("encoder.layers.1", "decoder.layers.1"):
        for expert in range(opened.config.num_experts):
            engine.store.expert_weights(layer, expert)
    held = engine.store._experts.values()
    assert len(held) == 3
    tensors = [
        value
        for expert in held
        for linear in (expert.inner, expert.outer)
        for value in vars_of(linear)
    ]
    blocks = {value.untyped_storage().data_ptr(): value.untyped_storage() for value in tensors}
    alignment = 64 * len(blocks)
    assert sum(block.nbytes() for block in blocks.values()) <= bound + alignment


def vars_of(linear: object) -> list[torch.Tensor]:
    names = ("weight", "scale", "bias", "offset")
    values = [getattr(linear, name, None) for name in names]
    return [value for value in values if isinstance(value, torch.Tensor)]
