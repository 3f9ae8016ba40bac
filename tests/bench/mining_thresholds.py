"""Mining at calibrated thresholds: `python -m tests.bench mining_thresholds`.

300 pairs of LASER's Tatoeba sets are hidden among 350 distractors on each side. The thresholds were
calibrated on other text (`nllb data calibrate-encoder calibration`). All shipped encoders are
measured: F1 at the calibrated threshold, at the best threshold of the language, and the number of
sentences that each of them encodes per second of processor time.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy

from tests.bench.measuring import RESULTS, environment

DATA = Path(__file__).parents[3] / "shared" / "data"
LANGUAGES = "fra deu spa rus fin jpn ita tur".split()
PAIRS, DISTRACTORS = 300, 350
NEIGHBOURS = (4, 16)


def pools(folder: Path, language: str) -> tuple[list[str], list[str]]:
    """Return both sides: the pairs first, then sentences whose partner is not on the other side."""
    from nllb.io.text import read_lines

    own = list(read_lines(folder / f"tatoeba.{language}-eng.{language}"))
    english = list(read_lines(folder / f"tatoeba.{language}-eng.eng"))
    order = numpy.random.default_rng(0).permutation(len(own)).tolist()
    pairs, rest = order[:PAIRS], order[PAIRS:]
    sides = rest[:DISTRACTORS], rest[DISTRACTORS : 2 * DISTRACTORS]
    return (
        [own[number] for number in (*pairs, *sides[0])],
        [english[number] for number in (*pairs, *sides[1])],
    )


def scores(margins: Any, right: Any, threshold: float) -> dict[str, float]:
    """Return precision, recall and F1 at a threshold, and the best F1 of any threshold."""
    hits = numpy.cumsum(right)
    precision, recall = hits / numpy.arange(1, len(hits) + 1), hits / PAIRS
    f1 = 2 * precision * recall / numpy.maximum(precision + recall, 1e-9)
    at = max(int((margins >= threshold).sum()) - 1, 0)
    return {
        "threshold": threshold,
        "precision": float(precision[at]),
        "recall": float(recall[at]),
        "f1": float(f1[at]),
        "best_f1": float(f1.max()),
    }


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Return the scores of an encoder in each language, and its speed."""
    from data_pipeline.mining.calibration import find_calibration
    from data_pipeline.mining.encoders.load_encoder import load_encoder
    from data_pipeline.mining.margins import retrieve
    from data_pipeline.mining.neighbours import find_neighbours

    encoder = load_encoder(name)
    calibration = find_calibration(name, encoder)
    assert calibration is not None
    sentences, seconds, found = 0, 0.0, {}
    for language in LANGUAGES:
        sides = pools(folder, language)
        start = time.process_time()
        sources, targets = (encoder.encode(side, "") for side in sides)
        seconds += time.process_time() - start
        sentences += sum(map(len, sides))
        for k in NEIGHBOURS:
            kept = retrieve(
                [find_neighbours(sources, targets, k)],
                [find_neighbours(targets, sources, k)],
                margin="ratio",
                retrieval="max",
            )
            right = (kept.source == kept.target) & (kept.source < PAIRS)
            point = calibration.margin_point("ratio", k, PAIRS + DISTRACTORS)
            found[f"{language}/{k}"] = scores(kept.margin, right, point.threshold)
        print(name, language, {k: found[f"{language}/{k}"] for k in NEIGHBOURS}, flush=True)
    return {"scores": found, "sentences_per_processor_s": sentences / seconds}


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write tests/bench/results/mining_thresholds.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", default="default,pretrained,static")
    arguments = parser.parse_args(argv)
    folder = Path(os.environ.get("NLLB_TEST_DATA", DATA)) / "laser_tatoeba"
    found = {name: measure(name, folder) for name in arguments.encoders.split(",")}
    for name, result in found.items():
        for k in NEIGHBOURS:
            f1 = {each: result["scores"][f"{each}/{k}"]["f1"] for each in LANGUAGES}
            mean = sum(f1.values()) / len(f1)
            print(f"{name}, {k} neighbours: mean F1 {mean:.3f}; {f1}")
        print(f"{name}: {result['sentences_per_processor_s']:,.0f} sentences per processor second")
    path = RESULTS / "mining_thresholds.json"
    path.write_text(json.dumps({"environment": environment(), "encoders": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
