"""The language and direction in the styles of an OpenDocument file."""

import re
from collections.abc import Callable
from typing import Final

from .xml_parts import Writing, with_attribute
from .xml_spans import escape_attribute, xml_encoding

_BODY: Final = "<office:body"
_TEXT_PROPERTIES: Final = re.compile(r"<style:text-properties\b[^<>]*>")
_DEFAULT_PARAGRAPH: Final = re.compile(
    r"(<style:default-style\b[^<>]*style:family=\"paragraph\"[^<>]*>\s*)"
    r"(<style:paragraph-properties\b[^<>]*>)"
)
_PAGE: Final = re.compile(r"<style:page-layout-properties\b[^<>]*>")
_MODE: Final = re.compile(r'(style:writing-mode=")(lr|rl)(-tb)?"')
_NO_LANGUAGE: Final = frozenset({"", "none", "zxx"})


def with_language(data: bytes, writing: Writing) -> bytes:
    """Return a part whose styles have the language and the direction of a translation.

    Styles come before the body, which can be very large and is not searched.
    """
    if xml_encoding(data) != "utf-8":
        return data
    head, body, rest = data.partition(_BODY.encode())
    if not body and b"<office:master-styles" in data:
        head, body, rest = data.partition(b"<office:master-styles")
    source = head.decode()
    source = _TEXT_PROPERTIES.sub(lambda match: _text_properties(match[0], writing), source)
    source = _MODE.sub(rf'\g<1>{"rl" if writing.is_rtl else "lr"}\g<3>"', source)
    if writing.is_rtl:
        set_mode: Callable[[str], str] = lambda tag: _set(tag, "style:writing-mode", "rl-tb")  # noqa: E731
        source = _DEFAULT_PARAGRAPH.sub(lambda match: match[1] + set_mode(match[2]), source)
        source = _PAGE.sub(lambda match: set_mode(match[0]), source)
    return source.encode() + body + rest


def _text_properties(tag: str, writing: Writing) -> str:
    if (_get(tag, "fo:language") or "") in _NO_LANGUAGE:
        return tag
    base, _, script = writing.tag.partition("-")
    kinds = [("fo:", "")]
    if writing.is_complex:
        kinds.append(("style:", "-complex"))
    if writing.is_east_asian:
        kinds.append(("style:", "-asian"))
    for prefix, ending in kinds:
        tag = _set(tag, f"{prefix}language{ending}", base)
        tag = _set(tag, f"{prefix}country{ending}", "none")
        tag = _remove(tag, f"style:rfc-language-tag{ending}")
        tag = _remove(tag, f"{prefix}script{ending}")
        if script:
            tag = _set(tag, f"{prefix}script{ending}", script)
    return tag


def _get(tag: str, name: str) -> str | None:
    found = re.search(rf'\s{re.escape(name)}\s*=\s*(?:"([^"]*)"|\'([^\']*)\')', tag)
    return None if found is None else found[1] or found[2] or ""


def _remove(tag: str, name: str) -> str:
    return re.sub(rf"\s{re.escape(name)}\s*=\s*(?:\"[^\"]*\"|'[^']*')", "", tag, count=1)


def _set(tag: str, name: str, value: str) -> str:
    attribute = f'{name}="{escape_attribute(value)}"'
    pattern = rf"(?<=\s){re.escape(name)}\s*=\s*(?:\"[^\"]*\"|'[^']*')"
    tag, count = re.subn(pattern, attribute, tag, count=1)
    return tag if count else with_attribute(tag, attribute)
