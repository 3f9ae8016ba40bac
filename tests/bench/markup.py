"""Placement of tags, and glossary terms: `python -m tests.bench markup`.

Tags: in FLORES devtest lines, names and numbers that occur once in the source get a tag. If the
output contains the same word once, we count the tags that enclose exactly that word, for en-de,
en-fr and en-es in both directions. Placeholders: sentences with `{name}` and similar.
Terms: outputs are required to contain two words of each reference, found by word alignment. We
report the share of exact matches, chrF++ with and without the terms, and the time of both searches
with one thread.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import regex

from tests.bench.measuring import RESULTS, environment

ENGLISH = "eng_Latn"
OTHERS = ("deu_Latn", "fra_Latn", "spa_Latn")
DATA = Path(__file__).parents[3] / "shared" / "data"
WORD = regex.compile(r"\p{N}+(?:[.,:]\p{N}+)*|[\p{L}\p{M}]+", flags=regex.VERSION1)
MIN_TERM_LETTERS = 5
TEMPLATES = (
    "Hello {name}, how are you?",
    "You have %s new messages.",
    "Please contact {{ user.mail }} if you have questions.",
    "The file %1$s could not be opened.",
    "{title} was deleted yesterday.",
    "We travelled to ${place} last summer.",
    "Click on [X12X] to start the installation.",
    "Open https://example.org/start and press the button.",
    "The meeting with {first} and {second} starts at noon.",
    "Write to info@example.org or to @example today.",
)


def copied_words(line: str) -> list[tuple[int, int]]:
    """Return the names and numbers that occur once in a line."""
    words = [m for m in WORD.finditer(line)]
    texts = [m[0] for m in words]
    return [
        m.span()
        for number, m in enumerate(words)
        if texts.count(m[0]) == 1
        and line.count(m[0]) == 1
        and (m[0][0].isdigit() or (m[0][0].isupper() and number and len(m[0]) > 3))
    ]


def tagged_unit(number: int, line: str) -> tuple[Any, list[str]]:
    """Return a unit with a tag around each copied word, and these words."""
    from nllb.documents.units import CodeKind, InlineCode, Unit

    fragments: list[Any] = []
    done, words = 0, []
    for code, (start, end) in enumerate(copied_words(line), 1):
        words.append(line[start:end])
        fragments += [
            line[done:start],
            InlineCode(CodeKind.OPEN, code, f"<b{code}>"),
            line[start:end],
            InlineCode(CodeKind.CLOSE, code, f"</b{code}>"),
        ]
        done = end
    fragments.append(line[done:])
    return Unit(key=str(number), fragments=tuple(f for f in fragments if f != "")), words


def measure_tags(translator: Any, lines: Sequence[str], source: str, target: str) -> Any:
    """Return the number of tags that enclose exactly their word."""
    from nllb.documents.unit_translation import translate_units
    from nllb.documents.units import InlineCode

    made = [tagged_unit(n, line) for n, line in enumerate(lines)]
    made = [each for each in made if each[1]]
    found = translate_units(translator, [unit for unit, _ in made], source=source, target=target)
    right = total = balanced = flagged = 0
    wrong: list[str] = []
    for (unit, words), result in zip(made, found, strict=True):
        output = "".join(f for f in result.fragments if isinstance(f, str))
        codes = [f for f in result.fragments if isinstance(f, InlineCode)]
        balanced += sorted(c.data for c in codes) == sorted(
            f.data for f in unit.fragments if isinstance(f, InlineCode)
        ) and is_nested(codes)
        flagged += "markup" in result.flags
        shown = "".join(f if isinstance(f, str) else f.data for f in result.fragments)
        for number, word in enumerate(words, 1):
            if [m[0] for m in WORD.finditer(output)].count(word) != 1 or output.count(word) != 1:
                continue
            total += 1
            inside = regex.search(rf"<b{number}>(.*?)</b{number}>", shown)
            text = regex.sub(r"</?b\d+>", "", inside[1] if inside else "")
            right += text == word
            if text != word:
                wrong.append(f"{word!r}: {text!r}")
    return {
        "tags": total,
        "right_percent": 100 * right / max(1, total),
        "units": len(made),
        "balanced_percent": 100 * balanced / max(1, len(made)),
        "flagged_units": flagged,
        "wrong": wrong[:10],
    }


def is_nested(codes: Sequence[Any]) -> bool:
    """Return whether pairs are nested."""
    waiting: list[int] = []
    for code in codes:
        if code.kind == "open":
            waiting.append(code.number)
        elif not waiting or waiting.pop() != code.number:
            return False
    return not waiting


def measure_placeholders(translator: Any, targets: Sequence[str]) -> Any:
    """Return the number of sentences that keep their placeholders, and of those that were split."""
    from nllb.translation.placeholders import PlaceholderPattern

    pattern = PlaceholderPattern()
    kept = cut = total = 0
    for target in targets:
        found = translator.translate(list(TEMPLATES), ENGLISH, target, placeholders=())
        for text, each in zip(TEMPLATES, found, strict=True):
            total += 1
            kept += pattern.count(each.text) == pattern.count(text)
            cut += "markup" in each.flags
    return {
        "sentences": total,
        "kept_percent": 100 * kept / total,
        "cut_percent": 100 * cut / total,
    }


def reference_terms(aligner: Any, pairs: Sequence[tuple[str, str]]) -> list[Any]:
    """Return two words of the reference as terms for each pair, or none."""
    found = []
    for (source, reference), links in zip(pairs, aligner.align(pairs), strict=True):
        words = {m.span(): m[0] for m in WORD.finditer(reference)}
        terms: list[str] = []
        for link in sorted(links, key=lambda link: -link.weight):
            for (start, end), word in words.items():
                fits = start <= link.target_start + 1 and link.target_end <= end
                plain = word.islower() or word.istitle()
                if fits and plain and len(word) >= MIN_TERM_LETTERS and word.isalpha():
                    if reference.count(word) == 1 and word not in terms and word not in source:
                        terms.append(word)
        found.append(tuple((word,) for word in terms[:2]) if len(terms) >= 2 else ())
    return found


def measure_terms(translator: Any, lines: Any, source: str, target: str) -> Any:
    """Return term rates, chrF++ and times with and without terms."""
    from sacrebleu.metrics.chrf import CHRF

    from nllb.inference.generator import SearchOptions
    from nllb.languages import parse_language
    from nllb.translation.glossary import term_status

    pairs = list(zip(*lines, strict=True))
    terms = reference_terms(translator.aligner, pairs)
    chosen = [n for n, of_line in enumerate(terms) if of_line]
    sources = [pairs[n][0] for n in chosen]
    references = [pairs[n][1] for n in chosen]
    required = [terms[n] for n in chosen]
    languages = {"source": parse_language(source), "target": parse_language(target)}
    result: dict[str, Any] = {"sentences": len(chosen), "terms": 2 * len(chosen)}
    for name, given in (("plain", None), ("with_terms", required)):
        start = time.process_time()
        found = translator.generator.generate(
            sources, search=SearchOptions(), terms=given, **languages
        )
        seconds = time.process_time() - start
        texts = [hypotheses[0].text for hypotheses in found]
        used = sum(
            term_status(forms, text) == "used"
            for text, of_line in zip(texts, required, strict=True)
            for forms in of_line
        )
        result[name] = {
            "exact_percent": 100 * used / max(1, 2 * len(chosen)),
            "chrf++": CHRF(word_order=2).corpus_score(texts, [references]).score,
            "process_s": seconds,
        }
    result["time_ratio"] = result["with_terms"]["process_s"] / result["plain"]["process_s"]
    return result


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write tests/bench/results/markup.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--lines", type=int, default=60, help="lines of each direction")
    parser.add_argument("--parts", default="tags,placeholders,terms")
    arguments = parser.parse_args(argv)
    from nllb.io.benchmarks import load_flores
    from nllb.translation.translator import Translator

    data = Path(os.environ.get("NLLB_TEST_DATA", DATA))
    flores = load_flores(data / "flores200_dataset", "devtest")
    translator = Translator.load(arguments.model, num_threads=1)
    lines = {c: list(flores.sentences(c))[: arguments.lines] for c in (ENGLISH, *OTHERS)}
    directions = [d for other in OTHERS for d in ((ENGLISH, other), (other, ENGLISH))]
    settings = {"model": arguments.model, "lines": arguments.lines}
    path = RESULTS / "markup.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result["environment"] = environment(**settings)
    for part in arguments.parts.split(","):
        if part == "placeholders":
            result[part] = measure_placeholders(translator, (*OTHERS, "rus_Cyrl", "fin_Latn"))
            print(part, result[part], flush=True)
            continue
        measured = result.setdefault(part, {})
        for source, target in directions:
            if part == "tags":
                found = measure_tags(translator, lines[source], source, target)
            else:
                both = (lines[source], lines[target])
                found = measure_terms(translator, both, source, target)
            measured[f"{source}-{target}"] = found
            print(part, source, target, found, flush=True)
        path.write_text(json.dumps(result, indent=1) + "\n")
    path.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
