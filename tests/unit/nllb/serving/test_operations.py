"""Keys, limits, logs, headers, cancellation, overload and shutdown of the server."""

import io
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from nllb.cli import main
from nllb.errors import ConfigError, DataError, ResourceError
from nllb.serving.middleware import LOGGER, JsonLines
from nllb.serving.server import is_public, warnings_for
from nllb.serving.settings import ServerSettings
from nllb.serving.store import Store
from nllb.translation.translator import Translator
from tests.serving_stand_in import RunningServer, ShiftGenerator, run_server, shifted

BODY = {"q": "Cats.", "source": "en", "target": "de"}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield stream
    LOGGER.removeHandler(handler)


def client_of(server: RunningServer) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=20, trust_env=False)


def test_keys_are_required_checked_and_revoked(tmp_path: Path, capsys) -> None:
    keys = str(tmp_path / "keys.sqlite")
    assert main(["serve", "keys", "add", "--keys", keys, "--name", "weblate"]) == 0
    key = capsys.readouterr().out.strip()
    assert key not in (tmp_path / "keys.sqlite").read_bytes().decode("latin-1")
    assert main(["serve", "keys", "list", "--keys", keys]) == 0
    listed = capsys.readouterr().out
    assert "weblate" in listed and "valid" in listed and key not in listed
    with run_server(keys=keys, require_key=True) as server, client_of(server) as client:
        answer = client.post("/translate", json=BODY)
        assert answer.status_code == 400 and "API key" in answer.json()["error"]
        answer = client.post("/translate", json=BODY | {"api_key": "nllb-wrong"})
        assert answer.status_code == 403 and answer.json() == {"error": "Invalid API key"}
        for way in (
            {"json": BODY | {"api_key": key}},
            {"json": BODY, "params": {"api_key": key}},
            {"data": BODY | {"api_key": key}},
            {"json": BODY, "headers": {"Authorization": f"Bearer {key}"}},
        ):
            assert client.post("/translate", **way).status_code == 200
        body = {"text": "Cats.", "target": "de"}
        assert client.post("/v1/translate", json=body).status_code == 401
        assert client.get("/v1/languages").status_code == 401
        headers = {"X-API-Key": key}
        assert client.post("/v1/translate", json=body, headers=headers).status_code == 200
        assert main(["serve", "keys", "revoke", "--keys", keys, "1"]) == 0
        server.service.access._cache.clear()
        answer = client.post("/translate", json=BODY | {"api_key": key})
        assert answer.status_code == 403
    with pytest.raises(DataError, match="0 keys match"):
        Store(keys).revoke_key("99")
    with pytest.raises(ConfigError, match="SQLAlchemy"):
        Store("nonsense://x")


def test_rates_are_limited_by_key_and_by_address(tmp_path: Path) -> None:
    keys = str(tmp_path / "keys.sqlite")
    with run_server(keys=keys, req_limit=2) as server, client_of(server) as client:
        key, _ = server.service.store.add_key("more", req_limit=5)
        answers = [client.post("/translate", json=BODY) for _ in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 429]
        assert answers[2].json() == {"error": "Slowdown: 2 per 1 minute"}
        assert 1 <= int(answers[2].headers["retry-after"]) <= 60
        with_key = BODY | {"api_key": key}
        codes = [client.post("/translate", json=with_key).status_code for _ in range(6)]
        assert codes == [200] * 5 + [429]


def test_clients_that_ignore_limits_are_banned() -> None:
    settings = {"req_limit": 1, "req_flood_threshold": 2}
    with run_server(**settings) as server, client_of(server) as client:
        answers = [client.post("/translate", json=BODY) for _ in range(4)]
        assert [each.status_code for each in answers] == [200, 429, 429, 403]
        assert answers[3].json() == {"error": "Too many request limits violations"}


def test_a_body_has_to_arrive_in_time() -> None:
    with run_server(body_timeout_s=0.1) as server:
        url = httpx.URL(server.url)
        with socket.create_connection((url.host, url.port), timeout=20) as connection:
            connection.sendall(
                b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"
            )
            assert b" 408 " in connection.recv(1000)


