"""The routes of LibreTranslate: parameters, answers and errors, and its clients."""

import json

import httpx
import pytest
from deep_translator import LibreTranslator
from libretranslatepy import LibreTranslateAPI

from tests.serving_stand_in import RunningServer, run_server, shifted

HELLO = shifted("Hello world.", "deu_Latn")


def test_the_python_client_works_unmodified(server: RunningServer) -> None:
    api = LibreTranslateAPI(server.url + "/")
    assert api.translate("Hello world.", "en", "de") == HELLO
    assert api.detect("Guten Tag, der Herr.")[0]["language"] == "de"
    codes = {row["code"]: row for row in api.languages()}
    assert {"en", "de", "zh-Hans", "zh-Hant", "pt-BR", "iw", "no", "fur"} <= set(codes)
    assert "de" in codes["en"]["targets"]


def test_deep_translator_works_unmodified(server: RunningServer) -> None:
    translator = LibreTranslator(
        source="en", target="de", api_key="any", custom_url=server.url + "/"
    )
    assert translator.translate("Hello world.") == HELLO


@pytest.mark.parametrize(
    "request_of",
    [
        {"json": {"q": "Hello world.", "source": "en", "target": "de"}},
        {"data": {"q": "Hello world.", "source": "en", "target": "de"}},
        {"params": {"q": "Hello world.", "source": "en", "target": "de"}},
        {"files": {name: (None, v) for name, v in [("q", "Hello world."), ("source", "en")]},
         "params": {"target": "de"}},
        {"json": {"q": "Hello world.", "source": "EN", "target": "de-DE", "api_key": None}},
    ],
    ids=["json", "form", "query", "multipart", "codes"],
)  # fmt: skip
def test_parameters_come_in_every_way(client: httpx.Client, request_of) -> None:
    answer = client.post("/translate", **request_of)
    assert answer.status_code == 200 and answer.json() == {"translatedText": HELLO}


def test_a_list_is_answered_by_lists(client: httpx.Client) -> None:
    body = {"q": ["Hello.", "Guten Tag.", "👍"], "source": "auto", "target": "fr"}
    answer = client.post("/translate", json=body | {"alternatives": 2}).json()
    assert answer["translatedText"][0] == shifted("Hello.", "fra_Latn")
    assert answer["translatedText"][2] == "👍"
    assert len(answer["detectedLanguage"]) == len(answer["alternatives"]) == 3
    assert len(set(answer["alternatives"][0]) - {answer["translatedText"][0]}) == 2


def test_lines_of_a_form_end_with_a_line_feed(client: httpx.Client) -> None:
    data = {"q": "One.\r\nTwo.", "source": "en", "target": "de"}
    assert client.post("/translate", data=data).json()["translatedText"].count("\r") == 0


@pytest.mark.parametrize("text", ["  ", "🎉🎉", "\n"])
def test_text_without_letters_comes_back(client: httpx.Client, text: str) -> None:
    body = {"q": text, "source": "auto", "target": "de"}
    assert client.post("/translate", json=body).json() == {
        "translatedText": text,
        "detectedLanguage": {"confidence": 0.0, "language": "en"},
    }


def test_the_same_language_comes_back(client: httpx.Client) -> None:
    body = {"q": "Hello.", "source": "en", "target": "en"}
    assert client.post("/translate", json=body).json() == {"translatedText": "Hello."}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"source": "en", "target": "de"}, "Invalid request: missing q parameter"),
        ({"q": "", "source": "en", "target": "de"}, "Invalid request: missing q parameter"),
        ({"q": "a", "target": "de"}, "Invalid request: missing source parameter"),
        ({"q": "a", "source": "en"}, "Invalid request: missing target parameter"),
        ({"q": "a", "source": "zz", "target": "de"}, "zz is not supported"),
        ({"q": "a", "source": "en", "target": "zz"}, "zz is not supported"),
        ({"q": "a", "source": "en", "target": "ru"}, "ru is not supported"),
        (
            {"q": "a", "source": "en", "target": "de", "format": "xml"},
            "xml format is not supported",
        ),
        (
            {"q": "a", "source": "en", "target": "de", "alternatives": "x"},
            "Invalid request: alternatives parameter is not a number",
        ),
        (
            {"q": "a", "source": "en", "target": "de", "alternatives": 99},
            "Invalid request: alternatives parameter must be <= 8",
        ),
    ],
)
def test_errors_have_the_texts_of_the_protocol(client: httpx.Client, body, message) -> None:
    answer = client.post("/translate", json=body)
    assert answer.status_code == 400 and answer.json() == {"error": message}


