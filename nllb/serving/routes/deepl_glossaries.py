"""Glossaries in DeepL's API: v2 (one language pair each) and v3 (several)."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response

from nllb.languages import Language
from nllb.serving.access import Caller
from nllb.serving.client_languages import deepl_code
from nllb.serving.errors import RequestError
from nllb.serving.glossary_store import (
    Dictionary,
    check_name,
    create_glossary,
    dictionaries_of,
    find_glossary,
    read_dictionary,
)
from nllb.serving.parameters import read_parameters
from nllb.serving.responses import Json
from nllb.serving.service import Service, service_of

from .deepl import caller_of
from .described import describe

router = APIRouter(tags=["DeepL"])
_FIELDS = describe(
    name="name",
    source_lang="source language",
    target_lang="target language",
    entries="entries, one per line",
    entries_format="tsv or csv",
)


def _code(language: Language) -> str:
    return deepl_code(language).lower()


def _created(row: dict[str, Any]) -> str:
    created: str = row["created"].isoformat(timespec="microseconds")
    return created.partition("+")[0] + "Z"


def _row_v2(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return a glossary in the form of v2; None if it has several dictionaries."""
    dictionaries = dictionaries_of(row)
    if len(dictionaries) != 1:
        return None
    [dictionary] = dictionaries
    return {
        "glossary_id": row["id"],
        "name": row["name"],
        "ready": True,
        "source_lang": _code(dictionary.source),
        "target_lang": _code(dictionary.target),
        "creation_time": _created(row),
        "entry_count": len(dictionary.entries),
    }


def _row_v3(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "glossary_id": row["id"],
        "name": row["name"],
        "dictionaries": list(map(_dictionary_row, dictionaries_of(row))),
        "creation_time": _created(row),
    }


def _dictionary_row(dictionary: Dictionary) -> dict[str, Any]:
    return {
        "source_lang": _code(dictionary.source),
        "target_lang": _code(dictionary.target),
        "entry_count": len(dictionary.entries),
    }


async def _open(request: Request) -> tuple[Service, Caller, dict[str, Any]]:
    """Return the service, the caller and the first value of each parameter."""
    service = service_of(request)
    parameters = await read_parameters(request)
    caller = await caller_of(request, parameters)
    service.access.check_rate(caller)
    return service, caller, {name: parameters.get(name) for name in parameters.values}


@router.post("/v2/glossaries", summary="Create a glossary", openapi_extra=_FIELDS)
async def create(request: Request) -> Response:
    """Create a glossary of one language pair."""
    service, caller, fields = await _open(request)
    check_name(fields.get("name"))
    dictionary = await read_dictionary(service, fields)
    row = await create_glossary(service, caller, fields["name"], [dictionary])
    return Json(_row_v2(row), status_code=201)


@router.get("/v2/glossaries", summary="List the glossaries")
async def list_glossaries(request: Request) -> Response:
    """List the glossaries of one language pair."""
    service, caller, _ = await _open(request)
    rows = await run_in_threadpool(service.store.glossaries, caller.owner)
    return Json({"glossaries": [row for row in map(_row_v2, rows) if row is not None]})


@router.get("/v2/glossaries/{glossary_id}", summary="Describe a glossary")
async def describe_glossary(request: Request, glossary_id: str) -> Response:
    """Describe a glossary."""
    service, caller, _ = await _open(request)
    return Json(_only_v2(await find_glossary(service, caller, glossary_id)))


def _only_v2(row: dict[str, Any]) -> dict[str, Any]:
    found = _row_v2(row)
    if found is None:
        raise RequestError(400, "The glossary has several language pairs: use /v3/glossaries")
    return found


@router.get("/v2/glossaries/{glossary_id}/entries", summary="Read a glossary")
async def entries(request: Request, glossary_id: str) -> Response:
    """Return the entries of a glossary as tab-separated lines."""
    service, caller, _ = await _open(request)
    row = await find_glossary(service, caller, glossary_id)
    _only_v2(row)
    [dictionary] = dictionaries_of(row)
    return PlainTextResponse(
        dictionary.tsv.encode("utf-8", "replace"), media_type="text/tab-separated-values"
    )


@router.delete("/v2/glossaries/{glossary_id}", summary="Delete a glossary", status_code=204)
@router.delete("/v3/glossaries/{glossary_id}", summary="Delete a glossary", status_code=204)
async def delete(request: Request, glossary_id: str) -> Response:
    """Delete a glossary."""
    service, caller, _ = await _open(request)
    row = await find_glossary(service, caller, glossary_id)
    await run_in_threadpool(service.store.delete_glossary, caller.owner, row["id"])
    return Response(status_code=204)


