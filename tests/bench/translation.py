"""Translation speed of nllb, transformers and CTranslate2: `python -m tests.bench translation`.

Random weights in the shape of NLLB 600M, 30 source tokens, 16 forced output tokens on both sides,
and inputs that differ between rounds. All contestants are in memory together and interleaved.
"stream" is one request at a time with two threads, "bulk" many with two workers of one thread.
The level of the int8 kernel has its own result; NLLB_KERNEL bounds it, and CT2_FORCE_CPU_ISA and
ONEDNN_MAX_CPU_ISA bound CTranslate2 alike.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.int8_peak import int8_peak
from tests.bench.measuring import (
    Run,
    environment,
    interleave,
    print_summary,
    summarize,
    write_results,
)
from tests.bench.translation_models import (
    END,
    LIST_SIZE,
    SHAPE,
    SOURCE_LANGUAGE,
    TARGET_LANGUAGE,
    ctranslate2_model,
    token_list,
    transformers_model,
)

LENGTH, OUTPUT = 30, 16
Call = Callable[[int], int]


def multiply_adds(size: int) -> int:
    """Return the int8 multiply-adds of our translation of a batch with the list."""
    dim, ffn_dim = SHAPE["d_model"], SHAPE["encoder_ffn_dim"]
    encoder = SHAPE["encoder_layers"] * (4 * dim * dim + 2 * dim * ffn_dim)
    memory = SHAPE["decoder_layers"] * 2 * dim * dim
    decoder = SHAPE["decoder_layers"] * (6 * dim * dim + 2 * dim * ffn_dim)
    positions = OUTPUT + 1  # the prompt has two tokens, and the last output is not read
    return size * (LENGTH * (encoder + memory) + positions * decoder + OUTPUT * LIST_SIZE * dim)


def sources(count: int, seed: int, lengths: np.ndarray | None = None) -> list[list[int]]:
    """Return random sources of LENGTH tokens, or of the given lengths."""
    random = np.random.default_rng(seed)
    sizes = np.full(count, LENGTH) if lengths is None else random.choice(lengths, count)
    return [
        [SOURCE_LANGUAGE, *random.integers(4, 256_000, size - 2).tolist(), END] for size in sizes
    ]


def flores_lengths() -> np.ndarray:
    """Return token counts of the English FLORES lines (4.1 characters each), if available."""
    data = Path(os.environ.get("NLLB_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    from nllb.io.benchmarks import load_flores

    lines = load_flores(data / "flores200_dataset", "devtest").sentences("eng_Latn")
    return np.array([max(int(len(line) / 4.1) + 2, 4) for line in lines])


class Ours:
    """Our int8 engine."""

    def __init__(self, folder: Path, num_threads: int):
        from nllb.inference.kernels.compiled_engine import KernelEngine, int8_engine
        from nllb.inference.kernels.library import LEVELS
        from nllb.model.formats.open_model import open_model

        opened = open_model(folder / "transformers")
        self.engine = int8_engine(opened.config, opened.weights, num_threads=num_threads)
        assert isinstance(self.engine, KernelEngine), "the compiled int8 kernel is not available"
        self.level = LEVELS[self.engine.runtime.kernel.level]
        self.ids = token_list()
        self.projection = self.engine.restrict(self.ids)

    def __call__(self, batch: list[list[int]], *, listed: bool, engine: Any = None) -> int:
        from nllb.inference.engine import OutputChoice
        from nllb.inference.generator import SearchOptions
        from nllb.inference.search import Job, search
        from nllb.inference.shortlist import extra_tokens

        jobs = [
            Job(source=tuple(ids), prompt=(END, TARGET_LANGUAGE), limit=OUTPUT) for ids in batch
        ]
        choice = None
        if listed:
            extra = extra_tokens([ids[1:] for ids in batch], self.ids)
            choice = OutputChoice(projection=self.projection, ids=self.ids, extra=extra)
        options = SearchOptions(beam_size=1, min_output_tokens=OUTPUT, max_output_tokens=OUTPUT)
        found = search(engine or self.engine, jobs, options, choice=choice)
        count = sum(len(outputs[0].token_ids) for outputs in found)
        assert count == OUTPUT * len(batch)
        return count

    def bulk(self, batches: list[list[list[int]]], *, listed: bool) -> int:
        worker = self.engine.worker()
        with ThreadPoolExecutor(self.engine.num_workers) as pool:
            return sum(pool.map(partial(self, listed=listed, engine=worker), batches))


class Transformers:
    """transformers' `generate` in float32."""

    def __init__(self, folder: Path):
        self.model = transformers_model(folder)

    def __call__(self, batch: list[list[int]]) -> int:
        import torch

        with torch.inference_mode():
            rows = self.model.generate(
                input_ids=torch.tensor(batch),
                attention_mask=torch.ones(len(batch), LENGTH, dtype=torch.int64),
                forced_bos_token_id=TARGET_LANGUAGE,
                num_beams=1,
                do_sample=False,
                min_new_tokens=OUTPUT + 1,
                max_new_tokens=OUTPUT + 1,
            )
        assert rows.shape[1] == OUTPUT + 2
        return OUTPUT * len(batch)


