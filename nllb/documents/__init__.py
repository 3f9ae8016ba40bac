"""Translation of files in many formats, which keeps their markup and layout."""

from .document_translation import (
    DocumentReport,
    DocumentTranslation,
    TranslationSettings,
    UnitReport,
    translate_document,
    translate_document_file,
)
from .markup_fragments import MarkupTranslation, translate_html, translate_xml
from .registry import detect_format, document_formats
from .units import (
    CodeKind,
    Document,
    DocumentFormat,
    FormatOptions,
    Fragment,
    InlineCode,
    Unit,
)

__all__ = [
    "CodeKind",
    "Document",
    "DocumentFormat",
    "DocumentReport",
    "DocumentTranslation",
    "FormatOptions",
    "Fragment",
    "InlineCode",
    "MarkupTranslation",
    "TranslationSettings",
    "Unit",
    "UnitReport",
    "detect_format",
    "document_formats",
    "translate_document",
    "translate_document_file",
    "translate_html",
    "translate_xml",
]
