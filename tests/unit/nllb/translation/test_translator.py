import pickle
import re
import sys
from itertools import count

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nllb.errors import DataError, LanguageError, ResourceError
from nllb.inference.generator import SearchOptions
from nllb.languages import languages, parse_language
from nllb.translation.job import MAX_CACHED_SEGMENTS
from nllb.translation.model_input import SOFT_HYPHEN
from nllb.translation.translator import Translator

MARKED = re.compile("<(\\d+)~(.*?)~>")
PARTS = [
    *("Hello there. ", "Is it? ", "- item", "\n", "\r\n", "\r", "\n\n\n", "    ", "\t", "1. One. "),
    *("https://a.org", "12,50", "😀", "你好。", "再见", " ", "\x00", "Σοφία; ", "U.S. ", "\u3000"),
]
DOCUMENTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=12))).map("".join)


def upper(segment, search):
    return segment.upper()


@pytest.fixture
def translator(stand_in):
    return Translator(stand_in(upper))


def markers(stand_in, **fields):
    """Return a generator that wraps each segment in a marker with its number."""
    number = count(1)
    return stand_in(lambda segment, search: f"<{next(number)}~{segment}~>", **fields)


# Text in capitals changes on its way to the model, so it has tests of its own.
@given(DOCUMENTS.map(str.lower), st.sampled_from(languages()), st.integers(1, 30))
def test_every_marker_comes_back_once_in_order_and_all_white_space_equal(
    stand_in, text, source, longest
):
    target = parse_language("zho_Hans" if source.code != "zho_Hans" else "jpn_Jpan")
    generator = markers(stand_in, longest=longest)
    translation = Translator(generator).translate(text, source=source, target=target, retry=False)
    back = MARKED.sub(lambda found: found[2], translation.text)
    assert back.replace(SOFT_HYPHEN, "") == text.replace(SOFT_HYPHEN, "")
    first_seen = list(dict.fromkeys(int(number) for number, _ in MARKED.findall(translation.text)))
    assert first_seen == list(range(1, len(first_seen) + 1))
    asked = [segment for segments, *_ in generator.calls for segment in segments]
    assert len(first_seen) == len(asked) == len(set(asked))
    translated = [segment.source_text for segment in translation.segments if segment.trust.attempts]
    given = [segment.replace(SOFT_HYPHEN, "") or segment for segment in translated]
    assert given == [segment for _, segment in MARKED.findall(translation.text)]


@given(DOCUMENTS.filter(lambda text: re.search(r"[A-Za-z]{4}", text)), st.data())
def test_a_run_in_which_one_output_is_lost_or_swapped_fails(stand_in, text, data):
    generator = markers(stand_in)
    translator = Translator(generator)
    translator.translate(text, source="eng", target="fra", retry=False)
    assume(generator.calls)
    size = len(generator.calls[0][0])
    victim = data.draw(st.integers(0, size - 1))
    kinds = ["drop", "none", "empty"] + ["swap"] * (size > 1)
    kind = data.draw(st.sampled_from(kinds))

    def spoil(answers):
        other = (victim + 1) % len(answers)
        if kind == "drop":
            del answers[victim]
        elif kind == "none":
            answers[victim] = []
        elif kind == "swap":
            answers[victim], answers[other] = answers[other], answers[victim]
        return answers

    lost = generator.calls[0][0][victim]
    spoiled = stand_in(
        lambda segment, search: "" if kind == "empty" and segment in lost else segment, answer=spoil
    )
    with pytest.raises(DataError, match="segment"):
        Translator(spoiled).translate(text, source="eng", target="fra")


def test_a_text_gives_a_translation_and_a_list_a_list(translator):
    one = translator.translate("Good day.", source="en", target="fr")
    assert (one.text, one.source.code, one.target.code) == ("GOOD DAY.", "eng_Latn", "fra_Latn")
    assert [segment.source_text for segment in one.segments] == ["Good day."]
    several = translator.translate(["Good day.", "", "Bye."], source="en", target="fr")
    assert [each.text for each in several] == ["GOOD DAY.", "", "BYE."]
    assert translator.translate([], source="en", target="fr") == []
    assert several[1].segments == () and several[1].confidence == 1.0


