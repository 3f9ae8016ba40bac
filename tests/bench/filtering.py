"""Pairs per CPU-second of filters and deduplication: `python -m tests.bench.filtering`.

Requires the data folder (NLLB_TEST_DATA): English-French Tatoeba sentences, four per line, about
140 characters per side, with a tenth of the lines repeated. On the same lines and in the same
process, a plain per-line version of the same decisions and a loop that only normalises and hashes
are measured for comparison. Our time includes everything from reading Parquet to writing decisions.
LID is measured if a model ships or `--model` names one. Finally, two processes are compared with
one: set POLARS_MAX_THREADS=1 for this, because one process otherwise also uses part of the second
core.
"""

import argparse
import multiprocessing
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars
import xxhash

from data_pipeline.blocks import DecidedBlock, text_table, write_table
from data_pipeline.data_config import (
    CorpusConfig,
    DataConfig,
    FilterConfig,
    LanguageFilterConfig,
    ToxicityConfig,
)
from data_pipeline.deduplication.external import deduplicate
from data_pipeline.filtering import filter_stage as running
from data_pipeline.filtering.detectors import load_detector
from data_pipeline.filtering.filter_stage import filter_bitext
from data_pipeline.filtering.length_factors import FACTORS_PATH, read_length_factors
from data_pipeline.stages import Block, Machine
from nllb.errors import NllbError
from nllb.io.corpora import open_corpus
from nllb.languages.normalization import normalize_for_hashing

ROOT = Path(__file__).parents[2]
ROUNDS = 3
QUIET = Machine(quiet=True)
Pairs = list[tuple[str, str]]


