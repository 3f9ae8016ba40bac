"""Fluent files: patterns are translated; references, functions, terms and access keys are kept."""

from collections.abc import Sequence
from typing import Final

from fluent.syntax import FluentParser, ast

from nllb.documents.plurals import CATEGORIES, PluralSlot
from nllb.documents.splicing import InlinePiece, SplicedDocument
from nllb.documents.text_file import TextFile, is_text, read_text
from nllb.documents.units import CodeKind, Document, DocumentFormat, FormatOptions, Fragment, Unit

MAX_BYTES: Final = 32 << 20
_KEPT_ATTRIBUTES: Final = frozenset({"accesskey", "key", "commandkey", "keycode", "style"})


class FluentFormat(DocumentFormat):
    """Fluent files."""

    name = "ftl"
    suffixes = (".ftl",)
    keeps = (
        "Messages, attributes and variants are translated; plural variants of the target are "
        "added; terms, references, access keys and comments are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is one by its name."""
        return suffix in cls.suffixes and is_text(head)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a file."""
        return FluentDocument(read_text(data, options, max_bytes=MAX_BYTES))


class FluentDocument(SplicedDocument):
    """A parsed file."""

    def __init__(self, file: TextFile):
        super().__init__(file)
        self._seen: dict[str, int] = {}
        resource = FluentParser(with_spans=True).parse(file.text)
        junk = 0
        for entry in resource.body:
            if isinstance(entry, ast.Junk):
                junk += 1
            if not isinstance(entry, ast.Message):
                continue
            note = entry.comment.content or "" if entry.comment is not None else ""
            if entry.value is not None:
                self._pattern(entry.value, entry.id.name, note)
            for attribute in entry.attributes:
                if attribute.id.name not in _KEPT_ATTRIBUTES:
                    self._pattern(attribute.value, f"{entry.id.name}.{attribute.id.name}", note)
        if junk:
            self.warnings.append(f"{junk} entries are not valid Fluent and were kept")

    def _pattern(
        self, pattern: ast.Pattern, key: str, note: str, category: str | None = None
    ) -> Unit | None:
        """Add the units of a pattern, and return that of its own text."""
        pieces: list[InlinePiece] = []
        inside: list[str] = []
        for element in pattern.elements:
            assert element.span is not None
            start, end = element.span.start, element.span.end
            source = self.file.text[start:end]
            if isinstance(element, ast.TextElement):
                pieces.append(InlinePiece(start, end, source, element.value))
                continue
            literal = element.expression
            if isinstance(literal, ast.StringLiteral):
                pieces.append(InlinePiece(start, end, source, literal.parse()["value"]))
                continue
            pieces.append(InlinePiece(start, end, source, kind=CodeKind.STANDALONE))
            if isinstance(literal, ast.SelectExpression):
                inside += self._variants(literal, key, note)
        number = self._seen[key] = self._seen.get(key, 0) + 1
        return self.spans.add(
            pieces,
            _write,
            key=key if number == 1 else f"{key}#{number}",
            trim_codes=False,
            note=note,
            plural_category=category,
            inside=inside,
        )

    def _variants(self, select: ast.SelectExpression, key: str, note: str) -> list[str]:
        before = len(self.spans.units)
        names: set[str] = set()
        default: tuple[ast.Variant, Unit] | None = None
        for variant in select.variants:
            is_name = isinstance(variant.key, ast.Identifier)
            name = variant.key.name if isinstance(variant.key, ast.Identifier) else ""
            names.add(name)
            category = name if is_name and name in CATEGORIES else None
            unit = self._pattern(variant.value, f"{key}/{name or 'number'}", note, category)
            if variant.default and unit is not None:
                default = variant, unit
        if default is not None and "other" in names and names <= {*CATEGORIES, ""}:
            self._slot(default[0], default[1], names)
        return [unit.key for unit in self.spans.units[before:]]

    def _slot(self, variant: ast.Variant, unit: Unit, names: set[str]) -> None:
        assert variant.span is not None
        text, position = self.file.text, variant.span.start
        position = text.rfind("*", 0, position + 1) if text[position] != "*" else position
        line = text.rfind("\n", 0, position) + 1
        indent = text[line:position]

        def write(category: str, fragments: Sequence[Fragment]) -> str:
            return f"[{category}] {_write(fragments)}{self.file.newline}{indent}"

        if not indent.strip():
            self.spans.slots.append(
                PluralSlot(unit=unit, present=frozenset(names), position=position, write=write)
            )


def _write(fragments: Sequence[Fragment]) -> str:
    parts = []
    for number, part in enumerate(fragments):
        if not isinstance(part, str):
            parts.append(part.data)
            continue
        text = part
        for character in "{}":
            text = text.replace(character, "\0" + character)
        text = "".join(f'{{ "{piece[0]}" }}{piece[1:]}' if at else piece
                       for at, piece in enumerate(text.split("\0")))  # fmt: skip
        first, last = number == 0, number == len(fragments) - 1
        if first and text.startswith((" ", "[", "*", ".")):
            text = f'{{ "{text[0]}" }}{text[1:]}'
        if last and text.endswith(" "):
            text = f'{text[:-1]}{{ " " }}'
        parts.append(text)
    return "".join(parts)
