"""`nllb detect`: name the language of each line."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nllb.languages.detection import Detection

from nllb.cli.stage_flags import quiet_argument


def detect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print label and probability of each line, tab-separated; line n of the output belongs to "
        "line n of the input. `und`: no language of the table, or too uncertain."
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
        help="languages that the answer is restricted to; default: all",
    )
    parser.add_argument(
        "-m",
        "--model",
        type=Path,
        metavar="M",
        help="model folder, or any fastText .bin or .ftz; default: the shipped one",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="F",
        default="-",
        help="output file, compressed if .gz, .zst or .xz; default: stdout",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes, default: 1")
    quiet_argument(parser)


def detect(arguments: argparse.Namespace) -> int:
    from lid.detector import Detector
    from lid.streaming import detect_lines
    from nllb.errors import ConfigError
    from nllb.io.atomic import atomic_text
    from nllb.languages import parse_language

    for name in ("top", "workers"):
        if getattr(arguments, name) < 1:
            raise ConfigError(f"--{name} must be 1 or more, got {getattr(arguments, name)}")
    detector = Detector.load(arguments.model)
    if detector.unknown_labels and not arguments.quiet:
        shown = ", ".join(detector.unknown_labels[:10])
        print(
            f"{len(detector.unknown_labels)} labels of the model are not in the language table "
            f"and are kept as they are: {shown}{' ...' * (len(detector.unknown_labels) > 10)}",
            file=sys.stderr,
        )
    candidates = None
    if arguments.candidates is not None:
        names = [name.strip() for name in arguments.candidates.split(",") if name.strip()]
        candidates = [
            name if name in detector.labels else parse_language(name).code for name in names
        ]
    found = detect_lines(
        (line for file in arguments.files for line in _lines(file)),
        model=arguments.model,
        detector=detector,
        top=arguments.top,
        candidates=candidates,
        workers=arguments.workers,
    )
    if arguments.output == "-":
        for number, one in enumerate(found, 1):
            sys.stdout.write(_line(number, one, as_json=arguments.json))
        sys.stdout.flush()
        return 0
    with atomic_text(Path(arguments.output)) as stream:
        for number, one in enumerate(found, 1):
            stream.write(_line(number, one, as_json=arguments.json))
    return 0


def _lines(file: str) -> Iterator[str]:
    """Yield a file's lines, bytes that are not UTF-8 replaced; say at the end which had any."""
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
            f"line{'s' * (damaged > 1)}, the first is line {first}; bytes that could not be read "
            "count as no letter. Convert the file to UTF-8",
            file=sys.stderr,
        )


def _line(number: int, one: "Detection", *, as_json: bool) -> str:
    """Return one answer as a line of output."""
    from nllb.io.text import json_line

    if not as_json:
        pairs = [(one.language, one.probability), *one.alternatives]
        return "\t".join(f"{label}\t{probability:.4f}" for label, probability in pairs) + "\n"
    answer = {
        "line": number,
        "language": one.language,
        "probability": round(one.probability, 6),
        "alternatives": [
            {"language": label, "probability": round(probability, 6)}
            for label, probability in one.alternatives
        ],
        "macro_group": one.macro_group,
    }
    return json_line(answer) + "\n"
