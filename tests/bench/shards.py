"""Start-up and speed of the reader of token shards: `python -m tests.bench.shards`.

Writes a manifest of 2,440 directions with two origins each. Then, in a fresh process, it times
reading the manifest, reading the first shard, and opening and touching the shards of all
directions.
"""

import subprocess
import sys
import tempfile
import time
from itertools import pairwise, permutations
from pathlib import Path

import numpy

from nllb.io.manifest import (
    SOURCE_TAGS,
    Manifest,
    Phase,
    ShardGroup,
    TrainingDirection,
    VocabularyRecord,
    read_manifest,
    sampling_weights,
    write_manifest,
)
from nllb.io.shards import FORMAT_VERSION, write_token_shard
from nllb.languages import languages

DIRECTIONS = 2440
GOAL_S = 2.0


def main() -> int:
    """Print the times; the exit code is 1 if the start-up takes longer than the goal."""
    if len(sys.argv) > 1:
        return read(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        command = [sys.executable, "-m", "tests.bench.shards", name]
        return subprocess.run(command, check=False).returncode


def write(folder: Path) -> None:
    """Write shards and manifest."""
    codes = [language.code for language in languages()]
    pairs = [pair for pair in permutations(codes, 2) if pair[0] < pair[1]][: DIRECTIONS // 2]
    generator = numpy.random.default_rng(0)
    tokens = [generator.integers(4, 30_000, 25) for _ in range(200)]
    parts = []
    for source, target in pairs:
        for origin in ("primary", "mined"):
            path = folder / f"{source}-{target}.{origin}.tokens"
            record = write_token_shard(path, [tokens, tokens], vocabulary_size=40_000)
            parts.append(
                ShardGroup(
                    source=source, target=target, origin=origin, split="train", files=(record,)
                )
            )  # type: ignore[arg-type]
    both = [*pairs, *((target, source) for source, target in pairs)]
    weights = sampling_weights([400] * len(both), 5)
    directions = tuple(
        TrainingDirection(source=source, target=target, num_pairs=400, weight=weight)
        for (source, target), weight in zip(both, weights, strict=True)
    )
    tags = tuple(SOURCE_TAGS.values())
    vocabulary = VocabularyRecord(
        file="spm.model",
        sha256="0" * 64,
        name="spm:standin",
        num_pieces=30_000,
        languages=tuple(codes),
        tags=tags,
        size=30_000 + 1 + len(codes) + len(tags) + 1,
    )
    write_manifest(
        Manifest(
            format_version=FORMAT_VERSION,
            vocabulary=vocabulary,
            temperature=5.0,
            parts=tuple(parts),
            directions=directions,
            phases=(Phase(until_step=None, directions=tuple(entry.name for entry in directions)),),
            corpora=(),
            made_by={},
            directory=folder,
        )
    )


def read(folder: Path) -> int:
    """Time the work of training before its first batch."""
    marks = [time.perf_counter()]
    manifest = read_manifest(folder)
    manifest.open(manifest.parts[0].files[0]).lengths()
    marks.append(time.perf_counter())
    processor = time.process_time()
    for direction in manifest.directions:
        for part, _ in manifest.parts_for(direction.source, direction.target):
            manifest.open(part.files[0]).lengths()
    marks.append(time.perf_counter())
    processor = time.process_time() - processor
    shard = manifest.open(manifest.parts[0].files[0])
    count = 0
    for _ in range(500):
        for index in range(len(shard)):
            count += len(shard.source(index)) + len(shard.target(index))
    marks.append(time.perf_counter())
    first, second, third = (after - before for before, after in pairwise(marks))
    print(f"manifest of {len(manifest.directions):,} directions and a shard read in {first:.2f} s")
    print(
        f"{2 * len(manifest.parts):,} shards opened and touched in {second:.2f} s, "
        f"{processor:.2f} s of processor time"
    )
    print(f"{count / third / 1e6:.1f} M tokens/s read sentence by sentence")
    return int(first + second > GOAL_S)


if __name__ == "__main__":
    sys.exit(main())
