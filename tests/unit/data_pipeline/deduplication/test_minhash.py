"""Near-duplicates: the estimate of similarity, and the pass that drops them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import polars
import pytest

from data_pipeline.blocks import DecidedBlock, read_columns, read_facts
from data_pipeline.data_config import DataConfig, DedupConfig, DedupPassConfig, NearDuplicateConfig
from data_pipeline.deduplication.external import deduplicate
from data_pipeline.deduplication.minhash import band_hashes
from data_pipeline.stages import Block, Machine

MakeBlock = Callable[..., Block]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = "river house bread winter letter doctor garden window market bridge music teacher".split()


def jaccard(first: str, second: str, length: int) -> float:
    """Return the exact similarity that the band hashes estimate."""
    sets = [
        {text[at : at + length] for at in range(max(1, len(text) - length + 1))}
        for text in (first, second)
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_the_share_of_matches_follows_the_similarity() -> None:
    config = NearDuplicateConfig()
    generator = random.Random(0)
    matches: dict[float, list[bool]] = {}
    for _ in range(1500):
        first = "".join(generator.choices(LETTERS, k=80))
        changed = list(first)
        for _ in range(generator.randrange(7)):
            changed[generator.randrange(80)] = generator.choice(LETTERS)
        second = "".join(changed)
        hashes = band_hashes(polars.Series([first, second]), config)
        similarity = round(jaccard(first, second, config.ngram), 1)
        matches.setdefault(similarity, []).append(bool((hashes[0] == hashes[1]).any()))
    shares = {key: sum(found) / len(found) for key, found in matches.items()}
    assert shares[1.0] == 1.0
    for similarity, expected in ((0.9, 1.0), (0.8, 0.85), (0.6, 0.11), (0.5, 0.02)):
        assert shares[similarity] == pytest.approx(expected, abs=0.12)


def test_hashes_do_not_depend_on_the_texts_beside() -> None:
    config = NearDuplicateConfig(bands=4, rows_per_band=3)
    texts = [" ".join(random.Random(n).choices(WORDS, k=n % 9)) for n in range(9000)]
    together = band_hashes(polars.Series(texts), config)
    for number in (0, 1, 4095, 4096, 8999):
        alone = band_hashes(polars.Series([texts[number]]), config)
        assert (together[number] == alone[0]).all()
    assert band_hashes(polars.Series([], dtype=polars.String), config).shape == (0, 4)
    assert len(numpy.unique(together[5])) == 4


SENTENCES = [
    "The committee of the town decided on Monday that the old bridge would be closed for repairs.",
    "A short walk through the market showed that bread had become more expensive this winter.",
    "My teacher wrote a long letter about music to the doctor who lives behind the garden wall.",
]


@pytest.fixture
def near_reasons(
    make_block: MakeBlock, make_config: Callable[..., DataConfig], tmp_path: Path
) -> Callable[..., list[str | None]]:
    """Return a function that gives the reasons of deduplication for lines in two blocks."""

    def run(
        blocks: list[list[tuple[str, str]]], dedup: DedupConfig, **machine: Any
    ) -> list[str | None]:
        decided = []
        for number, rows in enumerate(blocks):
            sources, targets = zip(*rows, strict=True)
            block = make_block(sources, targets, name=f"own/eng_Latn-fra_Latn/{number:05d}")
            decided.append(DecidedBlock(block=block, decisions=(block.path,)))
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        config = make_config(dedup=dedup)
        done = deduplicate(config, decided, out, Machine(quiet=True, **machine))
        columns = [read_columns(block.path, ["reason"])["reason"] for block in done]
        return [reason for column in columns for reason in column.cast(polars.String).to_list()]

    return run


def test_near_duplicates_are_dropped_after_equal_lines(
    near_reasons: Callable[..., list[str | None]],
) -> None:
    first, second, third = SENTENCES
    near = first.replace("on Monday", "on Tuesday")
    blocks = [
        [(first, "Un"), (second, "Deux"), ("!", "?"), ("...", "-")],
        [(near, "Un"), (first, "Un"), (third, "Trois"), (second + " ;", "Deux.")],
    ]
    dedup = DedupConfig(near_duplicates=NearDuplicateConfig(by="source"))
    found = near_reasons(blocks, dedup)
    assert found[:4] == [None] * 4, "lines without letters are never near-duplicates"
    assert found[4:] == [
        "near_duplicate_source",
        "duplicate_pair",
        None,
        "near_duplicate_source",
    ]
    assert near_reasons(blocks, dedup, memory=1 << 10, workers=1) == found
    assert near_reasons(blocks, DedupConfig())[4] is None


def test_boilerplate_is_dropped_with_its_first_copy(
    near_reasons: Callable[..., list[str | None]], tmp_path: Path
) -> None:
    menu = [("Home | News | Contact", f"Accueil {number}") for number in range(4)]
    twice = [(SENTENCES[0], "Un"), (SENTENCES[0], "Un autre")]
    blocks = [[*menu[:2], *twice], [*menu[2:], (SENTENCES[1], "Deux")]]
    dedup = DedupConfig(passes=(DedupPassConfig(by="source"),), max_repetitions=3)
    assert near_reasons(blocks, dedup) == [
        "boilerplate_source",
        "boilerplate_source",
        None,
        "duplicate_source",
        "boilerplate_source",
        "boilerplate_source",
        None,
    ]
    paths = list(tmp_path.rglob("dedup/blocks/**/*.parquet"))
    assert sum(read_facts(path)["reasons"].get("boilerplate_source", 0) for path in paths) == 4
