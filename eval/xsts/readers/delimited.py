"""CSV and TSV as spreadsheet programs and people write them."""

import csv
import io
from pathlib import Path

from eval.xsts.readers.raw_table import NumberedRow
from nllb.errors import DataError
from nllb.io.compression import DAMAGED, open_binary

MAX_TEXT_BYTES = 1 << 29
"""Largest text that is read, after decompression: ratings of a large study take a few megabytes."""
_SEPARATOR_HINT = "sep="


def read_limited(path: Path) -> bytes:
    """Return the bytes of a text file, decompressed by suffix.

    Raises:
        DataError: X01 where it is damaged or larger than `MAX_TEXT_BYTES`.
    """
    try:
        with open_binary(path) as stream:
            raw = stream.read(MAX_TEXT_BYTES + 1)
    except DAMAGED as error:
        raise DataError(f"X01 {path.name}: damaged or cut short: {error}") from None
    if len(raw) > MAX_TEXT_BYTES:
        raise DataError(
            f"X01 {path.name}: more than {MAX_TEXT_BYTES >> 20} MiB of text; "
            "split the file, or check that it is a file of ratings"
        )
    return raw


def decode(raw: bytes, name: str) -> str:
    """Return UTF-8 text without its byte order mark.

    Raises:
        DataError: X01 with the line where it is not UTF-8, or where files were joined.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        kind = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "not UTF-8"
        raise DataError(f"X01 {name}:{line}: {kind}; save as UTF-8") from None
    if "\ufeff" in text or "\0" in text:
        line = text.count("\n", 0, max(text.find("\ufeff"), text.find("\0"))) + 1
        raise DataError(
            f"X01 {name}:{line}: a byte order mark or NUL inside the file; "
            "files were joined or are UTF-16; save each as UTF-8 without BOM"
        )
    return text


def read_delimited(text: str, name: str, *, delimiter: str) -> list[NumberedRow]:
    """Return the rows of a delimited text with the line that each begins on.

    A first line `sep=;` names the separator, and semicolons are recognised in files named `.csv`:
    spreadsheet programs write them where the comma is the decimal sign.

    Raises:
        DataError: X01 with the line where the quotes are broken.
    """
    lines_before = 0
    first, _, rest = text.partition("\n")
    hint = first.strip().strip('"').casefold()
    if hint.startswith(_SEPARATOR_HINT) and len(hint) == len(_SEPARATOR_HINT) + 1:
        delimiter, text, lines_before = hint[-1], rest, 1
    elif hint == _SEPARATOR_HINT and first.rstrip("\r\n").endswith("\t"):
        delimiter, text, lines_before = "\t", rest, 1
    elif delimiter == ",":
        delimiter = _likely_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[NumberedRow] = []
    line = 1
    try:
        for cells in reader:
            rows.append((line + lines_before, list(cells)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"X01 {name}:{line + lines_before}: {error}; look at the quotes") from None
    return rows


def _likely_delimiter(text: str) -> str:
    """Return the separator of the first line that has one; a comma where there is none."""
    for line in text.split("\n", 20)[:20]:
        counts = {sign: line.count(sign) for sign in (",", ";", "\t")}
        if any(counts.values()):
            return "," if counts[","] else max(counts, key=lambda sign: counts[sign])
    return ","
