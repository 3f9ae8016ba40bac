"""Translates files line by line or as documents, and counts the results."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

from nllb.inference.generator import SearchOptions
from nllb.io.text import ErrorPolicy, json_line
from nllb.languages import parse_language

from .code_blocks import mark_code_blocks
from .files import read_windows
from .glossary import Glossary
from .records import DocumentRecord, line_record
from .results import Translation
from .retry import RETRY_LIMIT, RetryBudget
from .source_detection import DOCUMENT_CHARACTERS, SourceLanguage
from .translator import ASSUMED_SOURCE, AUTO, Translator
from .windows import join_paragraphs

MAX_NAMED: Final = 5
"""Maximum number of line numbers in a summary."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileOptions:
    """Options for translating files.

    Attributes:
        source: source language, or `auto`.
        target: target language.
        assumed_source: with `auto`: the language assumed for text that the detector cannot
            identify.
        search: search options.
        retry: whether flagged outputs are retried.
        retry_limit: number of segments of a direction after which an unsuccessful retry strategy is
            stopped; 0 disables the limit.
        as_documents: whether each file is one text; otherwise each line is.
        wrapped: whether the lines of documents are wrapped at a fixed width.
        as_json: whether the output is JSON with trust records.
        with_alternatives: whether the JSON contains alternative outputs of each segment.
        errors: what to do with bytes that are not UTF-8.
        glossary: terms and their translations.
        do_not_translate: terms that are not translated.
        placeholders: regular expressions of text that is not translated.
    """

    source: str
    target: str
    assumed_source: str | None = ASSUMED_SOURCE
    search: SearchOptions = field(default_factory=SearchOptions)
    retry: bool = True
    retry_limit: int = RETRY_LIMIT
    as_documents: bool = False
    wrapped: bool = False
    as_json: bool = False
    with_alternatives: bool = False
    errors: ErrorPolicy = "strict"
    glossary: Glossary | None = None
    do_not_translate: tuple[str, ...] = ()
    placeholders: tuple[str, ...] | None = None


@dataclass(kw_only=True, slots=True)
class LineCount:
    """The number of lines with some property, and the numbers of the first ones.

    Attributes:
        count: number of lines.
        first: the numbers of the first lines.
    """

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, line: int, num_lines: int = 1) -> None:
        """Count lines, beginning with a line number."""
        self.count += num_lines
        room = MAX_NAMED - len(self.first)
        self.first += range(line, line + min(room, num_lines))

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.first) else ""
        return f"line {', '.join(map(str, self.first))}{more}"


@dataclass(kw_only=True, slots=True)
class FileCounts:
    """Counts of a run so far, in bounded memory.

    Attributes:
        num_lines: lines that were translated or kept.
        num_segments: segments that were translated or kept.
        num_flagged: segments with at least one flag.
        flags: number of segments by flag.
        flagged: first lines of the texts with flagged segments.
        assumed: lines with an assumed source language.
        kept: lines that were kept because they are already in the target language.
        lacking: lines in languages that the model does not cover, by detected language.
        sources: lines by detected source language.
    """

    num_lines: int = 0
    num_segments: int = 0
    num_flagged: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    flagged: LineCount = field(default_factory=LineCount)
    assumed: LineCount = field(default_factory=LineCount)
    kept: LineCount = field(default_factory=LineCount)
    lacking: dict[str, LineCount] = field(default_factory=dict)
    sources: Counter[str] = field(default_factory=Counter)

    def add(self, translation: Translation) -> int:
        """Count the translation of the next lines, and return the number of these lines."""
        first = self.num_lines + 1
        num_lines = max(1, translation.source_text.count("\n"))
        self.num_lines += num_lines
        self.num_segments += len(translation.segments)
        for segment in translation.segments:
            self.num_flagged += bool(segment.trust.flags)
            self.flags.update(segment.trust.flags)
        if translation.flags:
            self.flagged.add(first)
        for passage in translation.passages:
            line = first + passage.first_line - 1
            self.sources[passage.language.code] += passage.num_lines
            if passage.assumed:
                self.assumed.add(line, passage.num_lines)
            elif passage.kept:
                self.kept.add(line, passage.num_lines)
            elif passage.detected is not None:
                of_language = self.lacking.setdefault(passage.detected, LineCount())
                of_language.add(line, passage.num_lines)
        return num_lines


