"""Inputs that are not plain text: refused before they are destroyed line by line."""

from pathlib import Path
from typing import Final

from nllb.errors import DataError
from nllb.io.compression import COMPRESSIONS

TEXT_FORMATS: Final = {
    **dict.fromkeys((".srt", ".vtt", ".ass", ".ssa", ".sbv", ".ttml"), "subtitles"),
    **dict.fromkeys((".po", ".pot", ".xliff", ".xlf", ".strings"), "a translation catalogue"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson", ".ipynb"), "JSON"),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".xml", ".tmx", ".svg"), "markup"),
}
"""Formats of text with codes that a line-by-line translation would destroy, by suffix."""
BINARY_FORMATS: Final = {
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".epub", ".pages"), "a word processor file"),
    **dict.fromkeys((".pptx", ".ppt", ".odp", ".xlsx", ".xls", ".ods"), "an office file"),
    ".pdf": "PDF",
    **dict.fromkeys((".zip", ".tar", ".7z", ".rar"), "an archive"),
}
"""Formats that are not text, by suffix."""
SIGNATURES: Final = {
    b"PK\x03\x04": "a zip archive, such as a .docx file",
    b"%PDF-": "PDF",
    b"{\\rtf": "RTF",
    b"\xd0\xcf\x11\xe0": "an old office file, such as .doc",
    b"BZh": "a bzip2 archive",
}
"""Formats that are recognized by their first bytes, wherever they come from."""
MIN_CONTROL_SHARE: Final = 0.4
"""Text in UTF-16 has at least this share of control characters among its even or its odd bytes."""
MAX_OTHER_CONTROL_SHARE: Final = 0.15
"""... and at most this share among the others."""
_CONTROLS: Final = bytes(set(range(0x20)) - set(b"\n\r"))
_SAMPLE_BYTES: Final = 4096


def require_plain_text(path: Path | str) -> None:
    """Check by its name that a file contains plain text.

    Raises:
        DataError: Its suffix names another format.
    """
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix == ".bz2":
        raise DataError(
            f"{path} is compressed with bzip2, which is not read: decompress it, or use .gz, .xz "
            "or .zst"
        )
    if suffix in BINARY_FORMATS:
        raise DataError(
            f"{path} is {BINARY_FORMATS[suffix]} ({suffix}), not plain text: extract its text to a "
            ".txt file first"
        )
    if suffix in TEXT_FORMATS:
        raise DataError(
            f"{path} is {TEXT_FORMATS[suffix]} ({suffix}), not plain text: its codes would be "
            "translated, too, and destroyed. Extract its text to a .txt file first; to translate "
            "every line all the same, send the file to standard input"
        )


def require_text_bytes(beginning: bytes, name: str) -> None:
    """Check by its first bytes that an input is text in UTF-8 or in a like encoding.

    Raises:
        DataError: It is in UTF-16, or in a binary format.
    """
    for signature, what in SIGNATURES.items():
        if beginning.startswith(signature):
            raise DataError(f"{name} is {what}, not plain text: extract its text first")
    sample = beginning[:_SAMPLE_BYTES]
    encoding = None
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "UTF-16"
    elif len(sample) >= 4:
        # High bytes are NUL in Latin text, 0x04 in Cyrillic, 0x06 in Arabic, and so on.
        even, odd = (_control_share(sample[start::2]) for start in (0, 1))
        if max(even, odd) >= MIN_CONTROL_SHARE and min(even, odd) <= MAX_OTHER_CONTROL_SHARE:
            encoding = "UTF-16BE" if even > odd else "UTF-16LE"
    if encoding is not None:
        raise DataError(
            f"{name} is in {encoding}, not in UTF-8: convert it first, for example with "
            f"'iconv -f {encoding} -t UTF-8'"
        )


def _control_share(sample: bytes) -> float:
    rest = sample.translate(None, _CONTROLS)
    only_tabs = len(rest) + sample.count(b"\t") == len(sample)
    return 0.0 if only_tabs else 1 - len(rest) / len(sample)
