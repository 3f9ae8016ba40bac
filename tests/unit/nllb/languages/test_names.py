"""What people write for a language, and the row of the table that it leads to."""

from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.errors import LanguageError
from nllb.io.text import read_table
from nllb.languages import find_languages, languages, parse_language, resolution


def test_every_way_to_write_a_language_leads_back_to_it() -> None:
    for language in languages():
        for text in (language.code, language.code.lower(), language.code.replace("_", "-")):
            assert parse_language(text) is language
        for text in (language.name, language.own_name, *language.aliases):
            assert language in find_languages(text), text


def test_names_are_unambiguous() -> None:
    for language in languages():
        assert parse_language(language.name) is language
        assert parse_language(language.name.upper()) is language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("en", "eng_Latn"),
        ("eng", "eng_Latn"),
        ("en-GB", "eng_Latn"),
        ("EN_us", "eng_Latn"),
        ("English", "eng_Latn"),
        (" deutsch ", "deu_Latn"),
        ("pt-BR", "por_Latn"),
        ("es-419", "spa_Latn"),
        ("de-1996", "deu_Latn"),
        ("en-x-private", "eng_Latn"),
        ("zh-CN", "zho_Hans"),
        ("zh_TW", "zho_Hant"),
        ("zh-Hans", "zho_Hans"),
        ("zh-Hant-HK", "zho_Hant"),
        ("cmn-Hans", "zho_Hans"),
        ("zh-cmn-Hant", "zho_Hant"),
        ("zh-yue", "yue_Hant"),
        ("简体中文", "zho_Hans"),
        ("sr", "srp_Cyrl"),
        ("sr-Cyrl-RS", "srp_Cyrl"),
        ("no", "nob_Latn"),
        ("nb", "nob_Latn"),
        ("nn", "nno_Latn"),
        ("fa", "pes_Arab"),
        ("fa-AF", "prs_Arab"),
        ("sw", "swh_Latn"),
        ("ku", "kmr_Latn"),
        ("ku-Arab", "ckb_Arab"),
        ("az-Arab", "azb_Arab"),
        ("az-IQ", "azb_Arab"),
        ("pa-IN", "pan_Guru"),
        ("sr-RS", "srp_Cyrl"),
        ("ckb", "ckb_Arab"),
        ("zgh", "tzm_Tfng"),
        ("ar-EG", "arb_Arab"),
        ("ar-arz", "arz_Arab"),
        ("ks", "kas_Arab"),
        ("ks-Deva", "kas_Deva"),
        ("sat_Beng", "sat_Olck"),
        ("ko-Kore", "kor_Hang"),
        ("zh", "zho_Hans"),
        ("zho", "zho_Hans"),
        ("cmn", "zho_Hans"),
        ("Chinese", "zho_Hans"),
        ("中文", "zho_Hans"),
        ("Laotian", "lao_Laoo"),
        ("Cambodian", "khm_Khmr"),
        ("Farsi", "pes_Arab"),
        ("Burmese", "mya_Mymr"),
        ("ji", "ydd_Hebr"),
        ("mo", "ron_Latn"),
        ("iw", "heb_Hebr"),
        ("tl", "tgl_Latn"),
        ("fil", "tgl_Latn"),
    ],
)
def test_resolves(text: str, code: str) -> None:
    assert str(parse_language(text)) == code


