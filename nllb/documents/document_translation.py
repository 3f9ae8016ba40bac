"""Translates whole documents with a translator."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from nllb.errors import ConfigError, DataError, DocumentError
from nllb.inference.generator import SearchOptions
from nllb.io.atomic import atomic_path
from nllb.languages import Language, parse_language
from nllb.translation.glossary import Glossary
from nllb.translation.quality import Flag
from nllb.translation.retry import RetryBudget
from nllb.translation.source_detection import DOCUMENT_CHARACTERS, SourceLanguage
from nllb.translation.translator import (
    ASSUMED_SOURCE,
    AUTO,
    Translator,
    require_two_languages,
)

from .journal import Journal, pack_fragments, unpack_fragments
from .registry import MAX_FILE_BYTES, detect_format, open_document
from .units import Document, DocumentFormat, FormatOptions, Fragment, Unit

if TYPE_CHECKING:
    from .unit_translation import UnitTranslation

DEFAULT_OPTIONS: Final = FormatOptions()


class TranslationSettings(TypedDict, total=False):
    """Options for translating the text of a document; each is optional.

    Attributes:
        glossary: terms with their translations.
        do_not_translate: terms that are not translated.
        search: search options.
        retry: whether flagged outputs are retried; the default is True.
        assumed_source: with the source `auto`, the language assumed for text that cannot be
            identified.
    """

    glossary: Glossary | None
    do_not_translate: Sequence[str]
    search: SearchOptions | None
    retry: bool | RetryBudget
    assumed_source: str | Language | None


ReportProgress = Callable[[int, int], object]
"""Receives the number of finished units and the number of all units."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitReport:
    """The result of one unit.

    Attributes:
        key: identifier of the unit in its file.
        source_text: its text without inline codes.
        text: its translation without inline codes.
        flags: the flags of its segments, and `markup` if the position of inline codes is uncertain.
        confidence: the lowest confidence of any segment.
    """

    key: str
    source_text: str
    text: str
    flags: tuple[Flag, ...]
    confidence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentReport:
    """Information about a translated document for the user.

    Attributes:
        format: name of the format.
        source: the source language; None if there is no text.
        target: the target language.
        units: the translated units in reading order.
        warnings: warnings about the file.
    """

    format: str
    source: Language | None
    target: Language
    units: tuple[UnitReport, ...]
    warnings: tuple[str, ...]

    @property
    def flagged(self) -> tuple[UnitReport, ...]:
        """The units that a person should check."""
        return tuple(unit for unit in self.units if unit.flags)


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentTranslation:
    """A translated document.

    Attributes:
        data: the content of the file.
        name: its name: that of the original with the target language before the suffix.
        report: the results of its units.
    """

    data: bytes
    name: str
    report: DocumentReport


def translate_document(
    data: bytes,
    name: str,
    translator: Translator,
    *,
    source: str | Language,
    target: str | Language,
    options: FormatOptions = DEFAULT_OPTIONS,
    progress: ReportProgress | None = None,
    journal: Journal | None = None,
    **settings: Unpack[TranslationSettings],
) -> DocumentTranslation:
    """Translate a document; everything except text is kept byte for byte.

    Args:
        data: the content of the file.
        name: its name, such as `report.docx`.
        translator: translates texts.
        source: the source language, or `auto`.
        target: the target language.
        options: options of formats.
        progress: called when a unit is finished.
        journal: finished units of an earlier run; units of this run are added to it.
        settings: the fields of `TranslationSettings`.

    Raises:
        DocumentError: The file is damaged, too large or in an unknown format.
        LanguageError: A language is unknown, or the model does not cover it.
        SegmentError: A segment has no output.
    """
    into = translator.language(target)
    found, document = open_document(data, name, options)
    rendered, report = translate_parsed(
        document,
        found.name,
        translator,
        source=source,
        target=into,
        placeholders=options.placeholders,
        progress=progress,
        journal=journal,
        **settings,
    )
    return DocumentTranslation(
        data=rendered, name=translated_name(name, into, found, options), report=report
    )


