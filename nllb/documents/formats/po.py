"""Gettext catalogues: empty translations are filled and marked as fuzzy."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nllb.documents.plurals import GettextPlural, gettext_plural
from nllb.documents.splicing import SplicedDocument, TextEdits, has_letters
from nllb.documents.text_file import TextFile, head_text, is_text, read_text
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment, Unit
from nllb.errors import DocumentError, LanguageError
from nllb.languages import Language, parse_language
from nllb.languages.tags import language_tag

_FIELD: Final = re.compile(r'[ \t]*(msgctxt|msgid_plural|msgid|msgstr(?:\[(\d+)\])?)[ \t]*(?=")')
_STRING: Final = re.compile(r'[ \t]*("(?:[^"\\\r\n]|\\[^\r\n])*")[ \t]*')
_ESCAPE: Final = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{2})|(.))")
_PLAIN: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CHARSET: Final = re.compile(rb"charset=([A-Za-z0-9_.:-]+)")
_HEAD: Final = re.compile(r'^(?:#.*\n|\s*\n)*(?:msgctxt|msgid)\s+"', re.MULTILINE)
_PLACEHOLDER: Final = re.compile(r"%[^%]|\{")


class PoFormat(DocumentFormat):
    """Gettext catalogues and their templates."""

    name = "po"
    suffixes = (".po", ".pot")
    keeps = (
        "Empty translations are filled and marked as fuzzy, with the plural forms of the target; "
        "Language and Plural-Forms are set; finished translations into the target, comments, "
        "contexts and all source texts are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is one by its name or its first entry."""
        if not is_text(head):
            return False
        return suffix in cls.suffixes or _HEAD.match(head_text(head)) is not None

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a catalogue."""
        match = _CHARSET.search(data[:8192])
        declared = match[1].decode("ascii") if match and match[1] != b"CHARSET" else None
        return PoDocument(read_text(data, options, declared=declared))


@dataclass(slots=True)
class _Entry:
    """An entry; spans extend from the first quote of a text to the last one."""

    start: int = -1
    """Start of its first keyword, after the comments."""
    texts: dict[str, str] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    flags: tuple[int, str] | None = None
    """Start and content of the line of flags."""
    comments: list[str] = field(default_factory=list)
    end: int = 0

    @property
    def is_header(self) -> bool:
        return self.texts.get("msgid") == "" and "msgctxt" not in self.texts

    @property
    def is_finished(self) -> bool:
        fuzzy = self.flags is not None and "fuzzy" in self.flags[1]
        translated = [text for name, text in self.texts.items() if name.startswith("msgstr")]
        return bool(translated) and all(translated) and not fuzzy


class PoDocument(SplicedDocument):
    """A parsed catalogue."""

    def __init__(self, file: TextFile):
        super().__init__(file)
        self.entries = _parse(file.text)
        self.header = next((entry for entry in self.entries if entry.is_header), None)
        self.language = self._declared_language()
        self._units: dict[int, Unit] = {}
        for number, entry in enumerate(self.entries):
            text = entry.texts.get("msgid", "")
            if entry.is_header or not has_letters([text]):
                continue
            note = "\n".join([*entry.comments, entry.texts.get("msgctxt", "")]).strip()
            self._units[number] = Unit(
                key=str(number), fragments=(text,), preserve_layout=True, note=note
            )

    def _declared_language(self) -> Language | None:
        header = "" if self.header is None else self.header.texts.get("msgstr", "")
        match = re.search(r"^Language:[ \t]*([\w@-]+)", header, re.MULTILINE)
        if match is None:
            return None
        try:
            return parse_language(match[1])
        except LanguageError:
            return None

    def _plural(self, target: Language) -> GettextPlural:
        """Return the plural forms of the target, from the file if it is in that language."""
        header = "" if self.header is None else self.header.texts.get("msgstr", "")
        match = re.search(r"^Plural-Forms:(.*)", header, re.MULTILINE)
        is_same = match is not None and self.language == target
        return gettext_plural(target, match[1] if match is not None and is_same else None)

    @property
    def units(self) -> Sequence[Unit]:
        """The source texts."""
        return list(self._units.values())

    def plan_units(self, target: Language) -> Sequence[Unit]:
        """Return the texts without a finished translation, one per plural form."""
        planned: list[Unit] = []
        for number, unit in self._units.items():
            entry = self.entries[number]
            if entry.is_finished and self.language in {None, target}:
                continue
            if "msgid_plural" in entry.texts:
                planned += self._plural_units(entry, unit, target)
            else:
                planned.append(unit)
        return planned

    def _plural_units(self, entry: _Entry, unit: Unit, target: Language) -> list[Unit]:
        plural = self._plural(target)
        singular_text, plural_text = entry.texts["msgid"], entry.texts["msgid_plural"]
        counts = [len(_PLACEHOLDER.findall(text)) for text in (singular_text, plural_text)]
        units: list[Unit] = []
        for form, category in enumerate(plural.categories):
            is_singular = plural.singular[form] or (category == "one" and counts[0] == counts[1])
            units.append(
                Unit(
                    key=f"{unit.key}[{form}]",
                    fragments=(singular_text if is_singular else plural_text,),
                    preserve_layout=True,
                    plural_category=category,
                    note=unit.note,
                )
            )
        return units

    def render(
        self,
        translations: Mapping[str, Sequence[Fragment]],
        *,
        source: Language | None,
        target: Language,
    ) -> bytes:
        """Return the catalogue with filled translations."""
        edits = TextEdits(self.file.text)
        for number in self._units:
            entry = self.entries[number]
            if "msgid_plural" in entry.texts:
                self._fill_plural(edits, number, entry, translations, target)
            elif (new := translations.get(str(number))) is not None and "msgstr" in entry.spans:
                edits.replace(*entry.spans["msgstr"], self._literal(_text(new)))
                self._mark_fuzzy(edits, entry)
        self._set_header(edits, target)
        text = edits.apply()
        try:
            text.encode(self.file.encoding)
        except UnicodeEncodeError:
            text = re.sub(r"charset=[\w.:-]+", "charset=UTF-8", text, count=1)
        return self.file.encode(text, self.warnings)

    def _fill_plural(
        self,
        edits: TextEdits,
        number: int,
        entry: _Entry,
        translations: Mapping[str, Sequence[Fragment]],
        target: Language,
    ) -> None:
        forms = range(len(self._plural(target).categories))
        new = [translations.get(f"{number}[{form}]") for form in forms]
        names = [name for name in entry.spans if name.startswith("msgstr")]
        if not names or any(form is None for form in new):
            return
        newline = self.file.newline
        lines = [
            f"msgstr[{form}] {self._literal(_text(text or ()))}"
            for form, text in zip(forms, new, strict=True)
        ]
        start = min(entry.spans[name][0] for name in names)
        start = self.file.text.rfind("msgstr", 0, start)
        edits.replace(start, max(entry.spans[name][1] for name in names), newline.join(lines))
        self._mark_fuzzy(edits, entry)

    def _mark_fuzzy(self, edits: TextEdits, entry: _Entry) -> None:
        if entry.flags is None:
            edits.replace(entry.start, entry.start, f"#, fuzzy{self.file.newline}")
        elif "fuzzy" not in entry.flags[1]:
            edits.replace(entry.flags[0] + 2, entry.flags[0] + 2, " fuzzy,")

    def _literal(self, text: str) -> str:
        """Return a text in quotes, with one line per line of the text."""
        lines = re.findall(r"[^\n]*\n|[^\n]+", text)
        if len(lines) < 2:
            return f'"{_escape(text)}"'
        return self.file.newline.join(['""', *(f'"{_escape(line)}"' for line in lines)])

    def _set_header(self, edits: TextEdits, target: Language) -> None:
        if self.header is None or "msgstr" not in self.header.spans:
            return
        start, end = self.header.spans["msgstr"]
        source = self.file.text[start:end]
        plural = any("msgid_plural" in entry.texts for entry in self.entries)
        values = {"Language": language_tag(target).replace("-", "_")}
        is_declared = "Plural-Forms:" in source
        if (plural or is_declared) and not (is_declared and self.language == target):
            values["Plural-Forms"] = gettext_plural(target).header
        changed = source
        for name, value in values.items():
            if name == "Language" and self.language == target:
                continue
            line = f"{name}: {value}\\n"
            known = re.compile(rf'{name}:(?:[^"\\]|\\[^n]|"\s*")*(?:\\n)?')
            if known.search(changed):
                changed = known.sub(line.replace("\\", "\\\\"), changed, count=1)
            else:
                changed += f'{self.file.newline}"{line}"'
        if changed != source:
            edits.replace(start, end, changed)


def _parse(text: str) -> list[_Entry]:
    entries: list[_Entry] = []
    entry = _Entry()
    current: str | None = None
    position = 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        body = line.rstrip("\r\n")
        comment = body.lstrip().startswith("#")
        if comment or not body.strip():
            if any(name.startswith("msgstr") for name in entry.spans):
                entries.append(entry)
                entry = _Entry()
            current = None
            if body.lstrip().startswith("#,"):
                entry.flags = (position + body.index("#,"), body)
            elif body.startswith(("#.", "# ")):
                entry.comments.append(body[2:].strip())
        else:
            match = _FIELD.match(body)
            at = 0
            if match is not None:
                name = match[1]
                if name in {"msgctxt", "msgid"} and any(
                    key.startswith("msgstr") for key in entry.spans
                ):
                    entries.append(entry)
                    entry = _Entry()
                if name in entry.spans:
                    raise DocumentError(f"line {number}: {name} is given twice in one entry")
                if entry.start < 0:
                    entry.start = position + len(body) - len(body.lstrip())
                current, at = name, match.end()
            string = _STRING.fullmatch(body, at)
            if string is None or current is None:
                raise DocumentError(
                    f"line {number} is not valid in a PO file: {body.strip()[:60]!r}"
                )
            start, end = position + string.start(1), position + string.end(1)
            entry.spans[current] = entry.spans.get(current, (start, end))[0], end
            entry.texts[current] = entry.texts.get(current, "") + _unescape(string[1][1:-1])
        position += len(line)
    if entry.spans:
        entries.append(entry)
    return entries


def _unescape(source: str) -> str:
    def character(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 8))
        return chr(int(match[2], 16)) if match[2] else _PLAIN.get(match[3], match[3])

    return _ESCAPE.sub(character, source)


def _escape(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return text.replace("\t", "\\t").replace("\r", "\\r")


def _text(fragments: Sequence[Fragment]) -> str:
    return "".join(part if isinstance(part, str) else part.data for part in fragments)
