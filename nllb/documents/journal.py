"""The journal of a translation: finished units, so that a killed run resumes where it stopped."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nllb.errors import DataError

from .units import Fragment, InlineCode, Unit


class Journal:
    """Finished units of one job in a file next to the output, which is removed at the end.

    A journal that is damaged or belongs to another job is replaced.
    """

    def __init__(self, path: Path, job: str):
        """Prepare a journal.

        Args:
            path: the file of the journal.
            job: identifier of the file, the model and the options.
        """
        self.path, self.job = path, job
        self.records: dict[str, dict[str, Any]] = {}
        self._open = False

    def __enter__(self) -> Self:
        self.records = self._read()
        try:
            self._stream = self.path.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}") from error
        self._write({"job": self.job})
        for key, record in self.records.items():
            self._write({"key": key, **record})
        self._stream.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        if kind is None or not self.records:
            self.path.unlink(missing_ok=True)

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Write a finished unit to the disk."""
        self.records[key] = dict(record)
        self._write({"key": key, **record})
        self._stream.flush()

    def _write(self, record: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _read(self) -> dict[str, dict[str, Any]]:
        records: dict[str, dict[str, Any]] = {}
        try:
            with self.path.open(encoding="utf-8", errors="replace", newline="\n") as stream:
                if json.loads(stream.readline()) != {"job": self.job}:
                    return {}
                for line in stream:
                    record = json.loads(line)
                    records[record.pop("key")] = record
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # the last line is incomplete because the program was killed
        return records


def pack_fragments(fragments: Iterable[Fragment]) -> list[str | list[str | int]]:
    """Return fragments as JSON: texts, and codes by number and kind."""
    return [part if isinstance(part, str) else [part.number, part.kind] for part in fragments]


def unpack_fragments(packed: Any, unit: Unit) -> tuple[Fragment, ...] | None:
    """Return the fragments of a record; None if they do not belong to the unit."""
    codes: dict[tuple[int, str], InlineCode] = {
        (part.number, part.kind.value): part
        for part in unit.fragments
        if isinstance(part, InlineCode)
    }
    if not isinstance(packed, list):
        return None
    fragments: list[Fragment] = []
    for part in packed:
        if isinstance(part, str):
            fragments.append(part)
        elif isinstance(part, Sequence) and len(part) == 2 and tuple(part) in codes:
            fragments.append(codes.pop((part[0], part[1])))
        else:
            return None
    return None if codes else tuple(fragments)
