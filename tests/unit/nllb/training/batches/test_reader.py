"""Micro-batches: a pure function of seed and step for any number of ranks; their layout."""

import dataclasses
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from nllb.errors import ConfigError, DataError
from nllb.io.manifest import Manifest, Phase, read_manifest
from nllb.training.batches.reader import (
    EOS_ID,
    PAD_ID,
    Batch,
    BatchReader,
    cut_batches,
    read_validation,
)
from nllb.training.train_config import ReaderConfig

CONFIG = ReaderConfig(max_tokens=200, batches_per_step=4, max_length=100, seed=5)


def rows(batch: Batch) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    def strip(row: torch.Tensor) -> tuple[int, ...]:
        return tuple(int(token) for token in row if token != PAD_ID)

    pairs = zip(batch.source, batch.labels, strict=True)
    return [(strip(source), strip(labels)) for source, labels in pairs]


def same(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a.source, b.source) and torch.equal(a.labels, b.labels)
        for a, b in zip(left, right, strict=True)
    )


@pytest.fixture
def manifest(token_data: Path) -> Manifest:
    return read_manifest(token_data)


def test_a_step_is_the_same_whatever_came_before(manifest: Manifest) -> None:
    walked = BatchReader(manifest, CONFIG)
    for step in range(130):
        walked.step(step)
    for step in (0, 3, 63, 64, 39, 40, 41, 129):  # 40 begins the second phase
        assert same(walked.step(step), BatchReader(manifest, CONFIG).step(step))
    other = CONFIG.replace(seed=6)
    assert not same(walked.step(50), BatchReader(manifest, other).step(50))


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_share_the_batches_of_one(manifest: Manifest, num_ranks: int) -> None:
    alone = BatchReader(manifest, CONFIG)
    shared = [
        BatchReader(manifest, CONFIG, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)
    ]
    for step in (0, 7, 70):
        parts = [reader.step(step) for reader in shared]
        woven = [batch for turn in zip(*parts, strict=True) for batch in turn]
        assert same(woven, alone.step(step))


def test_ranks_that_cannot_share_equally_are_refused(manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match="multiple of 3"):
        BatchReader(manifest, CONFIG, num_ranks=3)


def test_the_layout_of_a_batch(manifest: Manifest) -> None:
    vocabulary = manifest.vocabulary
    reader = BatchReader(manifest, CONFIG)
    seen = Counter()
    for step in range(45, 60):
        for batch in reader.step(step):
            assert batch.source.shape[0] * batch.source.shape[1] <= CONFIG.max_tokens
            assert batch.labels.shape[0] * batch.labels.shape[1] <= CONFIG.max_tokens
            assert (batch.target_in[:, 0] == EOS_ID).all()
            shifted = torch.where(batch.labels == EOS_ID, PAD_ID, batch.labels)[:, :-1]
            assert torch.equal(batch.target_in[:, 1:], shifted)
            assert batch.num_targets == int((batch.labels != PAD_ID).sum())
            for (source, labels), number in zip(rows(batch), batch.directions, strict=True):
                direction = manifest.directions[int(number)]
                seen[direction.name] += 1
                assert source[0] == vocabulary.language_id(direction.source)
                assert labels[0] == vocabulary.language_id(direction.target)
                assert source[-1] == labels[-1] == EOS_ID
                mined = "deu_Latn" in direction.name
                assert (source[1] == vocabulary.tag_id("mined")) == mined
                if direction.source == direction.target:
                    assert vocabulary.mask_id in source or source[1:] != labels[1:]
                    assert vocabulary.mask_id not in labels
    assert set(seen) == {direction.name for direction in manifest.directions}


def test_directions_are_drawn_by_their_weights(manifest: Manifest) -> None:
    seen = Counter()
    reader = BatchReader(manifest, CONFIG)
    for step in range(40, 40 + 64 * 6):
        for batch in reader.step(step):
            seen.update(batch.directions.tolist())
    total = sum(seen.values())
    for number, direction in enumerate(manifest.directions):
        assert seen[number] / total == pytest.approx(direction.weight, rel=0.12)


def test_directions_get_shares_of_the_labels(manifest: Manifest) -> None:
    seen = Counter()
    reader = BatchReader(manifest, CONFIG.replace(by_labels=True, join=0.3))
    for step in range(40, 40 + 64 * 6):
        for batch in reader.step(step):
            counts = (batch.labels != PAD_ID).sum(1).tolist()
            for number, count in zip(batch.directions.tolist(), counts, strict=True):
                seen[number] += count
    total = sum(seen.values())
    for number, direction in enumerate(manifest.directions):
        assert seen[number] / total == pytest.approx(direction.weight, rel=0.2)


