"""Runs the work of requests in threads, with limits, and stops it when a client disconnects.

A request is admitted, or rejected immediately if too much is waiting. Its work then runs in a
thread of one of two pools, one for short and one for long requests, so that documents never occupy
all threads. The work uses a translator whose segments go through the queue of the model.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final, TypeVar

from starlette.requests import Request

from nllb.translation.translator import Translator

from .errors import BusyError, ClientGone, RequestError
from .model_pool import ModelPool
from .output_checks import KnowingDetector, KnowingMeaningCheck, KnownChecks
from .segment_queue import QueueClosed, QueuedGenerator, RequestCancelled, Ticket

Result = TypeVar("Result")

LONG_CHARACTERS: Final = 2000
"""Number of characters above which requests run in the pool of long requests."""
_FIRST_RATE: Final = 2000.0
"""Characters per second that are assumed until the server has measured its speed."""


class Work:
    """One piece of work that can be cancelled from another thread."""

    def __init__(self, pool: ModelPool, model: str | None, *, checked: bool = True) -> None:
        """Prepare the work; `checked` is whether the outputs of batches are checked for it."""
        self._pool, self._model = pool, model
        self._known = KnownChecks() if checked else None
        self._ticket: Ticket | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """Stop the work at its next segment."""
        self.cancelled = True
        ticket = self._ticket
        if ticket is not None:
            ticket.cancel()

    def run(self, function: Callable[[Translator], Result]) -> Result:
        """Call a function with a translator of the model.

        Raises:
            RequestCancelled: `cancel` was called.
        """
        if self.cancelled:
            raise RequestCancelled("the request was cancelled")
        with self._pool.use(self._model) as model:
            assert model.queue is not None and model.translator is not None
            self._ticket = model.queue.ticket(self._known)
            if self.cancelled:
                raise RequestCancelled("the request was cancelled")
            return function(self._translator(self._ticket, model.translator))

    def _translator(self, ticket: Ticket, served: Translator) -> Translator:
        """Return a translator whose segments go through the queue."""
        detector, meaning = served.detector, served.meaning
        if self._known is not None:
            if detector is not None:
                detector = KnowingDetector(detector, self._known)
            if meaning is not None:
                meaning = KnowingMeaningCheck(meaning, self._known)
        return Translator(
            QueuedGenerator(ticket, served.generator),
            detector=detector,
            meaning=meaning,
            aligner=served.aligner,
            default_search=served.default_search,
        )


class RequestRunner:
    """Admits requests and runs their work."""

    def __init__(
        self,
        pool: ModelPool,
        *,
        max_requests: int,
        max_characters: int,
        num_threads: int,
        timeout_s: float,
    ) -> None:
        """Create a runner with the limits of `ServerSettings`."""
        self.pool = pool
        self._max_requests, self._max_characters = max_requests, max_characters
        self._timeout_s = timeout_s
        self._short = ThreadPoolExecutor(num_threads, thread_name_prefix="nllb-short")
        self._long = ThreadPoolExecutor(num_threads, thread_name_prefix="nllb-long")
        self.num_requests = self.num_characters = 0
        self._rate = _FIRST_RATE
        self.closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def wait_s(self) -> float:
        """Estimated seconds until everything that currently waits is done."""
        return max(1.0, min(600.0, self.num_characters / self._rate))

    def admit(self, num_characters: int) -> None:
        """Check that a request of this size may start.

        Raises:
            BusyError: Too much is waiting, or the server is shutting down.
        """
        if self.closing:
            raise BusyError("the server is shutting down", retry_after_s=5)
        full = (
            self.num_requests >= self._max_requests
            or self.num_characters + num_characters > self._max_characters
        )
        if full and self.num_requests:
            raise BusyError(
                f"the server is busy: {self.num_requests} requests are waiting; try again later",
                status=429,
                retry_after_s=self.wait_s,
            )

    @asynccontextmanager
    async def admitted(self, num_characters: int) -> AsyncIterator[None]:
        """Count a request while it runs.

        Raises:
            BusyError: Too much is waiting, or the server is shutting down.
        """
        self.admit(num_characters)
        self.num_requests += 1
        self.num_characters += num_characters
        self._idle.clear()
        started = monotonic()
        try:
            yield
            speed = num_characters / max(monotonic() - started, 1e-3)
            self._rate += 0.05 * (max(speed, 1.0) - self._rate)
        finally:
            self.num_requests -= 1
            self.num_characters -= num_characters
            if not self.num_requests:
                self._idle.set()

    async def run(
        self,
        request: Request,
        function: Callable[[Translator], Result],
        *,
        num_characters: int,
        model: str | None = None,
    ) -> Result:
        """Run the work of a request and return its result.

        Args:
            request: The request, whose body has been read.
            function: The work, which is called in a thread.
            num_characters: Size of the texts of the request.
            model: The model; None is the default one.

        Raises:
            BusyError: Too much is waiting, or the server is shutting down.
            ClientGone: The client closed the connection.
            RequestError: The request took too long.
        """
        self.pool.find(model)
        async with self.admitted(num_characters):
            work = Work(self.pool, model)
            executor = self._long if num_characters > LONG_CHARACTERS else self._short
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(executor, work.run, function)
            gone = asyncio.create_task(until_disconnected(request))
            both: set[asyncio.Future[Any]] = {running, gone}
            try:
                done, _ = await asyncio.wait(
                    both, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED
                )
                if running in done:
                    return _result(running)
            finally:
                gone.cancel()
                if not running.done():
                    work.cancel()
                    running.add_done_callback(_forget)
            if gone in done:
                raise ClientGone("the client closed the connection")
            raise RequestError(
                503,
                f"the request took more than {self._timeout_s:g} s and was aborted",
                code="timeout",
                retry_after_s=self.wait_s,
            )

    async def finish(self, timeout_s: float) -> None:
        """Refuse new requests and wait until the running ones are done, at most `timeout_s`."""
        self.closing = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            pass

    def close(self) -> None:
        """End the threads; work that waits for a segment must be failed before."""
        self._short.shutdown(wait=False, cancel_futures=True)
        self._long.shutdown(wait=False, cancel_futures=True)


def _result(running: "asyncio.Future[Result]") -> Result:
    try:
        return running.result()
    except QueueClosed:
        raise BusyError("the server is shutting down", retry_after_s=5) from None
    except RequestCancelled as error:
        raise ClientGone(str(error)) from None


def _forget(running: "asyncio.Future[Any]") -> None:
    """Retrieve the result of abandoned work, so that its error is not reported."""
    if not running.cancelled():
        running.exception()


async def until_disconnected(request: Request) -> None:
    """Wait until the client of a request whose body has been read closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
