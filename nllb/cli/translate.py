"""`nllb translate`: text from stdin or files, line for line or as documents."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nllb.cli.engine_flags import engine_arguments, load_translator
from nllb.cli.stage_flags import quiet_argument
from nllb.errors import ConfigError, DataError, NllbError
from nllb.io.progress import Progress
from nllb.io.text import json_line
from nllb.languages import add_languages, parse_language, resolution
from nllb.model.formats.settings import added_languages

if TYPE_CHECKING:
    from nllb.inference.generator import SearchOptions
    from nllb.languages import Language
    from nllb.languages.detection import Detector
    from nllb.translation.files import PartialOutput
    from nllb.translation.translator import Translation, Translator

EXIT_FLAGGED = 1
EXIT_INTERRUPTED = 130
LINES_NAMED = 5
"""Flagged lines that the summary names."""
DETECTED_CHARACTERS = 4096
"""A document's language is detected on at least so much of its beginning."""


def translate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Line n of the output belongs to line n of the input. With --document a text comes back "
        "with its newlines exactly as they were; every newline is hard, so no sentence reaches "
        "over one, unless the text is --wrapped. Punctuation is normalised as in the model's "
        "training. An output file grows as OUTPUT.part; after an interruption the same command "
        "goes on where it stopped (with --document, --strict or stdin it begins anew). Outputs "
        "that loop, stop short or are in another language are tried again; what stays doubtful "
        "is flagged, counted at the end and marked in --json."
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="input, also .gz, .zst or .xz; default: stdin"
    )
    parser.add_argument(
        "-s", "--source", required=True, metavar="L", help="language of the input, or 'auto'"
    )
    parser.add_argument(
        "-t", "--target", required=True, metavar="L", help="language to translate into"
    )
    parser.add_argument(
        "-m",
        "--model",
        metavar="M",
        help="a model directory, or a name of 'nllb models'; default: $NLLB_MODEL, else a "
        "published model in the cache, else mini, which ships",
    )
    parser.add_argument(
        "--document",
        action="store_true",
        help="each input is one text: its language is detected once, --json gives one object",
    )
    parser.add_argument(
        "--wrapped",
        action="store_true",
        help="a --document whose lines were broken at a fixed width: sentences go on over the ends "
        "of full lines, and the line ends come back",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="F", help="output file; default: stdout"
    )
    parser.add_argument(
        "--json", action="store_true", help="one object for each line, with its trust record"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 if any segment is flagged")
    parser.add_argument(
        "--beam", type=int, default=4, metavar="N", help="beam size, default: 4; 1 is greedy"
    )
    parser.add_argument(
        "--n-best",
        type=int,
        metavar="N",
        help="with --json: N outputs for each segment, the further ones as its `alternatives`",
    )
    parser.add_argument(
        "--no-retry", action="store_true", help="keep faulty outputs instead of trying again"
    )
    parser.add_argument(
        "--full-vocabulary", action="store_true", help="search without the target's shortlist"
    )
    parser.add_argument(
        "--errors",
        choices=["strict", "replace"],
        default="strict",
        help="stop at bytes that are not UTF-8 (strict, the default), or replace them by U+FFFD",
    )
    engine_arguments(parser)
    quiet_argument(parser)


def translate(arguments: argparse.Namespace) -> int:
    paths = arguments.files or ["-"]
    for path in paths:
        if path != "-" and not Path(path).exists():
            raise DataError(
                f"no file {path!r} to translate; text itself goes to stdin: echo '...' | nllb "
                f"translate --source {arguments.source} --target {arguments.target}"
            )
        if Path(path).is_dir():
            raise DataError(f"{path!r} is a directory; name the files in it")
    _check(arguments)
    _name_languages(arguments)
    with _Run(arguments, paths) as run:
        run.translator = load_translator(arguments)
        run.translator.detector = _detector(arguments)
        try:
            run.all()
        except KeyboardInterrupt:
            run.say_what_is_done("interrupted")
            return EXIT_INTERRUPTED
        except BrokenPipeError:
            raise
        except (NllbError, OSError):
            run.say_what_is_done("stopped")
            raise
    run.summarize()
    return EXIT_FLAGGED if arguments.strict and run.flagged_lines else 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.wrapped and not arguments.document:
        raise ConfigError("--wrapped is for documents: add --document")
    for name, value in (("--beam", arguments.beam), ("--threads", arguments.threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; it must be 1 or more")
    if arguments.n_best is not None:
        if not 1 <= arguments.n_best <= arguments.beam:
            raise ConfigError(
                f"--n-best is {arguments.n_best}; it must be 1 to {arguments.beam}, the beam size"
            )
        if not arguments.json:
            raise ConfigError("--n-best needs --json: a line of text has one translation")
    if not arguments.files and not arguments.quiet and sys.stdin.isatty():
        print("reading from the terminal; Ctrl-D ends it", file=sys.stderr)


def _name_languages(arguments: argparse.Namespace) -> None:
    """Say what the languages resolve to; unknown ones end the run before a model is read."""
    if arguments.model and (folder := Path(arguments.model)).is_dir():
        add_languages(added_languages(folder))
    given = {"source": arguments.source, "target": arguments.target}
    for name, text in given.items():
        if name == "source" and text == "auto":
            continue
        line = resolution(text)
        if not arguments.quiet:
            print(f"{name}: {line}", file=sys.stderr, flush=True)


def _detector(arguments: argparse.Namespace) -> "Detector | None":
    """Load language identification: needed for `auto`, otherwise it only checks the outputs."""
    try:
        from lid import Detector

        return Detector.load()
    except (ImportError, NllbError) as error:
        if arguments.source == "auto":
            raise ConfigError(f"--source auto cannot be used: {error}") from error
        if not arguments.quiet:
            print(f"the language of outputs is not checked: {error}", file=sys.stderr)
        return None


class _Run:
    """One call of the verb: what it writes, and what it has counted."""

    translator: "Translator"

    def __init__(self, arguments: argparse.Namespace, paths: Sequence[str]):
        self.arguments, self.paths = arguments, paths
        self.options: dict[str, Any] = {
            "target": arguments.target,
            "search": self._search(),
            "retry": not arguments.no_retry,
            "wrapped": arguments.wrapped,
        }
        self.num_lines = self.num_segments = self.num_flagged = 0
        self.flags: Counter[str] = Counter()
        self.flagged_lines: list[int] = []
        self._part: PartialOutput | None = None
        to_terminal = arguments.output is None and sys.stdout.isatty()
        self._progress = Progress(
            "translate",
            unit="lines",
            quiet=arguments.quiet or to_terminal or not sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        """Open the output, before a model is loaded in vain."""
        from nllb.translation.files import PartialOutput

        if self.arguments.output is not None:
            self._part = PartialOutput(self.arguments.output, self._job())
            self.num_lines = self._part.lines_done
            if self.num_lines:
                self._say(f"going on after {self.num_lines:,} lines of {self._part.part_path}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._part is not None:
            self._part.close()

    def all(self) -> None:
        """Translate all inputs; a whole output file gets its name."""
        from nllb.translation.files import read_windows

        errors = self.arguments.errors
        with self._progress:
            if self.arguments.document:
                for path in self.paths:
                    self.document(path, read_windows([path], errors=errors))
            else:
                self.lines(read_windows(self.paths, errors=errors, skip=self.num_lines))
        if self._part is not None:
            self._part.finish()

    def _search(self) -> "SearchOptions":
        from nllb.inference.generator import SearchOptions

        return SearchOptions(
            beam_size=self.arguments.beam,
            num_hypotheses=self.arguments.n_best or 1,
            shortlist=not self.arguments.full_vocabulary,
        )

    def _job(self) -> dict[str, Any] | None:
        """Describe what an output file holds; None where it could not be gone on with."""
        from nllb.inference.load_model import describe_model
        from nllb.translation.files import describe_inputs

        inputs = describe_inputs(self.paths)
        if inputs is None or self.arguments.document or self.arguments.strict:
            return None
        outside = {"files", "output", "run", "quiet", "strict", "threads", "expert_memory", "model"}
        job = {name: value for name, value in vars(self.arguments).items() if name not in outside}
        return {"inputs": inputs, "model": describe_model(self.arguments.model), **job}

    def lines(self, windows: Iterator[list[str]]) -> None:
        """Translate line for line."""
        for translation in self.translator.translate_windows(
            windows, source=self.arguments.source, **self.options
        ):
            self._count(translation)
            if self.arguments.json:
                self._write(json_line(self._record(self.num_lines, [translation])) + "\n")
            else:
                self._write(translation.text.removesuffix("\n") + "\n")

    def document(self, path: str, windows: Iterator[list[str]]) -> None:
        """Translate all that comes from a path as one text, whose language is detected once."""
        from nllb.translation.files import join_paragraphs

        source = self.arguments.source
        if source == "auto":
            begun: list[list[str]] = []
            for window in windows:
                begun.append(window)
                if sum(len(line) for lines in begun for line in lines) >= DETECTED_CHARACTERS:
                    break
            source = self._detect("".join(line for lines in begun for line in lines))
            windows = chain(begun, windows)
        if self.arguments.wrapped:
            windows = join_paragraphs(windows)
        first = self.num_lines + 1
        done: list[Translation] = []
        for translation in self.translator.translate_windows(
            windows, source=source, **self.options
        ):
            self._count(translation)
            if self.arguments.json:
                done.append(translation)
            else:
                self._write(translation.text)
        if self.arguments.json:
            record = self._record(first, done)
            self._write(json_line({"file": path, **record}) + "\n")

    def _record(self, line: int, translations: Sequence["Translation"]) -> dict[str, Any]:
        """Return one object of `--json`: for a line, or for the lines of a document."""
        sources = [each.source.code for each in translations if each.source is not None]
        source_text = "".join(each.source_text for each in translations)
        text = "".join(each.text for each in translations)
        if len(translations) == 1:
            source_text, text = source_text.removesuffix("\n"), text.removesuffix("\n")
        trust = []
        for segment in (segment for each in translations for segment in each.segments):
            part: dict[str, Any] = {"source_text": segment.source_text, "text": segment.text}
            part |= {name: getattr(segment.trust, name) for name in segment.trust.__slots__}
            if self.arguments.n_best is not None:
                part["alternatives"] = segment.alternatives
            trust.append(part)
        return {
            "line": line,
            "source_text": source_text,
            "text": text,
            "source": sources[0] if sources else "und",
            "target": parse_language(self.arguments.target).code,
            "trust": trust,
            "flags": list(dict.fromkeys(flag for each in translations for flag in each.flags)),
        }

    def _detect(self, text: str) -> "Language | str":
        found = self.translator.detect(text)
        if found is None:
            return "auto"
        language, probability = found
        self._say(f"source: {language.code} ({language.name}), probability {probability:.2f}")
        return "auto" if language == parse_language(self.arguments.target) else language

    def _write(self, text: str) -> None:
        if self._part is not None:
            self._part.write(text)
            self._part.flush()
        else:
            sys.stdout.buffer.write(text.encode("utf-8"))
            sys.stdout.buffer.flush()

    def _count(self, translation: "Translation") -> None:
        first = self.num_lines + 1
        num_lines = max(1, translation.source_text.count("\n"))
        self.num_lines += num_lines
        self.num_segments += len(translation.segments)
        for segment in translation.segments:
            self.num_flagged += bool(segment.trust.flags)
            self.flags.update(segment.trust.flags)
        if translation.flags:
            self.flagged_lines.append(first)
        self._progress.advance(num_lines)

    def say_what_is_done(self, what: str) -> None:
        """Say how far a run came that does not reach its end."""
        where = again = ""
        if what == "stopped" and not self.num_lines:
            return
        if self._part is not None and self.num_lines:
            where = f" in {self._part.part_path}"
            again = "; the same command goes on from there" if self._part.job_path.exists() else ""
        lines = "1 line is" if self.num_lines == 1 else f"{self.num_lines:,} lines are"
        print(f"nllb: {what}: {lines} done{where}{again}", file=sys.stderr)

    def summarize(self) -> None:
        """Say how many segments are flagged, and for what."""
        if not self.flagged_lines:
            return
        named = ", ".join(str(line) for line in self.flagged_lines[:LINES_NAMED])
        more = ", ..." if len(self.flagged_lines) > LINES_NAMED else ""
        faults = ", ".join(f"{count} {flag}" for flag, count in self.flags.most_common())
        self._say(
            f"{self.num_flagged:,} of {self.num_segments:,} segments flagged: {faults} "
            f"(line {named}{more})"
        )

    def _say(self, text: str) -> None:
        if not self.arguments.quiet:
            print(text, file=sys.stderr, flush=True)
