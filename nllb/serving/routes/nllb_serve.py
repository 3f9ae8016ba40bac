"""The protocols of nllb-serve and nllb-api, which existing clients of NLLB models use."""

import asyncio
from time import perf_counter
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from nllb.languages import Language
from nllb.serving.access import Caller
from nllb.serving.client_languages import AUTO
from nllb.serving.errors import RequestError
from nllb.serving.parameters import Parameters
from nllb.serving.responses import Json
from nllb.serving.service import service_of
from nllb.serving.translating import TextOptions, detect_languages

router = APIRouter(prefix="/api/v4", tags=["nllb-api"])


async def translate(request: Request, caller: Caller, parameters: Parameters) -> Response:
    """Answer nllb-serve's `/translate`: `source` (text or list), `src_lang` and `tgt_lang`."""
    started = perf_counter()
    texts = parameters.all("source")
    if not texts or not all(isinstance(text, str) for text in texts):
        return PlainTextResponse("Please provide 'source' as a parameter", status_code=400)
    results = await _texts(
        request,
        caller,
        texts,
        source=parameters.text("src_lang"),
        target=parameters.text("tgt_lang") or "eng_Latn",
    )
    answer: dict[str, Any] = {
        "source": texts,
        "translation": results,
        "src_lang": parameters.text("src_lang"),
        "tgt_lang": parameters.text("tgt_lang") or "eng_Latn",
        "time_taken": round(perf_counter() - started, 3),
        "time_units": "s",
    }
    return Json(answer)


async def translate_to_text(request: Request, caller: Caller, parameters: Parameters) -> Response:
    """Answer the first nllb-api (`text`, `source` and `target`) with plain text."""
    text, source = parameters.text("text"), parameters.text("source")
    if not text or not source or not parameters.text("target"):
        raise RequestError(400, "Invalid request: missing text, source or target parameter")
    [output] = await _texts(
        request, caller, [text], source=source, target=parameters.text("target")
    )
    return PlainTextResponse(output.encode("utf-8", "replace"))


async def _texts(
    request: Request,
    caller: Caller,
    texts: list[str],
    *,
    source: str,
    target: str,
) -> list[str]:
    service = service_of(request)
    service.access.check_rate(caller, cost=len(texts))
    service.access.check_size(caller, texts, is_batch=len(texts) > 1)
    named: Language | None = None
    if source and source.casefold() != AUTO:
        named = await service.language(source)
    options = TextOptions(source=named, target=await service.language(target))
    results = await service.translate(request, caller, texts, options)
    return [result.translation.text for result in results]


async def _caller(request: Request) -> Caller:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else ""
    return await service_of(request).access.caller(request, key, missing_status=401)


@router.get("/translator", summary="Translate a text")
async def translator(request: Request, text: str, source: str, target: str) -> Response:
    """Translate a text."""
    caller = await _caller(request)
    [output] = await _texts(request, caller, [text], source=source, target=target)
    return Json({"result": output})


@router.get("/translator/stream", summary="Translate a text line by line")
async def translator_stream(request: Request, text: str, source: str, target: str) -> Response:
    """Translate a text; each line is one server-sent event."""
    caller = await _caller(request)
    [output] = await _texts(request, caller, [text], source=source, target=target)

    async def events() -> Any:
        for line in output.splitlines():
            yield b"data: " + line.encode("utf-8", "replace") + b"\n\n"
            await asyncio.sleep(0)

    return StreamingResponse(events(), media_type="text/event-stream")


@router.get("/language", summary="Identify the language of a text")
async def language(request: Request, text: str) -> Response:
    """Return the likeliest language of a text."""
    caller = await _caller(request)
    service = service_of(request)
    service.access.check_rate(caller)
    service.access.check_size(caller, [text])
    found = await run_in_threadpool(lambda: detect_languages(service.pool.detector(), text, top=1))
    if not found:
        raise RequestError(400, "the text has no letters")
    return Json({"language": found[0][0], "confidence": found[0][1]})