def test_a_model_that_cannot_be_loaded_is_no_internal_error(log: io.StringIO) -> None:
    with run_server(models=("one", "two")) as server, client_of(server) as client:

        def fail(name: str | None) -> Translator:
            raise ResourceError("not enough memory for /secret/path")

        server.service.pool._load = fail
        body = {"text": "Cats.", "target": "de", "model": "two"}
        answer = client.post("/v1/translate", json=body)
        assert answer.status_code == 503 and "/secret" not in answer.text


def test_a_list_costs_as_many_requests_as_it_has_texts() -> None:
    with run_server(req_limit=4) as server, client_of(server) as client:
        batch = BODY | {"q": ["a", "b", "c"]}
        assert client.post("/translate", json=batch).status_code == 200
        assert client.post("/translate", json=batch).status_code == 429


def test_the_log_has_no_text_and_every_answer_an_id(log: io.StringIO) -> None:
    secret = "Xylophone secret"

    def fail(segments: object) -> None:
        raise ValueError(f"{segments} failed")

    with run_server(ShiftGenerator(before_batch=fail)) as server, client_of(server) as client:
        answer = client.post(
            f"/translate?q={secret}&source=en&target=de", headers={"X-Request-ID": "abc-1"}
        )
        assert answer.status_code == 500 and answer.headers["x-request-id"] == "abc-1"
        assert "Traceback" not in answer.text and secret not in answer.text
        answer = client.get(f"/{secret}", headers={"X-Request-ID": "a b"})
        assert len(answer.headers["x-request-id"]) == 16
    records = [json.loads(line) for line in log.getvalue().splitlines()]
    assert "Xylophone" not in log.getvalue()
    failed = next(each for each in records if each["message"] == "request failed")
    assert failed["error"] == "ValueError" and failed["id"] == "abc-1" and failed["trace"]
    assert {each.get("route") for each in records} >= {"/translate", "other"}


