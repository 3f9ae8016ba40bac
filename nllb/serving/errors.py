"""Errors of requests, which are answered with a status other than 200.

The routes raise them; `error_forms` writes them in the form of the protocol that was spoken.
"""

from collections.abc import Sequence

from nllb.errors import NllbError


class RequestError(NllbError):
    """A request that is rejected.

    Attributes:
        status: HTTP status.
        code: Short name of the kind of error, for programs.
        suggestions: Possible corrections, such as language codes.
        retry_after_s: Seconds after which the request may be repeated; None if unknown.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "invalid_request",
        suggestions: Sequence[str] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.suggestions, self.retry_after_s = tuple(suggestions), retry_after_s


class BusyError(RequestError):
    """The queue is full, or the server is shutting down."""

    def __init__(self, message: str, *, status: int = 503, retry_after_s: float) -> None:
        super().__init__(status, message, code="busy", retry_after_s=retry_after_s)


class ClientGone(NllbError):
    """The client closed the connection, so that nobody reads the response."""