def test_layout_comes_back(translator):
    text = "\ufeff# Title\r\n\r\n  - First. Second.\r\n\t1) 12:30\n\n\nEnd\x00of it \n"
    translation = translator.translate(text, source="eng", target="fra")
    assert translation.text == text.upper()


def test_identical_segments_are_translated_once(stand_in):
    generator = stand_in(upper)
    Translator(generator).translate(["Yes. Yes.", "Yes."], source="eng", target="fra")
    assert [segments for segments, *_ in generator.calls] == [("Yes.",)]


def test_over_long_segments_are_cut_until_they_fit(stand_in):
    generator = stand_in(upper, longest=30)
    text = "A sentence, which is long, and longer, and has no end at all " * 3
    assert Translator(generator).translate(text, source="eng", target="fra").text == text.upper()
    assert all(len(segment) <= 30 for segments, *_ in generator.calls for segment in segments)


def test_text_without_words_passes_without_a_model(stand_in):
    generator = stand_in(upper)
    text = "12:30\n😀\nhttps://example.org/path\n---\n"
    translation = Translator(generator).translate(text, source="eng", target="fra")
    assert translation.text == text and generator.calls == []
    assert {segment.trust.origin for segment in translation.segments} == {"kept"}


def test_an_output_never_adds_a_line(stand_in):
    generator = stand_in(lambda segment, search: "two\nlines\u2028here")
    assert Translator(generator).translate("Two lines here", source="en", target="fr").text == (
        "two lines here"
    )


def test_several_hypotheses_become_alternatives(stand_in):
    translation = Translator(stand_in(upper)).translate(
        "Hi.", source="en", target="fr", search=SearchOptions(num_hypotheses=3)
    )
    assert translation.segments[0].alternatives == ("HI.", "HI.")


def test_languages_are_checked_at_once(stand_in):
    translator = Translator(stand_in(upper, codes=frozenset({"eng_Latn", "fra_Latn"})))
    with pytest.raises(LanguageError, match="did you mean"):
        translator.translate("a", source="englsh", target="fra")
    with pytest.raises(LanguageError, match=r"deu_Latn \(German\); it covers 2 languages"):
        translator.translate_stream(["a"], source="eng", target="deu")
    with pytest.raises(LanguageError, match="both fra_Latn"):
        translator.translate("a", source="fr", target="fra_Latn")
    with pytest.raises(LanguageError, match="requires a language detector"):
        translator.translate("a", source="auto", target="fra_Latn")
    with pytest.raises(TypeError, match="text 1 is bytes"):
        translator.translate(["a", b"b"], source="eng", target="fra")


def by_word(text):
    found = {"Hello": ("eng_Latn", 0.9), "Hallo": ("deu_Latn", 0.4), "Salut": ("fra_Latn", 0.9)}
    return next((answer for word, answer in found.items() if word in text), None)


def test_the_source_is_detected_text_by_text(stand_in, stand_in_detector):
    generator = stand_in(lambda segment, search: segment.replace("H", "S"))
    translator = Translator(generator, detector=stand_in_detector(by_word))
    texts = ["Hello you.", "Hallo du.", "Salut toi.", "12"]
    first, second, third, fourth = translator.translate(texts, source="auto", target="fra")
    assert first.source.code == "eng_Latn" and first.text == "Sello you."
    assert first.segments[0].trust.source_probability == 0.9
    assert second.source.code == "deu_Latn" and second.flags == ("uncertain_source",)
    assert third.source.code == "fra_Latn" and third.text == "Salut toi."
    assert third.segments == ()
    assert fourth.source is None and fourth.text == "12"
    assert [call[1] for call in generator.calls] == ["eng_Latn", "deu_Latn"]


def test_a_source_that_is_not_recognised_is_an_error(stand_in, stand_in_detector):
    translator = Translator(stand_in(upper), detector=stand_in_detector(by_word))
    with pytest.raises(LanguageError, match="the language of 'Xyzzy' could not be identified"):
        translator.translate("Xyzzy", source="auto", target="fra", assumed_source=None)
    lacking = stand_in_detector(lambda text: ("war_Latn", 0.9))
    translator = Translator(stand_in(upper, codes={"fra_Latn"}), detector=lacking)
    with pytest.raises(LanguageError, match="none of the likely languages of 'Xyzzy'"):
        translator.translate("Xyzzy", source="auto", target="fra")


