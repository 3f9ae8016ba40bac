"""String catalogues of Xcode: the target language is added next to the source language."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nllb.documents.json_spans import JsonValue, parse_json
from nllb.documents.plurals import CATEGORIES, plural_categories
from nllb.documents.splicing import SplicedDocument, TextEdits, has_letters, plain_writer
from nllb.documents.text_file import TextFile, head_text, is_text, read_text
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment, Unit
from nllb.errors import DocumentError
from nllb.languages import Language
from nllb.languages.tags import language_tag


class XcstringsFormat(DocumentFormat):
    """String catalogues."""

    name = "xcstrings"
    suffixes = (".xcstrings",)
    keeps = (
        "A translation into the target is added to each string that lacks one and is marked for "
        "review; all other languages, comments and states are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is one by its name or its first key."""
        if suffix in cls.suffixes:
            return is_text(head)
        return re.match(r'\s*\{\s*"sourceLanguage"\s*:', head_text(head)) is not None

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a file."""
        return XcstringsDocument(read_text(data, options))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A string: the units of its variants, and the place to add a language."""

    key: str
    variants: Mapping[str, Unit]
    """Units by plural category; "" is the only variant of a string without plurals."""
    value: JsonValue
    localizations: JsonValue | None


class XcstringsDocument(SplicedDocument):
    """A parsed catalogue."""

    def __init__(self, file: TextFile):
        super().__init__(file)
        root = parse_json(file.text)[0]
        strings, source = root.get("strings"), root.get("sourceLanguage")
        if strings is None or source is None or strings.kind != "object":
            raise DocumentError('a string catalogue requires "sourceLanguage" and "strings"')
        self.entries = [
            entry
            for key, value in strings.members
            if (entry := _entry(key, value, source.text)) is not None
        ]

    @property
    def units(self) -> Sequence[Unit]:
        """The texts of the source language."""
        return [unit for entry in self.entries for unit in entry.variants.values()]

    def plan_units(self, target: Language) -> Sequence[Unit]:
        """Return a unit for each plural category of the target, where a string lacks it."""
        return [
            unit
            for entry in self.entries
            if not _has_language(entry, target)
            for unit in _planned(entry, target).values()
        ]

    def render(
        self,
        translations: Mapping[str, Sequence[Fragment]],
        *,
        source: Language | None,
        target: Language,
    ) -> bytes:
        """Return the catalogue with the target language."""
        edits = TextEdits(self.file.text)
        for entry in self.entries:
            if _has_language(entry, target):
                continue
            texts = {
                category: plain_writer(str)(translations[unit.key])
                for category, unit in _planned(entry, target).items()
                if unit.key in translations
            }
            if texts:
                self._insert(edits, entry, language_tag(target), texts)
        return self.file.encode(edits.apply(), self.warnings)

    def _insert(self, edits: TextEdits, entry: _Entry, tag: str, texts: Mapping[str, str]) -> None:
        def unit(text: str) -> object:
            return {"stringUnit": {"state": "needs_review", "value": text}}

        if "" in texts:
            value: object = unit(texts[""])
        else:
            plural = {category: unit(text) for category, text in texts.items()}
            value = {"variations": {"plural": plural}}
        if entry.localizations is not None:
            place, value = entry.localizations, {tag: value}
        else:
            place, value = entry.value, {"localizations": {tag: value}}
        members = json.dumps(value, ensure_ascii=False, indent=2, separators=(",", " : "))
        members = re.sub("^  ", "", members[1:-1].strip("\n"), flags=re.MULTILINE)
        indent = self._indent(place.start)
        source = f"\n{members}".replace("\n", "\n" + indent)
        if place.members:
            end = place.members[-1][1].end
            edits.replace(end, end, "," + source.replace("\n", self.file.newline))
        else:
            source += "\n" + indent[:-2]
            edits.replace(place.start + 1, place.end - 1, source.replace("\n", self.file.newline))

    def _indent(self, position: int) -> str:
        """Return the indentation of the members of an object."""
        line = self.file.text[self.file.text.rfind("\n", 0, position) + 1 : position]
        return " " * (len(line) - len(line.lstrip()) + 2)


def _entry(key: str, value: JsonValue, language: str) -> _Entry | None:
    flag = value.get("shouldTranslate")
    if value.kind != "object" or (flag is not None and flag.text == "false"):
        return None
    localizations = value.get("localizations")
    comment = value.get("comment")
    note = comment.text if comment is not None else ""
    source = None if localizations is None else localizations.get(language)
    texts = {"": key} if source is None else _variants(source)
    variants = {
        category: Unit(
            key=f"{key}/{category}" if category else key,
            fragments=(text,),
            preserve_layout=True,
            plural_category=category or None,
            note=note,
        )
        for category, text in texts.items()
        if has_letters([text])
    }
    return _Entry(key, variants, value, localizations) if variants else None


def _variants(source: JsonValue) -> dict[str, str]:
    """Return the texts of a language by plural category."""
    variations = source.get("variations")
    plural = None if variations is None else variations.get("plural")
    found: dict[str, str] = {}
    for category, each in [("", source)] if plural is None else plural.members:
        unit = each.get("stringUnit")
        text = None if unit is None else unit.get("value")
        if text is not None and text.kind == "string" and category in {"", *CATEGORIES}:
            found[category] = text.text
    return found


def _planned(entry: _Entry, target: Language) -> dict[str, Unit]:
    other = entry.variants.get("other")
    if other is None:
        return dict(entry.variants)
    categories = plural_categories(target) or tuple(entry.variants)
    return {
        category: entry.variants.get(category)
        or replace(other, key=f"{entry.key}/{category}", plural_category=category)
        for category in categories
    }


def _has_language(entry: _Entry, target: Language) -> bool:
    tags = {language_tag(target), target.code.replace("_", "-")}
    return entry.localizations is not None and any(
        name in tags for name, _ in entry.localizations.members
    )