class FileTranslation:
    """Translates the files of one run.

    Attributes:
        counts: Counts of the run; they include the lines of an earlier, interrupted run.
        budget: Retry budget of the run.
    """

    def __init__(
        self,
        translator: Translator,
        options: FileOptions,
        *,
        write: Callable[[str], object],
        report: Callable[[str], None] = lambda message: None,
        advance: Callable[[int], object] = lambda num_lines: None,
        lines_done: int = 0,
    ):
        """Prepare a run.

        Args:
            translator: The translator; the source `auto` requires that it has a detector.
            options: Translation options.
            write: Writes output as soon as it is complete.
            report: Receives messages for the user.
            advance: Receives the number of lines that were translated.
            lines_done: Number of input lines to skip, because an earlier run wrote them.
        """
        self.translator, self.options = translator, options
        self.counts = FileCounts(num_lines=lines_done)
        self.budget = RetryBudget(options.retry_limit)
        self._write, self._report, self._advance = write, report, advance
        self._settings: dict[str, Any] = {
            "search": options.search,
            "retry": self.budget if options.retry else False,
            "wrapped": options.wrapped,
            "assumed_source": options.assumed_source,
            "glossary": options.glossary,
            "do_not_translate": options.do_not_translate,
            "placeholders": options.placeholders,
        }

    def run(self, paths: Sequence[Path | str]) -> None:
        """Translate all files, in order; `-` is standard input."""
        errors = self.options.errors
        if not self.options.as_documents:
            self._lines(read_windows(paths, errors=errors, skip=self.counts.num_lines))
            return
        for path in paths:
            self._document(str(path), read_windows([path], errors=errors))

    def _lines(self, windows: Iterator[list[str]]) -> None:
        options = self.options
        for translation in self.translator.translate_windows(
            windows, options.source, options.target, **self._settings
        ):
            line = self.counts.num_lines + 1
            self._advance(self.counts.add(translation))
            if options.as_json:
                record = line_record(line, translation, with_alternatives=options.with_alternatives)
                self._write(json_line(record) + "\n")
            else:
                self._write(translation.text.removesuffix("\n") + "\n")

    def _document(self, path: str, windows: Iterator[list[str]]) -> None:
        options = self.options
        main: SourceLanguage | None = None
        if options.source == AUTO:
            main, windows = self._detect(windows)
        windows = mark_code_blocks(windows)
        if options.wrapped:
            windows = join_paragraphs(windows)
        translations = self.translator.translate_windows(
            windows, options.source, options.target, document=main, **self._settings
        )
        if not options.as_json:
            for translation in translations:
                self._advance(self.counts.add(translation))
                self._write(translation.text)
            return
        with DocumentRecord(path, self.counts.num_lines + 1, options.with_alternatives) as record:
            for translation in translations:
                record.add(translation)
                self._advance(self.counts.add(translation))
            named = None if options.source == AUTO else parse_language(options.source)
            record.write(
                self._write,
                source=named if main is None else main.language,
                target=parse_language(options.target),
            )

    def _detect(self, windows: Iterator[list[str]]) -> tuple[SourceLanguage, Iterator[list[str]]]:
        """Return the main language of a document, and all of its windows."""
        read: list[list[str]] = []
        for window in windows:
            read.append(window)
            if sum(len(line) for lines in read for line in lines) >= DOCUMENT_CHARACTERS:
                break
        source = self.translator.detect_source(
            "".join(line for lines in read for line in lines),
            assumed_source=self.options.assumed_source,
        )
        if source.language is not None:
            name = f"{source.language.code} ({source.language.name})"
            how = f"probability {source.probability:.2f}"
            if source.assumed:
                how = "assumed, because the language could not be identified"
            self._report(f"source: {name}, {how}")
        return source, chain(read, windows)

    def summary(self) -> Iterator[str]:
        """Yield messages about the outputs that users should know."""
        counts = self.counts
        if len(counts.sources) > 1:
            shares = ", ".join(f"{lines(n)} {code}" for code, n in counts.sources.most_common())
            yield f"source languages: {shares}"
        if counts.kept.count:
            yield (
                f"{lines(counts.kept.count)} already in the target language, kept unchanged "
                f"({counts.kept})"
            )
        for code, found in counts.lacking.items():
            yield (
                f"{lines(found.count)} in {code}, which the model lacks, translated as the "
                f"likeliest language that it has ({found}): check the output"
            )
        if counts.assumed.count:
            yield (
                f"{lines(counts.assumed.count)} in a language that could not be identified "
                f"({counts.assumed}): {self.options.assumed_source} was assumed; name the language "
                "with --source, or choose another one to assume with --assume"
            )
        for source, target, strategy in self.budget.stopped:
            yield (
                f"the retry strategy {strategy} was stopped from {source} to {target}: it fixed "
                f"fewer than one in ten of {self.budget.limit} segments (--retry-limit 0: no limit)"
            )
        if counts.num_flagged:
            flags = ", ".join(f"{count} {flag}" for flag, count in counts.flags.most_common())
            yield (
                f"{counts.num_flagged:,} of {counts.num_segments:,} segments flagged: {flags} "
                f"({counts.flagged})"
            )


def lines(count: int) -> str:
    """Return a number of lines as text."""
    return "1 line" if count == 1 else f"{count:,} lines"
