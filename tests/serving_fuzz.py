"""Random requests for the server: valid ones of every route, with something broken."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

ID = "0123456789abcdef" * 2
UUID = "01234567-89ab-cdef-0123-456789abcdef"
VALID: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/translate", {"q": "Cats.", "source": "en", "target": "de", "format": "text",
                            "alternatives": 1, "api_key": "k"}),
    ("POST", "/translate", {"source": "Cats.", "src_lang": "eng_Latn", "tgt_lang": "deu_Latn"}),
    ("POST", "/translate", {"text": "Cats.", "source": "en", "target": "de"}),
    ("POST", "/translate", {"q": "<p>A <b>cat</b></p>", "source": "en", "target": "de",
                            "format": "html"}),
    ("GET", "/translate", {"source": "Cats.", "src_lang": "eng_Latn", "tgt_lang": "deu_Latn"}),
    ("POST", "/detect", {"q": "Cats."}),
    ("GET", "/languages", {}), ("GET", "/health", {}), ("GET", "/frontend/settings", {}),
    ("POST", "/suggest", {"q": "a", "s": "b"}), ("GET", "/metrics", {}), ("GET", "/", {}),
    ("POST", "/translate_file", {"source": "en", "target": "de"}),
    ("GET", f"/download_file/{ID}_{ID}{ID}.txt", {}),
    ("POST", "/v1/translate", {"text": "Cats.", "source": "auto", "target": "de", "alternatives": 1,
                               "beam_size": 2, "format": "text", "wrapped": False, "glossary": {},
                               "do_not_translate": [], "offset_unit": "utf16",
                               "model": "stand-in"}),
    ("POST", "/v1/translate/stream", {"text": "Cats.", "target": "de"}),
    ("POST", "/v1/detect", {"text": ["Cats."], "top": 3}),
    ("GET", "/v1/languages", {"model": "stand-in"}), ("GET", "/v1/models", {}),
    ("GET", "/v1/models/stand-in/scores", {"source": "en", "target": "de"}),
    ("POST", "/v1/documents", {"target": "de", "source": "en"}),
    ("GET", f"/v1/documents/{ID}", {"key": ID}), ("GET", f"/v1/documents/{ID}/result", {"key": ID}),
    ("POST", "/v2/translate", {"text": ["Cats."], "target_lang": "DE", "source_lang": "EN",
                               "tag_handling": "xml", "ignore_tags": ["x"], "formality": "default",
                               "split_sentences": "1", "glossary_id": UUID, "auth_key": "k"}),
    ("POST", "/v2/translate", {"text": "a <b>cat</b>", "target_lang": "DE",
                               "tag_handling": "html"}),
    ("GET", "/v2/languages", {"type": "target"}), ("GET", "/v2/usage", {}),
    ("GET", "/v2/glossary-language-pairs", {}),
    ("POST", "/v2/document", {"target_lang": "DE"}),
    ("POST", f"/v2/document/{ID}", {"document_key": ID}),
    ("POST", f"/v2/document/{ID}/result", {"document_key": ID}),
    ("POST", "/v2/glossaries", {"name": "n", "source_lang": "en", "target_lang": "de",
                                "entries": "a\tb", "entries_format": "tsv"}),
    ("GET", "/v2/glossaries", {}), ("GET", f"/v2/glossaries/{UUID}", {}),
    ("GET", f"/v2/glossaries/{UUID}/entries", {}), ("DELETE", f"/v2/glossaries/{UUID}", {}),
    ("POST", "/v3/glossaries", {"name": "n", "dictionaries": [
        {"source_lang": "en", "target_lang": "de", "entries": "a\tb", "entries_format": "tsv"}]}),
    ("GET", "/v3/glossaries", {}), ("PATCH", f"/v3/glossaries/{UUID}", {"name": "m"}),
    ("PUT", f"/v3/glossaries/{UUID}/dictionaries", {"source_lang": "en", "target_lang": "de"}),
    ("DELETE", f"/v3/glossaries/{UUID}/dictionaries", {"source_lang": "en", "target_lang": "de"}),
    ("GET", f"/v3/glossaries/{UUID}/entries", {"source_lang": "en", "target_lang": "de"}),
    ("GET", "/language/translate/v2", {"q": ["Cats."], "target": "de", "source": "en"}),
    ("POST", "/language/translate/v2/detect", {"q": "Cats."}),
    ("GET", "/language/translate/v2/languages", {"target": "en"}),
    ("GET", "/api/v4/translator", {"text": "Cats.", "source": "en", "target": "de"}),
    ("GET", "/api/v4/translator/stream", {"text": "Cats.", "source": "en", "target": "de"}),
    ("GET", "/api/v4/language", {"text": "Cats."}),
]  # fmt: skip
JUNK: list[Any] = [
    None, True, False, 0, -1, 1e308, 10**400, float("nan"), float("inf"), "", " ", "\x00", "\ud800",
    "a" * 3000, "\u202e\u2066", "🎉", "' OR 1=1 --", "../../etc/passwd", "<script>", "<a", "&#0;",
    [], [[]], [None], ["a", 1], [["a"]], {}, {"a": {"b": []}}, {"$ne": 1}, "auto", "zz", "en",
    "\r\n", "a|b|c\n| x |\n```\n", "%s%n", "\ufeff", "١٢", "ca\u0300t", "[X12X]", "a\tb\tc",
    "-" * 500,
]  # fmt: skip
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")
TYPES = (
    "application/json", "application/x-www-form-urlencoded", "multipart/form-data",
    "multipart/form-data; boundary=x", "multipart/form-data; boundary=", "text/plain", "",
    "application/json; charset=utf-16", "multipart/form-data; boundary=x; charset=nonsense",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FuzzRequest:
    """One request."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes


