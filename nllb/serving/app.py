"""The ASGI application: all routes around one `Service`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from tempfile import TemporaryDirectory
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from nllb import __version__
from nllb.inference.word_alignment import ShippedAligner
from nllb.translation.meaning import MeaningCheck
from nllb.translation.translator import Translator

from .access import Access
from .api_page import api_page
from .document_jobs import DocumentJobs
from .errors import RequestError
from .metrics import Metrics
from .middleware import LOGGER, RequestFrame
from .model_pool import LoadTranslator, ModelPool
from .output_checks import BatchChecks
from .page_files import page_router
from .request_runner import RequestRunner
from .responses import STATUS_CODES, Json, error_response
from .routes import (
    deepl,
    deepl_glossaries,
    files,
    google,
    libretranslate,
    nllb_serve,
    own,
)
from .segment_queue import SegmentQueue
from .service import Service
from .settings import ServerSettings
from .store import Store

ROUTERS: Final = (
    own.router,
    libretranslate.router,
    deepl.router,
    deepl_glossaries.router,
    files.router,
    google.router,
    nllb_serve.router,
)
HOUSEKEEPING_S: Final = 5.0
CHECK_THREADS: Final = 1
"""Threads by which one request compares its outputs with their sources and aligns words."""


def make_app(settings: ServerSettings, *, load: LoadTranslator | None = None) -> ASGIApp:
    """Return the ASGI application.

    Args:
        settings: The settings.
        load: Loads a model by its directory or name; by default according to the settings.
    """
    return make_service_app(settings, load=load)[0]


def make_service_app(
    settings: ServerSettings, *, load: LoadTranslator | None = None
) -> tuple[ASGIApp, Service]:
    """Return the ASGI application and the service that its routes share."""
    folder = None if settings.keys else TemporaryDirectory(prefix="nllb-serve-")
    store = Store(settings.keys or f"{folder.name}/store.sqlite" if folder else settings.keys)
    metrics = Metrics()
    pool = ModelPool(
        settings.models,
        load=load or loader(settings),
        make_queue=_queue_maker(settings, metrics),
        idle_unload_s=settings.idle_unload_s,
    )
    runner = RequestRunner(
        pool,
        max_requests=settings.max_queued_requests,
        max_characters=settings.max_queued_characters,
        num_threads=settings.request_threads,
        timeout_s=settings.request_timeout_s,
    )
    documents = DocumentJobs(settings, runner=runner, store=store, metrics=metrics)
    service = Service(
        settings=settings,
        pool=pool,
        runner=runner,
        store=store,
        access=Access(settings, store),
        metrics=metrics,
        documents=documents,
    )
    metrics.watch("nllb_requests_in_flight", "Requests in flight", lambda: runner.num_requests)
    metrics.watch(
        "nllb_waiting_segments", "Segments not yet done", lambda: pool.num_waiting_segments
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks: list[asyncio.Task[None]] = [asyncio.create_task(_housekeeping(service))]
        if settings.preload:
            tasks.append(asyncio.create_task(_preload(pool)))
        try:
            yield
        finally:
            await runner.finish(settings.shutdown_s)
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
            await documents.close()
            await asyncio.to_thread(pool.close)
            runner.close()
            store.close()
            if folder is not None:
                folder.cleanup()

    app = FastAPI(
        title="nllb",
        version=__version__,
        description="Machine translation for 200 languages, with the protocols of LibreTranslate, "
        "DeepL, Google, nllb-serve and nllb-api.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    _add_routes(app)
    _add_error_handlers(app)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "X-API-Key"],
    )
    frame = RequestFrame(
        app,
        metrics=metrics,
        root_path=settings.root_path,
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_s,
        log_text=settings.log_text,
    )
    return frame, service


def loader(settings: ServerSettings) -> LoadTranslator:
    """Return the function that loads a model according to the settings."""

    def load(name: str | None) -> Translator:
        translator = Translator.load(
            name,
            device=settings.device,
            dtype=settings.dtype,
            detector="auto",
            num_threads=settings.engine_threads[1],
            similarity=False,
        )
        # Requests check their outputs themselves while the engine computes the next batch. One
        # thread is faster for a few sentences than several that wait for one another.
        translator.meaning = MeaningCheck(num_threads=CHECK_THREADS)
        translator.aligner = ShippedAligner(num_threads=CHECK_THREADS)
        LOGGER.info("model loaded", extra={"fields": {"model": name}})
        return translator

    return load


def _queue_maker(
    settings: ServerSettings, metrics: Metrics
) -> Callable[[Translator], SegmentQueue]:
    def make(translator: Translator) -> SegmentQueue:
        num_workers, num_threads = settings.engine_threads
        engine = getattr(translator.generator, "engine", None)
        if str(getattr(engine, "device", "cpu")).startswith("cuda"):
            num_workers = 1  # A GPU computes one batch at a time.
        return SegmentQueue(
            translator.generator,
            num_workers=num_workers,
            max_batch_segments=settings.max_batch_segments,
            max_bulk_segments=settings.max_bulk_segments,
            cached_segments=settings.cached_segments,
            checks=BatchChecks(translator.detector, translator.meaning, num_threads=num_threads),
            observe=metrics.observe_batch,
        )

    return make


async def _preload(pool: ModelPool) -> None:
    """Load the default model and the language detector."""
    try:
        await asyncio.to_thread(pool.languages, None)
    except Exception as error:
        LOGGER.error("the model cannot be loaded", extra={"fields": {"error": str(error)}})


async def _housekeeping(service: Service) -> None:
    """Periodically resume documents, unload idle models, write usage, and delete old documents."""
    keep_s = service.settings.document_keep_s
    unfinished_s = keep_s + service.settings.document_timeout_s

    def delete_old() -> None:
        service.documents.store.delete_old(finished_s=keep_s, unfinished_s=unfinished_s)

    chores: list[Callable[[], Awaitable[None]]] = [service.documents.resume]
    while True:
        for chore in chores:
            try:
                await chore()
            except Exception as error:
                LOGGER.warning("housekeeping failed", extra={"fields": {"error": repr(error)}})
        await asyncio.sleep(HOUSEKEEPING_S)
        chores = [
            service.documents.resume,
            partial(asyncio.to_thread, service.pool.unload_idle),
            partial(asyncio.to_thread, service.store.flush_usage),
            partial(asyncio.to_thread, delete_old),
        ]


def _add_routes(app: FastAPI) -> None:
    for router in ROUTERS:
        app.include_router(router)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(api_page(app.openapi()))

    @app.get("/spec", include_in_schema=False)
    async def spec() -> Response:
        return Json(app.openapi())

    app.include_router(page_router())


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> Response:
        return error_response(request, error)

    @app.exception_handler(HTTPException)
    async def answer_status(request: Request, error: HTTPException) -> Response:
        code = STATUS_CODES.get(error.status_code, "error")
        response = error_response(
            request, RequestError(error.status_code, str(error.detail), code=code)
        )
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    async def refuse_invalid(request: Request, error: RequestValidationError) -> Response:
        problems = []
        for each in error.errors()[:20]:
            place = ".".join(map(str, each["loc"][1:])) or "body"
            problems.append(f"{place}: {each['msg']}")
        return error_response(request, RequestError(400, "; ".join(problems)))

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        # The middleware around the application logs the place of the error.
        message = "internal error; the server's log has its place"
        return error_response(request, RequestError(500, message, code="internal"))
