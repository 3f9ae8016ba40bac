"""The server's own API: quality estimates with places, streaming, files, and its page."""

import json
from threading import Event

import httpx
import pytest

from tests.serving_stand_in import RunningServer, shifted

TEXT = "# Cats\n\n- One cat. Two cats!\n- 😀 Three dogs."


def test_segments_have_their_places(client: httpx.Client) -> None:
    body = {"text": [TEXT, "Hallo der Hund."], "target": "fr", "alternatives": 2}
    first, second = client.post("/v1/translate", json=body).json()["translations"]
    assert second["source"]["code"] == "deu_Latn" and second["source_probability"] == 0.95
    assert first["text"] == shifted(TEXT, "fra_Latn")
    assert [each["source_text"] for each in first["segments"]] == [
        "Cats", "One cat.", "Two cats!", "Three dogs."
    ]  # fmt: skip
    for each in first["segments"]:
        assert TEXT[each["source_start"] : each["source_end"]] == each["source_text"]
        assert first["text"][each["start"] : each["end"]] == each["text"]
        assert len(each["alternatives"]) == 2 and 0 < each["confidence"] <= 1
        assert each["trust"]["attempts"] == 1 and each["flags"] == []


def test_offsets_in_utf16_are_those_of_javascript(client: httpx.Client) -> None:
    body = {"text": TEXT, "source": "en", "target": "fr", "offset_unit": "utf16"}
    [found] = client.post("/v1/translate", json=body).json()["translations"]
    last = found["segments"][-1]
    units = TEXT.encode("utf-16-le")[2 * last["source_start"] : 2 * last["source_end"]]
    assert units.decode("utf-16-le") == "Three dogs."


def test_html_keeps_its_tags_and_stays_escaped(client: httpx.Client) -> None:
    text = "<p>One <b>cat</b> &lt;script&gt;</p><script>alert(1)</script>"
    body = {"text": text, "source": "en", "target": "de", "format": "html"}
    [found] = client.post("/v1/translate", json=body).json()["translations"]
    assert found["text"].startswith("<p>") and "&lt;" in found["text"]
    assert found["text"].endswith("<script>alert(1)</script>")
    assert found["text"].count("<script>") == 1
    answer = client.post(
        "/translate", json={"q": [text], "source": "en", "target": "de", "format": "html"}
    ).json()
    assert answer["translatedText"] == [found["text"]]


def test_terms_of_a_request(client: httpx.Client) -> None:
    body = {
        "text": "My cat and Acme Corp.",
        "source": "en",
        "target": "de",
        "glossary": {"cat": "Katze"},
        "do_not_translate": ["Acme Corp"],
    }
    [found] = client.post("/v1/translate", json=body).json()["translations"]
    assert "Katze" in found["text"] and "Acme Corp" in found["text"]
    assert found["segments"][0]["trust"]["used_terms"] == ["Katze"]
    for wrong in ({"a\tb": "c"}, {"": "x"}, {"a": "\x00"}, {"a": ""}):
        answer = client.post("/v1/translate", json=body | {"glossary": wrong})
        assert answer.status_code == 400, wrong


