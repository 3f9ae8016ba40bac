import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.documents.unit_translation import translate_units
from nllb.documents.units import CodeKind, InlineCode, Unit
from nllb.languages import parse_language
from nllb.translation.translator import Translator

WORDS = ["Hello", "world", "the", "red car", "3,5", "l'eau", "你好。", "Yes!", "\u00a0", "\n", "•"]
TEXTS = st.lists(st.sampled_from([*WORDS, " ", "  "]), max_size=4).map("".join)


def number_codes(tree, count):
    """Turn a tree of lists (pairs), None (standalone codes) and texts into fragments."""
    for node in tree:
        if isinstance(node, str):
            yield node
        elif node is None:
            yield InlineCode(CodeKind.STANDALONE, next(count), "<br/>")
        else:
            number = next(count)
            yield InlineCode(CodeKind.OPEN, number, f"<{number}>")
            yield from number_codes(node, count)
            yield InlineCode(CodeKind.CLOSE, number, f"</{number}>")


TREES = st.recursive(
    st.lists(TEXTS | st.none(), max_size=4),
    lambda inner: st.lists(TEXTS | st.none() | inner, max_size=5),
    max_leaves=12,
)


def make_unit(tree, **fields):
    fragments = tuple(number_codes(tree, iter(range(1, 1000))))
    return Unit(key="1", fragments=fragments, **fields)


def plain(fragments):
    return "".join(part for part in fragments if isinstance(part, str))


def squeezed(text):
    return " ".join(text.split())


def assert_nested(fragments):
    open_numbers = []
    for part in fragments:
        if isinstance(part, InlineCode) and part.kind is CodeKind.OPEN:
            open_numbers.append(part.number)
        elif isinstance(part, InlineCode) and part.kind is CodeKind.CLOSE:
            assert open_numbers.pop() == part.number
    assert not open_numbers


def codes(fragments):
    return sorted(
        (part.number, part.kind, part.data) for part in fragments if isinstance(part, InlineCode)
    )


def garble(segment, search):
    """Shuffle, drop and repeat words by a random state that depends on the segment."""
    chance = random.Random(segment)
    words = [word for word in segment.split() for _ in range(chance.randrange(3))]
    chance.shuffle(words)
    return " ".join(words) or "x"


@given(TREES, st.booleans())
def test_every_code_comes_back_once_and_nested_whatever_the_model_says(stand_in, tree, layout):
    unit = make_unit(tree, preserve_layout=layout)
    translator = Translator(stand_in(garble))
    [found] = translate_units(translator, [unit], source="en", target="de")
    assert codes(found.fragments) == codes(unit.fragments)
    assert_nested(found.fragments)
    assert not any(part == "" for part in found.fragments) or found.fragments == unit.fragments


@given(TREES)
def test_text_without_codes_is_the_translation_of_the_text_without_codes(stand_in, tree):
    unit = make_unit(tree, preserve_layout=True)
    translator = Translator(stand_in(garble))
    [found] = translate_units(translator, [unit], source="en", target="de")
    text = plain(unit.fragments)
    expected = translator.translate(text.replace("  ", " "), "en", "de").text
    if "  " not in text:
        assert squeezed(plain(found.fragments)) == squeezed(expected)


@given(TREES, st.booleans())
def test_a_translation_that_changes_nothing_gives_the_same_fragments(stand_in, tree, layout):
    unit = make_unit(tree, preserve_layout=layout)
    translator = Translator(stand_in(lambda segment, search: segment))
    [found] = translate_units(translator, [unit], source="en", target="de")
    assert found.fragments == unit.fragments
    assert "markup" not in found.flags


def test_codes_at_the_edges_stay_there_and_pairs_go_around_words(stand_in):
    translator = Translator(stand_in(lambda segment, search: segment.upper()))
    unit = make_unit([None, ["Hello ", ["big"], " world."], None])
    [found] = translate_units(translator, [unit], source="en", target="de")
    shown = "".join(p if isinstance(p, str) else p.data for p in found.fragments)
    assert shown == "<br/><2>HELLO <3>BIG</3> WORLD.</2><br/>"


def test_units_without_words_never_reach_the_model(stand_in):
    generator = stand_in(garble)
    units = [make_unit([[]]), make_unit([" ", None, "\n"])]
    found = list(translate_units(Translator(generator), units, source="en", target="de"))
    assert [each.fragments for each in found] == [each.fragments for each in units]
    assert not generator.calls


def test_codes_that_are_not_nested_are_kept_once_each(stand_in):
    opening = InlineCode(CodeKind.OPEN, 1, "<bpt id='1'/>")
    closing = InlineCode(CodeKind.CLOSE, 1, "<ept id='1'/>")
    other = InlineCode(CodeKind.OPEN, 2, "<bpt id='2'/>")
    lone = InlineCode(CodeKind.CLOSE, 3, "<ept id='3'/>")
    unit = Unit(
        key="a", fragments=("One ", opening, "two ", other, "three", closing, " four", lone)
    )
    translator = Translator(stand_in(garble))
    [found] = translate_units(translator, [unit], source="en", target="de")
    assert codes(found.fragments) == codes(unit.fragments)
    order = [part for part in found.fragments if part in (opening, closing)]
    assert order == [opening, closing]


@pytest.mark.parametrize("target", ["jpn_Jpan", "arb_Arab"])
def test_many_units_are_translated_in_one_call(stand_in, target):
    generator = stand_in(garble)
    units = [make_unit([f"Sentence number {n} ", ["here"]]) for n in range(20)]
    found = list(
        translate_units(Translator(generator), units, source="en", target=parse_language(target))
    )
    assert len(found) == 20
    assert len(generator.calls[0][0]) == 20


FILES = {"1": "plik", "22": "pliki", "21": "plików"}


@pytest.mark.parametrize(
    ("category", "translation"),
    [("one", "{} plik tutaj"), ("few", "{} pliki tutaj"), ("many", "{} plików tutaj")],
)
@pytest.mark.parametrize("placeholder", ["%d", "{count}", "#"])
def test_plural_texts_are_translated_with_a_number_of_their_category(
    stand_in, placeholder, category, translation
):
    def translate(segment, search):
        number, _ = segment.split(" files ")
        return f"{number} {FILES.get(number, 'plik?')} tutaj"

    code = InlineCode(CodeKind.STANDALONE, 1, placeholder)
    is_plain = placeholder == "%d"
    fragments = ("%d files here",) if is_plain else (code, " files here")
    unit = Unit(key="1", fragments=fragments, plural_category=category)
    generator = stand_in(translate)
    [found] = translate_units(Translator(generator), [unit], source="en", target="pl")
    shown = "".join(part if isinstance(part, str) else part.data for part in found.fragments)
    assert shown == translation.format(placeholder)
    assert found.flags == ()


def test_a_number_that_the_model_leaves_out_gets_another_stand_in(stand_in):
    generator = stand_in(lambda segment, search: segment.replace("2 files", "ملفان هنا الآن"))
    unit = Unit(key="1", fragments=("%d files here",), plural_category="two")
    [found] = translate_units(Translator(generator), [unit], source="en", target="ar")
    asked = [segment for call in generator.calls for segment in call[0]]
    assert asked[0] == "2 files here"
    assert "X71 files here" in asked
    assert "".join(map(str, found.fragments)).count("%d") == 1
