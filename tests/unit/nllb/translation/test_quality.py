import math
import random

import pytest

from nllb.io.benchmarks import load_flores
from nllb.languages import parse_language
from nllb.languages.detection import Detection
from nllb.translation.quality import (
    FLAGS,
    KEPT,
    copied_share,
    judge,
    repetition,
    script_share,
    with_source,
)
from nllb.translation.text_width import columns

ENGLISH, FRENCH = parse_language("eng_Latn"), parse_language("fra_Latn")
CHINESE, JAPANESE = parse_language("zho_Hans"), parse_language("jpn_Jpan")
HINDI = parse_language("hin_Deva")
SENTENCE = "The old library by the river opens at nine every morning."
IN_FRENCH = "La vieille bibliothèque au bord du fleuve ouvre à neuf heures chaque matin."


@pytest.fixture
def flags(hypothesis):
    def flags(source_text, text, *, source=ENGLISH, target=FRENCH, detection=None, **fields):
        output = hypothesis(source_text, text, **fields)
        return judge(output, source=source, target=target, detection=detection).flags

    return flags


def test_a_good_translation_has_no_flags(flags):
    assert flags(SENTENCE, IN_FRENCH) == ()


@pytest.mark.parametrize(
    ("looped", "target"),
    [
        ("Je suis désolé, mais je suis désolé, mais je suis désolé, mais je suis désolé.", FRENCH),
        ("Le le le le le le le le le le le le le le", FRENCH),
        ("() () () () () () () () () () () ()", FRENCH),
        ("图书馆在河边图书馆在河边图书馆在河边图书馆在河边", CHINESE),
        ("नदी के किनारे नदी के किनारे नदी के किनारे नदी के किनारे", HINDI),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", FRENCH),
    ],
)
def test_loops_are_found_in_every_script(flags, looped, target):
    assert "loop" in flags(SENTENCE, looped, target=target)


def test_what_the_source_repeats_the_output_may_repeat(flags):
    source = "Row, row, row your boat, row, row, row your boat."
    assert "loop" not in flags(source, "Rame, rame, rame ton bateau, rame, rame, rame ton bateau.")


def test_a_copy_of_the_source_is_flagged(flags):
    assert flags(SENTENCE, SENTENCE.replace(".", "")) == ("copy",)
    assert flags("Tom", "Tom") == ()


@pytest.mark.parametrize(
    ("text", "output", "language", "probability", "expected"),
    [
        ("Good morning.", "Good morning.", "eng_Latn", 0.97, ("copy",)),
        ("Good morning.", "good morning!", "eng_Latn", 0.97, ("copy",)),
        ("Good morning.", "Bon matin.", "eng_Latn", 0.97, ()),
        ("Barack Obama", "Barack Obama", "und", 0.81, ()),
        ("New York", "New York", "kin_Latn", 0.91, ()),
        ("Good morning.", "Good morning.", "eng_Latn", 0.6, ()),
        ("Internet", "Internet", "eng_Latn", 0.99, ()),
    ],
)
def test_a_few_words_left_as_they_were_are_a_copy_where_the_detector_knows_their_language(
    flags, text, output, language, probability, expected
):
    detection = Detection(language=language, probability=probability)
    assert flags(text, output, detection=detection) == expected


def test_another_script_than_the_target_is_off_target(flags):
    assert "off_target" in flags(SENTENCE, IN_FRENCH, target=CHINESE)
    assert flags("iPhone 15 Pro", "iPhone 15 Pro", target=CHINESE) == ()
    assert script_share("東京タワーです", "Jpan") == 1.0
    assert script_share("你好 abc", "Hans") == pytest.approx(2 / 5)
    assert script_share("123 !", "Latn") is None


@pytest.mark.parametrize(
    ("detection", "expected"),
    [
        (Detection(language="ita_Latn", probability=0.95), ("off_target",)),
        (Detection(language="fra_Latn", probability=0.95), ()),
        (Detection(language="ita_Latn", probability=0.5), ()),
        (Detection(language="und", probability=0.9), ()),
        (
            Detection(language="oci_Latn", probability=0.75, alternatives=(("fra_Latn", 0.2),)),
            (),
        ),
        (
            Detection(
                language="oci_Latn",
                probability=0.95,
                alternatives=(("fra_Latn", 0.01),),
                macro_group="Gallo-Romance",
            ),
            (),
        ),
    ],
)
def test_the_detected_language_counts_where_the_detector_is_sure(flags, detection, expected):
    assert flags(SENTENCE, IN_FRENCH, detection=detection) == expected


def test_short_outputs_are_not_held_against_their_detected_language(flags):
    italian = Detection(language="ita_Latn", probability=0.99)
    assert flags("No.", "Non.", detection=italian) == ()


def test_lengths_far_from_the_source_are_flagged(flags):
    assert flags(SENTENCE, "La.") == ("length",)
    assert flags("A full stop ends it here.", IN_FRENCH * 2)[-1] == "length"
    assert flags("Yes.", "Oui, monsieur.") == ()
    assert columns("नमस्ते") == 4 and columns("你好a") == 5
    assert columns("किताब") == 5 and columns("e\u0301") == 1 and columns("😀") == 2


