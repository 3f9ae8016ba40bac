"""CSV and TSV as spreadsheet programs and people write them."""

import csv
import io
from pathlib import Path

from nllb.errors import DataError
from nllb.io.compression import DAMAGED, open_binary
from nllb.io.encoding import utf16_by_nulls

from .raw_table import NumberedRow

MAX_TEXT_BYTES = 1 << 29
"""Maximum size of a text after decompression; ratings of a large study have a few megabytes."""
_SEPARATOR_HINT = "sep="
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_HEAD_BYTES = 1 << 12
_GUESS_BYTES = 1 << 18
_LATIN = ("cp1252", "cp1250", "cp1254", "cp1257", "cp1258")
_JAPANESE = ("shift_jis", "euc_jp")
_MIN_KANA_SHARE = 0.2
"""Other text has hardly any Hiragana and full-width Katakana if it is read as Japanese."""
_OTHER_SCRIPTS = (
    *("cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874"),
    *("gb18030", "big5", "euc_kr"),
)


def read_limited(path: Path) -> bytes:
    """Return the bytes of a text file, decompressed by suffix.

    Raises:
        DataError: X01 if it is damaged or larger than `MAX_TEXT_BYTES`.
    """
    try:
        with open_binary(path) as stream:
            raw = stream.read(MAX_TEXT_BYTES + 1)
    except DAMAGED as error:
        raise DataError(f"X01 {path.name}: damaged or cut short: {error}") from None
    if len(raw) > MAX_TEXT_BYTES:
        raise DataError(
            f"X01 {path.name}: more than {MAX_TEXT_BYTES >> 20} MiB of text; split the file, or "
            f"check that it is a file of ratings"
        )
    return raw


def decode(raw: bytes, name: str) -> tuple[str, str]:
    """Return text without its byte order mark, and the encoding that was recognised.

    UTF-8, and UTF-16 and UTF-32 with a byte order mark or with the pattern of their NUL bytes, are
    certain. Other encodings are guessed: spreadsheet programs export the code page of the system.

    Raises:
        DataError: X01 if the encoding is unknown, or if files were joined.
    """
    encoding = _find_encoding(raw)
    try:
        text = raw.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        raise DataError(
            f"X01 {name}: the text is cut short or damaged, or its encoding is unknown; save it as "
            "UTF-8"
        ) from None
    if "\ufeff" in text or "\0" in text:
        line = text.count("\n", 0, max(text.find("\ufeff"), text.find("\0"))) + 1
        raise DataError(
            f"X01 {name}:{line}: a byte order mark or NUL inside the file; files were joined; save "
            f"each as UTF-8 without BOM"
        )
    return text, encoding


def _find_encoding(raw: bytes) -> str:
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return encoding
    variant = utf16_by_nulls(raw[:_HEAD_BYTES])
    if variant is not None:
        return variant
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return _guess_code_page(raw)
    return "utf-8"


def _guess_code_page(raw: bytes) -> str:
    """Return the likely encoding of text with 8 or 16 bits per character.

    Encodings of Latin letters differ in few characters and cannot be distinguished in short texts:
    the most common one is assumed.
    """
    for encoding in _JAPANESE:
        text = raw[:_GUESS_BYTES].decode(encoding, errors="replace")
        others = [sign for sign in text if not sign.isascii()]
        if sum("\u3040" <= sign <= "\u30ff" for sign in others) > _MIN_KANA_SHARE * len(others):
            return encoding
    try:
        from charset_normalizer import from_bytes
    except ImportError:  # it is in nllb[eval]
        return _LATIN[0]
    best = from_bytes(raw[:_GUESS_BYTES], cp_isolation=[*_OTHER_SCRIPTS, *_LATIN]).best()
    if best is not None and best.encoding in _OTHER_SCRIPTS:
        return best.encoding
    try:
        raw.decode(_LATIN[0])
    except UnicodeDecodeError:
        return "latin-1" if best is None else best.encoding
    return _LATIN[0]


def read_delimited(text: str, name: str, *, delimiter: str) -> list[NumberedRow]:
    """Return the rows of a delimited text with the line that each begins on.

    A first line `sep=;` names the separator, and semicolons are recognised in files named `.csv`:
    spreadsheet programs write them where the comma is the decimal sign.

    Raises:
        DataError: X01 with the line, if the quotes are broken.
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
        raise DataError(f"X01 {name}:{line + lines_before}: {error}; check the quotes") from None
    return rows


def _likely_delimiter(text: str) -> str:
    """Return the separator of the first line that has one; a comma where there is none."""
    for line in text.split("\n", 20)[:20]:
        counts = {sign: line.count(sign) for sign in (",", ";", "\t")}
        if any(counts.values()):
            return "," if counts[","] else max(counts, key=lambda sign: counts[sign])
    return ","
