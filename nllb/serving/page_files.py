"""The files of the web page, read once at start; no request path reaches the file system."""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

PAGE_DIR: Final = Path(__file__).with_name("page")
_SUFFIXES: Final = {".html", ".css", ".js", ".svg", ".png", ".ico", ".webmanifest", ".json"}
_TYPES: Final = {".webmanifest": "application/manifest+json", ".js": "text/javascript"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFile:
    """One file in memory.

    Attributes:
        data: content of the file.
        compressed: content compressed with gzip.
        media_type: media type of the content.
        tag: entity tag for caches.
    """

    data: bytes
    compressed: bytes
    media_type: str
    tag: str


def read_page_file(path: Path) -> PageFile:
    """Read a file of the page."""
    data = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    return PageFile(
        data=data,
        compressed=gzip.compress(data, mtime=0),
        media_type=kind or "application/octet-stream",
        tag=f'"{hashlib.sha256(data).hexdigest()[:16]}"',
    )


def page_router(folder: Path = PAGE_DIR) -> APIRouter:
    """Return the routes of all files of the page; `index.html` is at `/`."""
    router = APIRouter(include_in_schema=False)
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SUFFIXES and path.is_file():
            name = path.relative_to(folder).as_posix()
            _add(router, "/" if name == "index.html" else f"/{name}", read_page_file(path))
    return router


def _add(router: APIRouter, address: str, file: PageFile) -> None:
    async def answer(request: Request) -> Response:
        headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        data = file.data
        if "gzip" in request.headers.get("accept-encoding", ""):
            data = file.compressed
            headers["Content-Encoding"] = "gzip"
        return Response(data, media_type=file.media_type, headers=headers)

    router.add_api_route(address, answer, methods=["GET", "HEAD"])