def test_a_stream_answers_line_by_line_within_its_look_ahead(stand_in):
    taken = []

    def lines():
        for number in range(1000):
            taken.append(number)
            yield f"Line {number} here."

    stream = Translator(stand_in(upper)).translate_stream(
        lines(), source="en", target="fr", look_ahead=64
    )
    assert not taken
    for number, translation in enumerate(stream):
        assert translation.text == f"LINE {number} HERE."
        assert len(taken) <= number + 64
        if number < 4:
            assert len(taken) == 4
    assert len(taken) == 1000


def test_a_look_ahead_of_one_answers_before_it_asks(stand_in):
    sent = []

    def conversation():
        for number in range(5):
            assert len(sent) == number
            yield f"Line {number}."

    translator = Translator(stand_in(upper))
    for translation in translator.translate_stream(
        conversation(), source="en", target="fr", look_ahead=1
    ):
        sent.append(translation)
    assert len(sent) == 5


def test_a_stream_remembers_segments_but_not_without_bound(stand_in):
    generator = stand_in(upper)
    others = MAX_CACHED_SEGMENTS + 300
    lines = ["Again."] * 2000 + [f"Line {number}." for number in range(others)]
    stream = Translator(generator).translate_stream([*lines, "Again."], source="en", target="fr")
    assert sum(1 for _ in stream) == len(lines) + 1
    asked = [segment for segments, *_ in generator.calls for segment in segments]
    assert asked.count("Again.") == 2 and len(asked) == others + 2


def test_a_very_long_line_is_answered(stand_in):
    generator = stand_in(upper, longest=200)
    line = "word and word, " * 70_000
    translation = Translator(generator).translate(line, source="en", target="fr")
    assert len(line) > 1_000_000 and translation.text == line.upper()


def test_a_language_that_the_model_lacks_gives_way_to_the_likeliest_that_it_has(
    stand_in, stand_in_detector
):
    generator = stand_in(upper, codes={"deu_Latn", "fra_Latn"})
    detector = stand_in_detector(
        lambda text: ("war_Latn", 0.9), others=[("ceb_Latn", 0.06), ("deu_Latn", 0.02)]
    )
    done = Translator(generator, detector=detector).translate("hi", source="auto", target="fra")
    assert done.source is not None and done.source.code == "deu_Latn"
    assert "uncertain_source" in done.flags


def test_an_output_whose_language_the_detector_also_thinks_likely_is_not_off_target(
    stand_in, stand_in_detector
):
    text = "Der Regen dauert heute den ganzen Tag."
    for likely, flagged in ((0.2, False), (0.01, True)):
        detector = stand_in_detector(
            lambda text: ("bel_Cyrl", 0.75), others=[("eng_Latn", 0.21), ("fra_Latn", likely)]
        )
        translator = Translator(stand_in(upper), detector=detector)
        done = translator.translate(text, source="deu", target="fra", retry=False)
        assert ("off_target" in done.flags) is flagged


def test_languages_may_be_given_by_position(translator):
    assert translator.translate("Good day.", "en", "fr").text == "GOOD DAY."
    assert [each.text for each in translator.translate_stream(["a b"], "en", "fr")] == ["A B"]


def test_text_that_cannot_be_identified_is_taken_for_the_assumed_language(
    stand_in, stand_in_detector
):
    detector = stand_in_detector(lambda text: None, others=[("sot_Latn", 0.8), ("eng_Latn", 0.01)])
    generator = stand_in(upper)
    translator = Translator(generator, detector=detector)
    done = translator.translate("Hello", "auto", "fr")
    assert done.source.code == "eng_Latn" and done.flags == ("uncertain_source",)
    assert done.segments[0].trust.source_probability == 0.01
    assert done.passages[0].assumed and not done.passages[0].kept
    done = translator.translate("Hallo", "auto", "fr", assumed_source="de")
    assert done.source.code == "deu_Latn" and generator.calls[-1][1] == "deu_Latn"
    with pytest.raises(LanguageError, match="'Hello' could not be identified"):
        translator.translate("Hello", "auto", "fr", assumed_source=None)
    kept = translator.translate("Hello", "auto", "en")
    assert kept.text == "Hello" and kept.flags == ("uncertain_source",)
    assert [segment.trust.origin for segment in kept.segments] == ["kept"]
    assert kept.passages[0].kept and kept.passages[0].assumed


