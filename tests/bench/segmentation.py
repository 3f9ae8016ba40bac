"""Retrieval of sentence boundaries in joined FLORES lines: `python -m tests.bench.segmentation`.

Requires the data folder (NLLB_TEST_DATA). Five lines are joined with a space (without one in
Chinese and Japanese) and split again; a boundary is correct if a piece ends exactly between two
lines. FLORES lines often contain several sentences, whose boundaries would count as errors. The
main figures therefore use only lines whose English has no terminator before its end; the last ones
all.
"""

import argparse
import json
import os
import re
import sys
import time
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

from nllb.io.benchmarks import load_flores
from nllb.languages import Language, languages
from nllb.languages.segmentation import split_sentences

ROOT = Path(__file__).parents[2]
GROUP = 5
UNSPACED = frozenset({"Hans", "Hant", "Jpan"})
INNER_END = re.compile(r"[.!?…][\"”’')\]]*\s+\S")


@dataclass(frozen=True, kw_only=True)
class Score:
    """Scores of the boundaries of one language.

    Attributes:
        code: language code.
        recall: share of the boundaries between lines that were found.
        precision: share of the found boundaries that are between lines.
    """

    code: str
    recall: float
    precision: float
    written: float
    """Share of the lines that end in a terminator of the language or in closing marks after it."""


def single_sentences(english: tuple[str, ...]) -> list[int]:
    """Return the indices of the lines that are a single sentence in English."""
    return [number for number, line in enumerate(english) if not INNER_END.search(line.strip())]


def boundaries(pieces: list[str]) -> set[int]:
    """Return the ends of pieces except the last one, counted in characters without white space."""
    return set(accumulate(sum(map(len, piece.split())) for piece in pieces[:-1]))


def measure(lines: list[str], language: Language) -> Score:
    """Join lines in groups, split them, and score the boundaries."""
    glue = "" if language.script in UNSPACED else " "
    found = guessed = joined = 0
    for start in range(0, len(lines) - GROUP + 1, GROUP):
        group = [line.strip() for line in lines[start : start + GROUP]]
        pieces = split_sentences(glue.join(group), language)
        assert "".join(pieces) == glue.join(group)
        true, guess = boundaries(group), boundaries(pieces)
        found += len(true & guess)
        guessed += len(guess)
        joined += len(true)
    signs = language.terminators + ".!?…|:"
    ended = sum(line.strip().rstrip("\"'”’“»«›)]} 」』）").endswith(tuple(signs)) for line in lines)
    return Score(
        code=language.code,
        recall=found / joined,
        precision=found / max(guessed, 1),
        written=ended / len(lines),
    )


def measure_flores(data: Path, *, single: bool = True) -> list[Score]:
    """Return the scores of every language of FLORES-200 devtest."""
    flores = load_flores(data)
    numbers = single_sentences(flores.sentences("eng_Latn"))
    if not single:
        numbers = list(range(len(flores.sentences("eng_Latn"))))
    scores = []
    for language in languages():
        lines = flores.sentences(language.code)
        scores.append(measure([lines[number] for number in numbers], language))
    return scores


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main() -> int:
    """Print the table and the averages; the exit code is 1 if an average misses its goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write every score to this file")
    arguments = parser.parse_args()
    data = Path(os.environ.get("NLLB_TEST_DATA", ROOT.parent / "shared" / "data"))
    started = time.process_time()
    scores = measure_flores(data)
    spent = time.process_time() - started
    for score in sorted(scores, key=lambda score: score.recall):
        print(
            f"{score.code}  recall {score.recall:.3f}  precision {score.precision:.3f}  "
            f"lines that end in a terminator {score.written:.3f}"
        )
    recall = mean([score.recall for score in scores])
    precision = mean([score.precision for score in scores])
    print(f"{len(scores)} languages, lines of one sentence: {recall:.4f} {precision:.4f}")
    everything = measure_flores(data, single=False)
    print(
        f"all lines: recall {mean([score.recall for score in everything]):.4f} "
        f"precision {mean([score.precision for score in everything]):.4f}; {spent:.1f} CPU s"
    )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps([asdict(score) for score in scores], indent=1))
    return int(recall < 0.97 or precision < 0.95)


if __name__ == "__main__":
    sys.exit(main())