def translate_parsed(
    document: Document,
    format_name: str,
    translator: Translator,
    *,
    source: str | Language,
    target: Language,
    placeholders: Sequence[str] = (),
    progress: ReportProgress | None = None,
    journal: Journal | None = None,
    **settings: Unpack[TranslationSettings],
) -> tuple[bytes, DocumentReport]:
    """Translate a parsed document, and return the file and the report.

    Raises:
        LanguageError: A language is unknown, or the model does not cover it.
        SegmentError: A segment has no output.
    """
    units = document.plan_units(target)
    assumed = settings.get("assumed_source", ASSUMED_SOURCE)
    main = _main_language(translator, units, source, target, assumed)
    finished = _translate(
        translator,
        units,
        main,
        target,
        detected=source == AUTO,
        journal=journal,
        placeholders=placeholders,
        **settings,
    )
    translations: dict[str, Sequence[Fragment]] = {}
    reports: list[UnitReport] = []
    for unit, (fragments, report) in finished:
        translations[unit.key] = fragments
        reports.append(report)
        if progress is not None:
            progress(len(reports), len(units))
    rendered = document.render(translations, source=main.language, target=target)
    return rendered, DocumentReport(
        format=format_name,
        source=main.language,
        target=target,
        units=tuple(reports),
        warnings=tuple(document.warnings),
    )


def translated_name(
    name: str,
    target: Language,
    document_format: type[DocumentFormat],
    options: FormatOptions = DEFAULT_OPTIONS,
) -> str:
    """Return the name of a translated file: `report.docx` becomes `report.swh_Latn.docx`."""
    path = PurePath(name)
    suffix = path.suffix
    if document_format.writes:
        suffix = f".{options.output_format or document_format.writes[0]}"
    return f"{path.stem}.{target.code}{suffix}"


