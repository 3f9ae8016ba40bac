"""The meaning check: thresholds, AUC and cost. `python -m tests.bench meaning [-- --write]`.

Thresholds are computed from held-out translations of the training corpora; `--write` stores them.
The areas under the ROC curve (AUC) compare FLORES devtest lines, which were not used for any
choice, with four kinds of wrong outputs: the line of another sentence of similar length, a line
truncated to 40 to 70 %, a line with shuffled words and, into English, a negated line. The cost is
the time of the check relative to a translation by `mini`.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from tests.bench.measuring import RESULTS, environment

DATA = Path(__file__).parents[3] / "shared" / "data"
PIVOT = "eng_Latn"
CORPORA = ("tatoeba", "docs/gnome-user-docs", "docs/mozilla-www-l10n", "tico19", "docs/xquad")
MIN_PAIRS, MIN_CHARACTERS, MAX_CHARACTERS = 40, 20, 300
FLAGGED = 0.01
"""Share of correct held-out translations that the threshold flags."""
MIN_AUC = 0.92
"""A language with a lower AUC for other sentences counts as unknown to the encoder."""
_UNSPACED = ("Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt")
_VERBS = (" is ", " are ", " was ", " were ", " can ", " will ", " has ", " have ", " would ")

Scores = NDArray[numpy.float64]


def held_out_pairs(data_dir: Path, code: str, count: int) -> list[tuple[str, str]]:
    """Return distinct pairs of a language with English, taken evenly from the corpora."""
    from nllb.io.corpora import Layout, open_corpus

    by_corpus: list[list[tuple[str, str]]] = []
    for name in CORPORA:
        layout: Layout | None = None if name in ("tatoeba", "tico19") else "pairs"
        corpus = open_corpus(data_dir / name, layout=layout)
        found: dict[str, tuple[str, str]] = {}
        for pair in corpus.pairs(code, PIVOT, refuse=lambda *row: None):
            own, english = pair.source.text.strip(), pair.target.text.strip()
            if MIN_CHARACTERS <= len(english) <= MAX_CHARACTERS and own != english and own:
                found.setdefault(english, (own, english))
            if len(found) == count:
                break
        by_corpus.append(list(found.values()))
    turns = zip_longest(*by_corpus)
    return [pair for turn in turns for pair in turn if pair is not None][:count]


def truncated(text: str, code: str, draw: random.Random) -> str:
    """Return the first 40 to 70 % of a text."""
    share = draw.uniform(0.4, 0.7)
    if code.endswith(_UNSPACED):
        return text[: max(1, int(len(text) * share))]
    words = text.split()
    return " ".join(words[: max(1, int(len(words) * share))])


def shuffled(text: str, code: str, draw: random.Random) -> str:
    """Return a text with its words, or characters, in another order."""
    parts = list(text) if code.endswith(_UNSPACED) else text.split()
    draw.shuffle(parts)
    return ("" if code.endswith(_UNSPACED) else " ").join(parts)


def negated(text: str) -> str | None:
    """Return an English text with its first auxiliary verb negated, or None."""
    at = min((text.find(verb) + len(verb) for verb in _VERBS if verb in text), default=0)
    return f"{text[:at]}not {text[at:]}" if at and " not " not in text else None


def others(texts: Sequence[str]) -> list[str]:
    """Return another text of similar length for each text."""
    order = numpy.argsort([len(text) for text in texts], kind="stable")
    found = list(texts)
    for place, number in zip(order, numpy.roll(order, 1), strict=True):
        found[place] = texts[number]
    return found


def area(right: Scores, wrong: Scores) -> float:
    """Return the probability that a correct output scores higher than a wrong one."""
    ranks = numpy.concatenate([right, wrong]).argsort().argsort()[: len(right)] + 1
    return float((ranks.sum() - len(right) * (len(right) + 1) / 2) / (len(right) * len(wrong)))


Measure = Callable[[Sequence[str], Sequence[str]], Scores]


def measure_with(check: Any) -> Measure:
    """Return a function from sources and outputs to similarities."""
    from nllb.translation.meaning import coverage

    def measure(sources: Sequence[str], outputs: Sequence[str]) -> Scores:
        values = []
        for first in range(0, len(sources), 64):
            chosen = slice(first, first + 64)
            left, right = check.states(sources[chosen]), check.states(outputs[chosen])
            values += [coverage(a, b) or 0.0 for a, b in zip(left, right, strict=True)]
        return numpy.array(values)

    return measure


def calibrate(data_dir: Path, measure: Measure, count: int) -> Iterator[dict[str, Any]]:
    """Yield a row of the table of thresholds for each language that the encoder knows."""
    from nllb.languages import languages

    for language in languages():
        pairs = [] if language.code == PIVOT else held_out_pairs(data_dir, language.code, count)
        if len(pairs) < MIN_PAIRS:
            continue
        own, english = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        into, out = measure(own, english), measure(english, own)
        auc = area(into, measure(own, others(english)))
        row = {
            "language": language.code,
            "as_source": round(float(numpy.quantile(into, FLAGGED)), 3),
            "as_target": round(float(numpy.quantile(out, FLAGGED)), 3),
            "pairs": len(pairs),
            "auc_other": round(auc, 4),
        }
        print(row, flush=True)
        if auc >= MIN_AUC:
            yield row


def evaluate(data_dir: Path, measure: Measure, codes: Sequence[str], lines: int) -> dict[str, Any]:
    """Return the AUC of each kind of wrong output on FLORES devtest."""
    from nllb.io.benchmarks import load_flores

    flores = load_flores(data_dir / "flores200_dataset", "devtest")
    english = list(flores.sentences(PIVOT))[:lines]
    results = {}
    for code in codes:
        draw = random.Random(0)
        own = list(flores.sentences(code))[:lines]
        right = measure(english, own)
        wrong = {
            "other": others(own),
            "truncated": [truncated(text, code, draw) for text in own],
            "shuffled": [shuffled(text, code, draw) for text in own],
        }
        results[code] = {
            name: area(right, measure(english, texts)) for name, texts in wrong.items()
        }
        changed = [(a, b, negated(b)) for a, b in zip(own, english, strict=True)]
        chosen = [(a, b, c) for a, b, c in changed if c is not None]
        results[code]["negated"] = area(
            measure([a for a, _, _ in chosen], [b for _, b, _ in chosen]),
            measure([a for a, _, _ in chosen], [c for _, _, c in chosen]),
        )
        print(code, {name: round(value, 4) for name, value in results[code].items()}, flush=True)
    return results


def cost(data_dir: Path, code: str, lines: int) -> dict[str, float]:
    """Return the processor time for translating lines with `mini`, and for checking them."""
    from nllb.inference.generator import SearchOptions
    from nllb.io.benchmarks import load_flores
    from nllb.languages import parse_language
    from nllb.translation import Translator
    from nllb.translation.meaning import MeaningCheck

    flores = load_flores(data_dir / "flores200_dataset", "devtest")
    texts = list(flores.sentences(PIVOT))[:lines]
    check = MeaningCheck(num_threads=1)
    check.states(texts[:2])
    found = {}
    for name, beam in (("greedy", 1), ("beam_4", 4)):
        translator = Translator.load("mini", device="cpu", num_threads=1, similarity=False)
        search = SearchOptions(beam_size=beam)
        translator.translate(texts[:2], PIVOT, code, search=search)
        start = time.process_time()
        outputs = translator.translate(texts, PIVOT, code, search=search)
        middle = time.process_time()
        check.judge(
            texts,
            [output.text for output in outputs],
            source=parse_language(PIVOT),
            target=parse_language(code),
        )
        end = time.process_time()
        found[f"{name}_translation_s"] = middle - start
        found[f"{name}_check_s"] = end - middle
        found[f"{name}_share_percent"] = 100 * (end - middle) / (middle - start)
    return found


def write_table(rows: Sequence[dict[str, Any]]) -> None:
    """Write the shipped table of thresholds."""
    from nllb.inference.meaning_thresholds import THRESHOLDS_FILE
    from nllb.io.text import write_lines

    source = (
        "# SOURCE: `python -m tests.bench meaning -- --write`: the similarity that one held-out "
        f"pair in a hundred with English falls below ({', '.join(CORPORA)}); the AUC against other "
        "sentences."
    )
    lines = ["\t".join(map(str, row.values())) for row in rows]
    write_lines(THRESHOLDS_FILE, [source, "\t".join(rows[0]), *lines])


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write tests/bench/results/meaning.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="calibrate and store thresholds")
    parser.add_argument("--pairs", type=int, default=150, help="held-out pairs of each language")
    parser.add_argument("--lines", type=int, default=100, help="FLORES lines of each language")
    parser.add_argument(
        "--languages",
        default="fra_Latn,deu_Latn,arb_Arab,hin_Deva,zho_Hans,jpn_Jpan,swh_Latn,fin_Latn",
    )
    arguments = parser.parse_args(argv)
    from nllb.translation.meaning import MeaningCheck

    data_dir = Path(os.environ.get("NLLB_TEST_DATA", DATA))
    measure = measure_with(MeaningCheck(num_threads=1))
    if arguments.write:
        write_table(list(calibrate(data_dir, measure, arguments.pairs)))
    codes = arguments.languages.split(",")
    auc = evaluate(data_dir, measure, codes, arguments.lines)
    result = {
        "environment": environment(lines=arguments.lines, pairs=arguments.pairs),
        "auc": auc,
        "mean_auc": {
            name: float(numpy.mean([each[name] for each in auc.values()])) for name in auc[codes[0]]
        },
        "cost": cost(data_dir, "fra_Latn", arguments.lines),
    }
    print(json.dumps({name: result[name] for name in ("mean_auc", "cost")}, indent=1))
    (RESULTS / "meaning.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