def test_a_chunk_has_enough_batches_for_its_steps(manifest: Manifest) -> None:
    for by_labels in (False, True):
        reader = BatchReader(manifest, CONFIG.replace(by_labels=by_labels))
        for step in (0, 40, 40 + 64):
            reader.step(step)
            # So no batch comes twice within a chunk, whatever the lengths of a phase.
            assert len(reader._batches) >= 0.9 * 64 * CONFIG.batches_per_step


def test_the_first_phase_draws_from_its_directions_only(manifest: Manifest) -> None:
    active = set(manifest.phases[0].directions)
    reader = BatchReader(manifest, CONFIG)
    drawn = {
        n for step in range(40) for batch in reader.step(step) for n in batch.directions.tolist()
    }
    assert {manifest.directions[number].name for number in drawn} == active


def test_no_pair_repeats_before_all_were_seen(manifest: Manifest) -> None:
    from nllb.training.batches.sampling import active_phases, draws, sample_items

    phase = active_phases(manifest)[1]
    sizes = [direction.num_pairs for direction in phase.directions]
    walked: dict[int, list[int]] = {number: [] for number in range(len(sizes))}
    for chunk in range(30):
        active, firsts, ends = draws(phase, chunk, 97)
        keys = [[1, 2, number] for number in active.tolist()]
        items = sample_items(firsts, ends, np.array(sizes)[active], keys=keys).tolist()
        for number, first, end in zip(*(n.tolist() for n in (active, firsts, ends)), strict=True):
            assert first == len(walked[number])
            walked[number] += [items.pop(0) for _ in range(end - first)]
    assert sum(map(len, walked.values())) == pytest.approx(30 * 97, abs=len(sizes))
    for number, size in enumerate(sizes):
        full = len(walked[number]) // size
        passes = [tuple(walked[number][n * size : (n + 1) * size]) for n in range(full)]
        assert all(sorted(one) == list(range(size)) for one in passes)
        assert len(set(passes)) == full  # each pass in an order of its own
    assert full >= 2  # of the smallest direction


@pytest.mark.parametrize("seed", range(20))
def test_batches_use_the_token_budget_without_exceeding_it(seed: int) -> None:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 60, size=int(draw.integers(1, 500)))
    batches = cut_batches(lengths, 120, draw)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    taken = [int(lengths[batch].max()) * len(batch) for batch in batches]
    assert max(taken) <= 120
    for batch, following in pairwise(batches):
        assert int(lengths[following[0]]) * (len(batch) + 1) > 120


def test_too_long_pairs_are_counted_and_excluded(manifest: Manifest) -> None:
    config = CONFIG.replace(max_length=12, max_tokens=60)
    reader = BatchReader(manifest, config)
    longest = max(batch.labels.shape[1] for step in range(5) for batch in reader.step(step))
    assert longest <= 12
    assert reader.too_long > 0
    with pytest.raises(DataError, match=r"longer than 2 tokens; raise reader\.max_length"):
        BatchReader(manifest, CONFIG.replace(max_length=2)).step(0)


def test_validation_reads_the_held_out_pairs(manifest: Manifest) -> None:
    found = {d.name: batches for d, batches in read_validation(manifest, CONFIG, max_pairs=10)}
    assert sorted(found) == [
        *("deu_Latn-eng_Latn", "eng_Latn-deu_Latn", "eng_Latn-fra_Latn", "fra_Latn-eng_Latn")
    ]
    assert all(sum(len(batch.source) for batch in batches) == 10 for batches in found.values())
    there = {pair[0][2:] for batch in found["eng_Latn-deu_Latn"] for pair in rows(batch)}
    back = {pair[1][1:] for batch in found["deu_Latn-eng_Latn"] for pair in rows(batch)}
    assert there == back


def test_a_direction_without_text_is_an_error(manifest: Manifest) -> None:
    bare = dataclasses.replace(manifest, parts=manifest.parts[:2])
    with pytest.raises(DataError, match=r"eng_Latn-deu_Latn has no training text"):
        BatchReader(bare, CONFIG)
    named = (Phase(until_step=None, directions=("eng_Latn-fra_Latn",)),)
    BatchReader(dataclasses.replace(bare, phases=named), CONFIG).step(0)


def test_a_damaged_shard_is_found(manifest: Manifest, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(manifest.directory, folder)
    path = folder / manifest.parts[0].files[0].path
    raw = bytearray(path.read_bytes())
    raw[-9] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="damaged"):
        read_manifest(folder).verify()
    path.write_bytes(raw[:-40])
    with pytest.raises(DataError, match="truncated"):
        BatchReader(read_manifest(folder), CONFIG).step(0)
