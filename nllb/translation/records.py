"""Translations as JSON, with one object per line or per document; large objects are streamed."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Any, Final, Self

from nllb.languages import Language

from .results import Passage, PassageMerger, Segment, Translation

UNDETERMINED: Final = "und"
SPOOL_BYTES: Final = 1 << 20
"""Size of the parts of a document's object that are kept in memory instead of temporary files."""
_READ_CHARACTERS: Final = 1 << 16


def line_record(
    line: int, translation: Translation, *, with_alternatives: bool = False
) -> dict[str, Any]:
    """Return the object of one line; the text has no line end."""
    record: dict[str, Any] = {
        "line": line,
        "source_text": translation.source_text.removesuffix("\n"),
        "text": translation.text.removesuffix("\n"),
        "source": UNDETERMINED if translation.source is None else translation.source.code,
        "target": translation.target.code,
    }
    if translation.passages:
        record["source_assumed"] = translation.passages[0].assumed
    record["trust"] = [
        segment_record(segment, with_alternatives=with_alternatives)
        for segment in translation.segments
    ]
    record["flags"] = list(translation.flags)
    return record


def segment_record(segment: Segment, *, with_alternatives: bool = False) -> dict[str, Any]:
    """Return the object of one segment: its texts and all fields of its trust record."""
    record: dict[str, Any] = {"source_text": segment.source_text, "text": segment.text}
    record |= {name: getattr(segment.trust, name) for name in segment.trust.__slots__}
    if with_alternatives:
        record["alternatives"] = segment.alternatives
    return record


def passage_record(passage: Passage) -> dict[str, Any]:
    """Return the object of one passage."""
    record = {name: getattr(passage, name) for name in passage.__slots__}
    return record | {"language": passage.language.code}


class DocumentRecord:
    """The JSON object of one document, in bounded memory.

    Its long parts are collected in temporary files and joined at the end.
    """

    def __init__(self, file: str, first_line: int, with_alternatives: bool):
        """Begin the object of a file whose first line has this number."""
        self._head = {"file": file, "line": first_line}
        self._with_alternatives = with_alternatives
        self._parts = {name: _spool() for name in ("source_text", "text", "passages", "trust")}
        self._flags: dict[str, None] = {}
        self._merger = PassageMerger()
        self._num_lines = 0
        self._has_passages = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in self._parts.values():
            part.close()

    def add(self, translation: Translation) -> None:
        """Append the translation of the next lines."""
        self._parts["source_text"].write(json_text(translation.source_text))
        self._parts["text"].write(json_text(translation.text))
        for segment in translation.segments:
            record = segment_record(segment, with_alternatives=self._with_alternatives)
            self._parts["trust"].write(", " + _dump(record))
        self._flags |= dict.fromkeys(translation.flags)
        for passage in translation.passages:
            moved = replace(passage, first_line=passage.first_line + self._num_lines)
            self._write_passages(self._merger.add(moved))
        self._num_lines += max(1, translation.source_text.count("\n"))

    def _write_passages(self, passages: Iterable[Passage]) -> None:
        for passage in passages:
            self._has_passages = True
            self._parts["passages"].write(", " + _dump(passage_record(passage)))

    def write(
        self, write: Callable[[str], object], *, source: Language | None, target: Language
    ) -> None:
        """Write the object as one line."""
        self._write_passages(self._merger.finish())
        code = UNDETERMINED if source is None or not self._num_lines else source.code
        languages = f'"source": {_dump(code)}, "target": {_dump(target.code)}, '
        passages = self._list("passages")
        pieces: Iterable[str] = chain(
            [_dump(self._head)[:-1], ', "source_text": "'],
            self._read("source_text"),
            ['", "text": "'],
            self._read("text"),
            ['", ', languages],
            chain(['"passages": ['], passages, ["], "]) if self._has_passages else [],
            ['"trust": ['],
            self._list("trust"),
            [f'], "flags": {_dump(list(self._flags))}}}\n'],
        )
        for piece in pieces:
            write(piece)

    def _list(self, name: str) -> Iterable[str]:
        return self._read(name, skip=len(", "))

    def _read(self, name: str, *, skip: int = 0) -> Iterable[str]:
        part = self._parts[name]
        part.seek(0)
        part.read(skip)
        while piece := part.read(_READ_CHARACTERS):
            yield piece


def json_text(text: str) -> str:
    """Return a text as the inside of a JSON string."""
    return _dump(text)[1:-1]


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def _spool() -> "SpooledTemporaryFile[str]":
    return SpooledTemporaryFile(SPOOL_BYTES, "w+", encoding="utf-8", newline="")
