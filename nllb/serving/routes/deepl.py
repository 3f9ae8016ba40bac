"""The protocol of DeepL's API v2: translation, languages and usage."""

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from nllb.languages import Language
from nllb.serving.access import Caller
from nllb.serving.client_languages import deepl_code, deepl_targets
from nllb.serving.errors import RequestError
from nllb.serving.features import Markup, Terms
from nllb.serving.glossary_store import find_terms
from nllb.serving.parameters import Parameters, read_parameters
from nllb.serving.responses import Json
from nllb.serving.service import Service, service_of
from nllb.serving.translating import TextOptions, TextResult

from .described import describe

router = APIRouter(tags=["DeepL"])

MAX_TEXTS: Final = 50
MAX_GLOSSARIES: Final = 5
MAX_BODY_BYTES: Final = 128 << 10
MODEL_TYPES: Final = ("quality_optimized", "prefer_quality_optimized", "latency_optimized")
SWITCHES: Final = ("0", "1", "true", "false")
ALLOWED: Final = {
    "model_type": MODEL_TYPES,
    "split_sentences": ("0", "1", "nonewlines", "true", "false"),
    "preserve_formatting": SWITCHES,
    "outline_detection": SWITCHES,
    "show_billed_characters": SWITCHES,
    "tag_handling_version": ("v1", "v2"),
}
"""Values of options that change nothing here beyond what the route does anyway, or little."""
UNSUPPORTED: Final = (
    "style_id",
    "custom_instructions",
    "translation_memory_id",
    "translation_memory_threshold",
)
"""Options whose wish cannot be fulfilled, so that ignoring them would mislead."""
FORMALITIES: Final = ("", "default", "more", "less", "prefer_more", "prefer_less")