def fuzz_requests(seed: int, count: int) -> Iterator[FuzzRequest]:
    """Yield random requests, the same for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        method, path, values = chance.choice(VALID)
        values = _mutate(chance, json.loads(json.dumps(values)))
        headers: dict[str, str] = {}
        if chance.random() < 0.15:
            method = chance.choice(METHODS)
        if chance.random() < 0.05:
            path += chance.choice(["/", "/..", "%2e%2e/", "%00", "//", ";x", "/é", "%ff"])
        if chance.random() < 0.2:
            headers["Authorization"] = chance.choice(
                ["Bearer", "Bearer x", "DeepL-Auth-Key k", "DeepL-Auth-Key ", "Basic =", "x" * 5000]
            )
        query: list[tuple[str, str]] = []
        body = b""
        where = chance.choice(["query", "json", "json", "form", "multipart", "broken"])
        if method == "GET" and chance.random() < 0.8:
            where = "query"
        if where == "query":
            query = [(name, _text(value)) for name, value in values.items()]
        elif where == "json":
            headers["Content-Type"] = "application/json"
            body = json.dumps(values).encode()
        elif where == "form":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = "&".join(
                f"{quoted(name)}={quoted(_text(value))}" for name, value in values.items()
            ).encode()
        elif where == "multipart":
            headers["Content-Type"] = "multipart/form-data; boundary=x"
            body = _multipart(chance, values)
        else:
            headers["Content-Type"] = chance.choice(TYPES)
            body = chance.choice([json.dumps(values).encode(), chance.randbytes(60), b"--x\r\n"])
        if body and chance.random() < 0.1:
            body = body[: chance.randrange(len(body))] + chance.randbytes(3)
        yield FuzzRequest(method=method, path=path, query=query, headers=headers, body=body)


def quoted(text: str) -> str:
    """Return a text as it is in a query string, lone surrogates included."""
    return quote_plus(text.encode("utf-8", "surrogatepass"))


def _mutate(chance: random.Random, values: dict[str, Any]) -> dict[str, Any]:
    for name in list(values):
        roll = chance.random()
        if roll < 0.12:
            values[name] = chance.choice(JUNK)
        elif roll < 0.17:
            del values[name]
    if chance.random() < 0.1:
        values[_text(chance.choice(JUNK))] = chance.choice(JUNK)
    return values


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _multipart(chance: random.Random, values: dict[str, Any]) -> bytes:
    parts = []
    for name, value in values.items():
        head = f'--x\r\nContent-Disposition: form-data; name="{name[:50]}"\r\n\r\n'
        parts.append(head + _text(value) + "\r\n")
    if chance.random() < 0.5:
        file = chance.choice(["a.html", "../x.html", "a.exe", "", "a\x00.html", ".html", "é.docx"])
        head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{file}"\r\n\r\n'
        parts.append(head + chance.choice(["", "<p>Cats.", "PK\x03\x04", "\x00" * 99]) + "\r\n")
    return ("".join(parts) + "--x--\r\n").encode("utf-8", "surrogatepass")
