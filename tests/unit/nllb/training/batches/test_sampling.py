"""Sampling: keyed permutations of any size, and counts that follow the weights."""

import numpy as np
import pytest

from nllb.training.batches import sampling


def permute(places: np.ndarray, size: int, *, key: list[int]) -> np.ndarray:
    one = np.zeros(len(places), dtype=np.int64)
    return sampling.permute(places, np.array([size]), keys=[key], permutation=one)


def walk(first: int, end: int, size: int, *, key: list[int]) -> np.ndarray:
    return sampling.sample_items(*map(np.array, ([first], [end], [size])), keys=[key])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 17, 64, 65, 1000, 4097])
def test_a_permutation_visits_every_item_once(size: int) -> None:
    for seed in range(5):
        items = permute(np.arange(size), size, key=[seed, 7])
        assert sorted(items.tolist()) == list(range(size))


def test_a_permutation_looks_random() -> None:
    size = 2000
    orders = np.stack([permute(np.arange(size), size, key=[seed]) for seed in range(60)])
    assert len({tuple(order) for order in orders}) == 60
    # The place of an item is uniform: mean and spread, and no link between neighbours.
    assert abs(orders.mean() - (size - 1) / 2) < 1e-9
    per_place = orders.mean(0)
    assert per_place.std() == pytest.approx(size / 12**0.5 / 60**0.5, rel=0.15)
    neighbours = [np.corrcoef(order[:-1], order[1:])[0, 1] for order in orders]
    assert np.abs(neighbours).mean() < 0.05


def test_single_positions_can_be_evaluated() -> None:
    whole = permute(np.arange(500), 500, key=[3])
    assert permute(np.array([400, 2]), 500, key=[3]).tolist() == [whole[400], whole[2]]


def test_sampling_continues_after_the_last_item() -> None:
    whole = walk(0, 35, 10, key=[1])
    assert walk(7, 23, 10, key=[1]).tolist() == whole[7:23].tolist()
    assert sorted(whole[:10].tolist()) == sorted(whole[10:20].tolist()) == list(range(10))
    assert whole[:10].tolist() != whole[10:20].tolist()


def test_directions_are_sampled_independently() -> None:
    firsts, ends, sizes = (np.array(n) for n in ([3, 0, 40, 7], [33, 9, 41, 7], [10, 1, 500, 4]))
    keys = [[5, number] for number in range(4)]
    together = sampling.sample_items(firsts, ends, sizes, keys=keys)
    alone = [
        walk(int(first), int(end), int(size), key=key)
        for first, end, size, key in zip(firsts, ends, sizes, keys, strict=True)
    ]
    assert together.tolist() == np.concatenate(alone).tolist()
