"""The files of word lists: `CODE_twl.zip` archives, and texts with one entry per line."""

import lzma
import zipfile
import zlib
from pathlib import Path

from nllb.errors import DataError

from .archives import check_archive, read_member
from .text import read_bytes

PUBLISHED_PASSWORD = "tL4nLLb"
"""The password of the published Toxicity-200 archives. It is public."""
MAX_LIST_BYTES = 16 << 20
"""Maximum size of a list after decompression; those of Toxicity-200 have a few kB."""


def find_list(directory: Path, language: str) -> Path | None:
    """Return the path of a language's list in a folder, or None."""
    for name in (
        f"{language}_twl.zip",
        f"{language}_twl.txt",
        f"{language}.zip",
        f"{language}.txt",
    ):
        if (directory / name).is_file():
            return directory / name
    return None


def read_list(path: Path, *, password: str = PUBLISHED_PASSWORD) -> str:
    """Return the text of a list, which may be in an archive with a password.

    Raises:
        DataError: the list is missing, damaged or not UTF-8, or the password is wrong.
    """
    return _decoded(_read(path, password=password), path=path)


def _read(path: Path, *, password: str) -> bytes:
    if not path.is_file():
        raise DataError(
            f"the word list {path} is missing; give a {{code}}_twl.zip, a text file or a folder of "
            "these"
        )
    if path.suffix != ".zip":
        return read_bytes(path, max_bytes=MAX_LIST_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            members = check_archive(archive, path, max_bytes=MAX_LIST_BYTES)
            lists = [member for member in members if member.filename.endswith(".txt")]
            if len(lists) != 1:
                raise DataError(
                    f"{path} contains {len(lists)} text files; the archive of a list contains one"
                )
            return read_member(archive, lists[0], path, password=password.encode())
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a usable zip archive: {error}; download it again") from None
    except (RuntimeError, ValueError) as error:
        # zipfile raises these for a wrong password and for unknown encryptions and compressions.
        raise DataError(
            f"{path} cannot be opened: {error}; give its password (that of published lists is "
            f"{PUBLISHED_PASSWORD!r}), or extract it and give the text file"
        ) from None


def _decoded(data: bytes, *, path: Path) -> str:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line} is not UTF-8 (byte {data[error.start]:#04x}); the password may be "
            f"wrong; otherwise convert the list to UTF-8"
        ) from None
