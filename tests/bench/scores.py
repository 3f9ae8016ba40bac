"""chrF++ and spBLEU compared with sacrebleu, extrapolated to 40,602 directions.

Run: OMP_NUM_THREADS=1 python tests/bench/scores.py [--directions 560] [--spm FILE]
     OMP_NUM_THREADS=1 python tests/bench/scores.py --lines 10000 100000 1000000

CPU seconds of one process with one thread. Part 1 interleaves ours and sacrebleu (with cached
references) over languages of all scripts, on the same sentences, and checks that all integers are
equal. Part 2 scores a folder of outputs like `nllb eval flores`, including reading, checks, both
metrics, NFC scores, bootstrap intervals and writing. Hypotheses are references with exchanged
words; without --spm, a 32,000-piece substitute is trained, because the FLORES model does not ship.
With --lines, only the memory of `nllb eval score` is measured, with one process per number of
lines.
"""

import argparse
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import sentencepiece
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics import bleu as sacrebleu_bleu

from eval.flores.direction_scores import Work, score_target
from eval.flores.directions import Direction
from eval.metrics.bleu import Bleu
from eval.metrics.chrf import Chrf
from eval.metrics.registry import MetricChoice
from eval.metrics.tokenization import SentencePieceTokenizer
from nllb.io.benchmarks import LineAlignedSet, load_flores

