"""A server on this machine that answers as the Hugging Face hub does where a model is fetched."""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """The part of the hub's interface that a download uses: one folder under several names."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names
        self.log: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self, with_body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, with_body=False)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = request.path.partition("?")[0]
        self.log.append(f"{request.command} {path}")
        headers, body, status = {}, b"", 404
        for name in self.names:
            if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main"):
                status, body = 200, self._describe(name)
            elif path.startswith(f"/{name}/resolve/"):
                status, body = 200, (self.folder / Path(path).name).read_bytes()
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}
        if status == 404:
            headers = {"X-Error-Code": "RepoNotFound"}
        request.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(key, value)
        request.end_headers()
        if with_body:
            request.wfile.write(body)

    def _describe(self, name: str) -> bytes:
        files = [
            {"rfilename": file.name, "size": file.stat().st_size}
            for file in sorted(self.folder.iterdir())
            if file.is_file()
        ]
        card = {"license": "cc-by-sa-4.0"}
        answer = {"id": name, "modelId": name, "sha": COMMIT, "siblings": files, "cardData": card}
        return json.dumps(answer).encode()


@contextmanager
def serve(folder: Path, names: Sequence[str]) -> Iterator[Hub]:
    """Answer for a folder while the block runs."""
    hub = Hub(folder, names)
    thread = threading.Thread(target=hub.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        thread.join()
        hub.server.server_close()
