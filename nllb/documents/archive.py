"""Zip archives as documents, with limits that are checked before anything is unpacked.

Office files, OpenDocument files, EPUB and IDML are zip archives of XML files. A changed archive
keeps the order, names, dates and compression of its members, and unchanged members keep their
content.
"""

import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Final
from zipfile import BadZipFile, ZipFile, ZipInfo

from nllb.errors import DocumentError
from nllb.io.archives import check_archive, read_member

MAX_UNPACKED_BYTES: Final = 1 << 30
MAX_RATIO: Final = 300
"""Maximum ratio of unpacked to packed size; sizes below `MIN_BOMB_BYTES` may exceed it."""
MIN_BOMB_BYTES: Final = 64 << 20
OLE_MAGIC: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""The signature of Microsoft's older container format, which encrypted Office files also use."""

_ENCRYPTED: Final = 1
_ZIP64_EXTRA: Final = 1
_READ_ERRORS: Final = (
    BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
)


class Archive:
    """A zip archive in memory, all of whose members have been checked."""

    def __init__(self, data: bytes) -> None:
        """Open an archive.

        Raises:
            DocumentError: It is damaged, encrypted, too large, or unpacks to far more bytes.
        """
        self.data = data
        if data.startswith(OLE_MAGIC):
            raise DocumentError(
                "the file is encrypted or in an older binary format: open it with its password "
                "and save it without one in the current format"
            )
        try:
            self._zip = ZipFile(BytesIO(data))
        except _READ_ERRORS as error:
            raise DocumentError(f"the zip archive is damaged: {error}") from error
        self.members = check_archive(
            self._zip, Path("the file"), max_bytes=MAX_UNPACKED_BYTES, error=DocumentError
        )
        self._check_sizes()
        self._by_name = {member.filename: member for member in self.members}
        for member in self.members:
            self._read(member)

    def _check_sizes(self) -> None:
        total = sum(member.file_size for member in self.members)
        if total > MIN_BOMB_BYTES and total > MAX_RATIO * len(self.data):
            raise DocumentError(
                f"the file has {len(self.data):,} bytes and would unpack to {total:,}; the maximum "
                f"is {MAX_RATIO} times its size"
            )
        for member in self.members:
            if member.flag_bits & _ENCRYPTED:
                raise DocumentError(
                    f"the file is encrypted ({member.filename}): save it without a password"
                )

    def _read(self, member: ZipInfo) -> bytes:
        try:
            return read_member(self._zip, member, Path("the file"))
        except _READ_ERRORS as error:
            raise DocumentError(
                f"the zip archive is damaged: {member.filename} cannot be unpacked: {error}"
            ) from error

    @property
    def names(self) -> list[str]:
        """The names of the members in order."""
        return [member.filename for member in self.members]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def read(self, name: str) -> bytes:
        """Return the content of a member.

        Raises:
            DocumentError: The archive does not contain it.
        """
        member = self._by_name.get(name)
        if member is None:
            raise DocumentError(f"the file is damaged or of another kind: it lacks {name}")
        return self._read(member)

    def replace(self, contents: Mapping[str, bytes]) -> bytes:
        """Return the archive with new contents of some members."""
        changed = {
            name: content for name, content in contents.items() if content != self.read(name)
        }
        if not changed:
            return self.data
        buffer = BytesIO()
        with ZipFile(buffer, "w") as result:
            result.comment = self._zip.comment
            for member in self.members:
                content = changed.get(member.filename)
                result.writestr(_copied(member), self._read(member) if content is None else content)
        return buffer.getvalue()


def _copied(member: ZipInfo) -> ZipInfo:
    """Return a member's entry without its sizes and positions."""
    entry = ZipInfo(member.filename, member.date_time)
    entry.compress_type = member.compress_type
    entry.comment = member.comment
    entry.extra = _without_zip64(member.extra)
    entry.create_system = member.create_system
    entry.external_attr = member.external_attr
    entry.internal_attr = member.internal_attr
    return entry


def _without_zip64(extra: bytes) -> bytes:
    """Return extra fields without the sizes of a large archive, which are rewritten."""
    kept, position = b"", 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        field = extra[position : position + 4 + length]
        if len(field) < 4 + length:
            break  # damaged fields are dropped
        if kind != _ZIP64_EXTRA:
            kept += field
        position += 4 + length
    return kept
