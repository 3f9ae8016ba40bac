"""The routes of DeepL, with its own client and with deep-translator."""

from collections.abc import Iterator

import deepl
import httpx
import pytest
from deep_translator import DeeplTranslator

from tests.serving_stand_in import RunningServer, run_server, shifted


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[deepl.DeepLClient]:
    opened = deepl.DeepLClient("key", server_url=server.url)
    yield opened
    opened.close()


def test_texts(api: deepl.DeepLClient) -> None:
    found = api.translate_text("Cats and dogs.", target_lang="DE")
    assert found.text == shifted("Cats and dogs.", "deu_Latn")
    assert found.detected_source_lang == "EN" and found.billed_characters == 14
    several = api.translate_text(
        ["Cats.", "Hallo der Hund."], target_lang="FR", split_sentences="nonewlines",
        formality="prefer_more", preserve_formatting=True, context="Animals.",
    )  # fmt: skip
    assert [each.detected_source_lang for each in several] == ["EN", "DE"]
    assert several[0].text == shifted("Cats.", "fra_Latn")


@pytest.mark.parametrize("code", ["EN-US", "PT-BR", "ZH-HANT", "yo", "FUR_LATN", "ZH"])
def test_codes(api: deepl.DeepLClient, code: str) -> None:
    assert api.translate_text("Hallo.", source_lang="DE", target_lang=code).text


def test_languages_and_usage(api: deepl.DeepLClient) -> None:
    assert {"EN", "DE", "ZH", "FUR"} <= {each.code for each in api.get_source_languages()}
    targets = {each.code: each for each in api.get_target_languages()}
    assert {"EN-GB", "EN-US", "PT-BR", "PT-PT", "ZH-HANS", "ZH-HANT"} <= set(targets)
    assert targets["DE"].supports_formality is False
    assert api.get_usage().character.limit == 1_000_000_000_000
    pairs = api.get_glossary_languages()
    assert any((each.source_lang, each.target_lang) == ("en", "de") for each in pairs)


def test_glossaries_of_v2(api: deepl.DeepLClient) -> None:
    made = api.create_glossary("Animals", "EN", "DE", {"cat": "Katze", "dog": "Hund"})
    assert made.ready and made.entry_count == 2 and made.source_lang == "en"
    assert api.get_glossary(made.glossary_id).name == "Animals"
    assert api.get_glossary_entries(made) == {"cat": "Katze", "dog": "Hund"}
    assert made.glossary_id in {each.glossary_id for each in api.list_glossaries()}
    api.delete_glossary(made)
    with pytest.raises(deepl.GlossaryNotFoundException):
        api.get_glossary(made.glossary_id)
    made = api.create_glossary_from_csv("C", "EN", "DE", "cat,Katze,en,de\n")
    assert api.get_glossary_entries(made) == {"cat": "Katze"}


def test_glossaries_of_v3(api: deepl.DeepLClient) -> None:
    german = deepl.MultilingualGlossaryDictionaryEntries("EN", "DE", {"cat": "Katze"})
    french = deepl.MultilingualGlossaryDictionaryEntries("EN", "FR", {"cat": "chat"})
    made = api.create_multilingual_glossary("Both", [german, french])
    assert len(made.dictionaries) == 2
    found = api.get_multilingual_glossary_entries(made, "EN", "FR")
    assert found.dictionaries[0].entries == {"cat": "chat"}
    more = deepl.MultilingualGlossaryDictionaryEntries("EN", "FR", {"dog": "chien"})
    changed = api.update_multilingual_glossary_dictionary(made, more)
    assert next(d for d in changed.dictionaries if d.target_lang == "fr").entry_count == 2
    api.replace_multilingual_glossary_dictionary(made, more)
    found = api.get_multilingual_glossary_entries(made, "EN", "FR")
    assert found.dictionaries[0].entries == {"dog": "chien"}
    assert api.update_multilingual_glossary_name(made, "Renamed").name == "Renamed"
    api.delete_multilingual_glossary_dictionary(made, source_lang="EN", target_lang="DE")
    assert len(api.get_multilingual_glossary(made.glossary_id).dictionaries) == 1
    assert made.glossary_id in {each.glossary_id for each in api.list_multilingual_glossaries()}
    api.delete_multilingual_glossary(made)


