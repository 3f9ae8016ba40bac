import random
from collections import Counter

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from nllb.errors import ConfigError
from nllb.inference.word_alignment import Link
from nllb.translation.placeholders import PlaceholderPattern, Protection
from nllb.translation.stand_ins import make_form, number_pattern
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
    generator = stand_in(lambda segment, search: "Wie geht es dir, Maria?")
    found = Translator(generator).translate("How are you, {name}?", "en", "de", placeholders=())
    assert found.text == "Wie geht es dir, {name}?"
    assert "markup" not in found.flags
    assert generator.calls[0][0] == ("How are you, Maria?",)


def test_the_second_stand_in_is_tried_before_the_sentence_is_cut(stand_in):
    generator = stand_in(lambda segment, search: "Hallo X71!" if "X71" in segment else "Hallo!")
    found = Translator(generator).translate("Hello %s!", "en", "de", placeholders=())
    assert found.text == "Hallo %s!"
    generator = stand_in(lambda segment, search: segment.upper().translate(dict.fromkeys(b"X71P")))
    found = Translator(generator).translate("Hello %s now!", "en", "de", placeholders=())
    assert found.text == "HELLO %s NOW!"
    assert found.flags == ("markup",)


class WordByWord:
    """Aligns words by a dictionary."""

    def __init__(self, **words):
        self.words = words

    def align(self, pairs):
        return [
            [
                Link(
                    source_start=source.index(word),
                    source_end=source.index(word) + len(word),
                    target_start=target.index(other),
                    target_end=target.index(other) + len(other),
                )
                for word, other in self.words.items()
                if word in source and other in target
            ]
            for source, target in pairs
        ]


@pytest.mark.parametrize(
    ("output", "translation"),
    [
        ("Näin Marian eilen.", "Näin {name} eilen."),
        ("昨日マリアを見た。", "昨日{name}を見た。"),
        ("Eilen näin.", "I SAW {name} YESTERDAY."),
        ("Maria näin Maria.", "I SAW {name} YESTERDAY."),
        ("Näin Marian, Maria.", "Näin Marian, {name}."),
    ],
)
def test_words_aligned_to_a_lost_stand_in_are_replaced(stand_in, output, translation):
    def translate(segment, search):
        if "Maria" in segment:
            return output
        return segment.upper().replace("X71", "")

    is_japanese = "マ" in output
    aligner = WordByWord(Maria="マ" if is_japanese else "Marian")
    translator = Translator(stand_in(translate), aligner=aligner)
    target = "ja" if is_japanese else "fi"
    found = translator.translate("I saw {name} yesterday.", "en", target, placeholders=())
    assert found.text == translation
    assert ("markup" in found.flags) == (translation != "Näin Marian, {name}.")


def test_numbers_stand_in_for_numbers_and_are_found_in_any_digits(stand_in):
    generator = stand_in(lambda segment, search: segment.replace("71", "٧١"))
    found = Translator(generator).translate(
        "Wait %d min or {count} h.", "en", "ar", placeholders=()
    )
    assert generator.calls[0][0] == ("Wait 71 min or 72 h.",)
    assert found.text == "Wait %d min or {count} h."


@pytest.mark.parametrize(
    ("number", "written", "count", "others"),
    [
        ("21", "21 ２１ ۲۱", 3, "121 2.1 210 二十一"),
        ("1000000", "1000000 1.000.000 1 000 000", 3, "1000 10000000"),
        ("1.5", "1,5 1.5", 2, "15 1.55 11,5"),
    ],
)
def test_a_number_is_found_as_languages_write_it(number, written, count, others):
    assert len(regex.findall(number_pattern(number), written)) == count
    assert not regex.findall(number_pattern(number), others)


def test_a_form_has_each_stand_in_once():
    protection = Protection(PlaceholderPattern(terms=["Oslo"]))
    text = "Maria {a} Oslo {b} {c} {d} {e} %d 71 ♪ Oslo"
    form = make_form(protection.protect(text), protection, "word")
    assert form.text == "Maria Peter Oslo Anna David Laura X72 73 71 X74 Oslo"
    restored = form.restore(form.text)
    assert restored is not None
    assert protection.restore(restored) == text
    assert make_form(protection.protect("{a} X71"), protection, "code").text == "X72 X71"


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
    assert set(generator.calls[0][0]) == {"Open Maria now"}


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
