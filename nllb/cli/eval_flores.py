"""`nllb eval flores`: score many directions of a test set, or translate it first."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nllb.cli.engine_flags import check_search_arguments, engine_arguments, load_translator
from nllb.cli.metric_flags import EXIT_FLAGGED, label_detector, metric_arguments, metric_choice

if TYPE_CHECKING:
    from eval.flores.directions import Direction
    from eval.flores.outputs import Translate
    from eval.flores.results import Evaluation, GroupFaults
    from nllb.io.benchmarks import LineAlignedSet


def flores_arguments(parser: argparse.ArgumentParser) -> None:
    # OUT stands first: behind --directions or --metrics it would be taken for one more of them.
    parser.usage = (
        "nllb eval flores OUT (--outputs DIR | --model M | --copying) [--flores DIR] [options]"
    )
    parser.description = (
        "Score all directions of a test set: from a folder of SRC-TGT.txt, or by translating with "
        "a model first. OUT keeps the integers of every sentence; running again computes only "
        "what changed, and what 'nllb eval compare' and 'nllb eval report' read is OUT."
    )
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="folder for the results; a second start resumes"
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--outputs", type=Path, metavar="DIR", help="folder of SRC-TGT.txt")
    given.add_argument("-m", "--model", metavar="M", help="translate with this model into OUT")
    given.add_argument(
        "--copying",
        action="store_true",
        help="score the sources as if they were translations: the baseline of 'nllb eval compare'",
    )
    parser.add_argument(
        "--flores",
        type=Path,
        metavar="DIR",
        default=os.environ.get("NLLB_FLORES"),
        help="folder of FLORES-200 or FLORES+, or any folder of line-aligned files CODE[.txt]; "
        "default: $NLLB_FLORES",
    )
    parser.add_argument(
        "--split", default="devtest", metavar="NAME", help="dev or devtest; default: devtest"
    )
    parser.add_argument(
        "--directions",
        nargs="+",
        metavar="D",
        help="SRC-TGT, SRC-*, *-TGT, all, @FILE; default: every pair of the languages at hand. "
        "What is asked for and missing is listed",
    )
    parser.add_argument(
        "--lines",
        type=int,
        metavar="N",
        help="only the first N sentences, for a quick look; not with --outputs",
    )
    parser.add_argument(
        "--system",
        metavar="NAME",
        help="name of the system in reports; default: the folder's, or the model's",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes, default: one a core",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    metric_arguments(parser)
    search = parser.add_argument_group("with --model")
    search.add_argument(
        "--beam", type=int, default=4, metavar="N", help="beam size, default: 4; 1 is greedy"
    )
    search.add_argument(
        "--no-retry", action="store_true", help="keep faulty outputs instead of trying again"
    )
    engine_arguments(search)


def flores(arguments: argparse.Namespace) -> int:
    from eval.flores.direction_scores import score_outputs
    from nllb.io.text import json_line

    benchmark = _benchmark(arguments)
    made = _hypotheses(arguments, benchmark)
    if arguments.dry_run:
        have = sum(direction in made.files for direction in made.wanted)
        verb = "translate and score" if arguments.model else "score"
        print(
            f"would {verb} {len(made.wanted):,} directions of {benchmark.title}; "
            f"{have:,} have a file"
        )
        return 0
    evaluation = score_outputs(
        made.files,
        benchmark=benchmark,
        out=arguments.out,
        choice=metric_choice(arguments),
        system=arguments.system or made.system,
        outputs=made.folder,
        wanted=made.wanted,
        workers=arguments.workers,
        detect=label_detector(arguments),
        made_by=made.made_by,
        unmade=made.unmade,
        quiet=arguments.quiet,
    )
    if arguments.json:
        for row in evaluation.rows:
            print(json_line(row.as_json()))
        for group in evaluation.groups:
            print(json_line(asdict(group)))
        for part in evaluation.faults:
            print(json_line(asdict(part)))
    else:
        print(_overview(evaluation))
    _say_gaps(evaluation)
    faulty = bool(evaluation.failed) or any(part.faults for part in evaluation.faults)
    incomplete = bool(evaluation.missing)
    if evaluation.failed:
        return EXIT_FLAGGED
    return EXIT_FLAGGED if arguments.strict and (faulty or incomplete) else 0


def _benchmark(arguments: argparse.Namespace) -> "LineAlignedSet":
    from nllb.errors import ConfigError, DataError
    from nllb.io.benchmarks import HOW_TO_OBTAIN, load_aligned, load_flores

    if not arguments.flores:
        raise ConfigError(f"give --flores DIR, or set NLLB_FLORES. {HOW_TO_OBTAIN}")
    check_search_arguments(arguments)
    for name in ("lines", "workers"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} is {value}; it must be 1 or more")
    if arguments.lines and arguments.outputs is not None:
        raise ConfigError("--lines cuts sources before they are translated: not with --outputs")
    try:
        benchmark = load_flores(arguments.flores, arguments.split)
    except DataError as no_flores:
        try:
            benchmark = load_aligned(arguments.flores)
        except DataError:
            raise no_flores from None
    return benchmark.first(arguments.lines) if arguments.lines else benchmark


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hypotheses:
    """The files to score, and where they come from."""

    folder: Path
    files: "Mapping[Direction, Path]"
    wanted: "Sequence[Direction]"
    system: str
    made_by: Mapping[str, str] = field(default_factory=dict)
    unmade: Mapping[str, str] = field(default_factory=dict)


def _hypotheses(arguments: argparse.Namespace, benchmark: "LineAlignedSet") -> _Hypotheses:
    from eval.flores.directions import outputs_in, parse_directions
    from eval.flores.outputs import copy_sources

    languages = benchmark.languages
    words = arguments.directions or ["all"]
    if arguments.outputs is not None:
        folder = arguments.outputs
        files = outputs_in(folder, languages)
        sources = targets = languages
        if not arguments.directions:
            sources = tuple(sorted({direction.source for direction in files}))
            targets = tuple(sorted({direction.target for direction in files}))
        wanted = parse_directions(words, sources=sources, targets=targets)
        return _Hypotheses(
            folder=folder, files=files, wanted=wanted, system=str(folder.resolve().name)
        )
    folder = arguments.out / "outputs"
    wanted = parse_directions(words, sources=languages, targets=languages)
    system = arguments.model or "copying the source"
    if arguments.dry_run:
        have = outputs_in(folder, languages) if folder.is_dir() else {}
        return _Hypotheses(folder=folder, files=have, wanted=wanted, system=system)
    if arguments.copying:
        copies = copy_sources(folder, wanted, benchmark=benchmark)
        return _Hypotheses(folder=folder, files=copies, wanted=wanted, system=system)
    return _translated(arguments, benchmark, folder, wanted)


def _translated(
    arguments: argparse.Namespace,
    benchmark: "LineAlignedSet",
    folder: Path,
    wanted: "Sequence[Direction]",
) -> _Hypotheses:
    from eval.flores.outputs import output_path, translate_outputs
    from nllb.config.fingerprints import model_fingerprint
    from nllb.model.formats.open_model import open_model

    made_by = {
        "model": str(arguments.model),
        "model files": model_fingerprint(open_model(arguments.model).path),
        "search": f"beam {arguments.beam}, {'no ' if arguments.no_retry else ''}retry, "
        f"weights {arguments.dtype}",
    }
    unmade = translate_outputs(
        folder,
        wanted,
        benchmark=benchmark,
        translate=_translator(arguments),
        made_by=made_by,
        quiet=arguments.quiet,
    )
    paths = {direction: output_path(folder, direction) for direction in wanted}
    return _Hypotheses(
        folder=folder,
        files={direction: path for direction, path in paths.items() if path.is_file()},
        wanted=wanted,
        system=Path(arguments.model).name if Path(arguments.model).exists() else arguments.model,
        made_by=made_by,
        unmade=unmade,
    )


def _translator(arguments: argparse.Namespace) -> "Translate":
    from eval.flores.outputs import translate_all
    from nllb.inference.generator import SearchOptions

    translator = load_translator(arguments)
    search = SearchOptions(beam_size=arguments.beam)

    def translate(sentences: Sequence[str], source: str, target: str) -> list[str]:
        def window(lines: list[str]) -> list[str]:
            found = translator.translate(
                lines, source=source, target=target, search=search, retry=not arguments.no_retry
            )
            return [translation.text for translation in found]

        return translate_all(sentences, window)

    return translate


def _overview(evaluation: "Evaluation") -> str:
    from eval.metrics.registry import metric_title

    lines = [
        f"{evaluation.system} on {evaluation.benchmark}: {evaluation.num_directions:,} directions"
    ]
    for group in evaluation.groups:
        gap = f", {group.missing:,} missing" if group.missing else ""
        lines.append(
            f"  {group.group:<18} {metric_title(group.metric):<7} {group.mean:6.2f}  "
            f"(95 % {group.low:.2f} to {group.high:.2f}; n = {group.count:,}{gap})"
        )
    lines += [_outputs_line(part) for part in evaluation.faults if part.group == "all"]
    for name in evaluation.metrics:
        for target, signature in evaluation.signatures[name].items():
            place = "" if target == "*" else f" into {target}"
            lines.append(f"  {metric_title(name)}{place}: {signature}")
    return "\n".join(lines)


def _outputs_line(part: "GroupFaults") -> str:
    shown = ("empty", "copy_of_source", "repeated", "looping")
    shares = [f"{part.faults.get(code, 0) / part.lines:.2%}" for code in shown]
    text = (
        f"  of {part.lines:,} lines {shares[0]} are empty, {shares[1]} equal to the source, "
        f"{shares[2]} the same as another, {shares[3]} repeat themselves"
    )
    if part.judged:
        text += f"; {part.right / part.judged:.1%} of {part.judged:,} in the target language"
    if part.reference_share is not None:
        text += f" (references: {part.reference_share:.1%})"
    return text


def _say_gaps(evaluation: "Evaluation") -> None:
    for note in evaluation.notes:
        print(f"warning: {note}", file=sys.stderr)
    for direction, reason in evaluation.failed.items():
        print(f"error: {direction} was not scored: {reason}", file=sys.stderr)
    if evaluation.missing:
        named = ", ".join(evaluation.missing[:8])
        more = f" and {len(evaluation.missing) - 8:,} more" if len(evaluation.missing) > 8 else ""
        print(
            f"warning: {len(evaluation.missing):,} asked for and without a file: {named}{more}; "
            "in no mean (all are in evaluation.json)",
            file=sys.stderr,
        )