def test_ambiguous_codes_are_refused_with_the_choice() -> None:
    with pytest.raises(LanguageError) as raised:
        parse_language("zh", choose_script=False)
    assert str(raised.value) == (
        "unknown language 'zh'; did you mean zho_Hans (Simplified) or zho_Hant (Traditional)? "
        "See 'nllb languages'"
    )
    with pytest.raises(LanguageError, match=r"ckb_Arab \(Central Kurdish\) or kmr_Latn"):
        parse_language("Kurdish")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("dk", "dan_Latn"),
        ("ua", "ukr_Cyrl"),
        ("vn", "vie_Latn"),
        ("cn", "zho_Hans"),
        ("kr", "kor_Hang"),
        ("cz", "ces_Latn"),
        ("gr", "ell_Grek"),
        ("rs", "srp_Cyrl"),
        ("in", "hin_Deva"),
        ("sh", "srp_Cyrl"),
        ("Serbo-Croatian", "hrv_Latn"),
        ("dk-DK", "dan_Latn"),
        ("Brazilian", "por_Latn"),
    ],
)
def test_country_codes_and_the_like_get_a_suggestion(text: str, code: str) -> None:
    with pytest.raises(LanguageError, match=f"did you mean .*{code}"):
        parse_language(text)
    if text in {row["text"] for row in suggestions()}:
        assert code in {language.code for language in find_languages(text)}


def test_a_language_in_a_script_that_the_table_lacks_names_its_nearest() -> None:
    with pytest.raises(LanguageError, match=r"Latin script: hrv_Latn \(Croatian\) or bos_Latn"):
        parse_language("sr-Latn")


def suggestions() -> list[dict[str, str]]:
    table = resources.files("nllb.languages") / "suggestions.tsv"
    return list(read_table(Path(str(table))))


def test_suggestions_name_languages_of_the_table() -> None:
    codes = {language.code for language in languages()}
    rows = suggestions()
    assert [row["text"] for row in rows] == sorted({row["text"] for row in rows})
    for row in rows:
        assert row["kind"] in {"refuse", "script", "note"} and row["note"], row
        assert set(row["languages"].split()) <= codes, row
        assert bool(row["languages"]) == (row["kind"] != "note"), row


@pytest.mark.parametrize("text", ["zz", "xq", "q"])
def test_two_letters_are_not_compared_with_other_codes(text: str) -> None:
    with pytest.raises(LanguageError, match=f"unknown language '{text}'. See"):
        parse_language(text)


@pytest.mark.parametrize(
    "text", ["sr-Latn", "uz-Cyrl", "zh-Latn", "pa-Arab", "kk-Latn-KZ", "pa-PK", "uz-AF", "sr-ME"]
)
def test_a_script_is_never_replaced(text: str) -> None:
    with pytest.raises(LanguageError, match="asks for the script") as raised:
        parse_language(text)
    assert parse_language(text[:2] if text[:2] != "zh" else "zho_Hans").code in str(raised.value)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("Frensh", "fra_Latn"),
        ("francais", "fra_Latn"),
        ("eng_Lat", "eng_Latn"),
        ("Swahilli", "swh"),
    ],
)
def test_misspelled_names_get_a_suggestion(text: str, near: str) -> None:
    with pytest.raises(LanguageError, match=f"did you mean .*{near}.*'nllb languages'"):
        parse_language(text)


@pytest.mark.parametrize("text", ["", "x", "xx", "en-foo", "en-", "-en", "\u4e00\u4e00", "zz-Latn"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(LanguageError, match="unknown language"):
        parse_language(text)


@given(st.text(max_size=12))
def test_any_text_resolves_or_is_refused(text: str) -> None:
    try:
        language = parse_language(text)
    except LanguageError as error:
        assert "'nllb languages'" in str(error)
    else:
        assert language in languages()


def test_resolution_says_what_was_understood() -> None:
    assert resolution("en") == "en -> eng_Latn (English)"
    assert resolution("zh") == "zh -> zho_Hans (Chinese (Simplified)); also zho_Hant"
    assert resolution("tw") == "tw -> twi_Latn (Twi); for the Chinese of Taiwan use zho_Hant"
    assert resolution("ks") == "ks -> kas_Arab (Kashmiri (Arabic script)); also kas_Deva"
    assert resolution("ks-Deva") == "ks-Deva -> kas_Deva (Kashmiri (Devanagari script))"


def test_parts_of_names_find_languages() -> None:
    assert [language.code for language in find_languages("zh")] == ["zho_Hans", "zho_Hant"]
    assert {language.code for language in find_languages("kurd")} >= {"ckb_Arab", "kmr_Latn"}
    assert find_languages("no such language") == ()
