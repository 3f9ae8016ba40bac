"""Malformed requests: none is answered with status 500, and none leaves a traceback."""

import gc
import http.client
import socket
from collections import Counter

import httpx
import pytest

from nllb.serving import document_jobs
from nllb.serving.document_process import TranslatedFile
from nllb.serving.middleware import LOGGER
from tests.serving_fuzz import FuzzRequest, fuzz_requests, quoted
from tests.serving_stand_in import RunningServer, run_server


class NoProcess:
    """Stands in for the process that translates a file: starting one takes half a second."""

    def __init__(self, **limits: object) -> None:
        self.kill = lambda: None

    def translate(
        self, data: bytes, name: str, *arguments: object, **more: object
    ) -> TranslatedFile:
        return TranslatedFile(data=data, name=name, num_characters=len(data), report={})


def send(connection: http.client.HTTPConnection, request: FuzzRequest) -> tuple[int, bytes]:
    query = "&".join(f"{quoted(name)}={quoted(value)}" for name, value in request.query)
    path = request.path.encode("latin-1", "replace").decode("latin-1")
    target = f"{path}?{query}" if query else path
    connection.putrequest(request.method, "", skip_accept_encoding=True)
    connection._buffer[0] = f"{request.method} {target} HTTP/1.1".encode("latin-1")  # type: ignore[attr-defined]
    for name, value in request.headers.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(request.body)))
    connection.endheaders(request.body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def fuzz(server: RunningServer, seed: int, count: int) -> Counter[int]:
    url = httpx.URL(server.url)
    statuses: Counter[int] = Counter()
    connection = http.client.HTTPConnection(url.host, url.port, timeout=60)
    for request in fuzz_requests(seed, count):
        try:
            status, body = send(connection, request)
        except (http.client.HTTPException, ConnectionError):
            connection.close()  # uvicorn refuses a request line that is not HTTP.
            continue
        assert status < 500 or status in {501, 503}, (request, body)
        assert b"Traceback" not in body, request
        if request.method != "HEAD" and status >= 400:
            assert body, request
        statuses[status] += 1
    connection.close()
    return statuses


@pytest.fixture
def fuzzed(monkeypatch: pytest.MonkeyPatch) -> RunningServer:
    monkeypatch.setattr(document_jobs, "DocumentProcess", NoProcess)
    failures = []
    monkeypatch.setattr(LOGGER, "error", lambda *a, **more: failures.append(more))
    with run_server(max_stored_documents=100_000) as server:
        yield server
    assert not failures


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_some_malformed_requests(fuzzed: RunningServer) -> None:
    statuses = fuzz(fuzzed, seed=1, count=300)
    assert statuses.total() > 280 and statuses[200] > 30 and statuses[400] > 50
    gc.collect()


# The form parser leaves files of malformed forms to the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_ten_thousand_malformed_requests(fuzzed: RunningServer) -> None:
    statuses = fuzz(fuzzed, seed=2, count=10_000)
    assert statuses.total() > 9_500
    gc.collect()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET " + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /translate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhalf",
    ],
)
def test_what_is_not_http_does_no_harm(server: RunningServer, client, sent: bytes) -> None:
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)
        assert b" 500 " not in answer and b"Traceback" not in answer
    assert client.get("/health").status_code == 200
