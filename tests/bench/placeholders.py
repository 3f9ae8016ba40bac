"""Placeholders against references: `python -m tests.bench placeholders`.

Sentences of Tatoeba in which a number or the name Tom became a placeholder on both sides, and user
interface texts of Android that have placeholders. For each language: the share of sentences whose
stand-ins were kept, whose aligned words were replaced (`projected`), and that were cut; how many
words the placeholder is away from its place in the reference, scaled to the length of the
reference; and chrF++ with a word in place of each placeholder. The model was not trained on the
texts of Android; some pairs of Tatoeba it has read.
"""

import argparse
import json
import os
import random
import re
import statistics
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.measuring import RESULTS, environment

ENGLISH: Final = "eng_Latn"
TARGETS: Final = tuple(
    "deu_Latn fra_Latn spa_Latn rus_Cyrl jpn_Jpan zho_Hans arb_Arab hin_Deva".split()
)
TOM: Final = {
    "jpn_Jpan": "トム",
    "zho_Hans": "汤姆",
    "arb_Arab": "توم",
    "hin_Deva": "टॉम",
    "rus_Cyrl": "Том",
}
DATA: Final = Path(__file__).parents[3] / "shared" / "data"
SIGN: Final = re.compile("[\U000f0000-\U0010fffd]")
Pair = tuple[str, str]


def read_pairs(data: Path, corpus: str, target: str) -> Iterator[Pair]:
    """Yield English texts with their translations."""
    from nllb.io.compression import open_binary

    first, second = sorted((ENGLISH, target))
    path = data / corpus / f"{first}-{second}.tsv.zst"
    with open_binary(path) as stream:
        for line in stream:
            one, other = line.decode().rstrip("\n").split("\t")[:2]
            yield (one, other) if first == ENGLISH else (other, one)


def tatoeba_pairs(data: Path, target: str, count: int) -> list[Pair]:
    """Return pairs with a placeholder for a number or for Tom, half of them each."""
    lines = list(read_pairs(data, "tatoeba", target))
    random.Random(7).shuffle(lines)
    tom = re.escape(TOM.get(target, "Tom"))
    whole = tom if target in {"jpn_Jpan", "zho_Hans"} else rf"(?<!\w){tom}(?!\w)"
    found: dict[str, list[Pair]] = {"%d": [], "{name}": []}
    seen: set[str] = set()
    for source, reference in lines:
        if source in seen or not 4 <= len(source.split()) <= 14:
            continue
        numbers = re.findall(r"\d+", source)
        digits = "".join(
            str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in reference
        )
        if len(numbers) == 1 and len(numbers[0]) > 1 and re.findall(r"\d+", digits) == numbers:
            kind, pair = "%d", (source.replace(numbers[0], "%d"), digits.replace(numbers[0], "%d"))
        elif len(re.findall(r"\bTom\b(?!')", source)) == len(re.findall(whole, reference)) == 1:
            pair = source.replace("Tom", "{name}"), re.sub(whole, "{name}", reference)
            kind = "{name}"
        else:
            continue
        if len(found[kind]) < count // 2:
            seen.add(source)
            found[kind].append(pair)
    return [pair for pairs in found.values() for pair in pairs]


def android_pairs(data: Path, target: str, count: int) -> list[Pair]:
    """Return texts of Android's user interface that have the same placeholders on both sides."""
    from nllb.translation.placeholders import PlaceholderPattern

    pattern = PlaceholderPattern()
    found: dict[str, str] = {}
    for source, reference in read_pairs(data, "docs/android-framework", target):
        placeholders = pattern.count(source)
        fits = 3 <= len(source.split()) <= 30 and re.search("[A-Za-z]{3}", source) is not None
        if fits and placeholders and placeholders == pattern.count(reference):
            if max(placeholders.values()) == 1:
                found.setdefault(source, reference)
    return list(found.items())[:count]


def position_errors(output: str, reference: str) -> list[float]:
    """Return for each placeholder how many words of the reference it is away from its place."""
    from nllb.translation.projection import find_words

    places = []
    for text in (output, reference):
        words = [text[start:end] for start, end in find_words(text).tolist()]
        places.append(({word: n for n, word in enumerate(words)}, max(1, len(words) - 1)))
    (found, length), (wanted, reference_length) = places
    return [
        abs(found[sign] / length - wanted[sign] / reference_length) * reference_length
        for sign in SIGN.findall(reference)
        if sign in found and sign in wanted
    ]


def measured(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return the figures of one way to translate."""
    from sacrebleu.metrics.chrf import CHRF

    errors = [
        error
        for text, reference in zip(texts, references, strict=True)
        for error in position_errors(text, reference)
    ]
    shown = [[SIGN.sub("Q9", text) for text in each] for each in (texts, references)]
    return {
        "words_away": statistics.fmean(errors),
        "within_one_word_percent": 100 * statistics.fmean(error <= 1 for error in errors),
        "chrf++": CHRF(word_order=2).corpus_score(shown[0], [shown[1]]).score,
    }


def measure(translator: Any, pairs: Sequence[Pair], target: str) -> dict[str, Any]:
    """Return the figures of one language, with and without word alignment."""
    from nllb.translation.placeholders import PlaceholderPattern, Protection

    protection = Protection(PlaceholderPattern())
    sources, references = ([protection.protect(pair[side]) for pair in pairs] for side in (0, 1))
    result: dict[str, Any] = {"sentences": len(pairs)}
    aligner = translator.aligner
    for name in ("with_alignment", "without_alignment"):
        translator.aligner = aligner if name == "with_alignment" else None
        found = translator.translate_protected(sources, ENGLISH, target, protection=protection)
        texts = [each.text for each in found]
        kept = [
            sorted(protection.signs(text)) == sorted(protection.signs(source))
            for text, source in zip(texts, sources, strict=True)
        ]
        trusts = [segment.trust for each in found for segment in each.segments]
        marked = [trust for trust in trusts if "markup" in trust.flags]
        cut = [trust for trust in marked if trust.origin in {"smaller_pieces", "kept"}]
        result[name] = {
            **measured(texts, references),
            "placeholders_kept_percent": 100 * statistics.fmean(kept),
            "projected_percent": 100 * (len(marked) - len(cut)) / len(trusts),
            "cut_percent": 100 * len(cut) / len(trusts),
        }
    translator.aligner = aligner
    return result


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write tests/bench/results/placeholders.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sentences", type=int, default=60, help="of each corpus and language")
    arguments = parser.parse_args(argv)
    from nllb.translation.translator import Translator

    data = Path(os.environ.get("NLLB_TEST_DATA", DATA))
    translator = Translator.load(arguments.model, num_threads=1)
    settings = {"model": arguments.model, "sentences": arguments.sentences}
    result: dict[str, Any] = {"environment": environment(**settings)}
    for target in TARGETS:
        result[target] = {
            "tatoeba": measure(
                translator, tatoeba_pairs(data, target, arguments.sentences), target
            ),
            "android": measure(
                translator, android_pairs(data, target, arguments.sentences), target
            ),
        }
        print(target, json.dumps(result[target]), flush=True)
        (RESULTS / "placeholders.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
