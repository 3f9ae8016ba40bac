"""Language identification compared with other packages, on the languages of each of them.

Run: python -m tests.bench.lid_peers [EVERY_NTH_LINE]

Peers are optional: `pip install lingua-language-detector heliport pycld2`; missing packages are
skipped. All are tested on the same lines of FLORES-200 devtest, complete and cut to three words. An
answer is mapped to the label of the same language. The detector does not know the peer's languages.
"""

import importlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from lid.detector import Detector
from lid.evaluate.measure import first_words, read_labelled
from nllb.errors import LanguageError
from nllb.languages import parse_language

UNKNOWN = "und"


def label_of(code: str) -> str:
    """Return the label of a peer's language code."""
    try:
        return parse_language(code).code
    except LanguageError:
        return UNKNOWN


def lingua() -> tuple[Callable[[str], str], set[str]]:
    package = importlib.import_module("lingua")
    detector = package.LanguageDetectorBuilder.from_all_languages().build()

    def detect(text: str) -> str:
        found = detector.detect_language_of(text)
        return UNKNOWN if found is None else label_of(found.iso_code_639_3.name.lower())

    codes = (language.iso_code_639_3.name.lower() for language in package.Language.all())
    return detect, {label_of(code) for code in codes}


def heli() -> tuple[Callable[[str], str], set[str]]:
    identifier = importlib.import_module("heliport").Identifier()
    _, known = lingua()
    return lambda text: label_of(str(identifier.identify(text))), known


def cld2() -> tuple[Callable[[str], str], set[str]]:
    package = importlib.import_module("pycld2")

    def detect(text: str) -> str:
        try:
            return label_of(package.detect(text, bestEffort=True)[2][0][1])
        except package.error:
            return UNKNOWN

    _, known = lingua()
    return detect, known


PEERS = {"lingua": lingua, "HeLI (on lingua's languages)": heli, "cld2 (the same)": cld2}


def macro_f1(answers: Mapping[str, Sequence[str]]) -> float:
    """Return the macro F1 of label -> answers."""
    predicted = Counter(answer for listed in answers.values() for answer in listed)
    scores = []
    for label, listed in answers.items():
        right = sum(answer == label for answer in listed)
        scores.append(2 * right / max(1, predicted[label] + len(listed)))
    return sum(scores) / max(1, len(scores))


def main() -> None:
    step = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    data = Path(os.environ.get("NLLB_TEST_DATA", "../shared/data"))
    text = read_labelled(data / "flores200_dataset")
    detector = Detector.load()
    for name, open_peer in PEERS.items():
        try:
            detect, known = open_peer()
        except ImportError as error:
            print(f"{name}: skipped, {error}")
            continue
        labels = sorted(known & set(text) & set(detector.labels))
        for words in (None, 3):
            lines = {label: first_words(text[label][::step], words) for label in labels}
            count = sum(map(len, lines.values()))
            start = time.process_time()
            theirs = macro_f1({label: [detect(one) for one in lines[label]] for label in labels})
            their_time = time.process_time() - start
            start = time.process_time()
            found = {label: detector.detect_batch(lines[label]) for label in labels}
            our_time = time.process_time() - start
            ours = macro_f1({label: [one.language for one in found[label]] for label in labels})
            best = macro_f1({label: [one.best for one in found[label]] for label in labels})
            print(
                f"{name}, {len(labels)} languages, {count:,} lines, "
                f"{'complete' if words is None else f'{words} words'}: F1 {theirs:.3f} "
                f"({count / max(their_time, 1e-9):,.0f} lines/CPU-s); lid {ours:.3f}, argmax "
                f"{best:.3f} ({count / max(our_time, 1e-9):,.0f} lines/CPU-s)"
            )


if __name__ == "__main__":
    main()
