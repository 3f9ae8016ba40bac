"""The protocol of LibreTranslate, at the root of the server.

Parameters are JSON, query strings or forms. `POST /translate` also supports the protocols of
nllb-serve (requests with `src_lang` and without `q`) and of the first nllb-api (`text`).
"""

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response

from nllb.languages import Language, parse_language
from nllb.serving.access import Caller
from nllb.serving.client_languages import AUTO, listed_codes, read_language, short_code
from nllb.serving.errors import RequestError
from nllb.serving.features import Markup, file_formats
from nllb.serving.parameters import Parameters, read_parameters
from nllb.serving.responses import Json
from nllb.serving.service import Service, service_of
from nllb.serving.translating import TextOptions, TextResult, detect_languages
from nllb.serving.translation_json import whole_alternatives
from nllb.translation.source_detection import SourceLanguage

from . import nllb_serve
from .described import describe

router = APIRouter(tags=["LibreTranslate"])

NOTHING_DETECTED: Final = {"confidence": 0.0, "language": "en"}
FRONTEND_TIMEOUT_MS: Final = 500


async def caller_of(request: Request, parameters: Parameters) -> Caller:
    """Return the sender of a request, by `api_key` in the parameters or a bearer token.

    Raises:
        RequestError: The key is missing (400) or invalid (403).
    """
    key = parameters.text("api_key")
    if not key:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
    return await service_of(request).access.caller(request, key)


def missing(name: str) -> RequestError:
    """Return the error of a missing parameter."""
    return RequestError(400, f"Invalid request: missing {name} parameter")


@router.post(
    "/translate",
    summary="Translate a text or a list of texts",
    openapi_extra=describe(
        q="text, or in JSON a list of texts",
        source="language code, or auto",
        target="language code",
        format="text (default) or html",
        alternatives="number of alternative translations, default 0",
        api_key="API key",
    ),
)
async def translate(request: Request) -> Response:
    """Translate; the response contains `detectedLanguage` and `alternatives` on request."""
    service = service_of(request)
    parameters = await read_parameters(request)
    caller = await caller_of(request, parameters)
    if parameters.get("q") is None and "src_lang" in parameters.values:
        return await nllb_serve.translate(request, caller, parameters)
    if parameters.get("q") is None and parameters.get("text") is not None:
        return await nllb_serve.translate_to_text(request, caller, parameters)
    texts, is_batch = read_texts(parameters)
    for name in ("source", "target"):
        if not parameters.text(name):
            raise missing(name)
    alternatives = _read_alternatives(service, parameters)
    service.access.check_rate(caller, cost=len(texts))
    service.access.check_size(caller, texts, is_batch=is_batch)
    source, target = await read_languages(service, parameters)
    markup = _read_format(parameters)
    options = TextOptions(
        source=source,
        target=target,
        alternatives=0 if markup else alternatives,
        markup=markup,
    )
    results = await service.translate(request, caller, texts, options, together=True)
    return Json(_answer(results, is_batch, source is None, alternatives))


def read_texts(parameters: Parameters) -> tuple[list[str], bool]:
    """Return the texts of `q`, and whether they are a list.

    Raises:
        RequestError: `q` is missing or not a text.
    """
    q = parameters.get("q")
    if not q:
        raise missing("q")
    if isinstance(q, list):
        if not all(isinstance(text, str) for text in q):
            raise RequestError(400, "Invalid request: q must be a text or a list of texts")
        return q, True
    if not isinstance(q, str):
        raise RequestError(400, "Invalid request: q must be a text or a list of texts")
    return [q if parameters.from_json else q.replace("\r\n", "\n")], False


def _read_alternatives(service: Service, parameters: Parameters) -> int:
    given = parameters.get("alternatives")
    try:
        number = max(0, int(given)) if given not in (None, "") else 0
    except (TypeError, ValueError, OverflowError):
        raise RequestError(400, "Invalid request: alternatives parameter is not a number") from None
    limit = service.settings.alternatives_limit
    if number > limit:
        raise RequestError(400, f"Invalid request: alternatives parameter must be <= {limit}")
    return number


async def read_languages(
    service: Service, parameters: Parameters
) -> tuple[Language | None, Language]:
    """Return the source language, or None if it is to be detected, and the target language.

    Raises:
        RequestError: A language is unknown, or the model does not cover it.
    """
    known = await service.languages()
    source = None
    if parameters.text("source").casefold() != AUTO:
        source = _supported(parameters.text("source"), known)
    return source, _supported(parameters.text("target"), known)


def _supported(code: str, known: tuple[Language, ...]) -> Language:
    try:
        return read_language(code, known)
    except RequestError as error:
        raise RequestError(
            400,
            f"{code[:80]} is not supported",
            code="unknown_language",
            suggestions=error.suggestions,
        ) from None


