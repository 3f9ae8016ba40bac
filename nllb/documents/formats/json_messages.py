"""JSON: message catalogues such as i18next, ICU messages, ARB and WebExtension, and other files."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nllb.documents.icu import icu_spans, is_icu_message
from nllb.documents.json_spans import JsonValue, parse_json
from nllb.documents.plurals import CATEGORIES, PluralSlot
from nllb.documents.prose import is_chosen, is_prose
from nllb.documents.splicing import SplicedDocument, TextEdits, UnitSpans, plain_writer
from nllb.documents.text_file import TextFile, head_text, is_text, read_text
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment, Unit
from nllb.languages import Language
from nllb.languages.tags import language_tag

_PLURAL_KEY: Final = re.compile(rf"(.+)_({'|'.join(CATEGORIES)})")
_ESCAPED: Final = re.compile(r"\\u(?!00[0-7])[0-9a-fA-F]{4}")


class JsonFormat(DocumentFormat):
    """JSON files."""

    name = "json"
    suffixes = (".json", ".arb", ".jsonl", ".ndjson")
    keeps = (
        "Strings that are text are translated, or those of chosen keys; i18next and ICU plurals "
        "get the categories of the target; keys, numbers, placeholders and layout are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is JSON, judging by its name or its beginning."""
        if suffix in cls.suffixes:
            return is_text(head)
        return not suffix and re.match(r'\s*[\[{]\s*["\[{]', head_text(head)) is not None

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a file."""
        return JsonDocument(read_text(data, options), options)


def json_writer(file_text: str) -> Callable[[str], str]:
    """Return a function that escapes strings as a file does: with or without `\\u1234`."""
    ascii_only = file_text.isascii() and _ESCAPED.search(file_text) is not None
    return lambda text: json.dumps(text, ensure_ascii=ascii_only)


@dataclass(frozen=True, slots=True)
class _Message:
    """A string whose leaves are separate units."""

    value: JsonValue
    spans: UnitSpans


class JsonDocument(SplicedDocument):
    """A parsed file."""

    def __init__(self, file: TextFile, options: FormatOptions):
        super().__init__(file)
        self.options = options
        self.values = parse_json(file.text)
        self.encode_string = json_writer(file.text)
        self.messages: list[_Message] = []
        self._keys: set[str] = set()
        select = self._selection()
        for number, root in enumerate(self.values):
            first = (str(number),) if len(self.values) > 1 else ()
            for path, value in root.strings():
                if select(path, value.text):
                    self._add("/".join((*first, *path)), path, value)
            self._add_plurals(root)

    def _selection(self) -> Callable[[tuple[str, ...], str], bool]:
        """Return a function that selects the strings to translate."""
        if patterns := self.options.keys:
            return lambda path, text: is_chosen(path or ("",), patterns)
        roots = [root for root in self.values if root.kind == "object"]
        members = [member for root in roots for member in root.members]
        if members and all(
            value.kind == "object" and value.get("message") is not None for _, value in members
        ):
            return lambda path, text: path[-1] == "message" and len(path) == 2
        if any(key == "@@locale" for key, _ in members):
            return lambda path, text: not any(key.startswith("@") for key in path)
        if _is_catalogue(self.values):
            return lambda path, text: is_prose(text)
        self.warnings.append(
            "the file is not a plain catalogue of messages: strings with more than one word are "
            "translated; choose others with --keys"
        )
        return lambda path, text: is_prose(text) and len(text.split()) > 1

    def _add(self, key: str, path: tuple[str, ...], value: JsonValue) -> None:
        while key in self._keys:
            key += "'"
        self._keys.add(key)
        if is_icu_message(value.text) and (spans := icu_spans(value.text, key)) is not None:
            if spans.units:
                self.messages.append(_Message(value, spans))
            return
        plural = _PLURAL_KEY.fullmatch(path[-1]) if path else None
        category = plural[2] if plural else None
        self.spans.add_text(
            value.start, value.end, value.text, self._write, key=key, plural_category=category
        )

    def _write(self, fragments: Sequence[Fragment]) -> str:
        return self.encode_string(plain_writer(str)(fragments))

    def _add_plurals(self, root: JsonValue) -> None:
        """Find the plurals of i18next: keys such as `file_one` and `file_other`."""
        by_start = {self.spans.spans[unit.key].start: unit for unit in self.spans.units}
        waiting = [root]
        while waiting:
            value = waiting.pop()
            waiting += [member for _, member in value.members] + value.items
            groups: dict[str, dict[str, JsonValue]] = {}
            for key, member in value.members:
                if (match := _PLURAL_KEY.fullmatch(key)) and member.kind == "string":
                    groups.setdefault(match[1], {})[match[2]] = member
            for stem, group in groups.items():
                other = group.get("other")
                if other is None or len(group) < 2:
                    continue  # a key that ends with `_other` by chance
                if (unit := by_start.get(other.start)) is not None:
                    self.spans.slots.append(self._slot(stem, group, other, unit))

    def _slot(
        self, stem: str, group: Mapping[str, JsonValue], other: JsonValue, unit: Unit
    ) -> PluralSlot:
        text = self.file.text
        key_start = text.rfind(json.dumps(f"{stem}_other", ensure_ascii=False), 0, other.start)
        before = text[:key_start] if key_start >= 0 else ""
        blank = before[len(before.rstrip()) :]
        colon = text[key_start : other.start].rpartition('"')[2] if key_start >= 0 else ": "

        def write(category: str, fragments: Sequence[Fragment]) -> str:
            key = self.encode_string(f"{stem}_{category}")
            return f",{blank}{key}{colon}{self._write(fragments)}"

        return PluralSlot(unit=unit, present=frozenset(group), position=other.end, write=write)

    @property
    def units(self) -> Sequence[Unit]:
        """The units of all strings."""
        return [*self.spans.units, *(u for each in self.messages for u in each.spans.units)]

    def plan_units(self, target: Language) -> Sequence[Unit]:
        """Return the units with the plural categories that the target adds."""
        inner = [unit for each in self.messages for unit in each.spans.plan(target)]
        return [*self.spans.plan(target), *inner]

    def render(
        self,
        translations: Mapping[str, Sequence[Fragment]],
        *,
        source: Language | None,
        target: Language,
    ) -> bytes:
        """Return the file with translated strings."""
        edits = TextEdits(self.file.text)
        self.spans.splice(edits, translations)
        for message in self.messages:
            inner = TextEdits(message.value.text)
            message.spans.splice(inner, translations)
            changed = inner.apply()
            if changed != message.value.text:
                edits.replace(message.value.start, message.value.end, self.encode_string(changed))
        for root in self.values:
            locale = root.get("@@locale")
            if locale is not None and locale.text != language_tag(target):
                edits.replace(locale.start, locale.end, json.dumps(language_tag(target)))
        return self.file.encode(edits.apply(), self.warnings)


def _is_catalogue(values: Sequence[JsonValue]) -> bool:
    """Return whether a file contains only strings in nested objects."""
    waiting = list(values)
    if any(value.kind != "object" for value in waiting):
        return False
    while waiting:
        value = waiting.pop()
        if value.kind in {"literal", "array"}:
            return False
        waiting += [member for _, member in value.members]
    return True
