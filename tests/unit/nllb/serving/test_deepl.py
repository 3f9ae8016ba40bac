"""The routes of DeepL, with its own client and with deep-translator."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import deepl
import httpx
import pytest
from deep_translator import DeeplTranslator
from deepl.api_data import MultilingualGlossaryDictionaryEntries as Entries

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
    assert made.ready and made.entry_count == 2 and made.source_lang == "EN"
    assert api.get_glossary(made.glossary_id).name == "Animals"
    assert api.get_glossary_entries(made) == {"cat": "Katze", "dog": "Hund"}
    assert made.glossary_id in {each.glossary_id for each in api.list_glossaries()}
    found = api.translate_text("My cat.", source_lang="EN", target_lang="DE", glossary=made)
    assert "Katze" in found.text
    api.delete_glossary(made)
    with pytest.raises(deepl.GlossaryNotFoundException):
        api.get_glossary(made.glossary_id)
    made = api.create_glossary_from_csv("C", "EN", "DE", "cat,Katze,en,de\n")
    assert api.get_glossary_entries(made) == {"cat": "Katze"}


def test_glossaries_of_v3(api: deepl.DeepLClient) -> None:
    german = Entries("EN", "DE", {"cat": "Katze"})
    french = Entries("EN", "FR", {"cat": "chat"})
    made = api.create_multilingual_glossary("Both", [german, french])
    assert len(made.dictionaries) == 2
    found = api.get_multilingual_glossary_entries(made, "EN", "FR")
    assert found.dictionaries[0].entries == "cat\tchat"
    more = Entries("EN", "FR", {"dog": "chien"})
    changed = api.update_multilingual_glossary_dictionary(made, more)
    assert next(d for d in changed.dictionaries if d.target_lang.lower() == "fr").entry_count == 2
    api.replace_multilingual_glossary_dictionary(made, more)
    found = api.get_multilingual_glossary_entries(made, "EN", "FR")
    assert found.dictionaries[0].entries == "dog\tchien"
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
        ({"text": "a", "target_lang": "DE", "tag_handling_version": "v9"}, "tag_handling_version"),
        ({"text": "a", "target_lang": "DE", "model_type": "x"}, "model_type"),
        ({"text": "a", "target_lang": "DE", "outline_detection": "x"}, "outline_detection"),
        ({"text": "a", "target_lang": "DE", "style_id": "s"}, "style_id"),
        ({"text": "a", "target_lang": "DE", "custom_instructions": ["Shout."]}, "custom"),
        ({"text": "a", "target_lang": "DE", "translation_memory_id": "t"}, "translation_memory"),
        (
            {"text": "a", "target_lang": "DE", "source_lang": "EN", "glossary_ids": "1,2,3,4,5,6"},
            "at most 5",
        ),
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

    def without_a_length() -> Iterator[bytes]:
        yield json.dumps(body).encode()

    headers = {"Content-Type": "application/json"}
    sent = client.post("/v2/translate", content=without_a_length(), headers=headers)
    assert sent.status_code == 413


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


@pytest.fixture
def client_of() -> Iterator[Callable[..., deepl.DeepLClient]]:
    opened = []

    def make(key: str, server: RunningServer) -> deepl.DeepLClient:
        opened.append(deepl.DeepLClient(key, server_url=server.url))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_keys(tmp_path: Path, client_of) -> None:
    keys = str(tmp_path / "keys.sqlite")
    with run_server(keys=keys, require_key=True) as server:
        key, _ = server.service.store.add_key("test")
        other, _ = server.service.store.add_key("other")
        mine, others = client_of(key, server), client_of(other, server)
        mine.translate_text("Cats and dogs.", target_lang="DE")
        assert mine.get_usage().character.count == 14
        assert others.get_usage().character.count == 0
        made = mine.create_glossary("Mine", "EN", "DE", {"cat": "Katze"})
        with pytest.raises(deepl.GlossaryNotFoundException):
            others.get_glossary(made.glossary_id)
        with pytest.raises(deepl.AuthorizationException):
            client_of("wrong", server).translate_text("Cats.", target_lang="DE")
        translator = DeeplTranslator(api_key=key, source="en", target="de")
        translator._base_url = server.url + "/v2/"
        assert translator.translate("Cats.") == shifted("Cats.", "deu_Latn")


def wait_until_done(api: deepl.DeepLClient, handle: deepl.DocumentHandle) -> deepl.DocumentStatus:
    """Ask for the status until there is one; the client's own function asks every five seconds."""
    for _ in range(2000):
        status = api.translate_document_get_status(handle)
        if status.done or not status.ok:
            return status
        Event().wait(0.01)
    pytest.fail("the document was not translated")


def test_documents(api: deepl.DeepLClient) -> None:
    page = b"<p>Cats and <b>dogs</b>.</p>"
    handle = api.translate_document_upload(page, filename="a/p.html", target_lang="DE")
    status = wait_until_done(api, handle)
    assert status.done and status.billed_characters == len("Cats and dogs.")
    found = b"".join(api.translate_document_download(handle).iter_content())
    assert b"<b>" in found and shifted("Cats", "deu_Latn").encode() in found
    ids = [
        api.create_glossary(name, "EN", "DE", {term: translation}).glossary_id
        for name, term, translation in (("a", "cat", "Katze"), ("b", "dog", "Hund"))
    ]
    page = b"<p>My cat.</p><p>My dog.</p>"
    handle = api.translate_document_upload(
        page, filename="p.html", source_lang="EN", target_lang="DE", glossary_ids=ids
    )
    assert wait_until_done(api, handle).done
    found = b"".join(api.translate_document_download(handle).iter_content())
    assert b"Katze" in found and b"Hund" in found
    handle = api.translate_document_upload(b"PK\xff" * 99, filename="x.docx", target_lang="DE")
    assert not wait_until_done(api, handle).ok
    for wrong in ((handle.document_id, "0" * 64), ("x", "y"), ("0" * 32, handle.document_key)):
        with pytest.raises(deepl.DeepLException):
            api.translate_document_get_status(deepl.DocumentHandle(*wrong))


def test_markup(api: deepl.DeepLClient) -> None:
    text = 'Hello <b>world</b>, <x id="7"></x> and <i>never</i>.'
    found = api.translate_text(
        text, source_lang="EN", target_lang="DE", tag_handling="xml", ignore_tags=["i", "x"]
    )
    assert '<x id="7"></x>' in found.text and "<i>never</i>" in found.text
    assert shifted("world", "deu_Latn") in found.text
    found = api.translate_text("<p>A &lt;b&gt; cat</p>", target_lang="DE", tag_handling="html")
    assert "&lt;" in found.text and found.text.startswith("<p>")
    page = "<p>See <my-key>Ctrl</my-key> now.</p>"
    found = api.translate_text(
        page, source_lang="EN", target_lang="DE", tag_handling="html", ignore_tags=["my-key"],
        non_splitting_tags=["my-tag"], outline_detection=False, tag_handling_version="v2",
    )  # fmt: skip
    assert "<my-key>Ctrl</my-key>" in found.text and "See" not in found.text
    with pytest.raises(deepl.DeepLException, match="in two lists"):
        api.translate_text(
            page, source_lang="EN", target_lang="DE", tag_handling="html",
            ignore_tags=["i"], splitting_tags=["I"],
        )  # fmt: skip
    with pytest.raises(deepl.DeepLException, match="Tag handling"):
        api.translate_text("<a>no end", source_lang="EN", target_lang="DE", tag_handling="xml")
