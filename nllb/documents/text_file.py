"""Text files in any encoding, which is kept when they are written."""

import codecs
import re
from dataclasses import dataclass
from typing import Final

from nllb.errors import ConfigError, DocumentError

from .units import FormatOptions

MAX_TEXT_BYTES: Final = 256 << 20
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DETECTION_BYTES: Final = 1 << 20
_USUAL: Final = ("cp1252", "cp1251", "cp1250", "cp932", "gb18030", "big5", "cp949")
_MAX_COHERENCE_LOSS: Final = 0.1

_XML_ROOT: Final = re.compile(
    r"""(?:\s+
      | <\?.*?\?>                                          # a declaration, an instruction
      | <!--.*?-->
      | <!DOCTYPE[^\[>]*(?:\[[^\]]*\]\s*)?>
    )*+<([A-Za-z_][\w:.-]*)""",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class TextFile:
    """The text of a file with its encoding.

    Attributes:
        text: the text without its byte order mark.
        encoding: Python's name of the encoding.
        mark: the byte order mark, or nothing.
        detected: whether the encoding was guessed from the bytes.
    """

    text: str
    encoding: str
    mark: bytes = b""
    detected: bool = False

    def encode(self, text: str, warnings: list[str], *, references: bool = False) -> bytes:
        """Return changed text in the file's encoding, or in UTF-8 if that lacks a character.

        Args:
            text: the text.
            warnings: receives a warning about a changed encoding.
            references: whether the format can write a missing character as `&#1234;`.
        """
        try:
            return self.mark + text.encode(
                self.encoding, "xmlcharrefreplace" if references else "strict"
            )
        except UnicodeEncodeError as error:
            if self.encoding.startswith("utf"):
                text = text.encode("utf-8", "replace").decode()
                return self.mark + text.encode(self.encoding)
            character = error.object[error.start]
            warnings.append(
                f"the result is in UTF-8, because {self.encoding}, the encoding of the file, lacks "
                f"characters of the translation, such as {character!r}"
            )
            return text.encode("utf-8")

    @property
    def newline(self) -> str:
        """The line end that the file uses first; a line feed if it has none."""
        found = self.text.find("\n")
        if found < 0:
            return "\r" if "\r" in self.text else "\n"
        return "\r\n" if self.text[found - 1 : found] == "\r" else "\n"


def read_text(
    data: bytes,
    options: FormatOptions,
    *,
    declared: str | None = None,
    fallback: str | None = None,
    max_bytes: int = MAX_TEXT_BYTES,
) -> TextFile:
    """Decode a text file.

    Args:
        data: the file.
        options: options that may contain the encoding.
        declared: the encoding that the file itself declares.
        fallback: the encoding that the format uses if text is not UTF-8.
        max_bytes: maximum size of the file.

    Raises:
        DocumentError: The file is too large, binary, or in an encoding that cannot be recognized.
        ConfigError: The options contain an unknown encoding.
    """
    if len(data) > max_bytes:
        raise DocumentError(
            f"the file has {len(data):,} bytes; in this format at most {max_bytes:,} are read"
        )
    mark, marked = next(
        ((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", None)
    )
    body = data[len(mark) :]
    if options.encoding is not None:
        if _is_unknown(options.encoding):
            raise ConfigError(
                f"unknown encoding {options.encoding!r}; examples: utf-8, utf-16, cp1251, shift_jis"
            )
        return TextFile(_decode(body, options.encoding, "was given"), options.encoding, mark)
    if marked is not None:
        return TextFile(_decode(body, marked, "is marked by its first bytes"), marked, mark)
    if declared is not None and not _is_unknown(declared):
        return TextFile(_decode(body, declared, "is declared in the file"), declared)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return _detect(body, fallback)
    if "\0" in text[:4096]:
        return _detect(body, fallback)
    return TextFile(text, "utf-8")


def is_text(head: bytes) -> bool:
    """Return whether the beginning of a file looks like text in any encoding."""
    if any(head.startswith(mark) for mark, _ in _MARKS):
        return True
    controls = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head)
    if not controls:
        return True
    return _utf16_variant(head) is not None


def head_text(head: bytes) -> str:
    """Return the beginning of a text file in any encoding, with errors replaced."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return head[len(mark) :].decode(name, "replace")
    return head.decode(_utf16_variant(head) or "utf-8", "replace")


def xml_root_name(head: bytes) -> str | None:
    """Return the name of the root element of an XML file, without its prefix."""
    match = _XML_ROOT.match(head_text(head))
    return None if match is None else match[1].rpartition(":")[2]


def _decode(body: bytes, encoding: str, why: str) -> str:
    try:
        text = body.decode(encoding)
        same = text.encode(encoding) == body
    except (UnicodeError, LookupError) as error:
        raise DocumentError(
            f"the file is not in the encoding {encoding}, which {why}: {error}; choose another one "
            "with --encoding, or convert the file to UTF-8"
        ) from error
    if not same:
        raise DocumentError(
            f"the file cannot be kept byte for byte in the encoding {encoding}: convert it to UTF-8"
        )
    return text


def _is_unknown(encoding: str) -> bool:
    try:
        return not codecs.lookup(encoding)._is_text_encoding
    except (LookupError, ValueError):
        return True


def _utf16_variant(head: bytes) -> str | None:
    """Return the variant of UTF-16 of text without a byte order mark, by its null bytes."""
    half = len(head) // 2
    if half < 2:
        return None
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > 0.3 * half and even * 10 < half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.3 * half and odd * 10 < half else None


def _detect(body: bytes, fallback: str | None) -> TextFile:
    if variant := _utf16_variant(body[:4096]):
        return TextFile(_decode(body, variant, "was detected"), variant, detected=True)
    if fallback is not None:
        return TextFile(_decode(body, fallback, "its format prescribes"), fallback)
    encoding = _guess(body[:_DETECTION_BYTES]) if is_text(body[:4096]) else None
    if encoding is None:
        raise DocumentError(
            "the file is not text, or in an encoding that cannot be recognized: name the encoding "
            "with --encoding, or convert the file to UTF-8"
        )
    return TextFile(_decode(body, encoding, "was detected"), encoding, detected=True)


def _guess(sample: bytes) -> str | None:
    """Return the likeliest encoding of bytes; of several with equal text, the most common one."""
    from charset_normalizer import from_bytes

    matches = list(from_bytes(sample))
    if not matches:
        return None
    best = matches[0]
    if best.encoding.startswith("mac_"):  # Windows uses the same positions for most letters
        best = next(
            (
                match
                for match in matches
                if not match.encoding.startswith("mac_")
                and match.coherence >= best.coherence - _MAX_COHERENCE_LOSS
                and match.chaos <= best.chaos
            ),
            best,
        )
    same = [best.encoding, *best.could_be_from_charset]
    return next((encoding for encoding in _USUAL if encoding in same), best.encoding)
