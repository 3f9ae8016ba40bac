"""Middleware around every request: an id, a log line, metrics, limits and security headers.

The log contains routes, statuses and durations. It contains no text of users, unless `log_text` is
set: neither bodies nor query strings, and only the type and place of errors.
"""

import asyncio
import json
import logging
import re
import secrets
import traceback
from time import perf_counter
from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ClientGone, RequestError
from .metrics import Metrics
from .responses import error_response

LOGGER: Final = logging.getLogger("nllb.serving")
CLIENT_GONE: Final = 499
"""Status in the log of a request whose client closed the connection."""
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
CONTENT_POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'; img-src 'self' data:"
)
SECURITY_HEADERS: Final = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


class JsonLines(logging.Formatter):
    """Log records as one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object of a record; `extra={"fields": {...}}` adds to it."""
        fields: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        fields |= getattr(record, "fields", {})
        return json.dumps(fields, ensure_ascii=True, default=str)


class RequestFrame:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        max_body_bytes: int,
        body_timeout_s: float,
        root_path: str = "",
        log_text: bool = False,
    ) -> None:
        """Wrap an application; `root_path` may or may not be in the paths of requests."""
        self._root_path, self._body_timeout_s = root_path, body_timeout_s
        self._app, self._metrics = app, metrics
        self._max_body_bytes, self._log_text = max_body_bytes, log_text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        root = self._root_path
        if root:
            path = scope["path"]
            inside = path == root or path.startswith(root + "/")
            scope = {**scope, "root_path": root, "path": path if inside else root + path}
        exchange = _Exchange(scope, receive, send, self._max_body_bytes, self._body_timeout_s)
        started = perf_counter()
        try:
            if exchange.declared_too_large():
                raise exchange.too_large()
            await self._app(scope, exchange.receive, exchange.send)
        except ClientGone:
            exchange.status = CLIENT_GONE
        except RequestError as error:
            await exchange.answer(error)
        except Exception as error:
            if self._log_text:
                LOGGER.exception("request failed", extra={"fields": {"id": exchange.id}})
            else:
                LOGGER.error("request failed", extra={"fields": _place(error, exchange.id)})
            await exchange.answer(
                RequestError(500, "internal error; the server's log has its place", code="internal")
            )
        finally:
            seconds = perf_counter() - started
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.observe_request(route, exchange.status, seconds)
            LOGGER.info(
                "request",
                extra={
                    "fields": {
                        "id": exchange.id,
                        "method": scope["method"] if len(scope["method"]) < 10 else "other",
                        "route": route,
                        "status": exchange.status,
                        "ms": round(1000 * seconds, 1),
                    }
                },
            )


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        max_body_bytes: int,
        body_timeout_s: float,
    ) -> None:
        self._body_timeout_s: float | None = body_timeout_s
        self._scope, self._receive, self._send = scope, receive, send
        self._max_body_bytes = max_body_bytes
        self._num_bytes = 0
        self.status = CLIENT_GONE
        self._begun = False
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        self.id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self._length = headers.get(b"content-length", b"0")

    def declared_too_large(self) -> bool:
        return self._length.isdigit() and int(self._length[:20]) > self._max_body_bytes

    def too_large(self) -> RequestError:
        return RequestError(
            413,
            f"Invalid request: the body has more than {self._max_body_bytes} bytes",
            code="too_large",
        )

    async def receive(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), self._body_timeout_s)
        except TimeoutError:
            raise RequestError(
                408, "Invalid request: the body did not arrive in time", code="timeout"
            ) from None
        if not message.get("more_body"):
            self._body_timeout_s = None  # only the end of the connection can follow
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes > self._max_body_bytes:
            raise self.too_large()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun, self.status = True, message["status"]
            named = {name for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self.id.encode()),
                *((name, value) for name, value in SECURITY_HEADERS if name not in named),
            ]
        await self._send(message)

    async def answer(self, error: RequestError) -> None:
        """Send an error, unless the response has begun."""
        self.status = error.status
        if not self._begun:
            request = Request(self._scope)
            await error_response(request, error)(self._scope, self._receive, self.send)


def _place(error: BaseException, request_id: str) -> dict[str, Any]:
    """Return the place of an error without its message, which may contain text of users."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "id": request_id,
        "error": type(error).__name__,
        "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]],
    }
