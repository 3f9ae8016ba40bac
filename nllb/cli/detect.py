"""`nllb detect`: identify the language of each line."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .stage_flags import quiet_argument

if TYPE_CHECKING:
    from lid.detector import Detector
    from nllb.languages.detection import Detection

STANDARD_OUTPUT = ("-", "/dev/stdout")


def detect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print the label, its probability and its acceptance score for each line, tab-separated; "
        "line n of the output belongs to line n of the input. The probability compares the "
        "languages with each other; the acceptance score measures how well the line fits the best "
        "one. If the score is below the threshold, the label is `und`, and the rejected label "
        "follows with its probability, as alternatives do."
    )
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        default=["-"],
        help="text files, also .gz, .zst or .xz; default: stdin",
    )
    parser.add_argument(
        "--top", type=int, default=1, metavar="K", help="also print K - 1 alternatives, default: 1"
    )
    parser.add_argument(
        "--candidates",
        metavar="A,B",
        help="languages to choose from; every line with letters gets one of them; default: all",
    )
    parser.add_argument(
        "-m",
        "--model",
        type=Path,
        metavar="M",
        help="model directory, or any fastText .bin or .ftz file; default: the bundled model",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="F",
        default="-",
        help="output file, compressed if .gz, .zst or .xz; default: stdout",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="minimum acceptance score of a label, 0 to 1; default: that of the model, 0.5 for "
        "most languages",
    )
    parser.add_argument(
        "--spans",
        action="store_true",
        help="one row per sentence instead of per line: line, start, end, then as above",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes, default: 1")
    quiet_argument(parser)


def detect(arguments: argparse.Namespace) -> int:
    from lid.detector import Detector

    _check_options(arguments)
    detector = Detector.load(arguments.model)
    if not arguments.quiet:
        _report_unknown_labels(detector)
    lines = (line for file in arguments.files for line in _lines(file))
    options = {
        "top": arguments.top,
        "candidates": _candidates(arguments.candidates, detector),
        "threshold": arguments.threshold,
    }
    rows = _span_rows if arguments.spans else _line_rows
    with _output(arguments.output) as stream:
        for row in rows(detector, lines, options, arguments):
            stream.write(row + "\n")
        stream.flush()
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    from nllb.errors import ConfigError

    for name in ("top", "workers"):
        if getattr(arguments, name) < 1:
            raise ConfigError(f"--{name} must be 1 or more, got {getattr(arguments, name)}")
    if arguments.threshold is not None and not 0 <= arguments.threshold <= 1:
        raise ConfigError(f"--threshold must be between 0 and 1, got {arguments.threshold}")
    if arguments.spans and arguments.workers > 1:
        raise ConfigError("--spans uses one process; omit --workers")


def _candidates(listed: str | None, detector: "Detector") -> list[str] | None:
    from nllb.languages import parse_language

    if listed is None:
        return None
    names = [name.strip() for name in listed.split(",") if name.strip()]
    return [name if name in detector.labels else parse_language(name).code for name in names]


def _output(path: str) -> AbstractContextManager[TextIO]:
    """Open the output: stdout as it is, or a file that appears when it is complete."""
    from nllb.io.atomic import atomic_text

    return nullcontext(sys.stdout) if path in STANDARD_OUTPUT else atomic_text(Path(path))


def _report_unknown_labels(detector: "Detector") -> None:
    unknown = detector.unknown_labels
    if unknown:
        shown = ", ".join(unknown[:10]) + (" ..." if len(unknown) > 10 else "")
        print(
            f"{len(unknown)} labels of the model are not in the language table and are kept as "
            f"they are: {shown}",
            file=sys.stderr,
        )


def _lines(file: str) -> Iterator[str]:
    """Yield the lines of a file; bytes that are not UTF-8 are replaced and reported at the end."""
    from nllb.io.text import read_binary_lines

    damaged = first = 0
    for number, raw in enumerate(read_binary_lines(file), 1):
        encoding = "utf-8-sig" if number == 1 else "utf-8"
        try:
            line = raw.decode(encoding)
        except UnicodeDecodeError:
            damaged, first = damaged + 1, first or number
            line = raw.decode(encoding, "replace")
        yield line
    if damaged:
        print(
            f"{'stdin' if file == '-' else file}: not UTF-8: {damaged:,} "
            f"line{'s' * (damaged > 1)}, the first is line {first}; these bytes were replaced. "
            f"Convert the file to UTF-8",
            file=sys.stderr,
        )


def _line_rows(
    detector: "Detector",
    lines: Iterable[str],
    options: Mapping[str, Any],
    arguments: argparse.Namespace,
) -> Iterator[str]:
    """Yield one row for each line."""
    from lid.streaming import detect_lines
    from nllb.io.text import json_line

    found = detect_lines(
        lines, model=arguments.model, detector=detector, workers=arguments.workers, **options
    )
    for number, detection in enumerate(found, 1):
        if arguments.json:
            yield json_line({"line": number, **_fields(detection)})
        else:
            yield _cells(detection)


def _span_rows(
    detector: "Detector",
    lines: Iterable[str],
    options: Mapping[str, Any],
    arguments: argparse.Namespace,
) -> Iterator[str]:
    """Yield one row for each sentence of each line; JSON has one object per line."""
    from lid.spans import detect_spans
    from nllb.io.text import json_line

    for number, line in enumerate(lines, 1):
        spans = detect_spans(detector, line, **options)
        if arguments.json:
            listed = [
                {"start": one.start, "end": one.end, **_fields(one.detection)} for one in spans
            ]
            yield json_line({"line": number, "spans": listed})
            continue
        for span in spans:
            yield f"{number}\t{span.start}\t{span.end}\t{_cells(span.detection)}"


def _cells(detection: "Detection") -> str:
    alternatives = (f"{label}\t{value:.4f}" for label, value in detection.alternatives)
    first = f"{detection.language}\t{detection.probability:.4f}\t{detection.acceptance:.4f}"
    return "\t".join((first, *alternatives))


def _fields(detection: "Detection") -> dict[str, object]:
    return {
        "language": detection.language,
        "accepted": detection.accepted,
        "best": detection.best,
        "probability": round(detection.probability, 6),
        "acceptance": round(detection.acceptance, 6),
        "alternatives": [
            {"language": label, "probability": round(probability, 6)}
            for label, probability in detection.alternatives
        ],
        "macro_group": detection.macro_group,
    }