def test_a_short_text_needs_a_surer_detector(stand_in, stand_in_detector):
    detector = stand_in_detector(lambda text: ("nno_Latn", 0.7))
    translator = Translator(stand_in(upper), detector=detector)
    for text, uncertain in (("hello man", True), ("hello man " * 3, False)):
        done = translator.translate(text, "auto", "fr", retry=False)
        assert ("uncertain_source" in done.flags) is uncertain


TWO_LANGUAGES = (
    "Bonjour tout le monde ici.\nHello to all of you.\n\n"
    "Guten Morgen zusammen.\nHi\n12\nHello to you.\n"
)


def by_first_word(text):
    codes = {"Bonjour": "fra_Latn", "Hello": "eng_Latn", "Guten": "deu_Latn", "Hi": "swh_Latn"}
    word = text.split()[0]
    return (codes[word], 0.95) if word in codes else None


@pytest.mark.parametrize("wrapped", [False, True])
def test_lines_of_a_document_have_their_own_language_where_that_is_clear(
    stand_in, stand_in_detector, wrapped
):
    generator = stand_in(upper)
    translator = Translator(generator, detector=stand_in_detector(by_first_word))
    text = TWO_LANGUAGES.replace("\n", "\n\n") if wrapped else TWO_LANGUAGES
    done = translator.translate(text, "auto", "fr", wrapped=wrapped, retry=False)
    assert done.source.code == "fra_Latn"
    kept = ("Bonjour tout le monde ici.", "Hi")
    expected = "".join(
        line if line.strip() in kept else line.upper() for line in text.splitlines(keepends=True)
    )
    assert done.text == expected
    assert [call[1] for call in generator.calls] == ["eng_Latn", "deu_Latn"]
    found = [(each.language.code, each.kept) for each in done.passages]
    assert found == [
        ("fra_Latn", True),
        ("eng_Latn", False),
        ("deu_Latn", False),
        ("fra_Latn", True),  # too short for a language of its own: that of the document
        ("eng_Latn", False),
    ]
    if not wrapped:
        lines = [(each.first_line, each.num_lines) for each in done.passages]
        assert lines == [(1, 1), (2, 1), (4, 1), (5, 1), (7, 1)]


def test_a_line_stays_in_the_documents_language_where_the_detector_gives_it_a_chance(
    stand_in, stand_in_detector
):
    detector = stand_in_detector(
        lambda text: ("deu_Latn", 0.9) if text.startswith("Ein") else ("eng_Latn", 0.99),
        others=[("eng_Latn", 0.2)],
    )
    translator = Translator(stand_in(upper), detector=detector)
    done = translator.translate("The long first line.\nEin Wort und mehr.", "auto", "fr")
    assert [each.language.code for each in done.passages] == ["eng_Latn"]
    assert done.passages[0].num_lines == 2


def test_a_translator_around_a_generator_refuses_to_be_pickled(translator):
    with pytest.raises(TypeError, match=r"use one from Translator\.load"):
        pickle.dumps(translator)


def test_a_loaded_translator_is_pickled_by_the_path_of_its_model(random_model_dir, monkeypatch):
    monkeypatch.chdir(random_model_dir.parent)
    translator = Translator.load(
        random_model_dir.name, device="cpu", dtype="float32", num_threads=1, detector="auto"
    )
    pickled = pickle.dumps(translator)
    assert len(pickled) < 2000
    monkeypatch.chdir("/")
    copy = pickle.loads(pickled)
    texts = ["English", "French and German"]
    one, other = (each.translate(texts, "en", "fr", retry=False) for each in (translator, copy))
    assert one == other
    found = copy.detector.detect("Die Bibliothek öffnet um neun.")
    assert found.language == "deu_Latn"


def test_the_detector_that_ships_is_loaded_by_name(random_model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "lid", None)
    with pytest.raises(ResourceError, match="the language detector cannot be imported"):
        Translator.load(random_model_dir, detector="auto")


def test_a_document_that_begins_with_numbers_has_the_language_of_its_words(
    stand_in, stand_in_detector
):
    detector = stand_in_detector(lambda text: ("deu_Latn", 0.9))
    translator = Translator(stand_in(upper), detector=detector)
    done = translator.translate("12 " * 2000 + "das Ende", "auto", "fr", retry=False)
    assert done.source.code == "deu_Latn" and done.text.endswith("DAS ENDE")
