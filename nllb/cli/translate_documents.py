"""`nllb translate report.docx ...`: translate each document to a new file."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nllb.errors import ConfigError, DataError
from nllb.io.compression import COMPRESSIONS
from nllb.io.progress import Progress
from nllb.io.text import json_line

from .glossary_flags import glossary_options
from .process_ends import exit_code

if TYPE_CHECKING:
    from nllb.documents import DocumentReport, FormatOptions
    from nllb.inference.generator import SearchOptions
    from nllb.translation.translator import Translator

EXIT_FLAGGED = 1
_TEXT_SUFFIXES = frozenset({"", ".txt", ".text"})


class OutputAction(argparse.Action):
    """Stores a path, and whether a slash at its end marks it as a directory."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the path."""
        namespace.output = Path(str(values))
        namespace.output_is_folder = str(values).endswith(("/", os.sep))


def document_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(output_is_folder=False)
    group = parser.add_argument_group(
        "documents", "files that are not plain text; 'nllb documents formats' lists the formats"
    )
    group.add_argument(
        "--columns",
        metavar="A,B",
        help="columns of a CSV or TSV file to translate, by name or number from 1",
    )
    group.add_argument(
        "--keys",
        metavar="A,B",
        help="keys of a JSON, YAML or properties file to translate, as patterns: 'menu.*,title'",
    )
    group.add_argument(
        "--encoding", metavar="E", help="encoding of text documents; default: detect it"
    )
    group.add_argument(
        "--output-format",
        choices=("docx", "md"),
        help="what becomes of PDF files: Word (the default) or Markdown; a name of --output that "
        "ends in .md chooses Markdown, too",
    )


def are_documents(paths: Sequence[str], arguments: argparse.Namespace) -> bool:
    """Return whether the inputs are documents, each of which is translated to a new file.

    Plain text counts as a document if the output is a directory.

    Raises:
        ConfigError: documents are mixed with other inputs.
    """
    to_folder = arguments.output is not None and _is_folder(arguments)
    others: list[str] = []
    documents: list[str] = []
    for path in paths:
        found = path != "-" and Path(path).is_file() and _is_document(Path(path), arguments)
        is_text = path != "-" and Path(path).suffix.lower() in _TEXT_SUFFIXES
        (documents if found or (to_folder and is_text) else others).append(path)
    if documents and others and not all(Path(path).suffix.lower() == ".txt" for path in others):
        raise ConfigError(
            f"{documents[0]} is a document and {others[0]} is not: translate them in separate "
            f"commands"
        )
    return bool(documents)


def _is_document(path: Path, arguments: argparse.Namespace) -> bool:
    from nllb.documents.registry import find_file_format
    from nllb.translation.input_formats import BINARY_FORMATS

    suffix = path.suffix.lower()
    if suffix in COMPRESSIONS:
        return False
    found = find_file_format(path)
    if found is None:
        return suffix in BINARY_FORMATS  # the error then lists the formats that are supported
    with path.open("rb") as stream:
        if stream.read(5).startswith((b"PK\x03\x04", b"%PDF-")):
            return True
    return suffix not in _TEXT_SUFFIXES and not (found.name == "md" and arguments.document)


def _is_folder(arguments: argparse.Namespace) -> bool:
    output: Path = arguments.output
    return output.is_dir() or arguments.output_is_folder


def translate_documents(
    translator: "Translator",
    paths: Sequence[str],
    arguments: argparse.Namespace,
    search: "SearchOptions",
) -> int:
    """Translate each file; print the paths of the results and what to check in them."""
    options = document_options(arguments)
    settings = {"search": search, **_settings(arguments)}
    folder = _output_folder(paths, arguments)
    output = folder if folder is not None else arguments.output
    num_flagged = 0
    for path in map(Path, paths):
        try:
            result, report = _translate_file(
                path, translator, arguments, output=output, options=options, settings=settings
            )
        except KeyboardInterrupt as interruption:
            print("nllb: interrupted; the same command continues from there", file=sys.stderr)
            return exit_code(interruption)
        num_flagged += len(report.flagged)
        _print_report(path, result, report, arguments)
    return EXIT_FLAGGED if arguments.strict and num_flagged else 0


