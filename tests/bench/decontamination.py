"""False positives and speed of decontamination: `python -m tests.bench.decontamination`.

Requires the data folder (NLLB_TEST_DATA). Every line of NLLB-Seed, TICO-19 and UDHR is compared
with FLORES-200 in all languages. None of these corpora contains a FLORES sentence, so every removal
is an error, or a line that shares 13 words with one by chance. Removed lines are printed.
"""

import os
import sys
import time
from collections import Counter
from pathlib import Path

from data_pipeline.data_config import EvaluationConfig
from data_pipeline.decontamination.evaluation_sets import build_evaluation_index
from data_pipeline.decontamination.index import split_units
from nllb.io.corpora import open_corpus

ROOT = Path(__file__).parents[2]
CORPORA = ("nllb_seed", "tico19", "udhr")
CHUNK = 20_000
MOST = 1e-4


def main() -> int:
    """Print the table; the exit code is 1 if more than one line in 10,000 is removed."""
    data = Path(os.environ.get("NLLB_TEST_DATA", ROOT.parent / "shared" / "data"))
    sets = [EvaluationConfig(name="flores200", path="flores200_dataset", layout="flores")]
    start = time.process_time()
    evaluation = build_evaluation_index(sets, data)
    print(
        f"{len(evaluation.places):,} sentences indexed in {time.process_time() - start:.0f} CPU-s"
    )
    lines, removed = Counter[str](), Counter[str]()
    spent = 0.0
    for name in CORPORA:
        texts = [text.text for text in open_corpus(data / name).texts()]
        for first in range(0, len(texts), CHUNK):
            some = texts[first : first + CHUNK]
            start = time.process_time()
            matches = evaluation.find(some)
            spent += time.process_time() - start
            for text, match in zip(some, matches, strict=True):
                units, separated = split_units(text)
                kind = "words" if separated else "letters"
                lines[kind] += 1
                if match is not None:
                    removed[kind] += 1
                    place = evaluation.places[match.sentence]
                    print(f"{name} {match.kind} {place} ({len(units)} {kind}): {text[:200]}")
    for kind, count in lines.items():
        print(f"{removed[kind]} of {count:,} lines in {kind} removed by mistake")
    print(f"{lines.total() / spent:,.0f} lines per CPU-second")
    return int(any(removed[kind] > MOST * count for kind, count in lines.items()))


if __name__ == "__main__":
    sys.exit(main())
