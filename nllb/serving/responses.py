"""JSON responses, and errors in the form of each protocol."""

import json
from math import ceil
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .errors import RequestError

STATUS_CODES: Final = {
    400: "invalid_request",
    401: "missing_key",
    403: "invalid_key",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    429: "rate_limit",
    503: "busy",
}


class Json(JSONResponse):
    """A JSON response in which lone surrogates are escaped, because UTF-8 cannot encode them."""

    def render(self, content: Any) -> bytes:
        """Return the content as JSON."""
        return self.encode(content)

    @staticmethod
    def encode(content: Any) -> bytes:
        """Return any content as one line of JSON."""
        try:
            return json.dumps(
                content, ensure_ascii=False, allow_nan=False, separators=(",", ":")
            ).encode()
        except UnicodeEncodeError:
            return json.dumps(content, separators=(",", ":")).encode("ascii")


def protocol_of(path: str) -> str:
    """Return the protocol that a path belongs to."""
    for prefix, protocol in (
        ("/v1/", "v1"),
        ("/v2/", "deepl"),
        ("/v3/", "deepl"),
        ("/language/translate/v2", "google"),
        ("/api/v4/", "nllb-api"),
    ):
        if path.startswith(prefix):
            return protocol
    return "libretranslate"


def error_response(request: Request, error: RequestError) -> Response:
    """Return an error in the form of the protocol that the request's path belongs to."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
    message = str(error)
    body: dict[str, Any]
    match protocol_of(path):
        case "v1":
            body = {"error": {"code": error.code, "message": message}}
            if error.suggestions:
                body["error"]["suggestions"] = list(error.suggestions)
        case "deepl":
            body = {"message": message}
        case "google":
            body = {"error": {"code": error.status, "message": message}}
        case "nllb-api":
            body = {"detail": message, "status_code": error.status}
        case _:
            body = {"error": message}
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(ceil(error.retry_after_s))
    return Json(body, status_code=error.status, headers=headers)