ROUNDS = 3
NUM_LANGUAGES = 24
ALL_DIRECTIONS = 40_602
SOURCES_PER_TARGET = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directions", type=int, default=560)
    parser.add_argument("--spm", type=Path)
    parser.add_argument("--lines", type=int, nargs="+", default=[])
    arguments = parser.parse_args()
    if not os.environ.get("OMP_NUM_THREADS"):
        raise SystemExit("set OMP_NUM_THREADS=1: the figures are for one thread")
    if arguments.lines:
        for count in arguments.lines:
            memory_of_score(count)
        return
    flores = load_flores(os.environ.get("NLLB_TEST_DATA", "../shared/data"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spm = SentencePieceTokenizer(arguments.spm or train_standin(flores, folder), name="standin")
        against_sacrebleu(flores, spm)
        if arguments.directions:
            many_directions(flores, spm, folder, arguments.directions)


def against_sacrebleu(flores: LineAlignedSet, spm: SentencePieceTokenizer) -> None:
    model = sentencepiece.SentencePieceProcessor(model_file=str(spm.path))

    class Pieces:
        def signature(self) -> str:
            return "spm"

        def __call__(self, line: str) -> str:
            return " ".join(model.EncodeAsPieces(line))

    original = sacrebleu_bleu._get_tokenizer
    sacrebleu_bleu._get_tokenizer = lambda name: Pieces if name == "spm" else original(name)
    languages = flores.languages[:: len(flores.languages) // NUM_LANGUAGES][:NUM_LANGUAGES]
    times: dict[str, list[float]] = {}
    for code in languages:
        references = list(flores.sentences(code))
        hypotheses = exchanged(references, seed=code)
        chrf, bleu = Chrf(), Bleu(spm)
        chrf_reference, bleu_reference = chrf.index(references), bleu.index(references)
        cached = (
            CHRF(word_order=2, references=[references]),
            BLEU(tokenize="spm", references=[references]),
        )
        contenders: dict[str, Callable[[], Any]] = {
            "chrF++ ours": partial(chrf.statistics, hypotheses, chrf_reference),
            "chrF++ sacrebleu": partial(cached[0]._extract_corpus_statistics, hypotheses, None),
            "spBLEU ours": partial(bleu.statistics, hypotheses, bleu_reference),
            "spBLEU sacrebleu": partial(cached[1]._extract_corpus_statistics, hypotheses, None),
        }
        for name, run in contenders.items():  # checks equality and warms up
            if name.endswith("ours"):
                assert (run() == contenders[name.replace("ours", "sacrebleu")]()).all(), code
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, run in contenders.items():
                start = time.process_time()
                run()
                best[name] = min(best.get(name, 1e9), time.process_time() - start)
        for name, seconds in best.items():
            times.setdefault(name, []).append(seconds)
    sacrebleu_bleu._get_tokenizer = original
    print(f"{len(languages)} languages x {flores.num_lines} lines, best of {ROUNDS} rounds, CPU ms")
    for name, seconds in times.items():
        print(f"  {name:<17} {1000 * statistics.mean(seconds):7.1f}")
    for metric in ("chrF++", "spBLEU"):
        ratios = [
            s / o
            for o, s in zip(times[f"{metric} ours"], times[f"{metric} sacrebleu"], strict=True)
        ]
        print(
            f"  {metric}: {statistics.mean(ratios):.1f} times sacrebleu (least {min(ratios):.1f})"
        )
    ours = sum(sum(seconds) for name, seconds in times.items() if name.endswith("ours"))
    theirs = sum(sum(seconds) for name, seconds in times.items() if name.endswith("sacrebleu"))
    print(f"  both metrics: {theirs / ours:.1f} times sacrebleu with cached references")


def many_directions(
    flores: LineAlignedSet, spm: SentencePieceTokenizer, folder: Path, wanted: int
) -> None:
    choice = MetricChoice(names=("chrf++", "spbleu"), spm=spm)
    step = len(flores.languages) * SOURCES_PER_TARGET // wanted
    count, seconds, slowest = 0, 0.0, ("", 0.0)
    for target in flores.languages[::step]:
        files = {}
        for source in flores.languages[:: len(flores.languages) // SOURCES_PER_TARGET]:
            if source != target and len(files) < SOURCES_PER_TARGET:
                path = folder / f"{source}-{target}.txt"
                lines = exchanged(flores.sentences(target), seed=source + target)
                path.write_text("\n".join(lines) + "\n", encoding="utf-8")
                files[Direction(source=source, target=target)] = path
                flores.sentences(source)  # read once in a full run as well
        work = Work(
            out=folder / "out", target=target, files=files, benchmark=flores, choice=choice,
            settings="", detect=None,
        )  # fmt: skip
        start = time.process_time()
        assert not score_target(work)
        took = time.process_time() - start
        count, seconds = count + len(files), seconds + took
        slowest = max(slowest, (target, took / len(files)), key=lambda pair: pair[1])
        for path in files.values():
            path.unlink()
    each = seconds / count
    print(f"{count} directions as `nllb eval flores` scores them: {1000 * each:.0f} CPU ms each")
    print(f"  slowest target: {slowest[0]}, {1000 * slowest[1]:.0f} CPU ms a direction")
    print(
        f"  {ALL_DIRECTIONS:,} directions on two cores: {each * ALL_DIRECTIONS / 120:.0f} minutes"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  peak memory of this process: {peak:.2f} GiB")


def memory_of_score(count: int) -> None:
    """Print the time and peak memory of `nllb eval score` for a number of generated lines."""
    draw = random.Random(count)
    words = [f"word{number}" for number in range(3000)]
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / side for side in ("hypothesis", "reference")]
        with paths[0].open("w") as hypothesis, paths[1].open("w") as reference:
            for _ in range(count):
                line = draw.choices(words, k=draw.randint(8, 25))
                reference.write(" ".join(line) + "\n")
                made = (word if draw.random() < 0.7 else draw.choice(words) for word in line)
                hypothesis.write(" ".join(made) + "\n")
        size = paths[1].stat().st_size / 2**20
        command = [sys.executable, "-m", "nllb", "eval", "score", "--target", "en",
                   "--hypothesis", str(paths[0]), "--reference", str(paths[1])]  # fmt: skip
        process = os.posix_spawn(command[0], command, dict(os.environ))
        _, status, usage = os.wait4(process, 0)
    assert status == 0
    print(
        f"{count:>9,} lines ({size:.0f} MiB each): {usage.ru_utime + usage.ru_stime:.0f} CPU s, "
        f"peak {usage.ru_maxrss / 2**10:.0f} MiB"
    )


def exchanged(sentences: "tuple[str, ...] | list[str]", *, seed: str) -> list[str]:
    """Return sentences with about a third of their words (or characters) exchanged."""
    rng = random.Random(seed)
    words = [word for sentence in sentences[:300] for word in sentence.split()]
    characters = sorted(set("".join(sentences[:100])))
    lines = []
    for sentence in sentences:
        parts = sentence.split()
        if len(parts) < 6:
            lines.append(
                "".join(rng.choice(characters) if rng.random() < 0.25 else c for c in sentence)
            )
        else:
            lines.append(" ".join(rng.choice(words) if rng.random() < 0.35 else w for w in parts))
    return lines


def train_standin(flores: LineAlignedSet, folder: Path) -> Path:
    lines = [line for code in flores.languages for line in flores.sentences(code)[:300]]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(folder / "standin"), vocab_size=32_000,
        model_type="bpe", character_coverage=0.9995, minloglevel=2,
    )  # fmt: skip
    return folder / "standin.model"


if __name__ == "__main__":
    main()
