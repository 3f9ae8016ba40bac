"""The protocol of Google's Translation API v2 (Basic)."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from nllb.languages import parse_language
from nllb.serving.access import Caller
from nllb.serving.client_languages import short_code
from nllb.serving.errors import RequestError
from nllb.serving.features import Markup
from nllb.serving.parameters import Parameters, read_parameters
from nllb.serving.responses import Json
from nllb.serving.service import service_of
from nllb.serving.translating import TextOptions, TextResult, detect_languages

from .described import describe

router = APIRouter(prefix="/language/translate/v2", tags=["Google v2"])


async def _read(request: Request) -> tuple[Parameters, Caller]:
    parameters = await read_parameters(request)
    key = parameters.text("key") or request.headers.get("x-goog-api-key", "")
    access = service_of(request).access
    return parameters, await access.caller(request, key, missing_status=403)


def _texts(parameters: Parameters) -> list[str]:
    texts = parameters.all("q")
    if not texts:
        raise RequestError(400, "Required Text")
    if not all(isinstance(text, str) for text in texts):
        raise RequestError(400, "q must be a text or a list of texts")
    return texts


@router.get("", include_in_schema=False)
@router.post(
    "",
    summary="Translate texts",
    openapi_extra=describe(q="texts", target="language", source="language", format="text or html"),
)
async def translate(request: Request) -> Response:
    """Translate texts; without `source`, the source language is detected."""
    service = service_of(request)
    parameters, caller = await _read(request)
    texts = _texts(parameters)
    service.access.check_rate(caller, cost=len(texts))
    service.access.check_size(caller, texts, is_batch=len(texts) > 1)
    if not parameters.text("target"):
        raise RequestError(400, "The target language is required")
    source = parameters.text("source")
    kind = parameters.text("format") or "text"
    if kind not in {"text", "html"}:
        raise RequestError(400, "Invalid Value: format must be text or html")
    options = TextOptions(
        source=await service.language(source) if source else None,
        target=await service.language(parameters.text("target")),
        markup=Markup(kind="html") if kind == "html" else None,
    )
    results = await service.translate(request, caller, texts, options)
    return Json({"data": {"translations": [_answer(result) for result in results]}})


def _answer(result: TextResult) -> dict[str, Any]:
    answer = {"translatedText": result.translation.text}
    if result.detected is not None:
        language = result.detected.language
        answer["detectedSourceLanguage"] = "und" if language is None else short_code(language)
    return answer


@router.get("/detect", include_in_schema=False)
@router.post("/detect", summary="Identify languages", openapi_extra=describe(q="texts"))
async def detect(request: Request) -> Response:
    """Return the likeliest language of each text."""
    service = service_of(request)
    parameters, caller = await _read(request)
    texts = _texts(parameters)
    service.access.check_rate(caller, cost=len(texts))
    service.access.check_size(caller, texts, is_batch=len(texts) > 1)

    def work() -> list[list[tuple[str, float]]]:
        detector = service.pool.detector()
        return [detect_languages(detector, text, top=1) for text in texts]

    rows = []
    for found in await run_in_threadpool(work):
        code, probability = "und", 0.0
        if found:
            code, probability = short_code(parse_language(found[0][0])), found[0][1]
        rows.append([{"confidence": probability, "isReliable": False, "language": code}])
    return Json({"data": {"detections": rows}})


@router.get("/languages", include_in_schema=False)
@router.post("/languages", summary="List the languages")
async def languages(request: Request) -> Response:
    """List the languages; names are given if `target` is."""
    parameters, _ = await _read(request)
    known = await service_of(request).languages()
    named = bool(parameters.text("target"))
    rows = [
        {"language": short_code(language)} | ({"name": language.name} if named else {})
        for language in known
    ]
    return Json({"data": {"languages": rows}})