class CTranslate2:
    """CTranslate2 in int8, as one stream with two threads or two streams with one."""

    def __init__(self, folder: Path, *, streams: int, num_threads: int):
        import ctranslate2

        self.model = ctranslate2.Translator(
            str(ctranslate2_model(folder, with_list=True)),
            compute_type="int8",
            inter_threads=streams,
            intra_threads=num_threads,
        )

    def __call__(self, batch: list[list[int]], *, listed: bool, size: int = 0) -> int:
        results = self.model.translate_batch(
            [[f"t{number}" for number in ids] for ids in batch],
            target_prefix=[[f"t{TARGET_LANGUAGE}"]] * len(batch),
            max_batch_size=size,
            beam_size=1,
            min_decoding_length=OUTPUT + 1,
            max_decoding_length=OUTPUT + 1,
            use_vmap=listed,
        )
        count = sum(len(result.hypotheses[0]) - 1 for result in results)
        assert count == OUTPUT * len(batch)
        return count


def stream_contestants(
    folder: Path, size: int, ours: Ours, peers: list[str], cache: dict[str, Any]
) -> dict[str, Call]:
    """Return the calls for one request at a time."""
    contestants: dict[str, Call] = {
        "ours 16k list": lambda seed: ours(sources(size, seed), listed=True),
        "ours full": lambda seed: ours(sources(size, seed), listed=False),
    }
    if "transformers" in peers:
        theirs = cache.setdefault("transformers", None) or Transformers(folder)
        cache["transformers"] = theirs
        contestants["transformers fp32"] = lambda seed: theirs(sources(size, seed))
    if "ctranslate2" in peers:
        ct2 = cache.get("ctranslate2") or CTranslate2(folder, streams=1, num_threads=2)
        cache["ctranslate2"] = ct2
        contestants["CTranslate2 full"] = lambda seed: ct2(sources(size, seed), listed=False)
        contestants["CTranslate2 vmap"] = lambda seed: ct2(sources(size, seed), listed=True)
    return contestants


def bulk_contestants(size: int, ours: Ours, ct2: CTranslate2, count: int) -> dict[str, Call]:
    """Return the calls for many sentences of FLORES' lengths in batches of `size`."""
    from nllb.inference.batching import plan_batches

    lengths = flores_lengths()

    def run_ours(seed: int) -> int:
        texts = sources(count, seed, lengths)
        batches = plan_batches([len(ids) for ids in texts], max_tokens=10**6, max_sentences=size)
        return ours.bulk([[texts[i] for i in batch] for batch in batches], listed=True)

    return {
        "ours 16k list": run_ours,
        "CTranslate2 2x1 full": lambda s: ct2(sources(count, s, lengths), listed=False, size=size),
        "CTranslate2 2x1 vmap": lambda s: ct2(sources(count, s, lengths), listed=True, size=size),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write tests/bench/results/translation_LEVEL.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    folder = Path(tempfile.gettempdir()) / "nllb-bench"
    parser.add_argument("--folder", type=Path, default=folder, help="folder of the models")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--parts", nargs="+", default=["transformers", "ctranslate2", "bulk"])
    parser.add_argument("--name", help="name of the result (default: translation_LEVEL)")
    arguments = parser.parse_args(argv)
    import torch

    torch.set_num_threads(2)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not (arguments.folder / "transformers").exists():
        transformers_model(arguments.folder)
    ours = Ours(arguments.folder, 2)
    print(f"level of the int8 kernel: {ours.level}")
    runs, summary = [], []
    cache: dict[str, Any] = {}
    peers = [part for part in arguments.parts if part != "bulk"]
    for size in arguments.sizes:
        if peers:
            contestants = stream_contestants(arguments.folder, size, ours, peers, cache)
            case = interleave(f"stream, batch {size}", contestants, rounds=arguments.rounds)
            runs += case
    cache.clear()
    if "bulk" in arguments.parts:
        ct2 = CTranslate2(arguments.folder, streams=2, num_threads=1)
        for size in arguments.sizes:
            calls = bulk_contestants(size, ours, ct2, count=4 * size if size > 1 else 8)
            runs += interleave(f"bulk, batch {size}", calls, rounds=arguments.rounds)
    for mine in ("ours 16k list", "ours full"):
        others = [r for r in runs if not r.contestant.startswith("ours") or r.contestant == mine]
        cases = {r.case for r in others if r.contestant == mine}
        summary += summarize([r for r in others if r.case in cases], mine)
    for row in summary:
        row["case"] = f"{row['case']} ({row['ours']})"
    print_summary(summary)
    settings = {
        "threads": 2,
        "list": len(ours.ids),
        "output_tokens": OUTPUT,
        "level": ours.level,
    }
    write_results(
        arguments.name or f"translation_{ours.level}",
        runs,
        summary,
        environment=environment(**settings),
        int8_peak=peak_shares(ours.level, arguments.sizes, runs),
    )
    return 0


def peak_shares(level: str, sizes: list[int], runs: list[Run]) -> dict[str, float]:
    """Print and return the machine's int8 peak and our share of it in each stream case."""
    peak = int8_peak(level, 2)
    if peak is None:
        return {}
    found = {"multiply_adds_per_s": peak}
    for size in sizes:
        case = f"stream, batch {size}"
        times = [r.wall_s for r in runs if (r.case, r.contestant) == (case, "ours 16k list")]
        if times:
            found[case] = multiply_adds(size) / min(times) / peak
            print(f"{case}: {found[case]:.0%} of the int8 peak of {peak / 1e9:.0f} G/s")
    return found


if __name__ == "__main__":
    sys.exit(main())