def test_deep_translator_works_unmodified(server: RunningServer) -> None:
    translator = DeeplTranslator(api_key="k", source="en", target="de", use_free_api=True)
    translator._base_url = server.url + "/v2/"
    assert translator.translate("Cats.") == shifted("Cats.", "deu_Latn")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"target_lang": "DE"}, "text"),
        ({"text": "a"}, "target_lang"),
        ({"text": "a", "target_lang": "QQ"}, "target_lang"),
        ({"text": "a", "target_lang": "DE", "source_lang": "QQ"}, "source_lang"),
        ({"text": ["a"] * 51, "target_lang": "DE"}, "50"),
        ({"text": "a", "target_lang": "DE", "formality": "more"}, "formality"),
        ({"text": "a", "target_lang": "DE", "formality": "x"}, "formality"),
        ({"text": "a", "target_lang": "DE", "split_sentences": "x"}, "split_sentences"),
        ({"text": "a", "target_lang": "DE", "tag_handling": "x"}, "tag_handling"),
        ({"text": "a", "target_lang": "DE", "glossary_id": "x"}, "source_lang"),
        ({"text": "a", "target_lang": "DE", "source_lang": "EN", "glossary_id": "x"}, "glossary"),
    ],
)
@pytest.mark.parametrize("kind", ["data", "json"])
def test_errors_name_the_parameter(client: httpx.Client, body, word, kind) -> None:
    answer = client.post("/v2/translate", **{kind: body})
    assert answer.status_code == 400 and word in answer.json()["message"]


def test_bodies_are_limited(client: httpx.Client) -> None:
    body = {"text": "a" * 140_000, "target_lang": "DE"}
    assert client.post("/v2/translate", data=body).status_code == 413


@pytest.mark.parametrize(
    ("entries", "kind"),
    [
        ("a", "tsv"),
        ("a\tb\na\tc", "tsv"),
        ("a\t", "tsv"),
        ("", "tsv"),
        ('"a', "csv"),
        ("a\tb", "x"),
    ],
)
def test_bad_entries_are_refused(client: httpx.Client, entries: str, kind: str) -> None:
    body = {"name": "n", "source_lang": "en", "target_lang": "de", "entries": entries}
    answer = client.post("/v2/glossaries", json=body | {"entries_format": kind})
    assert answer.status_code == 400 and "entries" in answer.json()["message"]


def test_keys(tmp_path) -> None:
    keys = str(tmp_path / "keys.sqlite")
    with run_server(keys=keys, require_key=True) as server:
        key, _ = server.service.store.add_key("test")
        other, _ = server.service.store.add_key("other")
        with deepl.DeepLClient(key, server_url=server.url) as api:
            api.translate_text("Cats and dogs.", target_lang="DE")
            assert api.get_usage().character.count == 14
            made = api.create_glossary("Mine", "EN", "DE", {"cat": "Katze"})
        with deepl.DeepLClient(other, server_url=server.url) as api:
            assert api.get_usage().character.count == 0
            with pytest.raises(deepl.GlossaryNotFoundException):
                api.get_glossary(made.glossary_id)
        with (
            deepl.DeepLClient("wrong", server_url=server.url) as api,
            pytest.raises(deepl.AuthorizationException),
        ):
            api.translate_text("Cats.", target_lang="DE")
        translator = DeeplTranslator(api_key=key, source="en", target="de")
        translator._base_url = server.url + "/v2/"
        assert translator.translate("Cats.") == shifted("Cats.", "deu_Latn")
