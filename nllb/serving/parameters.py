"""Parameters of requests to the compatible routes: from JSON, forms and the query string.

Clients send them in various forms: JSON bodies, urlencoded and multipart forms, the query string of
a POST with an empty body, and form bodies of GET requests.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from .errors import ClientGone, RequestError

MAX_FIELDS: Final = 2000
FORM_TYPES: Final = ("application/x-www-form-urlencoded", "multipart/form-data")


class Parameters:
    """The parameters of one request.

    Attributes:
        values: All values of each name, in order; JSON values keep their types.
        from_json: Whether they come from a JSON body.
        files: Uploaded files by name.
    """

    def __init__(
        self,
        values: Mapping[str, list[Any]],
        *,
        from_json: bool = False,
        files: Mapping[str, UploadFile] | None = None,
    ) -> None:
        self.values, self.from_json = dict(values), from_json
        self.files = dict(files or {})

    def get(self, name: str) -> Any:
        """Return the first value of a name, or None."""
        values = self.values.get(name)
        return values[0] if values else None

    def text(self, name: str) -> str:
        """Return a value as text; empty if it is missing or not a text or number."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            return ""
        return str(value)

    def all(self, *names: str) -> list[Any]:
        """Return all values of the first of these names that is given."""
        for name in names:
            if name in self.values:
                values = self.values[name]
                return values[0] if len(values) == 1 and isinstance(values[0], list) else values
        return []

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean, which forms write as `1`, `0`, `true` or `false`."""
        value = self.get(name)
        if value is None:
            return default
        return value is True or str(value).lower() in {"1", "true"}


async def read_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        ClientGone: The client closed the connection before the end of the body.
    """
    try:
        return await request.body()
    except ClientDisconnect:
        raise ClientGone("the client closed the connection") from None


async def read_parameters(request: Request) -> Parameters:
    """Read the parameters of a request.

    Raises:
        RequestError: The body does not match its content type.
    """
    values: dict[str, list[Any]] = {}
    for name, value in request.query_params.multi_items():
        values.setdefault(name, []).append(value)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return Parameters(values | _json_values(await read_body(request)), from_json=True)
    files: dict[str, UploadFile] = {}
    if kind in FORM_TYPES:
        fields: dict[str, list[Any]] = {}
        try:
            async with request.form(max_fields=MAX_FIELDS, max_files=1) as form:
                for name, field in form.multi_items():
                    if isinstance(field, UploadFile):
                        files[name] = await _copy(field)
                    else:
                        fields.setdefault(name, []).append(field)
        except ClientDisconnect:
            raise ClientGone("the client closed the connection") from None
        except (HTTPException, ValueError, KeyError, AssertionError, LookupError) as error:
            detail = error.detail if isinstance(error, HTTPException) else "it cannot be parsed"
            raise RequestError(400, f"Invalid form: {detail}") from None
        values |= fields
    else:
        await read_body(request)
    return Parameters(values, files=files)


def _json_values(body: bytes) -> dict[str, list[Any]]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(400, "Invalid JSON format") from None
    if not isinstance(found, dict):
        raise RequestError(400, "Invalid JSON format")
    return {name: [value] for name, value in found.items() if value is not None}


async def _copy(field: UploadFile) -> UploadFile:
    """Return an uploaded file that outlives its form."""
    from io import BytesIO

    data = await field.read()
    return UploadFile(BytesIO(data), size=len(data), filename=field.filename)
