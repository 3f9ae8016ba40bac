"""Workbooks inside other Office files, such as the data of a chart."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nllb.errors import DocumentError

from .archive import MAX_UNPACKED_BYTES, Archive
from .formats.xlsx import XlsxDocument
from .office_package import OfficePackage
from .units import Fragment, Unit
from .xml_parts import Writing


def add_workbooks(package: OfficePackage) -> None:
    """Add the workbooks of a package, from which Office redraws charts when a user edits them."""
    left = MAX_UNPACKED_BYTES
    for name in package.named("spreadsheetml.sheet"):
        try:
            archive = Archive(package.archive.read(name))
            left -= sum(member.file_size for member in archive.members)
            if left < 0:
                raise DocumentError("the total size of the workbooks in the file is too large")
            part = EmbeddedWorkbook(name, archive)
        except DocumentError as error:
            package.warnings.append(f"{name} is kept unchanged: {error}")
        else:
            package.parts.append(part)


class EmbeddedWorkbook:
    """A workbook that is a member of another file.

    Attributes:
        name: name of the member.
        units: its units.
    """

    def __init__(self, name: str, archive: Archive) -> None:
        self.name = name
        self._workbook = XlsxDocument(archive)
        self.units: list[Unit] = [
            replace(unit, key=f"{name}#{unit.key}") for unit in self._workbook.units
        ]

    def edit(self, changed: Mapping[str, Sequence[Fragment]], writing: Writing) -> bytes | None:
        """Return the workbook with the changed units; None if nothing changed."""
        own = {
            inner.key: changed[unit.key]
            for unit, inner in zip(self.units, self._workbook.units, strict=True)
            if unit.key in changed
        }
        if not own:
            return None
        return self._workbook.render(own, source=None, target=writing.language)
