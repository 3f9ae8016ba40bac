"""Language identification compared with the plain fastText loop of the same model.

Run: python -m tests.bench.lid [LINES_PER_LANGUAGE]

One process with one thread, interleaved rounds and CPU seconds, so that load has little effect. The
loops over the same lines are: the package's `predict` on text that is already normalised (the plain
model), the same including normalisation, and ours with everything: normalisation, script gate,
thresholds, second stage, mapping, `Detection` objects.
"""

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROUNDS = 5
FILE_LINES = 400_000


def main() -> None:
    import fasttext

    from lid.detector import DEFAULT_MODEL_DIR, MODEL_NAME, Detector
    from lid.engine import open_engine
    from nllb.io.benchmarks import load_flores
    from nllb.languages.normalization import normalize_for_detection

    per_language = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    data = Path(os.environ.get("NLLB_TEST_DATA", "../shared/data"))
    text = load_flores(data)
    lines = [line for code in text.languages for line in text.sentences(code)[:per_language]]
    english = list(text.sentences("eng_Latn")) * 4
    detector = Detector.load()
    raw = fasttext.load_model(str(DEFAULT_MODEL_DIR / MODEL_NAME)).f

    def bare(texts: list[str]) -> None:
        for one in texts:
            raw.predict(one, 1, 0.0, "strict")

    def with_normalisation(texts: list[str]) -> None:
        for one in texts:
            raw.predict(normalize_for_detection(one), 1, 0.0, "strict")

    for name, texts in (("204 languages in turn", lines), ("English only", english)):
        normal = [normalize_for_detection(one) for one in texts]
        loops: dict[str, Callable[[], object]] = {
            "fastText predict, normalised before": lambda normal=normal: bare(normal),
            "fastText predict + normalisation": lambda texts=texts: with_normalisation(texts),
            "Detector.detect_batch, all included": lambda texts=texts: detector.detect_batch(texts),
        }
        times: dict[str, list[float]] = {loop: [] for loop in loops}
        for _ in range(ROUNDS):
            for loop, run in loops.items():
                start = time.process_time()
                run()
                times[loop].append(time.process_time() - start)
        base = statistics.median(times["fastText predict, normalised before"])
        print(
            f"{name}: {len(texts):,} lines, {sum(map(len, texts)) / len(texts):.0f} characters each"
        )
        for loop, measured in times.items():
            median = statistics.median(measured)
            print(f"  {loop:<38} {len(texts) / median:>9,.0f} lines/CPU-s  {base / median:5.2f}x")

    # A file with one and with two processes by wall-clock time, which includes starting the workers
    # and loading the model. Processor time shows the speed-up that two idle cores would reach.
    from lid.streaming import detect_lines

    many = lines * max(1, FILE_LINES // len(lines))
    walls: dict[int, list[float]] = {1: [], 2: []}
    spent: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(2):
        for workers, measured in walls.items():
            start = time.perf_counter()
            before = time.process_time(), children_time()
            assert sum(1 for _ in detect_lines(many, workers=workers)) == len(many)
            measured.append(time.perf_counter() - start)
            spent[workers].append((time.process_time() - before[0], children_time() - before[1]))
    single, double = (min(measured) for measured in walls.values())
    gain = single / double
    print(f"a file of {len(many):,} lines: {single:.1f} s on one process, {gain:.2f}x on two")
    alone, (feeding, working) = min(spent[1])[0], min(spent[2])
    print(
        f"  processor time: {alone:.1f} s on one; two workers {working:.1f} s, feeding them "
        f"{feeding:.1f} s: {alone / max(working / 2, feeding):.2f}x where cores are idle"
    )

    # The label that fastText itself returns, before our gate, second stage and thresholds.
    sample = lines[:: max(1, len(lines) // 3000)]
    engine = open_engine(DEFAULT_MODEL_DIR / MODEL_NAME, normalised=True)
    scores, _ = engine.score(sample)
    same = 0
    for row, one in zip(scores.argmax(axis=1).tolist(), sample, strict=True):
        ((_, label),) = raw.predict(normalize_for_detection(one) + "\n", 1, 0.0, "strict")
        same += label == f"__label__{engine.labels[row]}"
    print(f"labels equal to fastText's: {same:,} of {len(sample):,} ({type(engine).__name__})")


def children_time() -> float:
    """Return the processor seconds of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
