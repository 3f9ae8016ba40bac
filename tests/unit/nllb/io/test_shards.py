"""Token shards and manifests: what is written is read, and what is damaged is refused."""

import dataclasses
import json
import os
import resource
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings, strategies

from nllb.config.fingerprints import file_fingerprint
from nllb.errors import DataError
from nllb.io.manifest import (
    CorpusRecord,
    Manifest,
    Phase,
    ShardGroup,
    TrainingDirection,
    VocabularyRecord,
    read_manifest,
    sampling_weights,
    write_manifest,
)
from nllb.io.shards import ShardFile, TokenShard, write_token_shard

VOCABULARY = VocabularyRecord(
    file="spm.model",
    sha256="0" * 64,
    name="spm:standin",
    num_pieces=100,
    languages=("deu_Latn", "eng_Latn", "fra_Latn"),
    tags=("<MINED_DATA>", "<MMT_BT_DATA>", "<SMT_BT_DATA>"),
    size=108,
)


def make_manifest(directory: Path, files: tuple[ShardFile, ...] = ()) -> Manifest:
    return Manifest(
        format_version=1,
        vocabulary=VOCABULARY,
        temperature=5.0,
        parts=(
            ShardGroup(
                source="deu_Latn", target="eng_Latn", origin="primary", split="train", files=files
            ),
            ShardGroup(
                source="deu_Latn", target="eng_Latn", origin="mmt_bt", split="train", files=()
            ),
            ShardGroup(
                source="eng_Latn", target="eng_Latn", origin="denoising", split="train", files=()
            ),
        ),
        directions=(
            TrainingDirection(source="deu_Latn", target="eng_Latn", num_pairs=2, weight=0.5),
            TrainingDirection(source="eng_Latn", target="deu_Latn", num_pairs=2, weight=0.5),
        ),
        phases=(
            Phase(until_step=10, directions=("deu_Latn-eng_Latn",)),
            Phase(until_step=None, directions=("deu_Latn-eng_Latn", "eng_Latn-deu_Latn")),
        ),
        corpora=(CorpusRecord(name="own", origin="primary", licence="CC0", num_pairs=2),),
        made_by={"version": "0"},
        directory=directory,
    )


@settings(max_examples=60, deadline=None)
@given(
    pairs=strategies.lists(
        strategies.tuples(
            strategies.lists(strategies.integers(0, 299), max_size=9),
            strategies.lists(strategies.integers(0, 299), max_size=9),
        ),
        max_size=12,
    ),
    wide=strategies.booleans(),
    sides=strategies.sampled_from([1, 2]),
)
def test_a_shard_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[tuple[list[int], list[int]]],
    wide: bool,
    sides: int,
) -> None:
    path = tmp_path_factory.mktemp("shards") / "a.tokens"
    columns = [[pair[side] for pair in pairs] for side in range(sides)]
    record = write_token_shard(path, columns, vocabulary_size=300_000 if wide else 300)
    shard = TokenShard.open(path)
    assert len(shard) == len(pairs) == record.num_pairs
    assert [shard.source(i).tolist() for i in range(len(pairs))] == columns[0]
    if sides == 2:
        assert [shard.target(i).tolist() for i in range(len(pairs))] == columns[1]
    assert shard.lengths().tolist() == [[len(tokens) for tokens in column] for column in columns]
    assert record.num_source_tokens == sum(map(len, columns[0]))
    assert (record.num_bytes, record.xxh3_128) == (path.stat().st_size, file_fingerprint(path))


def test_a_small_vocabulary_takes_two_bytes_a_token(tmp_path: Path) -> None:
    tokens = [list(range(1000))]
    narrow = write_token_shard(tmp_path / "narrow", [tokens], vocabulary_size=65_536)
    wide = write_token_shard(tmp_path / "wide", [tokens], vocabulary_size=65_537)
    assert wide.num_bytes - narrow.num_bytes == 2000


def test_ids_beyond_the_vocabulary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="vocabulary of 300"):
        write_token_shard(tmp_path / "a", [[[1, 300]]], vocabulary_size=300)
    assert list(tmp_path.iterdir()) == []


def test_sides_of_unequal_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 and 1 sentences"):
        write_token_shard(tmp_path / "a", [[[1], [2]], [[3]]], vocabulary_size=300)


@pytest.mark.parametrize("keep", [0, 10, 40, -1])
def test_a_shard_that_is_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.tokens"
    write_token_shard(path, [[[1, 2, 3, 4]], [[5, 6, 7, 8]]], vocabulary_size=300)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"truncated|not a token shard"):
        TokenShard.open(path)


def test_more_shards_can_be_open_than_the_usual_limit_of_files(tmp_path: Path) -> None:
    path = tmp_path / "a.tokens"
    write_token_shard(path, [[[1, 2]], [[3]]], vocabulary_size=300)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = len(os.listdir("/proc/self/fd")) + 30
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        shards = [TokenShard.open(path) for _ in range(60)]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {shard.source(0).tolist()[1] for shard in shards} == {2}