def test_headers_and_cors(client: httpx.Client) -> None:
    answer = client.post("/translate", json=BODY, headers={"Origin": "https://example.org"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "content-type, authorization"
    assert client.options("/translate", headers=asked).status_code == 200


def test_bodies_are_limited_with_and_without_a_length() -> None:
    with run_server(max_body_bytes=1000) as server, client_of(server) as client:
        assert client.post("/translate", content=b"x" * 2000).status_code == 413
        assert client.post("/translate", content=iter([b"x" * 600] * 3)).status_code == 413
        assert client.post("/translate", json=BODY).status_code == 200


def test_root_path_behind_a_proxy(tmp_path: Path) -> None:
    with run_server(root_path="/mt") as server, client_of(server) as client:
        for prefix in ("", "/mt"):
            assert client.post(f"{prefix}/translate", json=BODY).status_code == 200
            assert client.post(f"{prefix}/v2/translate").json().keys() == {"message"}
        files = {"file": ("a.txt", b"Cats.")}
        data = {"source": "en", "target": "de"}
        made = client.post("/mt/translate_file", files=files, data=data).json()
        assert made["translatedFileUrl"].startswith(f"{server.url}/mt/download_file/")


def test_metrics(tmp_path: Path) -> None:
    with run_server(metrics_token="t0ken") as server, client_of(server) as client:
        client.post("/translate", json=BODY)
        assert client.get("/metrics").status_code == 401
        text = client.get("/metrics", headers={"Authorization": "Bearer t0ken"}).text
        assert 'nllb_requests_total{route="/translate",status="200"} 1.0' in text
        assert "nllb_translated_characters_total 5.0" in text
        assert "nllb_batch_segments_count 1.0" in text


class Gate:
    """Holds batches back until it is opened."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, segments: object) -> None:
        self.entered.set()
        assert self.open.wait(20)


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        threading.Event().wait(0.002)
    pytest.fail("the condition did not come true")


def test_a_request_is_cancelled_when_its_client_goes_away() -> None:
    gate = Gate()
    generator = ShiftGenerator(before_batch=gate)
    with run_server(generator) as server, client_of(server) as client:
        address = httpx.URL(server.url)
        body = json.dumps(BODY | {"q": [f"Text {number}." for number in range(100)]}).encode()
        head = b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        gone = socket.create_connection((address.host, address.port))
        gone.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert gate.entered.wait(20)
        gone.close()
        [model] = server.service.pool.models.values()
        assert model.queue is not None
        queue = model.queue
        wait_until(lambda: queue.num_waiting <= 16)
        wait_until(lambda: server.service.runner.num_requests == 0)
        gate.open.set()
        assert client.post("/translate", json=BODY).status_code == 200
        assert len(generator.batches) == 2


def test_a_full_queue_is_answered_with_a_time_to_come_back() -> None:
    gate = Gate()
    with (
        run_server(ShiftGenerator(before_batch=gate), max_queued_requests=2) as server,
        client_of(server) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        bodies = [BODY | {"q": f"Cat number {number}."} for number in range(2)]
        runs = [pool.submit(client.post, "/translate", json=body) for body in bodies]
        wait_until(lambda: server.service.runner.num_requests == 2)
        for path, body in (
            ("/translate", BODY),
            ("/v1/translate", {"text": "a", "target": "de"}),
            ("/v1/translate/stream", {"text": "a", "target": "de"}),
            ("/v2/translate", {"text": "a", "target_lang": "DE"}),
        ):
            answer = client.post(path, json=body)
            assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
        gate.open.set()
        for run, body in zip(runs, bodies, strict=True):
            assert run.result().json() == {"translatedText": shifted(body["q"], "deu_Latn")}


def test_shutdown_finishes_what_runs_and_refuses_the_rest() -> None:
    gate = Gate()
    with ThreadPoolExecutor(2) as pool:
        with run_server(ShiftGenerator(before_batch=gate)) as server:
            client = client_of(server)
            run = pool.submit(client.post, "/translate", json=BODY)
            assert gate.entered.wait(20)
            assert client.get("/v1/ready").status_code == 200
            server.service.runner.closing = True
            assert client.get("/v1/ready").status_code == 503
            answer = client.post("/translate", json=BODY)
            assert answer.status_code == 503 and "retry-after" in answer.headers
            threading.Timer(0.2, gate.open.set).start()
        assert run.result().json() == {"translatedText": shifted("Cats.", "deu_Latn")}
        client.close()


def test_slow_requests_are_given_up() -> None:
    gate = Gate()
    with run_server(ShiftGenerator(before_batch=gate), request_timeout_s=0.1) as server:
        with client_of(server) as client:
            answer = client.post("/translate", json=BODY)
            assert answer.status_code == 503 and "0.1 s" in answer.json()["error"]
        gate.open.set()


def test_models_are_loaded_late_and_unloaded_when_idle() -> None:
    with run_server(models=("one", "two"), idle_unload_s=0.001) as server:
        pool = server.service.pool
        with client_of(server) as client:
            assert not pool.models["two"].is_loaded
            body = {"text": "Cats.", "target": "de", "model": "two"}
            assert client.post("/v1/translate", json=body).json()["model"] == "two"
            assert pool.models["two"].is_loaded
            wait_until(lambda: pool.unload_idle() or not pool.models["two"].is_loaded)
            assert client.post("/v1/translate", json=body).status_code == 200


def test_a_public_address_without_keys_is_warned_of() -> None:
    assert is_public("0.0.0.0") and is_public("::") and is_public("example.org")
    assert not is_public("127.0.0.1") and not is_public("::1") and not is_public("localhost")
    assert "without a key" in warnings_for(ServerSettings(host="0.0.0.0"))[0]
    assert not warnings_for(ServerSettings())
    assert not warnings_for(ServerSettings(host="::", keys="k", require_key=True))


def test_wrong_settings_are_usage_errors(capsys) -> None:
    assert main(["serve", "--port", "99999"]) == 2
    assert "--port" in capsys.readouterr().err
    assert main(["serve", "--root-path", "x"]) == 2
    assert main(["serve", "keys", "add", "--keys", "x", "--req-limit", "-1"]) == 2