def events_of(client: httpx.Client, body: dict[str, str]) -> list[tuple[str, dict]]:
    events = []
    with client.stream("POST", "/v1/translate/stream", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for block in answer.read().decode().strip().split("\n\n"):
            name, data = block.split("\n")
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def test_a_stream_brings_segments_and_then_the_whole(server: RunningServer, client) -> None:
    text = "Streamed cats. Streamed dogs.\n\nStreamed birds."
    events = events_of(client, {"text": text, "target": "de"})
    assert [name for name, _ in events] == ["segment"] * 3 + ["done"]
    for number, (_, event) in enumerate(events[:-1]):
        assert event["number"] == number
        assert text[event["source_start"] : event["source_end"]] == event["source_text"]
        assert event["text"] == shifted(event["source_text"], "deu_Latn")
    assert events[-1][1]["text"] == shifted(text, "deu_Latn")
    computed = [each for batch in server.generator.batches for each in batch if "Streamed" in each]
    assert len(computed) == 3


def test_languages_models_and_scores(client: httpx.Client) -> None:
    rows = {row["code"]: row for row in client.get("/v1/languages").json()["languages"]}
    assert rows["heb_Hebr"]["direction"] == "rtl" and rows["deu_Latn"]["own_name"] == "Deutsch"
    found = client.get("/v1/models").json()
    assert found["models"][0] == {"name": "stand-in", "loaded": True}
    assert found["features"]["markup"] is True
    assert client.get("/v1/models/stand-in/scores").json() == {"scores": []}
    assert client.get("/v1/models/x/scores").status_code == 400
    assert client.get("/v1/languages", params={"model": "x"}).status_code == 400


def test_detection(client: httpx.Client) -> None:
    body = {"text": ["Guten Tag der Herr.", "!?"], "top": 3}
    first, second = client.post("/v1/detect", json=body).json()["detections"]
    assert first[0]["code"] == "deu_Latn" and second == []


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"text": "a"}, "target"),
        ({"text": "a", "target": "de", "surprise": 1}, "surprise"),
        ({"text": 1, "target": "de"}, "text"),
        ({"text": [], "target": "de"}, "text"),
        ({"text": "a", "target": "de", "alternatives": 99}, "alternatives"),
        ({"text": "a", "target": "de", "model": "gpt"}, "stand-in"),
        ({"text": "a", "target": "ru"}, "rus_Cyrl"),
    ],
)
def test_errors_say_what_is_wrong(client: httpx.Client, body, word) -> None:
    answer = client.post("/v1/translate", json=body)
    assert answer.status_code == 400 and word in answer.json()["error"]["message"]


def test_unknown_languages_have_suggestions(client: httpx.Client) -> None:
    answer = client.post("/v1/translate", json={"text": "a", "target": "germna"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "unknown_language" and "deu_Latn" in error["message"]


def test_files(client: httpx.Client) -> None:
    files = {"file": ("../../etc/café 1.html", b"<p>Cats.</p>")}
    made = client.post("/v1/documents", files=files, data={"target": "de"})
    assert made.status_code == 202
    key, path = made.json()["key"], f"/v1/documents/{made.json()['id']}"
    status = {"status": "queued"}
    for _ in range(2000):
        status = client.get(path, params={"key": key}).json()
        if status["status"] in {"done", "error"}:
            break
        Event().wait(0.01)
    assert status["status"] == "done" and status["report"]["num_units"] == 1, status
    found = client.get(f"{path}/result", params={"key": key})
    assert found.content == f"<p>{shifted('Cats.', 'deu_Latn')}</p>".encode()
    assert "caf%C3%A9%201" in found.headers["content-disposition"]
    assert "/" not in found.headers["content-disposition"].partition("filename=")[2].split(";")[0]
    assert client.get(path, params={"key": "x"}).status_code == 404


def test_files_of_libretranslate(client: httpx.Client) -> None:
    files = {"file": ("cats.txt", b"Cats.\n")}
    answer = client.post("/translate_file", files=files, data={"source": "en", "target": "de"})
    address = answer.json()["translatedFileUrl"]
    found = client.get(address)
    assert found.content == f"{shifted('Cats.', 'deu_Latn')}\n".encode()
    assert "attachment" in found.headers["content-disposition"]
    for name, message in (
        ("cats.exe", "Invalid request: file format not supported"),
        (None, "Invalid request: missing file parameter"),
    ):
        sent = {} if name is None else {"files": {"file": (name, b"Cats.")}}
        answer = client.post("/translate_file", data={"source": "en", "target": "de"}, **sent)
        assert answer.status_code == 400 and answer.json() == {"error": message}
    assert client.get("/download_file/../../etc/passwd").status_code == 404
    assert client.get("/download_file/x.txt").status_code == 404


def test_the_page_asks_no_other_host(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy
    assert (
        "http://" not in page.text and "https://" not in page.text and "<script>" not in page.text
    )
    assert client.get("/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304
    docs = client.get("/docs").text
    assert "/v1/translate" in docs and "/v2/glossaries" in docs and "<script" not in docs
    assert client.get("/openapi.json").json()["openapi"].startswith("3.")
