"""Recognizes inputs that are not plain text, which translating line by line would destroy."""

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
"""Text formats with markup that a line-by-line translation would destroy, by suffix."""
BINARY_FORMATS: Final = {
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".epub", ".pages"), "a word processor file"),
    **dict.fromkeys((".pptx", ".ppt", ".odp", ".xlsx", ".xls", ".ods"), "an office file"),
    ".pdf": "PDF",
    **dict.fromkeys((".zip", ".tar", ".7z", ".rar"), "an archive"),
}
"""Binary formats, by suffix."""
SIGNATURES: Final = {
    b"PK\x03\x04": "a zip archive, such as a .docx file",
    b"%PDF-": "PDF",
    b"{\\rtf": "RTF",
    b"\xd0\xcf\x11\xe0": "an old office file, such as .doc",
    b"BZh": "a bzip2 archive",
}
"""Binary formats, by the first bytes of the file."""
MIN_CONTROL_SHARE: Final = 0.4
"""Minimum share of control characters among the even or the odd bytes of UTF-16 text."""
MAX_OTHER_CONTROL_SHARE: Final = 0.15
"""Maximum share of control characters among the other bytes of UTF-16 text."""
_CONTROLS: Final = bytes(set(range(0x20)) - set(b"\n\r"))
_SAMPLE_BYTES: Final = 4096


def require_plain_text(path: Path | str) -> None:
    """Check by the suffix of its name that a file contains plain text.

    Raises:
        DataError: The suffix is that of another format.
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
            f"{path} is {TEXT_FORMATS[suffix]} ({suffix}), not plain text: its markup would be "
            "translated as well, and destroyed. Extract its text to a .txt file first, or send the "
            "file to standard input to translate every line anyway"
        )


def require_text_bytes(beginning: bytes, name: str) -> None:
    """Check by the first bytes of an input that it is UTF-8 or similar text.

    Raises:
        DataError: The input is UTF-16 or in a binary format.
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
