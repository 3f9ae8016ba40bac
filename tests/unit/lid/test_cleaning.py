import time

import pytest

from lid.cleaning import is_code, remove_names, remove_non_language


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("See https://example.org/a/b?c=d#e for more", "See for more"),
        ("See www.example.com, please", "See please"),
        ("example.org/path/to/page is down", "is down"),
        ("Write to jane.doe+x@mail.example.org today", "Write to today"),
        ("RT @user: Que golazo #Mundial2026", "Que golazo"),
        ("@someone@social.example hola", "hola"),
        ("<p class='a'>Die Katze</p><!-- the cat -->", "Die Katze"),
        ("&lt;p&gt;Buenos d&iacute;as&lt;/p&gt;", "Buenos días"),
        ("Rufe `numpy.zeros` auf", "Rufe auf"),
        ("hahahaha nein", "nein"),
        ("wwwww ㅋㅋㅋㅋ", ""),
        ("Nooooo waaaay", "Noo waay"),
        ("Schifffahrt", "Schiffahrt"),
    ],
)
def test_what_is_not_language_is_removed(text: str, left: str) -> None:
    assert remove_non_language(text).split() == left.split()


@pytest.mark.parametrize(
    "text",
    [
        "Das ist (wie immer) gut; wirklich sehr gut.",
        "The word(s) in brackets [1], [2] are good = fine; really.",
        "one; two; three",
        "He said: “yes”; then left (again) (and again).",
        "A & B and 3 < 4, a/b and/or c",
        "Er wurde 1901 geboren.[1][2][3]",
        "Select a file from the list & update it",
    ],
)
def test_prose_stays_as_it_is(text: str) -> None:
    assert remove_non_language(text) == text
    assert not is_code(text)


@pytest.mark.parametrize(
    "text",
    [
        "def main(argv): return sum(x for x in range(10))",
        "for (int i = 0; i < n; i++) { a[i] = b[i]; }",
        "SELECT name, price FROM items WHERE price > 10 ORDER BY name;",
        'git commit -m "fix" && git push origin main',
        "import numpy as np; np.zeros((3, 3))",
        '{"id": 3, "ok": true, "items": [1, 2, 3]}',
    ],
)
def test_code_is_removed(text: str) -> None:
    assert remove_non_language(text) == ""


def test_names_are_capitalised_words_after_the_first() -> None:
    text = "The play was written by Dmitri Krzyzanowski."
    assert remove_names(text) == "The play was written by"
    assert remove_names("the play was written") is None
    assert remove_names("THE PLAY WAS WRITTEN") is None
    assert remove_names("Anna Maria Schmidt") is None


@pytest.mark.parametrize(
    "unit", ["<a", "@", "a.", "/", "&", "`", "www.", "a@", "a-", "[w", "a.b/", "#a", "ab", "!"]
)
def test_the_time_is_linear(unit: str) -> None:
    start = time.process_time()
    remove_non_language(unit * (400_000 // len(unit)) + "@/")
    assert time.process_time() - start < 2
