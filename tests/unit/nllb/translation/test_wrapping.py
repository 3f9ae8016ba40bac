import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.languages import parse_language
from nllb.translation.structure import parse
from nllb.translation.translator import Translator
from nllb.translation.wrapping import unwrap

ENGLISH = parse_language("eng_Latn")
PARAGRAPH = (
    "The old library by the river opens at nine every morning. Everyone is welcome to come in "
    "and to read, even those who only want to keep warm. It closes at six, or later in winter."
)
LINES = st.lists(
    st.sampled_from(
        ["", "  ", "\r", "word", "- item", "a longer line of text that fills it.", "你好你好", "\t"]
    )
    | st.text(max_size=60),
    max_size=8,
)


def everything_fits(segment):
    return True


@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["eng_Latn", "zho_Hans"]))
def test_a_document_of_its_own_segments_is_its_text(lines, end, code):
    text = end.join(lines)
    document = parse(text, parse_language(code), fits=everything_fits, wrapped=True)
    assert document.render([part.text for part in document.parts]) == text


@given(st.text(alphabet="abc de. \n", max_size=300), st.integers(40, 60))
def test_wrapped_paragraphs_come_back_too(text, width):
    text = textwrap.fill(text, width)
    document = parse(text, ENGLISH, fits=everything_fits, wrapped=True)
    assert document.render([part.text for part in document.parts]) == text


@pytest.mark.parametrize("indent", ["", "    "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_sentences_go_on_over_full_lines_and_line_ends_come_back(stand_in, indent, end):
    wrapped = textwrap.fill(PARAGRAPH, 60, initial_indent=indent, subsequent_indent=indent)
    text = wrapped.replace("\n", end) + end + end + "Short." + end + "Lines." + end
    translator = Translator(stand_in(lambda segment, search: segment.upper().replace("THE", "LA")))
    translation = translator.translate(text, source="en", target="fr", wrapped=True)
    sentences = [segment.source_text for segment in translation.segments]
    assert sentences == [
        "The old library by the river opens at nine every morning.",
        "Everyone is welcome to come in and to read, even those who only want to keep warm.",
        "It closes at six, or later in winter.",
        "Short.",
        "Lines.",
    ]
    assert translation.text.split() == text.upper().replace("THE", "LA").split()
    assert translation.text.count(end) == text.count(end)
    assert translation.text.count(end + indent) >= wrapped.count("\n")
    hard = translator.translate(text, source="en", target="fr")
    assert len(hard.segments) > len(translation.segments)


def test_chinese_lines_are_joined_without_a_space():
    line = "图书馆在河边早上九点开门欢迎大家进来看书" * 2
    text = f"{line}\n{line}\n好。"
    joined, breaks = unwrap(text)
    assert joined == line * 2 + "好。"
    assert [soft.position for soft in breaks] == [40, 80]


@pytest.mark.parametrize(
    ("text", "num_soft"),
    [
        ("", 0),
        ("Dear Ms Miller\n12 Long Street\nOldtown", 0),
        ("A first line that is as long as a line may be in it\n\nand one after a blank line.", 0),
        ("A first line that is as long as a line may be in it\n- and an item of a list.", 0),
        ("A first line that is as long as a line may be in it\nshort\nand it goes on.", 1),
        ("# A heading that is as long as a line may ever be here\nand text.", 0),
    ],
)
def test_only_the_ends_of_full_lines_are_soft(text, num_soft):
    joined, breaks = unwrap(text)
    assert len(breaks) == num_soft
    assert joined.count("\n") == text.count("\n") - num_soft


def test_widths_are_columns():
    """Twenty Chinese characters fill forty columns; a character needs two of them."""
    line = "图书馆在河边早上九点开门欢迎大家进来看书"
    joined, breaks = unwrap(f"{line}\n{line}\n好。")
    assert joined == line * 2 + "好。" and len(breaks) == 2
    shorter = line[:-1]  # the next character and its comma, which begins no line, do not fit
    assert len(unwrap(f"{line}\n{shorter}\n书，好。")[1]) == 2
    assert len(unwrap(f"{line}\n{shorter}\n书好。")[1]) == 1


HYPHENATED = (
    "Guten Tag, dies ist ein Absatz mit einer Silben-\n"
    "trennung am Zeilenende, die man in jeder Datei fin\u00ad\n"
    "  det, die aus einem PDF kommt, auch in Nord-\n"
    "Amerika.\n"
)


def test_words_that_were_hyphenated_are_joined(stand_in):
    generator = stand_in(lambda segment, search: segment.replace("e", "o"))
    translation = Translator(generator).translate(HYPHENATED, "de", "fr", wrapped=True)
    [segment] = translation.segments
    assert "Silbentrennung am Zeilenende" in segment.source_text
    assert "Datei findet, die" in segment.source_text
    assert "Silbontronnung" in translation.text.replace("\n", " ")
    assert translation.text.count("\n") == HYPHENATED.count("\n")


def test_hyphenated_words_come_back_where_nothing_is_translated():
    document = parse(HYPHENATED, parse_language("deu"), fits=everything_fits, wrapped=True)
    assert document.render([part.text for part in document.parts]) == HYPHENATED


def test_a_hyphen_before_a_new_item_or_in_a_short_line_stays():
    assert unwrap("a well-\nknown fact")[1] == ()
    full = "A first line that is as long as a line may be in it"
    assert unwrap(f"{full} -\n- item")[1] == ()


@given(
    st.lists(st.sampled_from(["Silben", "fin", "-", "\u00ad", " ", "det. ", "\n", "好", "a" * 40])),
)
def test_documents_with_hyphens_come_back(pieces):
    text = "".join(pieces)
    for code in ("deu_Latn", "zho_Hans"):
        document = parse(text, parse_language(code), fits=everything_fits, wrapped=True)
        assert document.render([part.text for part in document.parts]) == text
