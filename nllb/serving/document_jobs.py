"""Files that are translated in the background, or while a request waits."""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from nllb.errors import DataError, LanguageError, NllbError
from nllb.languages import Language
from nllb.translation.translator import Translator

from .access import Caller
from .document_process import DocumentProcess, TranslatedFile
from .errors import ClientGone, RequestError
from .features import Terms
from .metrics import Metrics
from .request_runner import RequestRunner, Work, until_disconnected
from .segment_queue import QueueClosed, RequestCancelled
from .settings import ServerSettings
from .store import NO_OWNER, Store

MAX_NAME: Final = 200
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff/\\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRequest:
    """A file to translate.

    Attributes:
        data: The file.
        name: Its name, as the client gave it.
        source: Its language; None detects it.
        target: The language to translate into.
        terms: Glossary and terms that are not translated.
        model: The model; None is the default one.
    """

    data: bytes
    name: str
    source: Language | None
    target: Language
    terms: Terms = field(default_factory=Terms)
    model: str | None = None


def safe_name(name: str | None) -> str:
    """Return the last part of a file name, without control characters."""
    text = PurePath((name or "").replace("\\", "/")).name
    text = _CONTROL.sub("", text).strip(". ")
    path = PurePath(text[-MAX_NAME:])
    return path.name if path.stem and text else "file"


class DocumentJobs:
    """Translates files, a few at a time, and keeps the results for a while."""

    def __init__(
        self,
        settings: ServerSettings,
        *,
        runner: RequestRunner,
        store: Store,
        metrics: Metrics,
    ) -> None:
        """Make the threads; the limits are those of the settings."""
        self._settings, self._runner, self._store = settings, runner, store
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(
            settings.max_documents, thread_name_prefix="nllb-document"
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: set[Callable[[], None]] = set()

    async def submit(self, caller: Caller, request: FileRequest) -> tuple[str, str]:
        """Begin to translate a file; return its id and the key that opens it.

        Raises:
            RequestError: Too many files are stored, or the server is busy.
        """
        self._runner.admit(len(request.data))
        document_id, key = await self._add(caller, request)
        task = asyncio.create_task(self._in_background(caller, request, document_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return document_id, key

    async def translate(
        self, connection: Request, caller: Caller, request: FileRequest
    ) -> tuple[str, str]:
        """Translate a file while its client waits; return its id and the key that opens it.

        Raises:
            ClientGone: The client closed the connection.
            RequestError: The file cannot be translated, or the server is busy.
        """
        document_id, key = await self._add(caller, request)
        work = asyncio.create_task(self._translate(caller, request, document_id))
        gone = asyncio.create_task(until_disconnected(connection))
        try:
            both: set[asyncio.Task[None]] = {work, gone}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGone("the client closed the connection")
            work.result()
        except (DataError, LanguageError) as error:
            raise RequestError(400, str(error), code="bad_file") from None
        finally:
            gone.cancel()
            work.cancel()
        return document_id, key

    async def _add(self, caller: Caller, request: FileRequest) -> tuple[str, str]:
        if await run_in_threadpool(self._store.count_documents) >= (
            self._settings.max_stored_documents
        ):
            raise RequestError(
                429, "Too many documents are being translated", code="busy", retry_after_s=30
            )
        return await run_in_threadpool(self._store.add_document, caller.owner, request.name)

    async def _in_background(self, caller: Caller, request: FileRequest, document_id: str) -> None:
        try:
            await self._translate(caller, request, document_id)
        except NllbError:
            pass  # The status of the document has the message.

    async def _translate(self, caller: Caller, request: FileRequest, document_id: str) -> None:
        """Translate a file and store the result, or why there is none.

        Raises:
            NllbError: It cannot be translated.
        """
        work = Work(self._runner.pool, request.model, checked=False)
        stop: list[Callable[[], None]] = [work.cancel]

        def cancel() -> None:
            for each in list(stop):
                each()

        def run(translator: Translator) -> TranslatedFile:
            self._store.change_document(document_id, status="translating")
            process = DocumentProcess(
                memory_bytes=self._settings.document_memory_bytes,
                timeout_s=self._settings.document_timeout_s,
            )
            stop.append(process.kill)
            return process.translate(
                request.data,
                request.name,
                translator,
                source=request.source,
                target=request.target,
                terms=request.terms,
            )

        self._running.add(cancel)
        try:
            async with self._runner.admitted(len(request.data)):
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(self._threads, work.run, run)
            await self._store_result(caller, document_id, found)
        except BaseException as error:
            cancel()
            message = "the translation was stopped"
            if isinstance(error, NllbError) and not isinstance(
                error, (RequestCancelled, QueueClosed)
            ):
                message = str(error)[:500]
            await run_in_threadpool(
                lambda: self._store.change_document(document_id, status="error", message=message)
            )
            raise
        finally:
            self._running.discard(cancel)

    async def _store_result(self, caller: Caller, document_id: str, found: TranslatedFile) -> None:
        self._metrics.characters.inc(found.num_characters)
        if caller.owner != NO_OWNER:
            self._store.add_usage(caller.owner, found.num_characters)
        columns: dict[str, Any] = {
            "status": "done",
            "characters": found.num_characters,
            "data": found.data,
            "report": found.report,
            "name": found.name,
        }
        await run_in_threadpool(lambda: self._store.change_document(document_id, **columns))

    def close(self) -> None:
        """Stop everything that still runs."""
        for cancel in list(self._running):
            cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