def translate_document_file(
    path: Path,
    translator: Translator,
    *,
    source: str | Language,
    target: str | Language,
    output: Path | None = None,
    options: FormatOptions = DEFAULT_OPTIONS,
    progress: ReportProgress | None = None,
    job: Mapping[str, Any] | None = None,
    **settings: Unpack[TranslationSettings],
) -> tuple[Path, DocumentReport]:
    """Translate a file and write the result atomically, next to it or to a directory.

    Finished units are stored in `RESULT.part`, so that the same call resumes after the program was
    killed.

    Args:
        path: the file; it is never changed.
        translator: translates texts.
        source: the source language, or `auto`.
        target: the target language.
        output: the file to write, or an existing directory; None writes next to the original.
        options: options of formats.
        progress: called when a unit is finished.
        job: further values that determine the result, such as the model.
        settings: the fields of `TranslationSettings`.

    Returns:
        The written file, and the report.

    Raises:
        DataError: The file cannot be read, or the result cannot be written.
        DocumentError: The file is damaged, too large or in an unknown format.
        LanguageError: A language is unknown, or the model does not cover it.
        SegmentError: A segment has no output.
    """
    data = read_document(path)
    into = parse_language(target) if isinstance(target, str) else target
    if output is not None and not output.is_dir():
        options = _options_of_output(data, path, output, options)
    found, _ = open_document(data, path.name, options)
    folder = path.parent if output is None else output
    if output is None or output.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        result = folder / translated_name(path.name, into, found, options)
    else:
        result = output
    if result.exists() and result.samefile(path):
        raise ConfigError(f"{path} would be replaced by its translation: choose another --output")
    described = {
        "file": hashlib.sha256(data).hexdigest(),
        "name": path.name,
        "source": str(source),
        "target": into.code,
        "options": asdict(options),
        "settings": {name: _described(value) for name, value in settings.items()},
        "job": job,
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()
    with Journal(result.with_name(result.name + ".part"), digest) as journal:
        translation = translate_document(
            data,
            path.name,
            translator,
            source=source,
            target=into,
            options=options,
            progress=progress,
            journal=journal,
            **settings,
        )
        with atomic_path(result) as temporary:
            temporary.write_bytes(translation.data)
    return result, translation.report


def _options_of_output(
    data: bytes, path: Path, output: Path, options: FormatOptions
) -> FormatOptions:
    """Return options with the format that the name of the output asks for, if there is a choice."""
    possible = detect_format(data, path.name).writes if data else ()
    named = output.suffix.lower().removeprefix(".")
    chosen = options.output_format or (possible[0] if possible else None)
    if not possible or (named == chosen):
        return options
    if options.output_format is None and named in possible:
        return replace(options, output_format=named)
    raise ConfigError(
        f"the result of {path} is written as {' or '.join(possible)}, not as "
        f"{output.suffix or 'a file without a suffix'}: name --output with .{chosen}"
    )


def _described(setting: object) -> str:
    """Return the part of a setting that determines the result, to check that a run can resume."""
    return "a budget" if isinstance(setting, RetryBudget) else repr(setting)


def read_document(path: Path) -> bytes:
    """Read a file after checking its size.

    Raises:
        DataError: The file cannot be read.
        DocumentError: The file is too large.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DocumentError(
                f"{path} has {size:,} bytes; documents of at most {MAX_FILE_BYTES:,} are read"
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _main_language(
    translator: Translator,
    units: Sequence[Unit],
    source: str | Language,
    target: Language,
    assumed_source: str | Language | None,
) -> SourceLanguage:
    """Return the main language of a document; a document without text has none."""
    if source != AUTO:
        language = translator.language(source)
        require_two_languages(language, target)
        return SourceLanguage(language=language)
    texts: list[str] = []
    size = 0
    for unit in units:
        texts.append(unit.text)
        size += len(unit.text)
        if size >= DOCUMENT_CHARACTERS:
            break
    return translator.detect_source("\n".join(texts), assumed_source=assumed_source)


Finished = tuple[tuple[Fragment, ...], UnitReport]


def _translate(
    translator: Translator,
    units: Sequence[Unit],
    main: SourceLanguage,
    target: Language,
    *,
    detected: bool,
    journal: Journal | None,
    placeholders: Sequence[str],
    **settings: Unpack[TranslationSettings],
) -> Iterator[tuple[Unit, Finished]]:
    """Yield all units with their translations, in order; equal units are translated once.

    If the source language was detected, units that are clearly in another language are translated
    from that language, and units in the target language are kept.
    """
    if main.language is None:
        for unit in units:
            yield unit, _unchanged(unit)
        return
    from .unit_translation import translate_units  # imports torch

    finished: dict[Any, Finished] = {}
    first: dict[Any, Unit] = {}
    for unit in units:
        content = _content(unit)
        if content in finished or content in first:
            continue
        record = None if journal is None else journal.records.get(unit.key)
        if record is not None and (kept := _from_record(record, unit)) is not None:
            finished[content] = kept
        else:
            first[content] = unit
    new = translate_units(
        translator,
        first.values(),
        source=AUTO if detected else main.language,
        target=target,
        document=main if detected else None,
        placeholders=placeholders,
        **settings,
    )
    waiting = zip(first.items(), new, strict=True)
    for unit in units:
        content = _content(unit)
        while content not in finished:
            (other, translated), result = next(waiting)
            finished[other] = result.fragments, _report(translated, result)
            if journal is not None:
                journal.add(translated.key, _record(result.fragments, finished[other][1]))
        fragments, report = finished[content]
        yield unit, (fragments, replace(report, key=unit.key))


def _content(unit: Unit) -> Any:
    """Return the content of a unit that determines its translation."""
    return unit.fragments, unit.preserve_layout, unit.plural_category, unit.max_columns, unit.note


def _unchanged(unit: Unit) -> Finished:
    report = UnitReport(
        key=unit.key, source_text=unit.text, text=unit.text, flags=(), confidence=1.0
    )
    return unit.fragments, report


def _report(unit: Unit, result: "UnitTranslation") -> UnitReport:
    confidences = (segment.trust.confidence for segment in result.segments)
    return UnitReport(
        key=unit.key,
        source_text=unit.text,
        text=shown_text(result.fragments),
        flags=result.flags,
        confidence=min(confidences, default=1.0),
    )


def shown_text(fragments: Iterable[Fragment]) -> str:
    """Return the text that a reader sees."""
    return "".join(part if isinstance(part, str) else part.text or "" for part in fragments)


def _record(fragments: Sequence[Fragment], report: UnitReport) -> dict[str, Any]:
    return {
        "fragments": pack_fragments(fragments),
        "flags": list(report.flags),
        "confidence": report.confidence,
    }


def _from_record(record: Mapping[str, Any], unit: Unit) -> Finished | None:
    fragments = unpack_fragments(record.get("fragments"), unit)
    flags, confidence = record.get("flags"), record.get("confidence")
    if fragments is None or not isinstance(flags, list) or not isinstance(confidence, float):
        return None
    report = UnitReport(
        key=unit.key,
        source_text=unit.text,
        text=shown_text(fragments),
        flags=tuple(flags),
        confidence=confidence,
    )
    return fragments, report
