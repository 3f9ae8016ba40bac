from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.languages import languages, parse_language
from nllb.translation.structure import Document, cut, parse, separator

SPACES = " \t\n\r\x0b\x0c\x00\u2028\u3000\ufeff"
WORDS = [
    "Hello.",
    "Is it?",
    "- ",
    "1. ",
    "3. mai",
    "https://a.b",
    "😀",
    "你好。",
    "١٢",
    "x",
    "(a) ",
    "1) one",
    "| a | b |",
    "x" * 130,
]
TEXTS = st.one_of(
    st.text(),
    st.lists(st.one_of(st.sampled_from(WORDS), st.sampled_from(SPACES))).map("".join),
)


def everything_fits(segment: str) -> bool:
    return True


def at_most(longest: int) -> Callable[[str], bool]:
    return lambda segment: len(segment) <= longest


@given(TEXTS, st.sampled_from(languages()), st.integers(1, 40))
def test_a_document_of_its_own_segments_is_its_text(text, language, longest):
    for fits in (everything_fits, at_most(longest)):
        document = parse(text, language, fits=fits)
        assert document.render([part.text for part in document.parts]) == text
        for part in document.parts:
            assert part.text and part.text == part.text.strip()
            assert not set(part.text) & set("\n\r\x0b\x0c\x00\u2028\t\ufeff")
            assert not any("\ud800" <= character <= "\udfff" for character in part.text)


def test_lines_markers_and_gaps_are_kept_outside_the_segments():
    text = "# The title\r\n\r\n  - First point. And more.\n  2) Second\tcell     wide"
    text += "\n> > Quoted.\x00End"
    document = parse(text, parse_language("eng"), fits=everything_fits)
    assert [(part.before, part.text) for part in document.parts] == [
        ("# ", "The title"),
        ("\r\n\r\n  - ", "First point."),
        (" ", "And more."),
        ("\n  2) ", "Second"),
        ("\t", "cell"),
        ("     ", "wide"),
        ("\n> > ", "Quoted."),
        ("\x00", "End"),
    ]
    assert document.tail == ""


@pytest.mark.parametrize(
    "line", ["3. mai var", "1.5 liters", "-5 degrees", "(a)symmetric", "A. Smith"]
)
def test_what_only_looks_like_a_marker_stays_in_the_segment(line):
    document = parse(line, parse_language("nob"), fits=everything_fits)
    assert document.parts[0].before == ""


@pytest.mark.parametrize(
    ("line", "marker", "segment"),
    [
        ("1) one", "1) ", "one"),
        ("(2) two", "(2) ", "two"),
        ("(a) one", "(a) ", "one"),
        ("b) two", "b) ", "two"),
        ("(iv) four", "(iv) ", "four"),
        ("1.1 Scope", "1.1 ", "Scope"),
        ("2.3.1. Method", "2.3.1. ", "Method"),
        ("1. One", "1. ", "One"),
        ("- [ ] to do", "- [ ] ", "to do"),
    ],
)
def test_list_markers_stay_outside_the_segment(line, marker, segment):
    [part] = parse(line, parse_language("eng"), fits=everything_fits).parts
    assert (part.before, part.text) == (marker, segment)


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        ("| Name | City |", ["Name", "City"]),
        ("|the house|the garden|", ["the house", "the garden"]),
        ("  | one \\| two | three |", ["one \\| two", "three"]),
        ("|------|:----:|", ["------", ":----:"]),
        ("Home | About us | Contact", ["Home", "About us", "Contact"]),
        ("a|b is code", ["a|b is code"]),
    ],
)
def test_table_cells_are_segments_and_bars_are_kept(row, cells):
    document = parse(row, parse_language("eng"), fits=everything_fits)
    assert [part.text for part in document.parts] == cells
    assert document.render(cells) == row


def test_a_bar_that_is_typed_for_a_danda_stays_in_its_sentence():
    document = parse("वह घर है | मैं यहाँ हूँ |", parse_language("hin"), fits=everything_fits)
    assert document.parts[0].text.endswith("|")


def test_encoded_data_and_long_addresses_are_not_translated():
    data = "data:image/png;base64," + "iVBORw0KGgo" * 700
    document = parse(f"Look: {data} and more.", parse_language("eng"), fits=everything_fits)
    assert [part.text for part in document.parts] == ["Look:", "and more."]
    assert document.parts[1].before == f" {data} "
    long_word = "Donaudampfschifffahrtsgesellschaftskapitän"
    [part] = parse(long_word, parse_language("deu"), fits=everything_fits).parts
    assert part.translate
    [part] = parse("词" * 400, parse_language("zho_Hans"), fits=everything_fits).parts
    assert part.translate


@pytest.mark.parametrize("text", ["", "\n\n", "  \t ", "- ", "\x00\x00"])
def test_text_without_segments_is_all_tail(text):
    document = parse(text, parse_language("eng"), fits=everything_fits)
    assert document == Document(parts=(), tail=text)


def test_pieces_without_words_are_not_translated():
    document = parse("12:30\nhttps://example.org/a\n😀😀\nWord", parse_language("eng"), fits=len)
    assert [part.translate for part in document.parts] == [False, False, True]


def test_a_lone_surrogate_is_kept_where_it_was():
    document = parse("Good\ud800 day", parse_language("eng"), fits=everything_fits)
    assert [part.text for part in document.parts] == ["Good", "day"]
    assert document.render(["Bon", "jour"]) == "Bon\ud800 jour"


def test_emoji_are_kept_between_segments():
    text = "Thanks 😀 see you 👩‍👩‍👧 tomorrow ❤️! ©2020 Firm™ wins 👍🏽"
    document = parse(text, parse_language("eng"), fits=everything_fits)
    texts = [part.text for part in document.parts if part.translate]
    assert texts == ["Thanks", "see you", "tomorrow", "©2020 Firm™ wins"]
    assert document.tail == " 👍🏽"


def test_touching_sentences_get_a_space_where_the_target_writes_one():
    chinese, english = parse_language("zho_Hans"), parse_language("eng")
    document = parse("你好。再见。 好。", chinese, fits=everything_fits)
    outputs = ["Hello.", "Bye.", "Fine."]
    assert document.render(outputs, between=separator(chinese, english)) == "Hello. Bye. Fine."
    assert separator(chinese, parse_language("jpn")) == ""
    assert separator(english, parse_language("fra")) == ""
    assert separator(english, chinese) == ""


def test_no_space_is_put_beside_text_that_is_kept():
    document = cut(["你好", "123", "再见"])
    assert document.render(["Hello", "123", "Bye"], between=" ") == "Hello123Bye"


def test_as_many_outputs_as_parts():
    document = cut(["a ", "b"])
    with pytest.raises(ValueError, match="zip"):
        document.render(["A"])