@router.post("/v3/glossaries", summary="Create a glossary", openapi_extra=_FIELDS)
async def create_v3(request: Request) -> Response:
    """Create a glossary with a dictionary for each of several language pairs."""
    service, caller, fields = await _open(request)
    check_name(fields.get("name"))
    dictionaries = await _read_dictionaries(service, fields)
    row = await create_glossary(service, caller, fields["name"], dictionaries)
    return Json(_row_v3(row), status_code=201)


async def _read_dictionaries(service: Service, fields: dict[str, Any]) -> list[Dictionary]:
    given = fields.get("dictionaries")
    if not isinstance(given, list) or not given or not all(isinstance(d, dict) for d in given):
        raise RequestError(400, "Missing or invalid argument: dictionaries")
    dictionaries = [await read_dictionary(service, each) for each in given]
    if len({each.pair for each in dictionaries}) != len(dictionaries):
        raise RequestError(400, "Invalid argument: dictionaries: a language pair occurs twice")
    return dictionaries


@router.get("/v3/glossaries", summary="List the glossaries")
async def list_v3(request: Request) -> Response:
    """List the glossaries."""
    service, caller, _ = await _open(request)
    rows = await run_in_threadpool(service.store.glossaries, caller.owner)
    return Json({"glossaries": list(map(_row_v3, rows))})


@router.get("/v3/glossaries/{glossary_id}", summary="Describe a glossary")
async def describe_v3(request: Request, glossary_id: str) -> Response:
    """Describe a glossary."""
    service, caller, _ = await _open(request)
    return Json(_row_v3(await find_glossary(service, caller, glossary_id)))


@router.patch("/v3/glossaries/{glossary_id}", summary="Change a glossary", openapi_extra=_FIELDS)
async def change_v3(request: Request, glossary_id: str) -> Response:
    """Change the name of a glossary, and add entries to its dictionaries."""
    service, caller, fields = await _open(request)
    row = await find_glossary(service, caller, glossary_id)
    if fields.get("name") is not None:
        check_name(fields["name"])
        row["name"] = fields["name"]
    if fields.get("dictionaries") is not None:
        for each in await _read_dictionaries(service, fields):
            entries = row["dictionaries"].get(each.pair, {}) | each.entries
            row["dictionaries"] = row["dictionaries"] | {each.pair: entries}
    await run_in_threadpool(service.store.change_glossary, row)
    return Json(_row_v3(row))


async def _pair(service: Service, fields: dict[str, Any], row: dict[str, Any]) -> Dictionary:
    """Return the dictionary of a glossary for the languages that a request names."""
    codes = []
    for name in ("source_lang", "target_lang"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise RequestError(400, f"Missing or invalid argument: {name}")
        codes.append((await service.language(fields[name])).code)
    for dictionary in dictionaries_of(row):
        if dictionary.pair == " ".join(codes):
            return dictionary
    raise RequestError(404, "Dictionary not found", code="unknown_glossary")


@router.get("/v3/glossaries/{glossary_id}/entries", summary="Read a dictionary")
async def entries_v3(request: Request, glossary_id: str) -> Response:
    """Return the entries of one dictionary of a glossary."""
    service, caller, fields = await _open(request)
    row = await find_glossary(service, caller, glossary_id)
    dictionary = await _pair(service, fields, row)
    shown = {
        "source_lang": _code(dictionary.source),
        "target_lang": _code(dictionary.target),
        "entries": dictionary.tsv,
        "entries_format": "tsv",
    }
    return Json({"dictionaries": [shown]})


@router.put(
    "/v3/glossaries/{glossary_id}/dictionaries",
    summary="Replace a dictionary",
    openapi_extra=_FIELDS,
)
async def replace_dictionary(request: Request, glossary_id: str) -> Response:
    """Replace a dictionary of a glossary, or add it."""
    service, caller, fields = await _open(request)
    row = await find_glossary(service, caller, glossary_id)
    dictionary = await read_dictionary(service, fields)
    row["dictionaries"] = row["dictionaries"] | {dictionary.pair: dictionary.entries}
    await run_in_threadpool(service.store.change_glossary, row)
    return Json(_dictionary_row(dictionary))


@router.delete(
    "/v3/glossaries/{glossary_id}/dictionaries", summary="Delete a dictionary", status_code=204
)
async def delete_dictionary(request: Request, glossary_id: str) -> Response:
    """Delete a dictionary of a glossary."""
    service, caller, fields = await _open(request)
    row = await find_glossary(service, caller, glossary_id)
    pair = (await _pair(service, fields, row)).pair
    row["dictionaries"] = {k: v for k, v in row["dictionaries"].items() if k != pair}
    await run_in_threadpool(service.store.change_glossary, row)
    return Response(status_code=204)
