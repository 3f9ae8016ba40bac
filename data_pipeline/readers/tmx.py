"""Translation memories (TMX 1.4), streamed: one unit in memory at a time."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from nllb.errors import DataError, LanguageError
from nllb.io.compression import DAMAGED, open_binary
from nllb.languages import parse_language

_LANGUAGE_ATTRIBUTES = ("{http://www.w3.org/XML/1998/namespace}lang", "lang")
# What these hold is the native code of some other format, not text.
_CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})


def read_tmx(path: Path, source: str, target: str) -> Iterator[tuple[str, str] | str]:
    """Yield both segments of every unit, or what the unit lacks.

    Languages are compared by what they resolve to, so that `en-GB` is `eng_Latn`.

    Raises:
        DataError: with file and line where the XML is damaged or cut short.
    """
    try:
        with open_binary(path) as stream:
            units = ElementTree.iterparse(stream, events=("start", "end"))
            root = None
            for event, element in units:
                if root is None:
                    root = element
                if event == "end" and _name(element) == "tu":
                    yield _segments(element, source, target)
                    element.clear()
                    # The root and the body would else keep a husk of every unit.
                    for parent in root:
                        if _name(parent) == "body":
                            parent.clear()
    except ElementTree.ParseError as error:
        raise DataError(f"{path}:{error.position[0]}: not TMX, or cut short: {error}") from None
    except DAMAGED as error:
        raise DataError(f"{path}: damaged or cut short: {error}; fetch the file again") from None


def _segments(unit: ElementTree.Element, source: str, target: str) -> tuple[str, str] | str:
    texts: dict[str, str] = {}
    for variant in unit:
        if _name(variant) != "tuv":
            continue
        tag = next((variant.get(name) for name in _LANGUAGE_ATTRIBUTES if variant.get(name)), "")
        segment = next((child for child in variant if _name(child) == "seg"), None)
        code = _code(tag or "")
        if code is not None and segment is not None and code not in texts:
            texts[code] = "".join(_text(segment))
    lacking = [code for code in (source, target) if code not in texts]
    if lacking:
        return f"no segment of {' or '.join(lacking)}; the unit has {', '.join(texts) or 'none'}"
    return texts[source], texts[target]


def _text(element: ElementTree.Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if _name(child) not in _CODES:
            yield from _text(child)
        yield child.tail or ""


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


@cache
def _code(tag: str) -> str | None:
    try:
        return parse_language(tag, choose_script=False).code
    except LanguageError:
        return None
