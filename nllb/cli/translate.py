"""`nllb translate`: translate stdin or files, line by line or as documents."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nllb.errors import ConfigError, DataError, LanguageError, NllbError
from nllb.io.progress import Progress
from nllb.languages import Language, add_languages, parse_language, resolution
from nllb.model.model_languages import languages_of_model

from .engine_flags import check_search_arguments, engine_arguments, load_translator
from .glossary_flags import glossary_arguments, glossary_options
from .process_ends import exit_code
from .stage_flags import quiet_argument
from .translate_documents import (
    OutputAction,
    are_documents,
    document_arguments,
    translate_documents,
)

if TYPE_CHECKING:
    from nllb.inference.generator import SearchOptions
    from nllb.languages.detection import Detector
    from nllb.translation.file_translation import FileOptions, FileTranslation
    from nllb.translation.files import PartialOutput

EXIT_FLAGGED = 1
AUTO = "auto"


def translate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Line n of the output is the translation of line n of the input. With --document, a text "
        "keeps its newlines, list markers, tables and fenced code. Every newline ends a sentence "
        "unless the text is --wrapped. Punctuation is normalized as in the training of the model. "
        "Output is first written to OUTPUT.part, so that the same command continues after an "
        "interruption (with --document, --strict or stdin it starts again). Outputs that loop, "
        "stop early or are in a wrong language are retried; those that remain doubtful are "
        "flagged, counted at the end and marked in the output of --json. Documents, such as .docx, "
        ".html or .srt files, are each written to a new file in which only the text has changed: "
        "report.docx becomes report.swh_Latn.docx beside it or in --output."
    )
    _text_arguments(parser)
    document_arguments(parser)
    glossary_arguments(parser)
    _search_arguments(parser)
    engine_arguments(parser)
    quiet_argument(parser)


def _text_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="input, also .gz, .zst or .xz; default: stdin"
    )
    parser.add_argument(
        "-s",
        "--source",
        required=True,
        metavar="L",
        help="language of the input, or 'auto' to detect it for each line",
    )
    parser.add_argument(
        "-t", "--target", required=True, metavar="L", help="language to translate into"
    )
    parser.add_argument(
        "--assume",
        default="eng_Latn",
        metavar="L",
        help="with --source auto: language to assume for text that cannot be identified, default: "
        "eng_Latn; with 'none', such text is an error",
    )
    parser.add_argument(
        "-m",
        "--model",
        metavar="M",
        help="a model directory, or a name that 'nllb models' lists; default: $NLLB_MODEL, or a "
        "published model in the cache, or the bundled model mini",
    )
    parser.add_argument(
        "--document",
        action="store_true",
        help="translate each input as one text: with 'auto', a line has the language of the text "
        "unless it is clearly in another; --json prints one object per input",
    )
    parser.add_argument(
        "--wrapped",
        action="store_true",
        help="with --document: the lines are wrapped at a fixed width, so that sentences continue "
        "on the next line; the translation is wrapped again",
    )
    parser.add_argument(
        "-o",
        "--output",
        action=OutputAction,
        metavar="F",
        help="output file, or a directory for documents; default: stdout, or beside the original "
        "documents",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one object per line, with its trust records"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with code 1 if any segment is flagged"
    )
    parser.add_argument(
        "--errors",
        choices=["strict", "replace"],
        default="strict",
        help="stop at bytes that are not UTF-8 (strict, the default), or replace them with U+FFFD",
    )


def _search_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam",
        type=int,
        metavar="N",
        help="beam size, default: that of the model's generation_config.json, else 4; 1 is greedy",
    )
    parser.add_argument(
        "--n-best",
        type=int,
        metavar="N",
        help="with --json: print N outputs per segment; all but the first are its `alternatives`",
    )
    parser.add_argument(
        "--no-retry", action="store_true", help="keep flagged outputs instead of retrying them"
    )
    parser.add_argument(
        "--retry-limit",
        type=int,
        default=64,
        metavar="N",
        help="stop a retry strategy that has fixed fewer than one in ten of N segments of a "
        "direction, default: 64; 0 means no limit",
    )
    parser.add_argument(
        "--no-similarity",
        action="store_true",
        help="do not compare the sentence vectors of outputs and sources; the flag `meaning` is "
        "then never set",
    )
    parser.add_argument(
        "--full-vocabulary",
        action="store_true",
        help="do not restrict the search to the vocabulary shortlist of the target",
    )


def translate(arguments: argparse.Namespace) -> int:
    from nllb.translation.file_translation import FileTranslation

    paths = arguments.files or ["-"]
    _check_files(paths, arguments)
    if are_documents(paths, arguments):
        return _translate_documents(paths, arguments)
    _check_text_files(paths)
    _check_options(arguments)
    _check_languages(arguments)
    glossary_options(arguments)
    with _output(arguments, paths) as part, _progress(arguments) as progress:
        translator = load_translator(arguments, similarity=not arguments.no_similarity)
        translator.detector = _load_detector(arguments)
        run = FileTranslation(
            translator,
            _options(arguments, translator.default_search),
            write=_write_to_stdout if part is None else part.write_through,
            report=lambda message: _say(message, arguments),
            advance=progress.advance,
            lines_done=0 if part is None else part.lines_done,
        )
        try:
            _run_to_the_end(run, paths, part)
        except KeyboardInterrupt as interruption:
            return exit_code(interruption)
    for message in run.summary():
        _say(message, arguments)
    return EXIT_FLAGGED if arguments.strict and run.counts.num_flagged else 0


def _run_to_the_end(
    run: "FileTranslation", paths: Sequence[str], part: "PartialOutput | None"
) -> None:
    """Translate all inputs; after an error, print how much is done and raise the error again."""
    try:
        run.run(paths)
        if part is not None:
            part.finish()
    except KeyboardInterrupt:
        _print_what_is_done("interrupted", run, part)
        raise
    except BrokenPipeError:
        raise
    except (NllbError, OSError):
        _print_what_is_done("stopped", run, part)
        raise


def _translate_documents(paths: Sequence[str], arguments: argparse.Namespace) -> int:
    _check_options(arguments)
    _check_languages(arguments)
    translator = load_translator(arguments, similarity=not arguments.no_similarity)
    translator.detector = _load_detector(arguments)
    search = _search(arguments, translator.default_search)
    return translate_documents(translator, paths, arguments, search)


def _check_files(paths: Sequence[str], arguments: argparse.Namespace) -> None:
    for path in paths:
        if path == "-":
            continue
        if not Path(path).exists():
            raise DataError(
                f"no file {path!r} to translate; to translate a text, pass it on stdin: echo '...' "
                f"| nllb translate --source {arguments.source} --target {arguments.target}"
            )
        if Path(path).is_dir():
            raise DataError(f"{path!r} is a directory; give the names of its files")


def _check_text_files(paths: Sequence[str]) -> None:
    from nllb.translation.input_formats import require_plain_text

    for path in paths:
        if path != "-":
            require_plain_text(path)


def _check_options(arguments: argparse.Namespace) -> None:
    from nllb.inference.generator import SearchOptions

    if arguments.wrapped and not arguments.document:
        raise ConfigError("--wrapped applies to documents: add --document")
    check_search_arguments(arguments)
    if arguments.retry_limit < 0:
        raise ConfigError(f"--retry-limit is {arguments.retry_limit}; it must be 0 or more")
    if arguments.n_best is not None:
        beam = arguments.beam or SearchOptions().beam_size
        if not 1 <= arguments.n_best <= beam:
            raise ConfigError(
                f"--n-best is {arguments.n_best}; it must be 1 to {beam}, the beam size"
            )
        if not arguments.json:
            raise ConfigError(
                "--n-best requires --json, because plain output has one translation per line"
            )
    if not arguments.files and not arguments.quiet and sys.stdin.isatty():
        print("reading from the terminal; press Ctrl-D to end", file=sys.stderr)


def _check_languages(arguments: argparse.Namespace) -> None:
    """Print the resolved languages; unknown ones end the run before a model is loaded."""
    from nllb.translation.translator import require_two_languages

    if arguments.model:
        add_languages(languages_of_model(arguments.model))
    found: dict[str, Language] = {}
    for name in ("source", "target"):
        text = getattr(arguments, name)
        if name == "source" and text == AUTO:
            continue
        found[name] = _parse_language(text, arguments)
        _say(f"{name}: {resolution(text)}", arguments)
    if "source" in found:
        require_two_languages(found["source"], found["target"])
    elif arguments.assume != "none":
        parse_language(arguments.assume)


def _parse_language(text: str, arguments: argparse.Namespace) -> Language:
    """Parse a language; the model is downloaded if the language table does not have it."""
    try:
        return parse_language(text)
    except LanguageError:
        added = languages_of_model(arguments.model or "", download=True)
        if not added:
            raise
        add_languages(added)
        return parse_language(text)


def _search(arguments: argparse.Namespace, default: "SearchOptions") -> "SearchOptions":
    """Return the model's search options with the changes of the flags."""
    search = replace(
        default,
        num_hypotheses=arguments.n_best or 1,
        shortlist=not arguments.full_vocabulary,
    )
    if arguments.beam is None:
        return search
    return replace(search, beam_size=arguments.beam, sampling=False)


