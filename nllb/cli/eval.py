"""`nllb eval score`, `flores`, `compare` and `report`."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.metrics import MetricChoice
    from eval.results import Evaluation
    from nllb.benchmarks import LineAlignedSet

EXIT_FLAGGED = 1


@dataclass
class LidLabels:
    """Names the language of texts by our own identifier; opens it on first use, in each process."""

    model: str | None = None
    """Model directory; None is the one that ships."""

    def __call__(self, texts: Sequence[str]) -> Sequence[str]:
        """Return the label of each text."""
        detector = _detector(self.model)
        return [detection.language for detection in detector.detect_batch(list(texts))]


_DETECTORS: dict[str | None, Any] = {}


def _detector(model: str | None) -> Any:
    if model not in _DETECTORS:
        from lid import Detector

        _DETECTORS[model] = Detector.load(Path(model) if model else None)
    return _DETECTORS[model]


def _metric_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics",
        help="any of chrf++,chrf,spbleu,bleu; default: chrf++, and spbleu where --spm is given",
    )
    parser.add_argument(
        "--spm", type=Path, help="SentencePiece model for spBLEU (of FLORES-200 or FLORES-101)"
    )
    parser.add_argument(
        "--spm-name",
        choices=("flores200", "flores101", "standin"),
        default="flores200",
        help="what that model is; printed only where --spm-sha256 pins it",
    )
    parser.add_argument("--spm-sha256", metavar="HEX", help="SHA-256 that the model must have")
    parser.add_argument(
        "--detect",
        nargs="?",
        const="",
        metavar="MODEL",
        help="count lines in another language than the target, with our language identifier",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no talk on stderr")
    parser.add_argument(
        "--strict", action="store_true", help="exit 1 where a file has faults or is missing"
    )


def _choice(arguments: argparse.Namespace) -> "MetricChoice":
    from eval.metrics import choose_metrics

    return choose_metrics(
        arguments.metrics,
        spm=arguments.spm,
        spm_name=arguments.spm_name,
        spm_sha256=arguments.spm_sha256,
    )


def _detect(arguments: argparse.Namespace) -> LidLabels | None:
    return None if arguments.detect is None else LidLabels(arguments.detect or None)


def score_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hypothesis", required=True, type=Path, help="translations, line by line")
    parser.add_argument("--reference", required=True, type=Path, help="references, line by line")
    parser.add_argument("--target", required=True, help="target language")
    parser.add_argument(
        "--source-text", type=Path, help="sources, to count lines left as they were"
    )
    parser.add_argument(
        "--neural",
        metavar="NAME",
        help="also a neural metric: an installed plug-in, or a command (see eval/README.md); "
        "needs --source-text and --source",
    )
    parser.add_argument("--neural-model", type=Path, help="local path of its weights")
    parser.add_argument("--source", help="source language, for --neural")
    _metric_arguments(parser)


def score(arguments: argparse.Namespace) -> int:
    from eval.scoring import score_file
    from nllb.languages import parse_language
    from nllb.textio import json_line

    scores, findings = score_file(
        arguments.hypothesis,
        arguments.reference,
        target=str(parse_language(arguments.target)),
        choice=_choice(arguments),
        source_text=arguments.source_text,
        detect=_detect(arguments),
    )
    for result in scores:
        print(json_line(asdict(result)) if arguments.json else result.as_text())
    if arguments.neural:
        _print_neural(arguments)
    # A warning is never silent: with --json it stands in every object.
    if not arguments.json:
        for warning in dict.fromkeys(text for result in scores for text in result.warnings):
            print(f"warning: {warning}", file=sys.stderr)
    return EXIT_FLAGGED if findings and arguments.strict else 0


def _print_neural(arguments: argparse.Namespace) -> None:
    from eval.neural import metric_command, neural_score
    from nllb.errors import ConfigError
    from nllb.languages import parse_language
    from nllb.textio import json_line, read_lines

    if not arguments.source_text or not arguments.source:
        raise ConfigError("--neural needs --source-text FILE and --source L")
    files = (arguments.source_text, arguments.hypothesis, arguments.reference)
    found = neural_score(
        metric_command(arguments.neural),
        list(zip(*(read_lines(path, errors="replace") for path in files), strict=True)),
        source=str(parse_language(arguments.source)),
        target=str(parse_language(arguments.target)),
        model=arguments.neural_model,
    )
    if arguments.json:
        print(json_line({"metric": found.name, "score": found.mean, **asdict(found)}))
    else:
        print(f"{found.name} {found.mean:.4f}  {found.signature}  licence: {found.licence}")
    if not found.supported:
        print(
            f"warning: {found.name} was not trained on {arguments.target}: its score says little",
            file=sys.stderr,
        )


def flores_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Score all directions of a test set: from a folder of SRC-TGT.txt, or by translating with "
        "a model first. OUT keeps the integers of every sentence; running again computes only "
        "what changed, and what 'nllb eval compare' and 'nllb eval report' read is OUT."
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the results; resumes")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--model", "-m", help="translate with this model into OUT/outputs")
    given.add_argument("--outputs", type=Path, help="folder with SRC-TGT.txt")
    parser.add_argument(
        "--flores",
        type=Path,
        default=os.environ.get("NLLB_FLORES"),
        help="folder of FLORES-200 or FLORES+, or any folder of line-aligned files CODE[.txt]; "
        "default: $NLLB_FLORES",
    )
    parser.add_argument("--split", default="devtest", help="dev or devtest; default: devtest")
    parser.add_argument(
        "--directions",
        nargs="+",
        metavar="D",
        help="SRC-TGT, SRC-*, *-TGT, all, @FILE; default: every pair of the languages at hand. "
        "What is asked for and missing is listed",
    )
    parser.add_argument("--system", help="name of the system in reports; default: the folder's")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    _metric_arguments(parser)


def flores(arguments: argparse.Namespace) -> int:
    from eval.directions import outputs_in, parse_directions
    from eval.flores import score_outputs
    from eval.outputs import translate_outputs
    from nllb.textio import json_line

    benchmark = _benchmark(arguments)
    if arguments.model:
        outputs = arguments.out / "outputs"
        wanted = parse_directions(
            arguments.directions or ["all"],
            sources=benchmark.languages,
            targets=benchmark.languages,
        )
        if not arguments.dry_run:
            translate_outputs(
                outputs,
                wanted,
                benchmark=benchmark,
                translate=_translate(arguments.model),
                quiet=arguments.quiet,
            )
        files = {} if arguments.dry_run else outputs_in(outputs, benchmark.languages)
    else:
        outputs = arguments.outputs
        files = outputs_in(outputs, benchmark.languages)
        wanted = parse_directions(
            arguments.directions or ["*-*"],
            sources=benchmark.languages
            if arguments.directions
            else sorted({direction.source for direction in files}),
            targets=benchmark.languages
            if arguments.directions
            else sorted({direction.target for direction in files}),
        )
    if arguments.dry_run:
        have = sum(direction in files for direction in wanted)
        verb = "translate and score" if arguments.model else "score"
        print(f"would {verb} {len(wanted):,} directions of {benchmark.title}; {have:,} have a file")
        return 0
    evaluation = score_outputs(
        files,
        benchmark=benchmark,
        out=arguments.out,
        choice=_choice(arguments),
        system=arguments.system or (arguments.model or str(outputs.resolve().name)),
        outputs=outputs,
        wanted=wanted,
        workers=arguments.workers,
        detect=_detect(arguments),
        quiet=arguments.quiet,
    )
    if arguments.json:
        for row in evaluation.rows:
            print(json_line(row.as_json()))
        for group in evaluation.groups:
            print(json_line(asdict(group)))
    else:
        print(_overview(evaluation))
    _say_gaps(evaluation)
    faulty = bool(evaluation.failed) or any(row.findings for row in evaluation.rows)
    incomplete = bool(evaluation.missing)
    if evaluation.failed:
        return EXIT_FLAGGED
    return EXIT_FLAGGED if arguments.strict and (faulty or incomplete) else 0


def _benchmark(arguments: argparse.Namespace) -> "LineAlignedSet":
    from nllb.benchmarks import HOW_TO_OBTAIN, load_aligned, load_flores
    from nllb.errors import ConfigError, DataError

    if not arguments.flores:
        raise ConfigError(f"give --flores DIR, or set NLLB_FLORES. {HOW_TO_OBTAIN}")
    try:
        return load_flores(arguments.flores, arguments.split)
    except DataError as no_flores:
        try:
            return load_aligned(arguments.flores)
        except DataError:
            raise no_flores from None


def _translate(model: str) -> Any:
    from nllb.translation.translator import Translator

    translator = Translator.load(model, report=lambda text: print(text, file=sys.stderr))

    def translate(sentences: Sequence[str], source: str, target: str) -> list[str]:
        found = translator.translate(list(sentences), source=source, target=target)
        return [translation.text for translation in found]

    return translate


def _overview(evaluation: "Evaluation") -> str:
    from eval.metrics import metric_title

    lines = [f"{evaluation.system} on {evaluation.benchmark}: {len(evaluation.rows):,} directions"]
    for group in evaluation.groups:
        gap = f", {group.missing:,} missing" if group.missing else ""
        lines.append(
            f"  {group.group:<18} {metric_title(group.metric):<7} {group.mean:6.2f}  "
            f"(95 % {group.low:.2f} to {group.high:.2f}; n = {group.count:,}{gap})"
        )
    for name in evaluation.metrics:
        for target, signature in evaluation.signatures[name].items():
            place = "" if target == "*" else f" into {target}"
            lines.append(f"  {metric_title(name)}{place}: {signature}")
    return "\n".join(lines)


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


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Say what changed from A to B, for whom, and whether a person would notice. A and B are "
        "folders of 'nllb eval flores' on the same data with the same metrics."
    )
    parser.add_argument("first", metavar="A", type=Path, help="the system before")
    parser.add_argument("second", metavar="B", type=Path, help="the system after")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--quiet", action="store_true", help="no talk on stderr")


def compare(arguments: argparse.Namespace) -> int:
    from eval.comparison import compare as compare_evaluations
    from eval.results import load_evaluation
    from nllb.textio import json_line

    comparison = compare_evaluations(
        load_evaluation(arguments.first), load_evaluation(arguments.second), quiet=arguments.quiet
    )
    if arguments.json:
        print(json_line(asdict(comparison)))
    else:
        print(comparison.verdict)
    for name, directions in ((arguments.first, comparison.only_first),
                             (arguments.second, comparison.only_second)):  # fmt: skip
        if directions:
            named = ", ".join(directions[:5]) + (", ..." if len(directions) > 5 else "")
            print(f"warning: only {name} has {len(directions):,}: {named}", file=sys.stderr)
    return 0


def report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write one self-contained HTML report (no network needed to read it), and beside it .json, "
        ".parquet, .md, .model-index.yaml and .junit.xml. DIR are folders of 'nllb eval flores', "
        "'nllb eval xsts score' and 'nllb eval toxicity'; of several evaluations the first is the "
        "baseline."
    )
    parser.add_argument("directories", metavar="DIR", nargs="+", type=Path, help="results")
    parser.add_argument("report", metavar="REPORT.html", type=Path, help="the file to write")
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help="exit 1 if true: 'GROUP METRIC drop > N [and significant]', 'GROUP METRIC < N', "
        "'missing > N', 'faults > N'; may be given several times",
    )
    parser.add_argument("--title", default="", help="heading of the page")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.add_argument("--quiet", action="store_true", help="no talk on stderr")


def report(arguments: argparse.Namespace) -> int:
    from eval.report import write_report
    from nllb.errors import ConfigError
    from nllb.textio import json_line

    if arguments.report.suffix != ".html":
        raise ConfigError(f"the last argument is the page to write, *.html: {arguments.report}")
    written = write_report(
        arguments.directories,
        arguments.report,
        fail_if=arguments.fail_if,
        title=arguments.title,
        quiet=arguments.quiet,
    )
    if arguments.json:
        value = asdict(written)
        for name in ("page", "files"):
            paths = value[name] if name == "files" else [value[name]]
            value[name] = [str(path) for path in paths] if name == "files" else str(paths[0])
        print(json_line(value))
    else:
        print(written.verdict or f"wrote {written.page}")
        for gate in written.gates:
            print(f"{'FAILED' if gate.failed else 'passed'}: {gate.condition} ({gate.message})")
    if not arguments.quiet:
        print(f"wrote {written.page} ({written.size / 1e6:.2f} MB)", file=sys.stderr)
    for warning in written.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return EXIT_FLAGGED if written.failed else 0
