import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.errors import ConfigError
from nllb.translation.placeholders import PlaceholderPattern, Protection
from nllb.translation.translator import Translator

KEPT = ["{name}", "{{a.b}}", "%s", "%1$s", "${x}", "[X12X]", "https://a.org/x?y=1", "me@b.com"]
KEPT += ["@joe", "{n, plural, one {# file} other {# files}}", "{\\an8}", "♪", "`code`", "ID-12"]
TERMS = ["Yahoo! Inc.", "C++", "Go", "Straße"]
PARTS = [
    *KEPT,
    *TERMS,
    "Hello there. ",
    "world",
    " ",
    " ",
    "\n",
    "X71 ",
    "X7",
    "50 %",
    "{",
    "}",
    "<",
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=9).map("".join)
EXPRESSIONS = (r"ID-\d+",)
NOISE = [
    "{",
    "}",
    "%s",
    "%",
    "X71",
    "P71",
    "X7",
    "`",
    "http://b.c",
    "@x",
    "Go",
    "{name}",
    "&amp;",
    "",
]


def garble(segment, search):
    chance = random.Random(segment)
    words = segment.split() + chance.sample(NOISE, 3)
    chance.shuffle(words)
    return chance.choice([" ", ""]).join(words[: chance.randrange(1, 9)]) or "x"


def keep_numbers(segment, search):
    return segment.upper() if random.Random(segment).random() < 0.5 else garble(segment, search)


@pytest.mark.parametrize("model", [garble, keep_numbers])
@given(text=TEXTS)
def test_every_placeholder_comes_back_as_often_as_the_source_has_it(stand_in, model, text):
    translator = Translator(stand_in(model))
    found = translator.translate(text, "en", "de", placeholders=EXPRESSIONS, do_not_translate=TERMS)
    pattern = PlaceholderPattern(expressions=EXPRESSIONS)
    assert pattern.count(found.text) == pattern.count(text)
    kept = [each.text for each in PlaceholderPattern(terms=TERMS).find(text)]
    for term, count in Counter(kept).items():
        assert found.text.count(term) >= count
    assert found.source_text == text


@given(text=TEXTS)
def test_a_translation_that_changes_nothing_gives_the_same_text(stand_in, text):
    translator = Translator(stand_in(lambda segment, search: segment))
    found = translator.translate(text, "en", "de", placeholders=EXPRESSIONS, do_not_translate=TERMS)
    assert found.text == text
    for segment in found.segments:
        end = segment.start + len(segment.text)
        assert found.text[segment.start : end] == segment.text
        end = segment.source_start + len(segment.source_text)
        assert text[segment.source_start : end] == segment.source_text


def test_a_stand_in_that_the_model_keeps_is_replaced_where_the_model_put_it(stand_in):
    generator = stand_in(lambda segment, search: "Wie geht es dir, X71?")
    found = Translator(generator).translate("How are you, {name}?", "en", "de", placeholders=())
    assert found.text == "Wie geht es dir, {name}?"
    assert "markup" not in found.flags
    assert generator.calls[0][0] == ("How are you, X71?",)


def test_the_second_stand_in_is_tried_before_the_sentence_is_cut(stand_in):
    generator = stand_in(lambda segment, search: "Hallo P71!" if "P71" in segment else "Hallo!")
    found = Translator(generator).translate("Hello %s!", "en", "de", placeholders=())
    assert found.text == "Hallo %s!"
    generator = stand_in(lambda segment, search: segment.upper().translate(dict.fromkeys(b"X71P")))
    found = Translator(generator).translate("Hello %s now!", "en", "de", placeholders=())
    assert found.text == "HELLO %s NOW!"
    assert found.flags == ("markup",)


def test_terms_are_given_as_they_are_first(stand_in):
    generator = stand_in(lambda segment, search: segment.replace("lives in", "wohnt in"))
    found = Translator(generator).translate(
        "He lives in Bath.", "en", "de", do_not_translate=["Bath"]
    )
    assert found.text == "He wohnt in Bath."
    assert len(generator.calls) == 1


def test_without_options_models_get_placeholders_as_they_are(stand_in):
    generator = stand_in(lambda segment, search: segment)
    Translator(generator).translate("Hello {name}.", "en", "de")
    assert generator.calls[0][0] == ("Hello {name}.",)


def test_equal_segments_with_different_placeholders_share_one_translation(stand_in):
    generator = stand_in(lambda segment, search: segment.upper())
    found = Translator(generator).translate(
        ["Open {a} now", "Open {b} now"], "en", "de", placeholders=()
    )
    assert [each.text for each in found] == ["OPEN {a} NOW", "OPEN {b} NOW"]
    assert set(generator.calls[0][0]) == {"Open X71 now"}


@pytest.mark.parametrize(
    ("expression", "message"),
    [("(", "not a valid"), ("x*", "empty"), ("(?P<a>x)", "named group"), ("x" * 1001, "1,001")],
)
def test_expressions_that_cannot_be_used_are_refused(expression, message):
    with pytest.raises(ConfigError, match=message):
        PlaceholderPattern(expressions=[expression])


def test_an_expression_that_never_ends_is_an_error(monkeypatch):
    monkeypatch.setattr("nllb.translation.placeholders.MATCH_TIMEOUT_S", 0.05)
    pattern = PlaceholderPattern(expressions=["(x|x)+y"])
    with pytest.raises(ConfigError, match="took more than"):
        pattern.find("x" * 60)


@given(st.text(max_size=60))
def test_protected_text_restores_to_itself(text):
    protection = Protection(PlaceholderPattern(terms=TERMS, kinds=("private", "tag", "variable")))
    assert protection.restore(protection.protect(text)) == text


def test_kinds_are_found_whole():
    text = "Pay %1$s to {{ user.name }} by {n, plural, one {# day} other {# days}}, see www.a.org."
    kinds = [(each.text, each.kind) for each in PlaceholderPattern().find(text)]
    assert kinds == [
        ("%1$s", "variable"),
        ("{{ user.name }}", "variable"),
        ("{n, plural, one {# day} other {# days}}", "variable"),
        ("www.a.org", "address"),
    ]
    assert not PlaceholderPattern().find("50 % so, 5% discount, {open, a < b, 3 & 4; x")