def _options(arguments: argparse.Namespace, default: "SearchOptions") -> "FileOptions":
    from nllb.translation.file_translation import FileOptions

    return FileOptions(
        source=arguments.source,
        target=arguments.target,
        assumed_source=None if arguments.assume == "none" else arguments.assume,
        search=_search(arguments, default),
        retry=not arguments.no_retry,
        retry_limit=arguments.retry_limit,
        as_documents=arguments.document,
        wrapped=arguments.wrapped,
        as_json=arguments.json,
        with_alternatives=arguments.n_best is not None,
        errors=arguments.errors,
        **glossary_options(arguments),
    )


def _load_detector(arguments: argparse.Namespace) -> "Detector | None":
    """Load the language identifier: `auto` requires it; otherwise it only checks the outputs."""
    from nllb.translation.translator import load_detector

    try:
        return load_detector()
    except NllbError as error:
        if arguments.source == AUTO:
            raise ConfigError(f"--source auto cannot be used: {error}") from error
        _say(f"the language of outputs is not checked: {error}", arguments)
        return None


@contextmanager
def _output(
    arguments: argparse.Namespace, paths: Sequence[str]
) -> "Iterator[PartialOutput | None]":
    """Open the output file before the model is loaded; None means stdout."""
    from nllb.translation.files import PartialOutput

    if arguments.output is None:
        yield None
        return
    with PartialOutput(arguments.output, _job(arguments, paths)) as part:
        if part.lines_done:
            _say(f"continuing after {part.lines_done:,} lines of {part.part_path}", arguments)
        yield part


