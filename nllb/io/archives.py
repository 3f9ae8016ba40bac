"""Zip archives of unknown origin: their sizes are checked before anything is unpacked."""

from collections import Counter
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

from nllb.errors import DataError, NllbError

MAX_MEMBERS = 100_000
"""Maximum number of members of an archive."""


def check_archive(
    archive: ZipFile,
    path: Path,
    *,
    max_bytes: int | None = None,
    error: type[NllbError] = DataError,
) -> list[ZipInfo]:
    """Return the members of an archive after checking its directory and its unpacked size.

    Args:
        archive: the opened archive.
        path: its file.
        max_bytes: maximum total size of the unpacked members; None allows only uncompressed members
            that are not larger than the file.
        error: type of the error.

    Raises:
        NllbError: of the type `error`, if there are too many members, they are too large, or two of
            them have the same name, which programs would resolve differently.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise error(f"{path} has {len(members):,} members; at most {MAX_MEMBERS:,} are read")
    names = Counter(member.filename.casefold() for member in members)
    if twice := [name for name, count in names.items() if count > 1]:
        raise error(f"{path} is damaged or forged: two of its members are named {twice[0][:80]!r}")
    num_bytes = sum(member.file_size for member in members)
    limit = path.stat().st_size if max_bytes is None else max_bytes
    if num_bytes > limit:
        raise error(
            f"{path} would take {num_bytes:,} bytes when it is unpacked, and "
            + (
                f"the file has {limit:,}; files of its kind are not compressed"
                if max_bytes is None
                else f"{limit:,} are the limit"
            )
        )
    return members


def read_member(
    archive: ZipFile, member: ZipInfo, path: Path, *, password: bytes | None = None
) -> bytes:
    """Return the content of a member, which must have the size in its directory entry.

    Raises:
        BadZipFile: the member has a different size.
    """
    with archive.open(member, pwd=password) as stream:
        data = stream.read(member.file_size + 1)
    if len(data) != member.file_size:
        raise BadZipFile(f"{member.filename!r} of {path.name} does not have the size in its entry")
    return data