def _translate_file(
    path: Path,
    translator: "Translator",
    arguments: argparse.Namespace,
    *,
    output: Path | None,
    options: "FormatOptions",
    settings: dict[str, Any],
) -> "tuple[Path, DocumentReport]":
    """Translate one file, with a progress bar on a terminal."""
    from nllb.documents import translate_document_file

    quiet = arguments.quiet or not sys.stderr.isatty()
    with Progress(path.name, unit="segments", quiet=quiet) as progress:

        def advance(done: int, total: int) -> None:
            progress.set_total(total)
            progress.advance(done - progress.done)

        return translate_document_file(
            path,
            translator,
            source=arguments.source,
            target=arguments.target,
            output=output,
            options=options,
            progress=advance,
            job=_job(arguments),
            **settings,
        )


def document_options(arguments: argparse.Namespace) -> "FormatOptions":
    """Return the options of the formats.

    Raises:
        ConfigError: a flag is only for text that is translated line by line.
    """
    from nllb.documents import FormatOptions

    if arguments.n_best:
        raise ConfigError("--n-best applies to plain text, not to documents")
    return FormatOptions(
        encoding=arguments.encoding,
        columns=_listed(arguments.columns),
        keys=_listed(arguments.keys),
        placeholders=tuple(arguments.keep),
        output_format=arguments.output_format,
        extra={"wrapped": "yes"} if arguments.wrapped else {},
    )


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _output_folder(paths: Sequence[str], arguments: argparse.Namespace) -> Path | None:
    """Return the directory of the results; None if the flags give a file or nothing."""
    output: Path | None = arguments.output
    if output is None:
        return None
    if not _is_folder(arguments) and len(paths) == 1 and output.suffix:
        return None
    if output.exists() and not output.is_dir():
        raise ConfigError(
            f"--output {output} is a file, and there are {len(paths)} documents: give a directory"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot create the directory {output}: {error.strerror}") from error
    return output


def _job(arguments: argparse.Namespace) -> dict[str, Any]:
    from nllb.inference.load_model import describe_model

    return {
        "model": describe_model(arguments.model),
        "device": arguments.device,
        "dtype": arguments.dtype,
    }


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `TranslationSettings` that the flags set, except the search."""
    from nllb.translation.retry import RetryBudget

    kept = glossary_options(arguments)
    return {
        "glossary": kept["glossary"],
        "do_not_translate": kept["do_not_translate"],
        "retry": False if arguments.no_retry else RetryBudget(arguments.retry_limit),
        "assumed_source": None if arguments.assume == "none" else arguments.assume,
    }


def _print_report(
    path: Path, result: Path, report: "DocumentReport", arguments: argparse.Namespace
) -> None:
    if arguments.json:
        print(json_line(report_record(path, result, report)))
    if arguments.quiet:
        return
    if arguments.source == "auto" and report.source is not None:
        print(f"source: {report.source.code} ({report.source.name})", file=sys.stderr)
    for warning in report.warnings:
        print(f"{path}: {warning}", file=sys.stderr)
    flagged = len(report.flagged)
    doubt = f", {flagged:,} of them flagged" if flagged else ""
    count = "1 segment" if len(report.units) == 1 else f"{len(report.units):,} segments"
    print(f"{result}: {count}{doubt}", file=sys.stderr)


def report_record(path: Path, result: Path, report: "DocumentReport") -> dict[str, Any]:
    """Return a report as JSON."""
    return {
        "file": str(path),
        "output": str(result),
        "format": report.format,
        "source": None if report.source is None else report.source.code,
        "target": report.target.code,
        "warnings": list(report.warnings),
        "units": [
            {
                "key": unit.key,
                "source": unit.source_text,
                "text": unit.text,
                "flags": list(unit.flags),
                "confidence": round(unit.confidence, 4),
            }
            for unit in report.units
        ],
    }
