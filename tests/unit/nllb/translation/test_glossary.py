import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.errors import DataError
from nllb.inference.word_alignment import Link
from nllb.languages import parse_language
from nllb.translation.glossary import Glossary, GlossaryEntry, term_status
from nllb.translation.translator import Translator

ENGLISH, GERMAN = parse_language("en"), parse_language("de")
TERMS = st.text(
    st.characters(categories=["L", "N"]) | st.sampled_from(" -'"), min_size=1, max_size=12
).filter(lambda text: text == " ".join(text.split()) and text.strip())
TBX2 = """<?xml version="1.0"?><!DOCTYPE martif SYSTEM "TBXcoreStructV02.dtd">
<martif type="TBX"><text><body><termEntry id="1">
<langSet xml:lang="en"><tig><term>red  house</term></tig></langSet>
<langSet xml:lang="de-DE"><tig><term>Haus</term></tig><ntig><termGrp><term>Bau</term>
<termNote type="administrativeStatus">deprecatedTerm-admn-sts</termNote></termGrp></ntig></langSet>
<langSet xml:lang="fr"><tig><term>maison</term></tig></langSet>
</termEntry></body></text></martif>"""
TBX3 = """<tbx style="dca" xmlns="urn:iso:std:iso:30042:ed-2"><text><body><conceptEntry id="1">
<langSec xml:lang="en"><termSec><term>house</term></termSec></langSec>
<langSec xml:lang="de"><termSec><term>Haus</term></termSec>
<termSec><term>Gebäude</term></termSec></langSec></conceptEntry></body></text></tbx>"""


def entries(text, name=None, **languages):
    glossary = Glossary.parse(text, name, **languages)
    return {entry.source: entry.targets for entry in glossary.entries}


def test_formats_are_read_and_detected():
    assert entries("house\tHaus|Gebäude\n\nNew York\tNew York\n") == {
        "house": ("Haus", "Gebäude"),
        "New York": ("New York",),
    }
    assert entries('\ufeffsource,target\n"a, b",c\n') == {"a, b": ("c",)}
    rows = "house,Haus,en-GB,de\nmaison,Haus,fr,de\nhouse,casa,en,es\n"
    assert entries(rows, "csv", source=ENGLISH, target=GERMAN) == {"house": ("Haus",)}
    assert entries(TBX2, source=ENGLISH, target=GERMAN) == {"red house": ("Haus",)}
    assert entries(TBX3) == {"house": ("Haus", "Gebäude")}


@given(st.dictionaries(TERMS, st.lists(TERMS, min_size=1, max_size=3), min_size=1, max_size=5))
def test_a_glossary_that_was_written_is_read_again(terms):
    glossary = Glossary(
        entries=tuple(GlossaryEntry(source=s, targets=tuple(t)) for s, t in terms.items())
    )
    if any(entry.source.lower() in ("source", "source_term") for entry in glossary.entries):
        return
    assert Glossary.parse(glossary.to_tsv(), "tsv") == glossary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\nc\n", "line 2: 1 columns"),
        ("a\tb\nc\td\te\n", "line 2: 3 columns"),
        ("a\tb\n\tc\n", "line 2: the source term is empty"),
        ("a\tb\nc\td| \n", "line 2: the translation is empty"),
        ("a\tb\n\na\tc\n", "line 3: the term 'a' has another entry in line 1"),
        ("a\tb\x07c\n", "line 1: .*control character"),
        ("a\t" + "b" * 1025, "line 1: .*1,025 characters"),
        ('a,b\n"c,d\n', "line 2: .*CSV"),
        ("a,b,xx-nope,de\n", "line 1: .*xx"),
        ("", "no entries"),
        ("<tbx><text>", "line 1: .*XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "entities"),
        (TBX2, "en, de-DE, fr; name the source"),
    ],
)
def test_faults_are_named_with_their_lines(text, message):
    source = ENGLISH if "nope" in text else None
    with pytest.raises(DataError, match=message):
        Glossary.parse(text, source=source, target=None)