def _read_format(parameters: Parameters) -> Markup | None:
    given = parameters.text("format") or "text"
    if given == "text":
        return None
    if given != "html":
        raise RequestError(400, f"{given[:80]} format is not supported")
    return Markup(kind="html")


def _answer(
    results: list[TextResult], is_batch: bool, detected: bool, alternatives: int
) -> dict[str, Any]:
    answer: dict[str, Any] = {"translatedText": [each.translation.text for each in results]}
    if detected:
        answer["detectedLanguage"] = [_detected(each.detected) for each in results]
    if alternatives:
        answer["alternatives"] = [
            whole_alternatives(each.translation, alternatives) for each in results
        ]
    return answer if is_batch else {name: values[0] for name, values in answer.items()}


def _detected(source: SourceLanguage | None) -> dict[str, Any]:
    if source is None or source.language is None:
        return NOTHING_DETECTED
    return _confidence(source.language, source.probability or 0.0)


def _confidence(language: Language, probability: float) -> dict[str, Any]:
    return {"confidence": round(100 * probability, 1), "language": short_code(language)}


@router.get("/translate", summary="Translate by the protocol of nllb-serve")
async def translate_get(request: Request) -> Response:
    """Translate the values of `source` from `src_lang` to `tgt_lang`."""
    parameters = await read_parameters(request)
    if "src_lang" not in parameters.values:
        raise RequestError(405, "Method Not Allowed", code="method_not_allowed")
    caller = await caller_of(request, parameters)
    return await nllb_serve.translate(request, caller, parameters)


@router.post(
    "/detect",
    summary="Identify the language of a text",
    openapi_extra=describe(q="text", api_key="API key"),
)
async def detect(request: Request) -> Response:
    """Return the likeliest languages of a text, best first."""
    service = service_of(request)
    parameters = await read_parameters(request)
    caller = await caller_of(request, parameters)
    texts, _ = read_texts(parameters)
    service.access.check_rate(caller)
    service.access.check_size(caller, texts)
    text = "\n".join(texts)
    found = await run_in_threadpool(lambda: detect_languages(service.pool.detector(), text))
    rows = [_confidence(parse_language(code), probability) for code, probability in found]
    return Json(rows or [NOTHING_DETECTED])


@router.get("/languages", summary="List the languages")
async def languages(request: Request) -> Response:
    """List the languages and the targets of each."""
    known = await service_of(request).languages()
    return Json(_language_rows(known))


def _language_rows(known: tuple[Language, ...]) -> list[dict[str, Any]]:
    codes = {language: list(listed_codes(language)) for language in known}
    targets = [code for of_language in codes.values() for code in of_language]
    rows = [
        {"code": code, "name": language.name, "targets": targets}
        for language, of_language in codes.items()
        for code in of_language
    ]
    return sorted(rows, key=lambda row: str(row["name"]))


@router.get("/health", summary="Whether the server runs")
async def health() -> Response:
    """Respond as long as the server runs."""
    return Json({"status": "ok"})


@router.get("/frontend/settings", summary="Settings for user interfaces")
async def frontend_settings(request: Request) -> Response:
    """Return settings for user interfaces."""
    service = service_of(request)
    settings = service.settings
    known = await service.languages()
    source = next((each for each in known if each.code == "eng_Latn"), known[0])
    target = next((each for each in known if each.code == "spa_Latn"), known[-1])
    suffixes = [suffix for each in file_formats() for suffix in each["suffixes"]]
    return Json(
        {
            "apiKeys": bool(settings.keys),
            "charLimit": settings.char_limit or -1,
            "filesTranslation": settings.files_translation,
            "frontendTimeout": FRONTEND_TIMEOUT_MS,
            "keyRequired": settings.require_key,
            "language": {
                "source": {"code": short_code(source), "name": source.name},
                "target": {"code": short_code(target), "name": target.name},
            },
            "suggestions": False,
            "supportedFilesFormat": suffixes,
        }
    )


@router.post("/suggest", summary="Suggest a better translation (switched off)")
async def suggest() -> Response:
    """Reject suggestions, because this server does not collect texts of its users."""
    raise RequestError(403, "Suggestions are disabled on this server.", code="disabled")


@router.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return the metrics of the server in Prometheus' text format."""
    import hmac

    service = service_of(request)
    if not service.settings.metrics:
        raise RequestError(404, "Not Found")
    token = service.settings.metrics_token
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if token and not hmac.compare_digest(given.encode(), token.encode()):
        raise RequestError(401, "Unauthorized", code="missing_key")
    text = await run_in_threadpool(service.metrics.text)
    return Response(text, media_type=service.metrics.content_type)
