"""Recognises files that are not UTF-8 text and names their format."""

from nllb.errors import DataError

_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_MAGIC = {
    b"\x1f\x8b": ("gzip", ".gz"),
    b"\x28\xb5\x2f\xfd": ("zstd", ".zst"),
    b"\xfd7zXZ\x00": ("xz", ".xz"),
    b"BZh": ("bzip2", ""),
    b"PK\x03\x04": ("zip", ""),
    b"%PDF-": ("PDF", ""),
}
_HEAD_BYTES = 4096
_MIN_HEAD_BYTES = 8
_MIN_NULL_SHARE = 0.3


def check_encoding(head: bytes, name: object) -> None:
    """Reject a file whose first bytes are UTF-16, UTF-32 or not text.

    Args:
        head: the beginning of the file; the first 4 KiB are examined.
        name: the file, and the line if known, as the error shows it.

    Raises:
        DataError: with the encoding or the kind of file, and with advice.
    """
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            raise DataError(_convert(name, encoding))
    for magic, (kind, suffix) in _MAGIC.items():
        if head.startswith(magic) and _is_binary(head):
            advice = f"give it the suffix {suffix}" if suffix else "extract the text first"
            raise DataError(f"{name}: this is a {kind} file, not text; {advice}")
    if (variant := utf16_by_nulls(head[:_HEAD_BYTES])) is not None:
        raise DataError(_convert(name, variant))


def _convert(name: object, encoding: str) -> str:
    return f"{name}: the file is {encoding}; convert it to UTF-8: iconv -f {encoding} -t UTF-8"


def _is_binary(head: bytes) -> bool:
    try:
        head[:_HEAD_BYTES].decode("utf-8")
    except UnicodeDecodeError as error:  # a character that the limit cuts is not an error
        return error.start < min(len(head), _HEAD_BYTES) - 4
    return b"\x00" in head or head.startswith((b"PK\x03\x04", b"%PDF-"))


def utf16_by_nulls(head: bytes) -> str | None:
    """Return the variant of UTF-16 that text without a byte order mark has, by its null bytes."""
    if len(head) < _MIN_HEAD_BYTES:
        return None
    for name, start in (("UTF-16LE", 1), ("UTF-16BE", 0)):
        zeros, others = head[start::2], head[1 - start :: 2]
        if zeros.count(0) > _MIN_NULL_SHARE * len(zeros) and others.count(0) * 10 < len(others):
            return name
    return None
