"""Share of bitext that the similarity filter drops: `python -m tests.bench similarity_share`.

Pairs are sampled from every corpus below `docs/`: with English, in languages that the encoder
knows, from the files with the most pairs. A pair counts as dropped if its cosine is below the
shipped threshold.
"""

import argparse
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy

from tests.bench.measuring import RESULTS, environment

DATA = Path(__file__).parents[3] / "shared" / "data"
PIVOT = "eng_Latn"


def draw_pairs(
    folder: Path, known: frozenset[str], files: int, pairs: int
) -> dict[str, list[tuple[str, str]]]:
    """Return pairs of the largest files of a corpus, by file."""
    from nllb.io.text import read_lines

    usable = [
        path
        for path in folder.glob("*-*.tsv.zst")
        if PIVOT in (codes := path.name.split(".")[0].split("-")) and {*codes} <= known
    ]
    found = {}
    for path in sorted(usable, key=lambda path: (-path.stat().st_size, path.name))[:files]:
        rows = [line.split("\t") for line in read_lines(path)]
        rows = [row for row in rows if len(row) == 2 and row[0].strip() and row[1].strip()]
        chosen = random.Random(0).sample(rows, min(pairs, len(rows)))
        found[path.name.split(".")[0]] = [(row[0], row[1]) for row in chosen]
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write tests/bench/results/similarity_share.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=4, help="files of each corpus")
    parser.add_argument("--pairs", type=int, default=60, help="pairs of each file")
    arguments = parser.parse_args(argv)
    from data_pipeline.mining.calibration import find_calibration
    from data_pipeline.mining.encoders.encoder import normalized
    from data_pipeline.mining.encoders.load_encoder import load_encoder

    encoder: Any = load_encoder()
    calibration = find_calibration("default", encoder)
    assert calibration is not None
    threshold = calibration.similarity.threshold
    shares, examples, total, dropped = {}, {}, 0, 0
    for folder in sorted((Path(os.environ.get("NLLB_TEST_DATA", DATA)) / "docs").iterdir()):
        if not folder.is_dir():
            continue
        low, count = [], 0
        for pairs in draw_pairs(
            folder, encoder.languages, arguments.files, arguments.pairs
        ).values():
            left, right = (
                normalized(encoder.encode([pair[side] for pair in pairs], "")) for side in (0, 1)
            )
            cosines = (left * right).sum(axis=1)
            low += [pairs[at] for at in numpy.flatnonzero(cosines < threshold)]
            count += len(pairs)
        if count:
            shares[folder.name] = {"pairs": count, "dropped_percent": 100 * len(low) / count}
            examples[folder.name] = low[:3]
            total, dropped = total + count, dropped + len(low)
            print(folder.name, shares[folder.name], flush=True)
    result = {
        "environment": environment(threshold=threshold, **vars(arguments)),
        "corpora": shares,
        "all": {"pairs": total, "dropped_percent": 100 * dropped / max(total, 1)},
    }
    print(json.dumps(result["all"]))
    print(json.dumps(examples, ensure_ascii=False, indent=1))
    (RESULTS / "similarity_share.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
