"""Routes that translate files: those of DeepL, of LibreTranslate, and our own."""

import re
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from nllb.languages import Language
from nllb.serving.access import Caller
from nllb.serving.client_languages import AUTO
from nllb.serving.document_jobs import FileRequest, safe_name
from nllb.serving.errors import RequestError
from nllb.serving.features import Terms, file_formats
from nllb.serving.glossary_store import find_terms
from nllb.serving.parameters import Parameters, read_parameters
from nllb.serving.responses import Json
from nllb.serving.service import Service, service_of

from . import deepl, libretranslate, own
from .described import describe

router = APIRouter()

_ID: Final = re.compile("[0-9a-f]{32}")
_DOWNLOAD: Final = re.compile(r"([0-9a-f]{32})_([0-9a-f]{64})(\.[A-Za-z0-9]{1,12})*")


async def _file(parameters: Parameters, missing: RequestError) -> tuple[bytes, str]:
    """Return the uploaded file of a request and its name."""
    file = parameters.files.get("file")
    if file is None:
        raise missing
    data = await file.read()
    return data, safe_name(parameters.text("filename") or file.filename)


def _check_size(service: Service, caller: Caller, data: bytes) -> None:
    limit = service.access.char_limit(caller)
    service.access.check_rate(caller, cost=max(1, len(data) // limit) if limit else 1)


def _attachment(row: dict[str, Any], data: bytes) -> Response:
    name = row["name"]
    plain = name.encode("ascii", "replace").decode().replace('"', "_").replace("?", "_")
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    return Response(
        data,
        media_type="application/octet-stream",
        headers={"Content-Disposition": disposition, "Cache-Control": "no-store"},
    )


# DeepL


@router.post(
    "/v2/document",
    tags=["DeepL"],
    summary="Upload a file",
    openapi_extra=describe(
        file="the file",
        target_lang="target language",
        source_lang="source language; without it, it is detected",
        glossary_id="a glossary",
    ),
)
async def upload(request: Request) -> Response:
    """Start the translation of a file."""
    service = service_of(request)
    parameters = await read_parameters(request)
    caller = await deepl.caller_of(request, parameters)
    data, name = await _file(parameters, RequestError(400, "Missing or invalid argument: file"))
    source, target = await deepl.read_languages(service, parameters)
    deepl.check_options(parameters)
    wanted = parameters.text("output_format")
    if wanted and not name.lower().endswith(f".{wanted.lower()}"):
        raise RequestError(400, "Value for 'output_format' not supported.")
    terms = Terms(glossary=await deepl.read_terms(service, caller, parameters, source, target))
    _check_size(service, caller, data)
    document_id, key = await service.documents.submit(
        caller, FileRequest(data=data, name=name, source=source, target=target, terms=terms)
    )
    return Json({"document_id": document_id, "document_key": key})


async def _find(service: Service, document_id: str, key: str) -> dict[str, Any]:
    row = None
    if _ID.fullmatch(document_id):
        row = await run_in_threadpool(service.documents.store.find, document_id, key)
    if row is None:
        raise RequestError(404, "Document not found", code="unknown_document")
    return row


async def _key(request: Request) -> str:
    parameters = await read_parameters(request)
    await deepl.caller_of(request, parameters)
    key = parameters.text("document_key")
    if not key:
        raise RequestError(400, "Missing or invalid argument: document_key")
    return key


@router.get("/v2/document/{document_id}", include_in_schema=False)
@router.post(
    "/v2/document/{document_id}",
    tags=["DeepL"],
    summary="State of a file",
    openapi_extra=describe(document_key="the key of the document"),
)
async def status(request: Request, document_id: str) -> Response:
    """Return the progress of the translation of a file."""
    row = await _find(service_of(request), document_id, await _key(request))
    answer: dict[str, Any] = {"document_id": document_id, "status": row["status"]}
    if row["status"] in {"queued", "translating"}:
        answer["seconds_remaining"] = round(service_of(request).runner.wait_s)
    elif row["status"] == "done":
        answer["billed_characters"] = row["characters"]
    else:
        answer["error_message"] = row["message"]
    return Json(answer)


@router.get("/v2/document/{document_id}/result", include_in_schema=False)
@router.post(
    "/v2/document/{document_id}/result",
    tags=["DeepL"],
    summary="Fetch a translated file",
    openapi_extra=describe(document_key="the key of the document"),
)
async def result(request: Request, document_id: str) -> Response:
    """Return a translated file and delete it, as DeepL does."""
    service = service_of(request)
    row = await _find(service, document_id, await _key(request))
    answer = await _result(service, row)
    answer.background = BackgroundTask(service.documents.store.delete, document_id)
    return answer


async def _result(service: Service, row: dict[str, Any]) -> Response:
    if row["status"] == "error":
        raise RequestError(400, row["message"], code="bad_file")
    data = await run_in_threadpool(service.documents.store.data, row["id"])
    if data is None:
        raise RequestError(
            503, "Document is not ready for download", code="not_ready", retry_after_s=1
        )
    return _attachment(row, data)


# LibreTranslate


@router.post(
    "/translate_file",
    tags=["LibreTranslate"],
    summary="Translate a file",
    openapi_extra=describe(
        file="the file", source="language code, or auto", target="language code", api_key="API key"
    ),
)
async def translate_file(request: Request) -> Response:
    """Translate a file; the response contains the URL of the translated file."""
    service = service_of(request)
    if not service.settings.files_translation:
        raise RequestError(403, "Files translation are disabled on this server.", code="disabled")
    parameters = await read_parameters(request)
    caller = await libretranslate.caller_of(request, parameters)
    for name in ("source", "target"):
        if not parameters.text(name):
            raise libretranslate.missing(name)
    data, name = await _file(parameters, libretranslate.missing("file"))
    suffixes = {suffix for each in file_formats() for suffix in each["suffixes"]}
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    if suffix not in suffixes:
        raise RequestError(400, "Invalid request: file format not supported", code="bad_file")
    source, target = await libretranslate.read_languages(service, parameters)
    _check_size(service, caller, data)
    document_id, key = await service.documents.translate(
        request, caller, FileRequest(data=data, name=name, source=source, target=target)
    )
    address = str(request.base_url).rstrip("/") + f"/download_file/{document_id}_{key}{suffix}"
    return Json({"translatedFileUrl": address})


@router.get("/download_file/{name}", tags=["LibreTranslate"], summary="Fetch a translated file")
async def download_file(request: Request, name: str) -> Response:
    """Return a translated file."""
    service = service_of(request)
    match = _DOWNLOAD.fullmatch(name)
    if match is None:
        raise RequestError(404, "Not Found", code="unknown_document")
    return await _result(service, await _find(service, match[1], match[2]))


# Our own


@router.get("/v1/documents/formats", tags=["nllb"], summary="List the formats of files")
async def formats(request: Request) -> Response:
    """List the formats of files that can be translated, and what is kept in each."""
    await own.caller_of(request)
    return Json({"formats": file_formats()})


@router.post(
    "/v1/documents",
    tags=["nllb"],
    summary="Upload a file",
    status_code=202,
    openapi_extra=describe(
        file="the file",
        source="language, or auto (default)",
        target="language",
        model="model",
        glossary_id="a glossary",
        do_not_translate="terms that are kept; can be repeated",
    ),
)
async def upload_own(request: Request) -> Response:
    """Start the translation of a file; the response contains its `id` and its access `key`."""
    service = service_of(request)
    if not service.settings.files_translation:
        raise RequestError(403, "this server does not translate files", code="disabled")
    parameters = await read_parameters(request)
    caller = await own.caller_of(request)
    data, name = await _file(
        parameters, RequestError(400, "the file is missing: send it as `file`")
    )
    if not parameters.text("target"):
        raise RequestError(400, "the target language is missing: send it as `target`")
    model = parameters.text("model") or None
    source: Language | None = None
    if parameters.text("source").casefold() not in {"", AUTO}:
        source = await service.language(parameters.text("source"), model)
    target = await service.language(parameters.text("target"), model)
    glossary: tuple[tuple[str, str], ...] = ()
    if parameters.text("glossary_id"):
        ids = [parameters.text("glossary_id")]
        glossary = await find_terms(service, caller, ids, source, target)
    kept = tuple(str(term) for term in parameters.all("do_not_translate"))
    _check_size(service, caller, data)
    document_id, key = await service.documents.submit(
        caller,
        FileRequest(
            data=data,
            name=name,
            source=source,
            target=target,
            terms=Terms(glossary=glossary, do_not_translate=kept),
            model=model,
        ),
    )
    return Json({"id": document_id, "key": key}, status_code=202)


@router.get("/v1/documents/{document_id}", tags=["nllb"], summary="State of a file")
async def status_own(request: Request, document_id: str, key: str) -> Response:
    """Return the progress of the translation of a file."""
    await own.caller_of(request)
    row = await _find(service_of(request), document_id, key)
    return Json(
        {
            "id": document_id,
            "status": row["status"],
            "name": row["name"],
            "characters": row["characters"],
            "message": row["message"],
            "report": row["report"],
        }
    )


@router.get("/v1/documents/{document_id}/result", tags=["nllb"], summary="Fetch a translated file")
async def result_own(request: Request, document_id: str, key: str) -> Response:
    """Return a translated file."""
    await own.caller_of(request)
    service = service_of(request)
    return await _result(service, await _find(service, document_id, key))
