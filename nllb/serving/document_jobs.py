"""Translation of files, in the background or while the client waits.

Uploads of background jobs are stored, so that a restart of the server loses none of them: the
translation of unfinished files starts again from the beginning.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from nllb.errors import DataError, LanguageError, NllbError
from nllb.languages import Language, parse_language
from nllb.translation.translator import Translator

from .access import Caller
from .document_process import DocumentProcess, TranslatedFile
from .document_store import DocumentJob, DocumentStore
from .errors import BusyError, ClientGone, RequestError
from .features import Terms
from .metrics import Metrics
from .request_runner import RequestRunner, Work, until_disconnected
from .segment_queue import QueueClosed, RequestCancelled
from .settings import ServerSettings
from .store import NO_OWNER, Store

MAX_NAME: Final = 200
MAX_STARTS: Final = 3
"""Starts of a job after which it is given up: its file may be what ends the server."""
CLOSE_S: Final = 5.0
"""Time that jobs get to stop when the server ends."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff/\\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRequest:
    """A file to translate.

    Attributes:
        data: The content of the file.
        name: Its name, as given by the client.
        source: The source language; None detects it.
        target: The target language.
        terms: Glossary and terms that are not translated.
        model: The model; None uses the default one.
    """

    data: bytes
    name: str
    source: Language | None
    target: Language
    terms: Terms = field(default_factory=Terms)
    model: str | None = None

    def options(self) -> dict[str, Any]:
        """Return everything but the file itself, as JSON."""
        return {
            "name": self.name,
            "source": None if self.source is None else self.source.code,
            "target": self.target.code,
            "terms": asdict(self.terms),
            "model": self.model,
        }

    @classmethod
    def from_options(cls, options: dict[str, Any], data: bytes = b"") -> "FileRequest":
        """Return the request that `options` was called on."""
        terms = options["terms"]
        return cls(
            data=data,
            name=options["name"],
            source=None if options["source"] is None else parse_language(options["source"]),
            target=parse_language(options["target"]),
            terms=Terms(
                glossary=tuple((source, target) for source, target in terms["glossary"]),
                do_not_translate=tuple(terms["do_not_translate"]),
            ),
            model=options["model"],
        )


def safe_name(name: str | None) -> str:
    """Return the last part of a file name, without control characters."""
    text = PurePath((name or "").replace("\\", "/")).name
    text = _CONTROL.sub("", text).strip(". ")
    path = PurePath(text[-MAX_NAME:])
    return path.name if path.stem and text else "file"


class DocumentJobs:
    """Translates several files at a time, and stores the results for a limited time.

    Attributes:
        store: The uploads and the results.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        runner: RequestRunner,
        store: Store,
        metrics: Metrics,
    ) -> None:
        """Create the threads; the settings define the limits."""
        self._settings, self._runner, self._accounts = settings, runner, store
        self._metrics = metrics
        self.store = DocumentStore(store.engine)
        self._threads = ThreadPoolExecutor(
            settings.max_documents, thread_name_prefix="nllb-document"
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: set[Callable[[], None]] = set()
        self._closing = False

    async def submit(self, caller: Caller, request: FileRequest) -> tuple[str, str]:
        """Start the translation of a file; return its id and its access key.

        Raises:
            RequestError: Too many files are stored, or the server is busy.
        """
        self._runner.admit(len(request.data))
        await self._check_room()
        options = request.options()
        document_id, key = await run_in_threadpool(
            lambda: self.store.add(caller.owner, request.name, upload=request.data, options=options)
        )
        self._begin(
            DocumentJob(
                id=document_id,
                owner=caller.owner,
                options=options,
                num_bytes=len(request.data),
                starts=0,
            )
        )
        return document_id, key

    async def resume(self) -> None:
        """Renew the marks of the jobs of this server, and begin those that no server works on."""
        await run_in_threadpool(self.store.mark_jobs)
        room = self._settings.max_documents - len(self._tasks)
        if self._closing or room <= 0:
            return
        for job in await run_in_threadpool(lambda: self.store.claim_jobs(limit=room)):
            if job.starts < MAX_STARTS:
                self._begin(job)
                continue
            message = (
                f"the server ended {job.starts} times while it translated this file; upload it "
                "again, or a smaller part of it"
            )
            await self._finish(job.id, status="error", message=message)

    async def translate(
        self, connection: Request, caller: Caller, request: FileRequest
    ) -> tuple[str, str]:
        """Translate a file while its client waits; return its id and its access key.

        Raises:
            ClientGone: The client closed the connection.
            RequestError: The file cannot be translated, or the server is busy.
        """
        await self._check_room()
        document_id, key = await run_in_threadpool(self.store.add, caller.owner, request.name)
        work = asyncio.create_task(
            self._translate(caller.owner, document_id, len(request.data), lambda: request)
        )
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

    async def _check_room(self) -> None:
        limit = self._settings.max_stored_documents
        if await run_in_threadpool(self.store.count) >= limit:
            raise RequestError(
                429, "Too many documents are being translated", code="busy", retry_after_s=30
            )

    def _begin(self, job: DocumentJob) -> None:
        task = asyncio.create_task(self._in_background(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_background(self, job: DocumentJob) -> None:
        def load() -> FileRequest:
            data = self.store.start_job(job.id)
            if data is None:
                raise DataError("the document has been deleted")
            return FileRequest.from_options(job.options, data)

        try:
            await self._translate(
                job.owner, job.id, job.num_bytes, load, model=job.options["model"]
            )
        except BusyError:  # `resume` begins it again.
            await run_in_threadpool(self.store.release_jobs, job.id)
        except NllbError:
            pass  # the status of the document contains the message

    async def _translate(
        self,
        owner: int,
        document_id: str,
        num_bytes: int,
        load: Callable[[], FileRequest],
        *,
        model: str | None = None,
    ) -> None:
        """Translate a file and store the result, or the error.

        Raises:
            NllbError: The file cannot be translated.
        """
        work = Work(self._runner.pool, model, checked=False)
        stop: list[Callable[[], None]] = [work.cancel]

        def cancel() -> None:
            for each in list(stop):
                each()

        def run(translator: Translator) -> TranslatedFile:
            request = load()
            self.store.change(document_id, status="translating")
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
            async with self._runner.admitted(num_bytes):
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(self._threads, work.run, run)
            await self._store_result(owner, document_id, found)
        except BusyError:
            raise
        except BaseException as error:
            cancel()
            if not self._closing:  # Otherwise the next server translates it.
                await self._finish(document_id, status="error", message=_reason(error))
            raise
        finally:
            self._running.discard(cancel)

    async def _store_result(self, owner: int, document_id: str, found: TranslatedFile) -> None:
        self._metrics.characters.inc(found.num_characters)
        if owner != NO_OWNER:
            self._accounts.add_usage(owner, found.num_characters)
        await self._finish(
            document_id,
            status="done",
            characters=found.num_characters,
            data=found.data,
            report=found.report,
            name=found.name,
        )

    async def _finish(self, document_id: str, **columns: Any) -> None:
        await run_in_threadpool(lambda: self.store.finish(document_id, **columns))

    async def close(self) -> None:
        """Stop everything that still runs; its jobs are left to the next server."""
        self._closing = True
        for cancel in list(self._running):
            cancel()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)
        self._threads.shutdown(wait=False, cancel_futures=True)
        await run_in_threadpool(self.store.release_jobs)


def _reason(error: BaseException) -> str:
    """Return what a client should know about an error."""
    if isinstance(error, NllbError) and not isinstance(error, (RequestCancelled, QueueClosed)):
        return str(error)[:500]
    return "the translation was stopped"
