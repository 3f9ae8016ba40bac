"""Soft hyphens and text in capitals on their way to the model and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.languages import languages, parse_language
from nllb.translation.model_input import model_input
from nllb.translation.translator import Translator

ENGLISH, FRENCH = parse_language("eng_Latn"), parse_language("fra_Latn")


@pytest.mark.parametrize(
    ("text", "given_text"),
    [
        ("GAS TEST AND INSPECTION OF THE BOILER", "Gas test and inspection of the boiler"),
        ("HELLO WORLD", "Hello world"),
        ("PEA SOUP", "Pea soup"),
        ("DON'T PANIC!", "Don't panic!"),
        ("CONGRATULATIONS!", "Congratulations!"),
        ("OPEN {FILE} AT HTTP://A.ORG NOW", "Open {FILE} at HTTP://A.ORG now"),
        ("PRESS %s OR <B>STOP</B> NOW", "Press %s or <B>stop</B> now"),
    ],
)
def test_capitals_are_translated_in_small_letters(text, given_text):
    given_text_now = model_input(text, ENGLISH)
    assert given_text_now.in_capitals and given_text_now.text == given_text


@pytest.mark.parametrize("text", ["NATO", "The USA and the EU", "I", "OK", "A B C", "12 KG", ""])
def test_acronyms_and_mixed_text_stay(text):
    assert model_input(text, ENGLISH).text == text
    assert not model_input(text, ENGLISH).in_capitals


def test_outputs_get_capitals_again_except_for_literals():
    found = model_input("HELLO {name} AND ALL OF YOU", ENGLISH)
    assert found.restore("Bonjour à {name} et à tous", FRENCH) == "BONJOUR À {name} ET À TOUS"
    assert found.restore("你好 abc", parse_language("zho_Hans")) == "你好 abc"
    turkish = parse_language("tur_Latn")
    assert found.restore("iyi günler ılık", turkish) == "İYİ GÜNLER ILIK"
    assert model_input("IŞIK VE İNSAN", turkish).text == "Işık ve insan"


def test_soft_hyphens_are_removed():
    assert model_input("The lib\u00adrary", ENGLISH).text == "The library"
    assert model_input("\u00ad", ENGLISH).text


@given(st.text(), st.sampled_from(languages()))
def test_there_is_always_an_input(text, language):
    assert bool(model_input(text, language).text) == bool(text)


def test_the_translator_restores_the_form_of_a_segment(stand_in):
    generator = stand_in(lambda segment, search: f"[{segment}] et voilà")
    translation = Translator(generator).translate("HELLO WORLD\nThe lib\u00adrary", "en", "fr")
    assert translation.text == "[HELLO WORLD] ET VOILÀ\n[The library] et voilà"
    assert [segment.source_text for segment in translation.segments] == [
        "HELLO WORLD",
        "The lib\u00adrary",
    ]
