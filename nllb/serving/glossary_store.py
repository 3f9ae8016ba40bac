"""Glossaries as in DeepL's API: named sets of dictionaries, one per language pair."""

import csv
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from nllb.languages import Language

from .access import Caller
from .client_languages import read_language, short_code
from .errors import RequestError
from .features import MAX_TERMS
from .service import Service

MAX_GLOSSARIES: Final = 1000
MAX_TERM_CHARACTERS: Final = 1024
MAX_NAME: Final = 1024
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that terms and names must not contain; PostgreSQL cannot store some of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dictionary:
    """Terms of one language pair.

    Attributes:
        source: Source language.
        target: Target language.
        entries: Source and target terms.
    """

    source: Language
    target: Language
    entries: dict[str, str]

    @property
    def pair(self) -> str:
        """The key of the dictionary in its glossary."""
        return f"{self.source.code} {self.target.code}"

    @property
    def tsv(self) -> str:
        """The entries as tab-separated lines."""
        return "\n".join(f"{source}\t{target}" for source, target in self.entries.items())


def parse_entries(text: str, entries_format: str) -> dict[str, str]:
    """Return the entries of a dictionary.

    Raises:
        RequestError: The text is not in this format, or an entry is empty or occurs twice.
    """
    if entries_format == "tsv":
        rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    elif entries_format == "csv":
        try:
            rows = [row for row in csv.reader(StringIO(text), strict=True) if row]
        except csv.Error as error:
            raise RequestError(400, f"Invalid glossary entries provided: {error}") from None
    else:
        raise RequestError(400, "Invalid value for 'entries_format', must be tsv or csv")
    entries: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        terms = [term.strip() for term in row[:2]]
        if len(terms) < 2 or not all(terms) or (entries_format == "tsv" and len(row) != 2):
            raise _bad_entry(number, "it needs a source term and a target term")
        if any(len(term) > MAX_TERM_CHARACTERS for term in terms):
            raise _bad_entry(number, f"a term has more than {MAX_TERM_CHARACTERS} characters")
        if any(_UNFIT.search(term) for term in terms):
            raise _bad_entry(number, "a term has control characters")
        if terms[0] in entries:
            raise _bad_entry(number, "its source term occurs twice")
        entries[terms[0]] = terms[1]
    if not entries:
        raise RequestError(400, "Invalid glossary entries provided: there is none")
    if len(entries) > MAX_TERMS:
        raise RequestError(400, f"Invalid glossary entries provided: more than {MAX_TERMS}")
    return entries


def _bad_entry(number: int, reason: str) -> RequestError:
    return RequestError(400, f"Invalid glossary entries provided: entry {number}: {reason}")


async def read_dictionary(service: Service, fields: dict[str, Any]) -> Dictionary:
    """Return a dictionary from the fields of a request.

    Raises:
        RequestError: A field is missing or invalid.
    """
    for name in ("source_lang", "target_lang", "entries", "entries_format"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise RequestError(400, f"Missing or invalid argument: {name}")
    known = await service.languages()
    source = read_language(fields["source_lang"], known)
    target = read_language(fields["target_lang"], known)
    if source == target:
        raise RequestError(400, "Unsupported glossary source and target language pair")
    entries = parse_entries(fields["entries"], fields["entries_format"])
    return Dictionary(source=source, target=target, entries=entries)


async def create_glossary(
    service: Service, caller: Caller, name: str, dictionaries: Sequence[Dictionary]
) -> dict[str, Any]:
    """Store a new glossary and return its row.

    Raises:
        RequestError: The name is missing or too long, or the caller has too many glossaries.
    """
    check_name(name)
    existing = await run_in_threadpool(service.store.glossaries, caller.owner)
    if len(existing) >= MAX_GLOSSARIES:
        raise RequestError(456, f"Quota exceeded: there are {MAX_GLOSSARIES} glossaries")
    row = {
        "id": str(uuid.uuid4()),
        "owner": caller.owner,
        "name": name,
        "created": datetime.now(UTC),
        "dictionaries": {each.pair: each.entries for each in dictionaries},
    }
    await run_in_threadpool(service.store.add_glossary, row)
    return row


def check_name(name: object) -> None:
    """Check the name of a glossary.

    Raises:
        RequestError: It is missing or too long.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or _UNFIT.search(name):
        raise RequestError(400, "Missing or invalid argument: name")


async def find_glossary(service: Service, caller: Caller, glossary_id: str) -> dict[str, Any]:
    """Return the row of a glossary of a caller.

    Raises:
        RequestError: The id is malformed (400), or the glossary does not exist (404).
    """
    try:
        glossary_id = str(uuid.UUID(glossary_id))
    except ValueError:
        raise RequestError(400, "Invalid or missing glossary id") from None
    row = await run_in_threadpool(service.store.glossary, caller.owner, glossary_id)
    if row is None:
        raise RequestError(404, "Glossary not found", code="unknown_glossary")
    return row


def dictionaries_of(row: dict[str, Any]) -> list[Dictionary]:
    """Return the dictionaries of a glossary."""
    from nllb.languages import parse_language

    found = []
    for pair, entries in row["dictionaries"].items():
        source, target = map(parse_language, pair.split(" "))
        found.append(Dictionary(source=source, target=target, entries=entries))
    return found


async def find_terms(
    service: Service,
    caller: Caller,
    glossary_ids: Sequence[str],
    source: Language | None,
    target: Language,
) -> tuple[tuple[str, str], ...]:
    """Return the terms of glossaries for a language pair.

    Raises:
        RequestError: A glossary is unknown, or lacks a dictionary for the pair.
    """
    if source is None:
        raise RequestError(400, "Value for 'source_lang' is required with a glossary")
    terms: dict[str, str] = {}
    for glossary_id in glossary_ids:
        row = await find_glossary(service, caller, glossary_id)
        entries = row["dictionaries"].get(f"{source.code} {target.code}")
        if entries is None:
            raise RequestError(
                400,
                f"the glossary {glossary_id} has no dictionary from {short_code(source)} to "
                f"{short_code(target)}",
            )
        terms = entries | terms
    return tuple(terms.items())