def main() -> int:
    """Print the table; the exit code is 1 if a goal is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--model", type=Path, help="fastText model; default: the one that ships")
    arguments = parser.parse_args()
    data = Path(os.environ.get("NLLB_TEST_DATA", ROOT.parent / "shared" / "data"))
    pairs = make_pairs(data, arguments.pairs)
    length = sum(len(source) + len(target) for source, target in pairs) / len(pairs) / 2
    print(f"{len(pairs):,} pairs of {length:.0f} characters per side")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lists = write_lists(folder, pairs)
        blocks = write_blocks(folder, pairs)
        sets = {
            "reference, no LID": FilterConfig(preset="reference", toxicity=lists),
            "strict, no LID": FilterConfig(preset="strict", toxicity=lists),
        }
        try:
            load_detector(arguments.model)
            section = LanguageFilterConfig(model=arguments.model)
            sets["reference, LID"] = FilterConfig(
                preset="reference", toxicity=lists, language=section
            )
        except NllbError as error:
            print(f"no LID: {error}")
        speeds: dict[str, list[float]] = {}
        for number in range(ROUNDS):
            for label, chosen in sets.items():
                out = folder / f"out.{label}.{number}"
                count = per_second(lambda s=chosen, o=out: ours(blocks, s, o, QUIET), pairs)  # type: ignore[misc]
                speeds.setdefault(label, []).append(count)
            speeds.setdefault("normalise and hash only", []).append(
                per_second(lambda: naive(pairs), pairs)
            )
            few = pairs[: max(1, len(pairs) // 20)]
            speeds.setdefault("per line, no LID", []).append(
                per_second(lambda some=few: per_line(some, folder), few)  # type: ignore[misc]
            )
        for label, values in speeds.items():
            shown = ", ".join(f"{value:,.0f}" for value in values)
            print(f"{label:26} {max(values):>10,.0f} pairs/CPU-s  (rounds: {shown})")
        sooner, work = two_processes(blocks, sets["strict, no LID"], folder)
        print(f"two processes against one: {sooner:.2f}x by the clock, {work:.2f}x processor time")
        print(f"load of the machine: {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores")
    fast = max(speeds["reference, no LID"]) >= 100_000
    with_lid = max(speeds.get("reference, LID", [30_000])) >= 30_000
    return int(not (fast and with_lid))


def make_pairs(data: Path, count: int) -> Pairs:
    """Join real sentences, four per line, and repeat every tenth line."""
    corpus = open_corpus(data / "tatoeba")
    found = [(pair.source.text, pair.target.text) for pair in corpus.pairs("eng_Latn", "fra_Latn")]
    generator = random.Random(5)
    pairs: Pairs = []
    for number in range(count):
        if number % 10 == 9:
            pairs.append(pairs[generator.randrange(number)])
        else:
            chosen = generator.choices(found, k=4)
            sides = [" ".join(pair[side] for pair in chosen) for side in (0, 1)]
            pairs.append((sides[0], sides[1]))
    return pairs


def write_lists(folder: Path, pairs: Pairs) -> ToxicityConfig:
    """Write 400 neutral, rather rare words per side, which about one line in ten contains."""
    for side, code in enumerate(("eng_Latn", "fra_Latn")):
        counts = Counter(
            word
            for pair in pairs[:20_000]
            for word in re.findall(r"[^\W\d_]{4,}", pair[side].lower())
        )
        words = [word for word, _ in counts.most_common(5400)[5000:]]
        (folder / f"{code}_twl.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return ToxicityConfig(directory=folder)


def write_blocks(folder: Path, pairs: Pairs) -> list[Block]:
    """Write the pairs as cleaned blocks of 25,000."""
    blocks = []
    for number, start in enumerate(range(0, len(pairs), 25_000)):
        sources, targets = zip(*pairs[start : start + 25_000], strict=True)
        name = f"real/eng_Latn-fra_Latn/{number:05d}"
        block = Block(
            name=name,
            key=str(number),
            path=folder / "text" / f"{name}.parquet",
            corpus="real",
            source="eng_Latn",
            target="fra_Latn",
            origin="primary",
            num_rows=len(sources),
        )
        table = text_table(block, sources, targets, range(1, len(sources) + 1))
        reasons = polars.Series("reason", [None] * len(sources), dtype=polars.Categorical)
        write_table(block.path, table.append_column("reason", reasons.to_arrow()), {})
        blocks.append(block)
    return blocks


def ours(blocks: list[Block], section: FilterConfig, out: Path, machine: Machine) -> None:
    """Filter and deduplicate, from Parquet to decisions, without caches of a previous round."""
    running._CHAINS.clear()
    corpus = CorpusConfig(name="real", format="tsv", path="{source}-{target}.tsv")
    config = DataConfig(kind="data", corpora=(corpus,), decontamination=(), filter=section)
    decided = filter_bitext(config, blocks, out, machine)
    scored = [
        DecidedBlock(block=block, decisions=(block.path, decisions.path))
        for block, decisions in zip(blocks, decided, strict=True)
    ]
    deduplicate(config, scored, out, machine)


def naive(pairs: Pairs) -> None:
    """Normalise, hash and store the hashes."""
    seen = set()
    for source, target in pairs:
        text = f"{normalize_for_hashing(source)}\t{normalize_for_hashing(target)}"
        seen.add(xxhash.xxh3_64_intdigest(text.encode()))


def per_line(pairs: Pairs, lists: Path) -> int:
    """Decide one line at a time, with a linear scan over the word lists."""
    codes = ("eng_Latn", "fra_Latn")
    factors = read_length_factors(FACTORS_PATH)
    words = [(lists / f"{code}_twl.txt").read_text("utf-8").split() for code in codes]
    split = re.compile(r"([^\w\s])")
    seen: set[int] = set()
    for pair in pairs:
        lengths = [
            max(1, len(text) * factors[code]) for text, code in zip(pair, codes, strict=True)
        ]
        if max(lengths) > 1050 or max(lengths) / min(lengths) > 9:
            continue
        counts = []
        for text, listed in zip(pair, words, strict=True):
            spaced = " " + " ".join(split.sub(r" \1 ", text.lower()).split()) + " "
            counts.append(sum(f" {word} " in spaced for word in listed))
        if abs(counts[0] - counts[1]) <= 2:
            text = "\t".join(map(normalize_for_hashing, pair))
            seen.add(xxhash.xxh3_64_intdigest(text.encode()))
    return len(seen)


def per_second(work: Callable[[], object], pairs: Pairs) -> float:
    """Return pairs per second of processor time."""
    start = time.process_time()
    work()
    return len(pairs) / (time.process_time() - start)


def two_processes(blocks: list[Block], section: FilterConfig, folder: Path) -> tuple[float, float]:
    """Return the speed-up of two workers by wall-clock time, and their ratio of processor time.

    The first requires two free cores; the second counts the time of all processes.
    """
    clocks: dict[int, list[float]] = {1: [], 2: []}
    work: dict[int, list[float]] = {1: [], 2: []}
    for number in range(3):
        for workers in clocks:
            out = folder / f"out.workers{workers}.{number}"
            start, before = time.perf_counter(), processor_time()
            ours(blocks, section, out, Machine(workers=workers, quiet=True))
            clocks[workers].append(time.perf_counter() - start)
            work[workers].append(processor_time() - before)
    # The first round includes the start of the processes.
    ratios = [min(times[1][1:]) / min(times[2][1:]) for times in (clocks, work)]
    return ratios[0], 1 / ratios[1]


def processor_time() -> float:
    """Return the processor time of this process and its children, including running ones."""
    ticks = 0
    for number in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