@pytest.mark.parametrize("body", [b"[1]", b'"q"', b"{", b"\xff", b"[" * 100_000, b"1" * 9999])
def test_broken_json_is_an_error_of_the_request(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/translate", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json() == {"error": "Invalid JSON format"}


def test_routes_and_methods(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/detect").status_code == 405
    for path in ("/languages", "/health", "/spec"):
        assert client.post(path).status_code == 405
    assert client.get("/no-such-page").status_code == 404
    assert client.post("/suggest", data={"q": "a"}).status_code == 403
    settings = client.get("/frontend/settings").json()
    assert settings["charLimit"] == -1 and settings["language"]["source"]["code"] == "en"
    assert client.request("GET", "/languages", data={"a": "b"}).status_code == 200
    assert client.post("/detect", params={"q": "hallo"}).json()[0]["language"] == "de"
    assert client.post("/detect", json={"q": "?"}).json() == [{"confidence": 0.0, "language": "en"}]
    assert client.post("/detect").json() == {"error": "Invalid request: missing q parameter"}


@pytest.mark.parametrize(
    ("code", "target"),
    [("zt", "zho_Hant"), ("iw", "heb_Hebr"), ("no", "nob_Latn"), ("tl", "tgl_Latn"),
     ("sr", "srp_Cyrl"), ("pb", "por_Latn"), ("pt-BR", "por_Latn"), ("zh", "zho_Hans")],
)  # fmt: skip
def test_codes_of_old_clients_are_understood(client: httpx.Client, code, target) -> None:
    body = {"q": "Cats.", "source": "en_GB", "target": code}
    answer = client.post("/translate", json=body).json()
    assert answer == {"translatedText": shifted("Cats.", target)}


@pytest.mark.parametrize("source", ["en", "auto"])
@pytest.mark.parametrize("kept", ["[X12X]", "{name}", "%1$s", "https://example.org/a?b=c"])
def test_placeholders_are_kept(client: httpx.Client, source: str, kept: str) -> None:
    body = {"q": [f"Open {kept} now."], "source": source, "target": "de"}
    [found] = client.post("/translate", json=body).json()["translatedText"]
    assert found == f"{shifted('Open', 'deu_Latn')} {kept} {shifted('now', 'deu_Latn')}."


def test_nllb_serve_and_nllb_api_share_the_route(client: httpx.Client) -> None:
    body = {"source": ["Cats.", "Dogs."], "src_lang": "eng_Latn", "tgt_lang": "deu_Latn"}
    answer = client.post("/translate", json=body).json()
    assert answer["translation"] == [shifted(text, "deu_Latn") for text in body["source"]]
    assert answer["time_units"] == "s" and answer["tgt_lang"] == "deu_Latn"
    query = "/translate?source=Cats.&source=Dogs.&src_lang=eng_Latn&tgt_lang=deu_Latn"
    assert client.get(query).json()["translation"] == answer["translation"]
    assert client.post("/translate", json={"src_lang": "en"}).status_code == 400
    body = {"text": "Cats.", "source": "eng_Latn", "target": "deu_Latn"}
    assert client.post("/translate", json=body).text == shifted("Cats.", "deu_Latn")
    query = "/api/v4/translator?text=Cats.&source=eng_Latn&target=deu_Latn"
    assert client.get(query).json() == {"result": shifted("Cats.", "deu_Latn")}
    query = query.replace("translator", "translator/stream")
    assert client.get(query).text == f"data: {shifted('Cats.', 'deu_Latn')}\n\n"
    assert client.get("/api/v4/language?text=hallo").json()["language"] == "deu_Latn"


def test_google_v2(client: httpx.Client) -> None:
    path = "/language/translate/v2"
    answer = client.get(path, params={"q": ["Cats.", "Dogs."], "target": "de", "key": "k"}).json()
    assert answer["data"]["translations"] == [
        {"translatedText": shifted(text, "deu_Latn"), "detectedSourceLanguage": "en"}
        for text in ("Cats.", "Dogs.")
    ]
    answer = client.post(path, json={"q": "Cats.", "source": "en", "target": "zz"})
    assert answer.status_code == 400 and "zz" in answer.json()["error"]["message"]
    assert client.get(path + "/languages").json()["data"]["languages"][0]["language"]
    found = client.post(path + "/detect", data={"q": "hallo"}).json()["data"]["detections"]
    assert found[0][0]["language"] == "de"


def test_limits_of_size() -> None:
    with run_server(char_limit=10, batch_limit=2) as server, httpx.Client(base_url=server.url) as c:
        body = {"q": "a" * 11, "source": "en", "target": "de"}
        text = "Invalid request: request (11) exceeds text limit (10)"
        assert c.post("/translate", json=body).json() == {"error": text}
        body["q"] = ["a", "b", "c"]
        text = "Invalid request: request (3) exceeds text limit (2)"
        assert c.post("/translate", json=body).json() == {"error": text}
        assert c.get("/frontend/settings").json()["charLimit"] == 10


def test_surrogates_and_odd_characters_do_no_harm(client: httpx.Client) -> None:
    for text in ("\ud800 cat", "\x00 cat", "\u202e cat \U0001f600", "ca\u0300t" * 50):
        body = json.dumps({"q": text, "source": "en", "target": "de"})
        headers = {"Content-Type": "application/json"}
        answer = client.post("/translate", content=body, headers=headers)
        assert answer.status_code == 200, text
        json.loads(answer.text)
