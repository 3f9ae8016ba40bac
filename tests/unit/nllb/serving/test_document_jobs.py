"""Documents outlive the server: stored uploads, claimed jobs, and what is deleted when."""

from collections.abc import Callable
from pathlib import Path
from threading import Event

import httpx
import pytest

from nllb.languages import parse_language
from nllb.serving.document_jobs import MAX_STARTS, FileRequest
from nllb.serving.document_store import DocumentStore
from nllb.serving.features import Terms
from nllb.serving.store import Store
from tests.serving_stand_in import ShiftGenerator, run_server, shifted

PAGE = b"<p>Cats.</p>"
TRANSLATED = f"<p>{shifted('Cats.', 'deu_Latn')}</p>".encode()


def request_of(data: bytes = PAGE) -> FileRequest:
    return FileRequest(
        data=data,
        name="cats.html",
        source=None,
        target=parse_language("de"),
        terms=Terms(glossary=(("cat", "Katze"),), do_not_translate=("Acme",)),
    )


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        Event().wait(0.01)
    pytest.fail("the condition did not come true")


def result(client: httpx.Client, document_id: str, key: str) -> dict[str, object]:
    """Return the state of a document when it is finished."""
    for _ in range(3000):
        state: dict[str, object] = client.post(
            f"/v2/document/{document_id}", json={"document_key": key}
        ).json()
        if state["status"] in {"done", "error"}:
            return state
        Event().wait(0.01)
    pytest.fail(f"the document was not finished: {state}")


def test_options_survive_as_json() -> None:
    request = request_of()
    assert FileRequest.from_options(request.options(), PAGE) == request


@pytest.mark.parametrize("route", ["/v1/documents", "/v2/document"])
def test_a_document_is_finished_by_the_next_server(tmp_path: Path, route: str) -> None:
    keys, entered = str(tmp_path / "keys.sqlite"), Event()
    form = {"target": "de", "target_lang": "DE"}
    # The server ends while the only batch is being computed.
    slow = ShiftGenerator(seconds=2, before_batch=lambda segments: entered.set())
    with run_server(slow, keys=keys, shutdown_s=0.1) as server:
        with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
            made = client.post(route, files={"file": ("cats.html", PAGE)}, data=form).json()
        document_id = made.get("id") or made["document_id"]
        key = made.get("key") or made["document_key"]
        assert entered.wait(20)
    left = DocumentStore(Store(keys).engine).find(document_id, key)
    assert left is not None and left["status"] == "queued"
    with run_server(keys=keys) as server:
        with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
            assert result(client, document_id, key)["status"] == "done"
            address = f"/v2/document/{document_id}/result"
            assert client.post(address, json={"document_key": key}).content == TRANSLATED
            # DeepL's protocol hands out a result once; nothing of the document is left.
            wait_until(lambda: server.service.documents.store.count() == 0)
            assert client.post(address, json={"document_key": key}).status_code == 404


def test_what_a_killed_server_left_is_claimed_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite"
    first, second, third = (DocumentStore(Store(path).engine) for _ in range(3))
    document_id, key = first.add(7, "cats.html", upload=PAGE, options=request_of().options())
    assert second.claim_jobs(limit=9) == []
    first.release_jobs()
    [job] = second.claim_jobs(limit=9)
    assert (job.id, job.owner, job.num_bytes, job.starts) == (document_id, 7, len(PAGE), 0)
    assert third.claim_jobs(limit=9) == []
    assert second.start_job(document_id) == PAGE
    second.finish(document_id, status="done", data=TRANSLATED)
    assert third.data(document_id) == TRANSLATED and third.start_job(document_id) is None
    done = third.find(document_id, key)
    assert done is not None and done["status"] == "done" and third.find(document_id, "x") is None


def test_an_old_mark_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.sqlite"
    ended, running = DocumentStore(Store(path).engine), DocumentStore(Store(path).engine)
    ended.add(0, "cats.html", upload=PAGE, options=request_of().options())
    monkeypatch.setattr("nllb.serving.document_store.MARK_VALID_S", -1.0)
    assert len(running.claim_jobs(limit=9)) == 1


def test_a_file_that_ends_the_server_again_and_again_is_given_up(tmp_path: Path) -> None:
    keys = tmp_path / "keys.sqlite"
    store = DocumentStore(Store(keys).engine)
    document_id, key = store.add(0, "cats.html", upload=PAGE, options=request_of().options())
    for _ in range(MAX_STARTS):
        store.start_job(document_id)
    store.release_jobs()
    with (
        run_server(keys=str(keys)) as server,
        httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client,
    ):
        state = result(client, document_id, key)
        assert state["status"] == "error" and "upload it again" in str(state["error_message"])
        own = client.get(f"/v1/documents/{document_id}", params={"key": key}).json()
        assert own["status"] == "error" and own["message"] == state["error_message"]
        assert server.generator.batches == []
    assert store.start_job(document_id) is None


def test_time_limits(tmp_path: Path) -> None:
    store = DocumentStore(Store(tmp_path / "keys.sqlite").engine)
    done, _ = store.add(0, "done.html")
    store.finish(done, status="done", data=TRANSLATED)
    waiting, key = store.add(0, "w.html", upload=PAGE, options=request_of().options())
    abandoned, _ = store.add(0, "abandoned.html")
    store.delete_old(finished_s=60, unfinished_s=60)
    assert store.count() == 3
    store.delete_old(finished_s=-1, unfinished_s=60)
    assert store.count() == 2 and store.data(done) is None
    store.delete_old(finished_s=-1, unfinished_s=-1)
    assert store.count() == 1 and store.find(waiting, key) is not None
    assert abandoned != waiting