def test_what_the_search_says_is_flagged(flags):
    assert flags(SENTENCE, IN_FRENCH, finished=False) == ("truncated",)
    assert flags(SENTENCE, IN_FRENCH, log_probability=-50.0, num_tokens=20) == ("low_probability",)
    assert flags(SENTENCE, IN_FRENCH, unknown_source=("𓀀",)) == ("unknown_characters",)
    assert flags(SENTENCE, IN_FRENCH + " ⁇") == ("unknown_characters",)


@pytest.mark.parametrize(
    ("text", "output", "source", "target", "expected"),
    [
        ("Привет", "Привет", "rus_Cyrl", "eng_Latn", True),
        ("Привет, Анна", "Привет, Анна", "rus_Cyrl", "eng_Latn", True),
        ("hello", "hello", "eng_Latn", "rus_Cyrl", True),
        ("Hello", "Hello", "eng_Latn", "rus_Cyrl", True),
        ("iPhone 15 Pro", "iPhone 15 Pro", "eng_Latn", "zho_Hans", False),
        ("New York", "New York", "eng_Latn", "rus_Cyrl", False),
        ("Это iPhone 15", "iPhone 15", "rus_Cyrl", "zho_Hans", False),
        ("1.1 Scope", "1.1", "eng_Latn", "deu_Latn", True),
        ("1.1 Scope", "...", "eng_Latn", "zho_Hans", True),
        ("1.1 Scope", "1.1 Umfang", "eng_Latn", "deu_Latn", False),
    ],
)
def test_words_left_in_the_source_script_and_outputs_without_words_are_off_target(
    flags, text, output, source, target, expected
):
    found = flags(text, output, source=parse_language(source), target=parse_language(target))
    assert ("off_target" in found) is expected


def test_replacement_characters_that_the_source_lacks_are_flagged(flags, hypothesis):
    assert "unknown_characters" in flags(SENTENCE, IN_FRENCH + " \ufffd")
    assert flags(SENTENCE + " \ufffd", IN_FRENCH + " \ufffd") == ()
    record = judge(hypothesis(SENTENCE, "\ufffd" + IN_FRENCH), source=ENGLISH, target=FRENCH)
    assert record.unknown_characters == ("\ufffd",)


def test_missing_literals_and_numbers_are_flagged(flags):
    assert flags("Hello {name}!", "Bonjour !") == ("literals_missing",)
    assert flags("Hello {name}!", "Bonjour {name} !") == ()
    assert flags("It was in 2012 and 12 came", "En 2012, douze sont venus") == ("numbers_missing",)


def test_confidence_is_the_token_probability_halved_for_every_flag(hypothesis):
    good = judge(hypothesis(SENTENCE, IN_FRENCH), source=ENGLISH, target=FRENCH)
    assert good.confidence == pytest.approx(math.exp(-0.1))
    assert good.log_probability == pytest.approx(-0.1)
    bad = judge(hypothesis(SENTENCE, SENTENCE, finished=False), source=ENGLISH, target=FRENCH)
    assert bad.flags == ("truncated", "copy")
    assert bad.confidence == pytest.approx(math.exp(-0.1) / 4)
    uncertain = with_source(good, probability=0.4, uncertain=True)
    assert uncertain.flags == ("uncertain_source",)
    assert uncertain.confidence == pytest.approx(good.confidence / 2)
    assert with_source(good, probability=0.9, uncertain=False).flags == ()
    assert KEPT.confidence == 1.0 and KEPT.flags == ()


def test_flags_are_ordered_by_severity(flags):
    found = flags("In 1987, " + SENTENCE, SENTENCE, finished=False, log_probability=-99.0)
    assert found == tuple(flag for flag in FLAGS if flag in found) and len(found) == 4


def test_empty_and_tiny_texts_have_measures():
    assert repetition("") == repetition("ab") == copied_share("", "") == 0.0


def test_human_translations_between_random_languages_are_hardly_ever_flagged(data_dir, hypothesis):
    flores = load_flores(data_dir / "flores200_dataset", split="devtest")
    chosen = random.Random(2)
    counts = dict.fromkeys(FLAGS, 0)
    total = 2000
    codes = chosen.choices(flores.languages, k=120)
    texts = {code: flores.sentences(code) for code in codes}
    for _ in range(total):
        source, target = chosen.sample(codes, 2)
        if source == target:
            continue
        line = chosen.randrange(len(texts[source]))
        output = hypothesis(texts[source][line], texts[target][line])
        record = judge(output, source=parse_language(source), target=parse_language(target))
        for flag in record.flags:
            counts[flag] += 1
    for flag in ("loop", "copy", "off_target", "length"):
        assert counts[flag] <= total / 200, counts
    assert counts["numbers_missing"] <= total / 20, counts