def test_all_faults_are_reported_at_once():
    with pytest.raises(DataError, match=r"line 1: .*; line 2: .*; line 3: "):
        Glossary.parse("\ta\nb\t\nc\t\td".replace("\t\td", "\t"), "tsv")


def test_files_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "terms.tsv"
    with pytest.raises(DataError, match="cannot read the glossary"):
        Glossary.read(path)
    path.write_bytes(b"a\t\xff\n")
    with pytest.raises(DataError, match="UTF-8"):
        Glossary.read(path)
    path.write_text("a\tb\n", encoding="utf-8")
    assert Glossary.read(path).find("A b a") != []


def found(glossary, text):
    return [(text[start:end], entry.source) for entry, start, end in glossary.find(text)]


def test_terms_are_found_as_whole_words_and_the_longest_counts():
    glossary = Glossary.parse(
        "car\tWagen\nred car\tRotauto\nPolish\tPolnisch\npolish\tpolieren\n车\tcar"
    )
    text = "The Red  car and a car in the carpark: polish the Polish CAR 火车站"
    assert found(glossary, text) == [
        ("Red  car", "red car"),
        ("car", "car"),
        ("polish", "polish"),
        ("Polish", "Polish"),
        ("CAR", "car"),
        ("车", "车"),
    ]


@pytest.mark.parametrize(
    ("forms", "output", "status"),
    [
        (["Gebäude"], "Das gebäude ist groß.", "used"),
        (["Haus", "Bau"], "Der Bau.", "used"),
        (["Gebäude"], "Die Farbe des Gebäudes.", "inflected"),
        (["Haus"], "Die Maus.", "missing"),
        (["建筑"], "这个建筑很大", "used"),
    ],
)
def test_the_status_of_a_term(forms, output, status):
    assert term_status(forms, output) == status


GLOSSARY = Glossary.parse("house\tGebäude|Bau\n")


def test_the_generator_gets_the_terms_of_each_segment(stand_in):
    generator = stand_in(lambda segment, search: "Das Gebäude." if "house" in segment else "Ja.")
    text = "The house. Yes."
    translation = Translator(generator).translate(text, "en", "de", glossary=GLOSSARY)
    assert generator.terms == [(("Gebäude", "Bau"),), ()]
    assert translation.segments[0].trust.used_terms == ("Gebäude",)
    assert not translation.flags


def test_a_missing_term_is_flagged_and_reported(stand_in):
    translator = Translator(stand_in(lambda segment, search: "Das Haus ist groß."))
    found = translator.translate("The house is big.", "en", "de", glossary=GLOSSARY)
    assert found.segments[0].trust.missing_terms == ("Gebäude",)
    assert found.flags == ("term_missing",)


class HouseAligner:
    """Links "house" and "Haus", and nothing else."""

    def align(self, pairs):
        return [
            [
                Link(
                    source_start=source.index("house"),
                    source_end=source.index("house") + 5,
                    target_start=target.index("Haus"),
                    target_end=target.index("Haus") + 4,
                )
            ]
            if "house" in source and "Haus" in target
            else []
            for source, target in pairs
        ]


def test_words_that_are_aligned_to_a_missing_term_are_replaced(stand_in):
    generator = stand_in(lambda segment, search: "Das Haus ist groß.")
    translator = Translator(generator, aligner=HouseAligner())
    found = translator.translate("The house is big.", "en", "de", glossary=GLOSSARY)
    assert found.text == "Das Gebäude ist groß."
    assert found.segments[0].trust.used_terms == ("Gebäude",)
    assert not found.flags
    generator = stand_in(lambda segment, search: "Es ist groß.")
    translator = Translator(generator, aligner=HouseAligner())
    found = translator.translate("The house is big.", "en", "de", glossary=GLOSSARY)
    assert found.flags == ("term_missing",)
