import unicodedata
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lid.characters import character_classes, fold, scripts
from lid.engine import MAX_CHARACTERS, KernelEngine, PackageEngine, open_engine, plain_text
from nllb.languages.normalization import normalize_for_detection

AWKWARD = [
    "",
    "   ",
    "\n\n",
    "\x00",
    "12345 +-*/ 67",
    "\U0001f600\U0001f680",
    "a\x00b\nc\td",
    "\ud800 Die Kinder \udfff spielten",
    "Ǆ ΑΣ ΣΑΣ. İstanbul e\u0301\u0327 \u1e9b\u0323",
    "zero\u200dwidth\u200c and\ufeff marks",
    "__label__deu_Latn the house </s> Das Haus",
    "क्षत्रिय ٱلْعَرَبِيَّة ไทย 日本語テスト",
    "x" * 5000,
    "Слово" * 300,
]


def engines(path: Path, *, normalised: bool) -> tuple[KernelEngine, PackageEngine]:
    ours = open_engine(path, normalised=normalised)
    theirs = open_engine(path, normalised=normalised, prefer_kernel=False)
    if not isinstance(ours, KernelEngine):
        pytest.skip("lid._kernel is not built: run pip install -e . with a C compiler")
    assert isinstance(theirs, PackageEngine)
    return ours, theirs


def probabilities(scores: np.ndarray) -> np.ndarray:
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def assert_equal_answers(path: Path, texts: list[str], *, normalised: bool) -> None:
    ours, theirs = engines(path, normalised=normalised)
    assert ours.labels == theirs.labels
    (our_scores, our_letters), (their_scores, their_letters) = (
        ours.score(texts),
        theirs.score(texts),
    )
    np.testing.assert_array_equal(our_letters, their_letters)
    np.testing.assert_allclose(probabilities(our_scores), probabilities(their_scores), atol=2e-6)


@pytest.mark.parametrize("kind", ["bin", "ftz"])
@pytest.mark.parametrize("normalised", [True, False])
def test_kernel_and_package_agree_on_sentences(
    model_paths: dict[str, Path], sentences: dict[str, list[str]], kind: str, normalised: bool
) -> None:
    texts = [line for lines in sentences.values() for line in lines]
    texts += [" ".join(line.split()[:2]) for line in texts] + AWKWARD
    if not normalised:  # fastText interprets a literal label in a raw text as markup
        texts = [text for text in texts if "__label__" not in text]
    assert_equal_answers(model_paths[kind], texts, normalised=normalised)


def test_kernel_and_package_agree_on_many_labels(sentences: dict[str, list[str]]) -> None:
    """fastText adds 1e-5 to each probability, which matters where there are hundreds of labels."""
    path = Path(import_module("lid").__file__).parent / "_models" / "default" / "model.ftz"
    texts = [line for lines in sentences.values() for line in lines]
    assert_equal_answers(path, texts, normalised=True)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=20))
def test_kernel_and_package_agree_on_any_text(
    model_paths: dict[str, Path], texts: list[str]
) -> None:
    assert_equal_answers(model_paths["ftz"], texts, normalised=True)


def test_cached_words_give_the_same_scores(model_paths: dict[str, Path]) -> None:
    ours, _ = engines(model_paths["bin"], normalised=True)
    fresh, _ = engines(model_paths["bin"], normalised=True)
    texts = ["the house near the sea", "the sea"]
    ours.score(["sea house near the"] * 3)
    np.testing.assert_array_equal(ours.score(texts)[0], fresh.score(texts)[0])


@given(st.text())
def test_character_classes_split_words_like_the_normaliser(text: str) -> None:
    classes = character_classes(normalised=True)
    words = "".join(c if classes[ord(c)] else " " for c in fold(text)).split()
    assert words == normalize_for_detection(text).split()


def test_code_points_are_kept_or_dropped_like_in_the_normaliser() -> None:
    classes = character_classes(normalised=True)
    for point in range(0, 0x110000, 7):
        if 0xD800 <= point < 0xE000:
            continue
        folded = fold(chr(point))
        kept = "".join(c for c in folded if classes[ord(c)])
        assert kept == normalize_for_detection(chr(point)).replace(" ", ""), hex(point)


def test_letters_are_classified_by_script() -> None:
    classes = character_classes(normalised=True)
    for letter, script in {
        "a": "Latn",
        "ж": "Cyrl",
        "语": "Hani",
        "か": "Hira",
        "ߊ": "Zzzz",
    }.items():
        assert scripts()[classes[ord(letter)] - 2] == script, unicodedata.name(letter)
    assert classes[ord("7")] == classes[0xD801] == classes[0xE000] == 0
    assert classes[0x301] == 1


def test_plain_text_is_a_single_truncated_line() -> None:
    assert plain_text("a\nb\x00c\ud800", normalised=False) == "a b c "
    assert plain_text("A, b!\n1", normalised=True) == "a b"
    assert len(plain_text("x" * (MAX_CHARACTERS + 5), normalised=True)) == MAX_CHARACTERS