def test_a_manifest_gives_back_what_was_written(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path)
    path = write_manifest(manifest)
    assert read_manifest(path) == manifest == read_manifest(tmp_path)
    assert read_manifest(tmp_path).directory == tmp_path


def test_bitext_feeds_both_directions_and_back_translation_one(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path)

    def origins(source: str, target: str) -> list[tuple[str, bool]]:
        feeding = manifest.parts_for(source, target)
        return [(part.origin, is_reversed) for part, is_reversed in feeding]

    assert origins("deu_Latn", "eng_Latn") == [("primary", False), ("mmt_bt", False)]
    assert origins("eng_Latn", "deu_Latn") == [("primary", True)]
    assert origins("eng_Latn", "eng_Latn") == [("denoising", False)]
    assert manifest.parts_for("eng_Latn", "fra_Latn") == ()


def test_a_damaged_shard_is_found_by_length_and_by_hash(tmp_path: Path) -> None:
    record = write_token_shard(
        tmp_path / "a.tokens", [[[1, 2, 3, 4]], [[5, 6, 7, 8]]], vocabulary_size=300
    )
    manifest = make_manifest(tmp_path, (record,))
    manifest.verify()
    assert manifest.open(record).source(0).tolist() == [1, 2, 3, 4]
    raw = bytearray((tmp_path / "a.tokens").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "a.tokens").write_bytes(raw)
    with pytest.raises(DataError, match="damaged"):
        manifest.verify()
    with pytest.raises(DataError, match="manifest records"):
        manifest.open(dataclasses.replace(record, num_pairs=2))
    (tmp_path / "a.tokens").unlink()
    with pytest.raises(DataError, match="cannot read the shard"):
        manifest.open(record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 9}, "format 9"),
        ({"phases": []}, "no phase"),
        (
            {
                "phases": [
                    {"until_step": 5, "directions": ["eng_Latn-deu_Latn"]},
                    {"until_step": None, "directions": ["deu_Latn-eng_Latn"]},
                ]
            },
            "nested",
        ),
        ({"phases": [{"until_step": None, "directions": ["a-b"]}]}, "a-b"),
        ({"parts": 3}, "not a manifest"),
    ],
)
def test_a_manifest_that_is_not_consistent_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = write_manifest(make_manifest(tmp_path))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=message):
        read_manifest(path)


def test_a_missing_manifest_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nllb data prepare"):
        read_manifest(tmp_path)


def test_ids_follow_the_layout_of_the_field() -> None:
    assert VOCABULARY.language_id("deu_Latn") == 101
    assert VOCABULARY.tag_id("mined") == 104
    assert VOCABULARY.tag_id("primary") is None
    assert VOCABULARY.mask_id == VOCABULARY.size - 1
    with pytest.raises(DataError, match="xyz"):
        VOCABULARY.language_id("xyz")


def test_temperature_flattens_the_sampling() -> None:
    assert sampling_weights([75, 25, 0], 1) == [0.75, 0.25, 0.0]
    flat = sampling_weights([10_000, 1, 0], 5)
    assert numpy.isclose(flat[0] / flat[1], 10_000**0.2)
    assert numpy.isclose(sum(flat), 1)


@pytest.mark.parametrize("name", ["../outside.tokens", "/etc/passwd", "link.tokens"])
def test_shards_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    file = write_token_shard(tmp_path / "outside.tokens", [[[4, 5]], [[6]]], vocabulary_size=300)
    (folder / "link.tokens").symlink_to("../outside.tokens")
    record = dataclasses.replace(file, path=name)
    manifest = make_manifest(folder)
    for use in (lambda: manifest.open(record), lambda: manifest.path(record)):
        with pytest.raises(DataError, match=r"manifest\.json.*(not the name|a link that leaves)"):
            use()


def test_offsets_that_fall_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tokens"
    write_token_shard(path, [[[4, 5], [6]], [[7], [8, 9]]], vocabulary_size=300)
    data = bytearray(path.read_bytes())
    data[40:48] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match="offsets decrease"):
        TokenShard.open(path)


@pytest.mark.parametrize(
    "change",
    [
        {"parts": [{"source": 3}]},
        {"temperature": -1},
        {"corpora": [{"name": "a", "origin": "b", "licence": "c", "num_pairs": 1}]},
        {"directions": [{"source": "a", "target": "b", "num_pairs": 10**30, "weight": 1}]},
        {"vocabulary": []},
        {"format_version": []},
    ],
)
def test_manifests_of_another_form_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = write_manifest(make_manifest(tmp_path))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=r"manifest\.json"):
        read_manifest(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="nests too deeply"):
        read_manifest(path)