def _job(arguments: argparse.Namespace, paths: Sequence[str]) -> dict[str, Any] | None:
    """Describe the contents of an output file; None if the run cannot be resumed."""
    from nllb.inference.generator import SearchOptions
    from nllb.inference.load_model import describe_model
    from nllb.translation.files import describe_inputs

    inputs = describe_inputs(paths)
    if inputs is None or arguments.document or arguments.strict:
        return None
    engine = {
        "device": arguments.device,
        "dtype": arguments.dtype,
        "similarity": not arguments.no_similarity,
    }
    options = asdict(_options(arguments, SearchOptions()))  # those of the model are in its files
    return {"inputs": inputs, "model": describe_model(arguments.model), **engine, **options}


def _progress(arguments: argparse.Namespace) -> Progress:
    to_terminal = arguments.output is None and sys.stdout.isatty()
    quiet = arguments.quiet or to_terminal or not sys.stderr.isatty()
    return Progress("translate", unit="lines", quiet=quiet)


def _write_to_stdout(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8"))
    sys.stdout.buffer.flush()


def _print_what_is_done(what: str, run: "FileTranslation", part: "PartialOutput | None") -> None:
    """Print how much an unfinished run has translated."""
    num_lines = run.counts.num_lines
    if what == "stopped" and not num_lines:
        return
    where = again = ""
    if part is not None and num_lines:
        where = f" in {part.part_path}"
        again = "; the same command continues from there" if part.job_path.exists() else ""
    lines = "1 line is" if num_lines == 1 else f"{num_lines:,} lines are"
    print(f"nllb: {what}: {lines} done{where}{again}", file=sys.stderr)


def _say(text: str, arguments: argparse.Namespace) -> None:
    if not arguments.quiet:
        print(text, file=sys.stderr, flush=True)
