"""Deduplicates 20 million synthetic pairs in bounded memory: `python -m tests.bench.deduplication`.

A tenth of the pairs repeat an earlier pair. The lines to keep (the first by corpus and line) follow
from the construction, and every run must find exactly these: with 1, 2 and 7 workers, and with 2
workers that are killed and restarted. Prints the peak memory of the largest process and the time.
"""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import polars
import pyarrow

from data_pipeline.blocks import DecidedBlock, read_columns, text_table, write_table
from data_pipeline.data_config import CorpusConfig, DataConfig
from data_pipeline.deduplication.external import deduplicate
from data_pipeline.stages import Block, Machine

BLOCK = 250_000
REPEATED = 10
MEMORY = 256 << 20
GOAL_MIB = 512


def main() -> int:
    """Print one line per run; the exit code is 1 if results differ or memory exceeds the goal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=20_000_000)
    parser.add_argument("--runs", default="1,2,7,2k", help="workers of each run; k: killed once")
    parser.add_argument(
        "--run", nargs=3, metavar=("TEXT", "OUT", "WORKERS"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.run:
        text, out, workers = arguments.run
        run(Path(text), Path(out), int(workers), arguments.pairs)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = write_text(folder, arguments.pairs)
        failed = False
        for label in arguments.runs.split(","):
            workers, kill = int(label.removesuffix("k")), label.endswith("k")
            out = folder / f"out.{label}"
            start = time.perf_counter()
            if kill:
                start_and_kill(folder, out, workers, arguments.pairs)
            peak = start_run(folder, out, workers, arguments.pairs)
            same = losers(folder, out, arguments.pairs) == expected
            failed |= not same or peak > GOAL_MIB
            print(
                f"{workers} workers{', killed once' if kill else ''}: {arguments.pairs:,} pairs, "
                f"winners {'the same' if same else 'DIFFER'}, {peak:.0f} MiB in the largest "
                f"process, {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    return int(failed)


def pair_numbers(number: int, count: int) -> numpy.ndarray:  # type: ignore[type-arg]
    """Return the number of the pair in each row of a block; every tenth repeats an earlier one."""
    rows = numpy.arange(number * BLOCK, number * BLOCK + count, dtype=numpy.int64)
    repeats = rows % REPEATED == REPEATED - 1
    generator = numpy.random.default_rng(number)
    rows[repeats] = (generator.random(int(repeats.sum())) * rows[repeats]).astype(numpy.int64)
    return rows


def blocks_of(folder: Path, pairs: int) -> list[Block]:
    """Return the blocks of the text."""
    return [
        Block(
            name=f"made/eng_Latn-fra_Latn/{number:05d}",
            key=str(number),
            path=folder / "text" / f"{number:05d}.parquet",
            corpus="made",
            source="eng_Latn",
            target="fra_Latn",
            origin="primary",
            num_rows=min(BLOCK, pairs - start),
        )
        for number, start in enumerate(range(0, pairs, BLOCK))
    ]


def write_text(folder: Path, pairs: int) -> set[int]:
    """Write the blocks and return the rows that must be dropped."""
    seen = numpy.zeros(pairs, dtype=bool)
    lost: set[int] = set()
    for number, block in enumerate(blocks_of(folder, pairs)):
        numbers = pair_numbers(number, block.num_rows)
        first = numpy.zeros(len(numbers), dtype=bool)
        first[numpy.unique(numbers, return_index=True)[1]] = True
        winning = first & ~seen[numbers]
        seen[numbers] = True
        lost.update((number * BLOCK + numpy.flatnonzero(~winning)).tolist())
        frame = polars.DataFrame({"n": numbers}).select(
            source=polars.format(
                "The sentence {} of a corpus.",
                polars.col("n").cast(polars.String).str.replace_many(*DIGITS),
            ),
            target=polars.format(
                "La phrase {} d'un corpus.",
                polars.col("n").cast(polars.String).str.replace_many(*DIGITS),
            ),
        )
        table = text_table(block, frame["source"], frame["target"], numpy.arange(1, len(frame) + 1))
        reason = pyarrow.nulls(len(frame), pyarrow.dictionary(pyarrow.uint32(), pyarrow.string()))
        write_table(block.path, table.append_column("reason", reason), {})
    return lost


# Hashing normalizes every digit to 0, so numbers are written in letters.
DIGITS = (list("0123456789"), list("abcdefghij"))


def run(folder: Path, out: Path, workers: int, pairs: int) -> None:
    """Deduplicate and print the peak memory in MiB."""
    corpus = CorpusConfig(name="made", format="tsv", path="{source}-{target}.tsv")
    config = DataConfig(kind="data", corpora=(corpus,), decontamination=())
    scored = [
        DecidedBlock(block=block, decisions=(block.path,)) for block in blocks_of(folder, pairs)
    ]
    machine = Machine(workers=workers, memory=MEMORY, quiet=True)
    deduplicate(config, scored, out, machine)
    from data_pipeline.stages import _pool

    _pool.cache_clear()
    usages = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print(max(usages) / 1024)


def start_run(folder: Path, out: Path, workers: int, pairs: int) -> float:
    """Deduplicate in a separate process and return its peak memory."""
    done = subprocess.run(
        command(folder, out, workers, pairs), check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def start_and_kill(folder: Path, out: Path, workers: int, pairs: int) -> None:
    """Start a run, and kill it and its workers after a third of the hash runs are written."""
    process = subprocess.Popen(
        command(folder, out, workers, pairs), start_new_session=True, stdout=subprocess.DEVNULL
    )
    goal = random.Random(3).uniform(0.3, 0.7) * len(blocks_of(folder, pairs))
    while process.poll() is None and sum(1 for _ in out.rglob("*.run")) < goal:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def command(folder: Path, out: Path, workers: int, pairs: int) -> list[str]:
    """Return the command line of one run."""
    module = [sys.executable, "-m", "tests.bench.deduplication", "--pairs", str(pairs)]
    return [*module, "--run", str(folder), str(out), str(workers)]


def losers(folder: Path, out: Path, pairs: int) -> set[int]:
    """Return the rows that a run dropped."""
    found: set[int] = set()
    for number, block in enumerate(blocks_of(folder, pairs)):
        (path,) = (out / "dedup" / "blocks").glob(f"{block.name}.*.parquet")
        reason = read_columns(path, ["reason"])["reason"]
        found.update((number * BLOCK + reason.is_not_null().arg_true().to_numpy()).tolist())
    return found


if __name__ == "__main__":
    sys.exit(main())
