"""The server's own API under `/v1`: translation with quality estimates, streaming, detection."""

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from nllb import __version__
from nllb.errors import NllbError
from nllb.io.text import read_table
from nllb.languages import Language, parse_language
from nllb.serving.access import Caller
from nllb.serving.client_languages import AUTO, short_code
from nllb.serving.errors import ClientGone, RequestError
from nllb.serving.features import Markup, Terms, file_formats
from nllb.serving.glossary_store import find_terms
from nllb.serving.model_pool import ServedModel
from nllb.serving.responses import Json
from nllb.serving.service import Service, service_of
from nllb.serving.translating import (
    TextOptions,
    TextResult,
    detect_languages,
    stream_text,
)
from nllb.serving.translation_json import SegmentOffsets, language_json, translation_json
from nllb.translation.results import Segment

from .own_models import DetectBody, StreamBody, TranslateBody

router = APIRouter(prefix="/v1", tags=["nllb"])


async def caller_of(request: Request) -> Caller:
    """Return the sender of a request, by `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    Raises:
        RequestError: The key is missing (401) or invalid (403).
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        key = request.headers.get("x-api-key", "")
    access = service_of(request).access
    return await access.caller(request, key.strip(), missing_status=401)


@router.post("/translate", summary="Translate texts")
async def translate(request: Request, body: TranslateBody) -> Response:
    """Translate a text or a list of texts, with a quality estimate of each segment."""
    service = service_of(request)
    caller = await caller_of(request)
    options = await _prepare(service, caller, body)
    results = await service.translate(request, caller, body.texts, options, model=body.model)
    return Json(
        {
            "translations": [_result_json(result, body) for result in results],
            "model": service.pool.find(body.model).name,
        }
    )


@router.post("/translate/stream", summary="Translate a text segment by segment")
async def stream(request: Request, body: StreamBody) -> Response:
    """Translate a text; server-sent events deliver each segment as soon as it is finished.

    `segment` events contain a segment's number, its place in the source, and its output. The last
    event is `done`, with the whole translation in the form of `/v1/translate`, or `error`.
    """
    service = service_of(request)
    caller = await caller_of(request)
    options = await _prepare(service, caller, body)
    service.runner.admit(len(body.text))
    events = _events(service, caller, request, body, options)
    return StreamingResponse(
        events,
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(
    service: Service, caller: Caller, request: Request, body: StreamBody, options: TextOptions
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    def on_segment(number: int, segment: Segment, place: SegmentOffsets) -> None:
        event = {
            "number": number,
            "source_text": segment.source_text,
            "source_start": place.source and place.source[0],
            "source_end": place.source and place.source[1],
            "text": segment.text,
            "confidence": segment.trust.confidence,
            "flags": segment.trust.flags,
        }
        loop.call_soon_threadsafe(queue.put_nowait, ("segment", event))

    async def work() -> None:
        try:
            result = await service.run(
                request,
                caller,
                lambda translator: stream_text(translator, body.text, options, on_segment),
                texts=[body.text],
                model=body.model,
            )
            last = ("done", _result_json(result, body))
        except RequestError as error:
            last = ("error", {"code": error.code, "message": str(error)})
        except ClientGone:
            last = ("error", {"code": "gone", "message": "the client closed the connection"})
        except Exception:
            last = ("error", {"code": "internal", "message": "internal error"})
        # The loop runs the callbacks of segments in order, so this event follows them.
        loop.call_soon(queue.put_nowait, last)

    task = asyncio.create_task(work())
    try:
        name = ""
        while name not in {"done", "error"}:
            name, event = await queue.get()
            yield _event(name, event)
    finally:
        task.cancel()


def _event(name: str, event: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + Json.encode(event) + b"\n\n"


async def _prepare(service: Service, caller: Caller, body: TranslateBody) -> TextOptions:
    """Check a request to translate and return its options."""
    service.access.check_rate(caller, cost=len(body.texts))
    service.access.check_size(caller, body.texts, is_batch=not isinstance(body.text, str))
    limit = service.settings.alternatives_limit
    if body.alternatives > limit:
        raise RequestError(400, f"alternatives is {body.alternatives}; it must be 0 to {limit}")
    source = None
    if body.source.casefold() != AUTO:
        source = await service.language(body.source, body.model)
    target = await service.language(body.target, body.model)
    glossary = tuple(body.glossary.items())
    if body.glossary_id is not None:
        glossary += await find_terms(service, caller, [body.glossary_id], source, target)
    return TextOptions(
        source=source,
        target=target,
        alternatives=body.alternatives,
        beam_size=body.beam_size,
        wrapped=body.wrapped,
        markup=None if body.format == "text" else Markup(kind=body.format),
        terms=Terms(glossary=glossary, do_not_translate=tuple(body.do_not_translate)),
    )


def _result_json(result: TextResult, body: TranslateBody) -> dict[str, Any]:
    probability = None if result.detected is None else result.detected.probability or 0.0
    return translation_json(result.translation, unit=body.offset_unit, detected=probability)


@router.post("/detect", summary="Identify languages")
async def detect(request: Request, body: DetectBody) -> Response:
    """Return the likeliest languages of each text, best first; none for text without letters."""
    service = service_of(request)
    caller = await caller_of(request)
    service.access.check_rate(caller, cost=len(body.texts))
    service.access.check_size(caller, body.texts, is_batch=not isinstance(body.text, str))

    def work() -> list[list[tuple[str, float]]]:
        detector = service.pool.detector()
        return [detect_languages(detector, text, top=body.top) for text in body.texts]

    found = await run_in_threadpool(work)
    return Json({"detections": [list(map(_detection_json, of_text)) for of_text in found]})


def _detection_json(pair: tuple[str, float]) -> dict[str, Any]:
    language, probability = pair
    return {**(language_json(parse_language(language)) or {}), "probability": probability}


@router.get("/languages", summary="List the languages of a model")
async def languages(request: Request, model: str | None = None) -> Response:
    """List the languages of a model, each of which can be translated into every other."""
    service = service_of(request)
    await caller_of(request)
    known = await service.languages(model)
    return Json({"languages": [_language_row(language) for language in known]})


def _language_row(language: Language) -> dict[str, Any]:
    return {
        "code": language.code,
        "short_code": short_code(language),
        "name": language.name,
        "own_name": language.own_name,
        "script": language.script,
        "direction": language.direction,
        "aliases": language.aliases,
        "level": language.level,
    }


@router.get("/models", summary="List the models")
async def models(request: Request) -> Response:
    """List the models of this server, the default one first."""
    service = service_of(request)
    await caller_of(request)
    rows = await asyncio.to_thread(lambda: list(map(_model_row, service.pool.models.values())))
    features = {"glossary": True, "markup": True, "files": file_formats()}
    return Json({"models": rows, "features": features, "version": __version__})


def _model_row(model: ServedModel) -> dict[str, Any]:
    return {"name": model.name, "loaded": model.is_loaded, **_listing(model.origin or model.name)}


@cache
def _listing(origin: str) -> dict[str, Any]:
    """Return the known facts about a model; nothing if it was loaded by other means."""
    from nllb.model.listing import list_model

    try:
        listing = list_model(origin)
    except NllbError:
        return {}
    return {
        "summary": listing.summary,
        "parameters": listing.parameters,
        "licence": listing.licence,
        "has_scores": bool(_score_rows(origin)),
    }


@router.get("/models/{name}/scores", summary="Scores of a model's directions")
async def scores(
    request: Request, name: str, source: str | None = None, target: str | None = None
) -> Response:
    """List the scores of a model's directions that its authors published.

    `pairs` is the number of sentence pairs of the direction in the training data; without any, the
    direction was not trained, and the quality is uncertain.
    """
    service = service_of(request)
    await caller_of(request)
    model = service.pool.find(name)
    wanted = {}
    for column, text in (("source", source), ("target", target)):
        if text is not None:
            wanted[column] = (await service.language(text, name)).code
    rows = await asyncio.to_thread(_score_rows, model.origin or model.name)
    return Json(
        {
            "scores": [
                {"source": row["source"], "target": row["target"], **_figures(row)}
                for row in rows
                if all(row[column] == code for column, code in wanted.items())
            ]
        }
    )


def _figures(row: dict[str, str]) -> dict[str, float]:
    return {"pairs": int(row["pairs"]), "chrf++": float(row["chrf++"])}


@cache
def _score_rows(origin: str) -> list[dict[str, str]]:
    from nllb.model.listing import list_model

    try:
        folder = list_model(origin).path
    except NllbError:
        return []
    path = None if folder is None else folder / "scores.tsv"
    return list(read_table(path)) if path is not None and path.is_file() else []


@router.get("/health", summary="Whether the server runs")
async def health() -> Response:
    """Respond as long as the server runs."""
    return Json({"status": "ok"})


@router.get("/ready", summary="Whether the server can translate")
async def ready(request: Request) -> Response:
    """Respond with 200 if the default model is loaded and requests are accepted, else with 503."""
    service = service_of(request)
    if service.runner.closing or not service.pool.default.is_loaded:
        raise RequestError(503, "not ready", code="not_ready", retry_after_s=5)
    return Json({"status": "ready"})