def key_of(request: Request, parameters: Parameters | None = None) -> str:
    """Return the key of a request: its header, or the older parameter `auth_key`."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() in {"deepl-auth-key", "bearer"}:
        return key.strip()
    return "" if parameters is None else parameters.text("auth_key")


async def caller_of(request: Request, parameters: Parameters | None = None) -> Caller:
    """Return the sender of a request.

    Raises:
        RequestError: The key is missing or invalid (403).
    """
    access = service_of(request).access
    return await access.caller(request, key_of(request, parameters), missing_status=403)


@router.get("/v2/translate", include_in_schema=False)
@router.post(
    "/v2/translate",
    summary="Translate texts",
    openapi_extra=describe(
        text="texts, at most 50",
        target_lang="target language",
        source_lang="source language; without it, it is detected",
        split_sentences="0, 1 or nonewlines",
        tag_handling="xml or html",
        ignore_tags="elements whose content is kept",
        splitting_tags="elements that end a sentence",
        non_splitting_tags="elements that do not end a sentence",
        formality="default, prefer_more or prefer_less",
        glossary_id="a glossary",
        show_billed_characters="whether to count characters",
    ),
)
async def translate(request: Request) -> Response:
    """Translate texts."""
    service = service_of(request)
    if int(request.headers.get("content-length", "0")[:12] or 0) > MAX_BODY_BYTES:
        raise RequestError(413, "Request Entity Too Large", code="too_large")
    parameters = await read_parameters(request)
    caller = await caller_of(request, parameters)
    texts = parameters.all("text")
    if not texts:
        raise RequestError(400, "Missing or invalid argument: text")
    if not all(isinstance(text, str) for text in texts):
        raise RequestError(400, "Value for 'text' must be a list of texts")
    if len(texts) > MAX_TEXTS:
        raise RequestError(400, f"Too many texts: {len(texts)}; at most {MAX_TEXTS} are allowed")
    if sum(len(text.encode("utf-8", "replace")) for text in texts) > MAX_BODY_BYTES:
        raise RequestError(413, "Request Entity Too Large", code="too_large")
    service.access.check_rate(caller)
    service.access.check_size(caller, texts, is_batch=True)
    source, target = await read_languages(service, parameters)
    check_options(parameters)
    options = TextOptions(
        source=source,
        target=target,
        markup=_read_markup(parameters),
        terms=Terms(glossary=await read_terms(service, caller, parameters, source, target)),
        wrapped=parameters.text("split_sentences") == "nonewlines",
    )
    results = await service.translate(request, caller, texts, options)
    return Json({"translations": [_answer(result, parameters) for result in results]})


def _answer(result: TextResult, parameters: Parameters) -> dict[str, Any]:
    translation = result.translation
    answer: dict[str, Any] = {
        "detected_source_language": deepl_code(translation.source) if translation.source else "EN",
        "text": translation.text,
    }
    # deepl-python fails without the number, even if it did not ask for it.
    answer["billed_characters"] = len(translation.source_text)
    if parameters.get("model_type") is not None:
        answer["model_type_used"] = "quality_optimized"
    return answer


async def read_languages(
    service: Service, parameters: Parameters
) -> tuple[Language | None, Language]:
    """Return the source language, if it is named, and the target language.

    Raises:
        RequestError: A language is missing or not supported.
    """
    found: list[Language | None] = []
    for name in ("source_lang", "target_lang"):
        text = parameters.text(name)
        if not text:
            found.append(None)
            continue
        try:
            found.append(await service.language(text))
        except RequestError as error:
            raise RequestError(400, f"Value for '{name}' not supported. {error}") from None
    source, target = found
    if target is None:
        raise RequestError(400, "Value for 'target_lang' not supported: it is missing")
    return source, target


def check_options(parameters: Parameters) -> None:
    """Check the options that the models do not support, or that have few values.

    Raises:
        RequestError: An option asks for what the server cannot do.
    """
    for name, allowed in ALLOWED.items():
        given = parameters.get(name)
        if given is not None and str(given).lower() not in allowed:
            raise RequestError(400, f"Value for '{name}' not supported.")
    for name in UNSUPPORTED:
        if parameters.get(name) not in (None, "", []):
            raise RequestError(400, f"'{name}' is not supported by this server")
    context = parameters.get("context")
    if context is not None and not isinstance(context, str):
        raise RequestError(400, "Value for 'context' not supported.")
    formality = parameters.text("formality")
    if formality not in FORMALITIES:
        raise RequestError(400, "Value for 'formality' not supported.")
    if formality in {"more", "less"}:
        raise RequestError(
            400,
            "'formality' is not supported for given 'target_lang'; use prefer_more or prefer_less",
        )


def _read_markup(parameters: Parameters) -> Markup | None:
    kind = parameters.text("tag_handling")
    if not kind:
        return None
    if kind not in {"xml", "html"}:
        raise RequestError(400, "Value for 'tag_handling' not supported.")
    return Markup(
        kind="xml" if kind == "xml" else "html",
        ignore_tags=_tags(parameters, "ignore_tags"),
        splitting_tags=_tags(parameters, "splitting_tags"),
        non_splitting_tags=_tags(parameters, "non_splitting_tags"),
    )


def _tags(parameters: Parameters, name: str) -> tuple[str, ...]:
    tags = parameters.all(name)
    if not all(isinstance(tag, str) for tag in tags):
        raise RequestError(400, f"Value for '{name}' must be a list of names")
    return tuple(tag.strip() for each in tags for tag in each.split(",") if tag.strip())


async def read_terms(
    service: Service,
    caller: Caller,
    parameters: Parameters,
    source: Language | None,
    target: Language,
) -> tuple[tuple[str, str], ...]:
    """Return the terms of the glossaries that a request names.

    Raises:
        RequestError: A glossary is unknown, or has no such language pair.
    """
    given = [*parameters.all("glossary_id"), *parameters.all("glossary_ids")]
    if not all(isinstance(each, str) for each in given):
        raise RequestError(400, "Value for 'glossary_id' not supported.")
    # In forms the ids are one value with commas between them.
    ids = [each.strip() for text in given for each in text.split(",") if each.strip()]
    if not ids:
        return ()
    if len(ids) > MAX_GLOSSARIES:
        raise RequestError(400, f"Too many glossaries: {len(ids)}; at most {MAX_GLOSSARIES}")
    return await find_terms(service, caller, ids, source, target)


@router.get("/v2/languages", include_in_schema=False)
@router.post(
    "/v2/languages",
    summary="List the languages",
    openapi_extra=describe(type="source (default) or target"),
)
async def languages(request: Request) -> Response:
    """List the languages that can be translated from, or into."""
    service = service_of(request)
    parameters = await read_parameters(request)
    await caller_of(request, parameters)
    kind = parameters.text("type") or "source"
    if kind not in {"source", "target"}:
        raise RequestError(400, "Value for 'type' not supported.")
    known = await service.languages()
    if kind == "target":
        rows = {code: name for language in known for code, name in deepl_targets(language)}
    else:
        rows = {}
        for language in known:
            rows.setdefault(deepl_code(language), language.name)
    return Json(
        [
            {"language": code, "name": name}
            | ({"supports_formality": False} if kind == "target" else {})
            for code, name in sorted(rows.items())
        ]
    )


@router.get("/v2/usage", include_in_schema=False)
@router.post("/v2/usage", summary="Characters translated so far")
async def usage(request: Request) -> Response:
    """Return the characters that were translated with a key, and its quota."""
    service = service_of(request)
    caller = await caller_of(request, await read_parameters(request))
    count = await run_in_threadpool(service.store.usage, caller.owner)
    return Json({"character_count": count, "character_limit": service.settings.character_quota})


@router.get("/v2/glossary-language-pairs", summary="List the language pairs of glossaries")
async def glossary_language_pairs(request: Request) -> Response:
    """List the language pairs that glossaries can have."""
    await caller_of(request)
    known = await service_of(request).languages()
    codes = list(dict.fromkeys(deepl_code(language).lower() for language in known))
    pairs = [
        {"source_lang": source, "target_lang": target}
        for source in codes
        for target in codes
        if source != target
    ]
    return Json({"supported_languages": pairs})
