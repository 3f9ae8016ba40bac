"""`nllb eval xsts check` and `score`: the ratings of a human evaluation."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nllb.errors import ConfigError, NllbError

if TYPE_CHECKING:
    from eval.xsts.ingestion import RatingsFile
    from eval.xsts.study_checks import References
    from eval.xsts.validation import ScoreSettings

from .eval_xsts_study import columns_argument
from .metric_flags import label_detector
from .stage_flags import quiet_argument


def check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read ratings and run the checks X01 to X18. The exit code is 1 if a check rejects a file."
    )
    _input_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one finding per line as JSON")


def check(arguments: argparse.Namespace) -> int:
    from eval.xsts.validation import as_line, check_summary, validate
    from nllb.io.text import json_line

    files, errors = _read_all(arguments)
    validated = validate(
        files,
        _settings(arguments),
        references=_references(arguments),
        detect=label_detector(arguments),
        calibration_set=_calibration_set(arguments),
    )
    findings = validated.validation.findings
    for one in findings:
        print(json_line(asdict(one)) if arguments.json else as_line(one))
    for text in errors:
        record = {"code": "X01", "severity": "refuse", "message": text}
        print(json_line(record) if arguments.json else f"refuse: {text}")
    if not arguments.quiet:
        print(check_summary(validated, num_unread=len(errors)), file=sys.stderr)
    return 1 if validated.refused or errors else 0


def score_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Score ratings: medians over raters, calibration, agreement, intervals and paired "
        "differences of systems. Writes OUT/xsts.json and prints tables in Markdown. Ratings on "
        "the ESA and MQM scales are scored on their own scale, in OUT/human_scores.json."
    )
    _input_arguments(parser)
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for xsts.json")
    parser.add_argument(
        "--method",
        default="linear",
        metavar="NAME",
        help="the calibration method of the main tables, default: linear; one table compares all "
        "methods",
    )
    parser.add_argument(
        "--median",
        choices=["median", "median_low"],
        default="median",
        help="median over raters, default: median; median_low takes the lower of two middle ones",
    )
    parser.add_argument(
        "--centre",
        default="3",
        metavar="X",
        help="expected score of the calibration set, default: 3, or 'mean' of the directions",
    )
    parser.add_argument("--no-ordinal", action="store_true", help="do not fit the ordinal model")
    parser.add_argument(
        "--fit-strength",
        action="store_true",
        help="fit the strength of the method 'alpha' to chrF++",
    )
    parser.add_argument("--spm", type=Path, metavar="F", help="SentencePiece model, to add spBLEU")
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="resamples of the bootstrap, default: 1000",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the bootstrap, default: 0"
    )
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")


def score(arguments: argparse.Namespace) -> int:
    from eval.xsts.automatic import machine_scorer
    from eval.xsts.evaluation import evaluate
    from eval.xsts.markdown_tables import as_markdown
    from eval.xsts.result import write_result
    from eval.xsts.validation import common_scale
    from nllb.io.text import json_line

    files = [_read(path, arguments) for path in arguments.files]
    if common_scale(files) != "xsts":
        return _score_other_scale(files, arguments)
    references = _references(arguments)
    result = evaluate(
        files,
        _settings(arguments),
        references=references,
        detect=label_detector(arguments),
        calibration_set=_calibration_set(arguments),
        automatic=machine_scorer(spm_path=arguments.spm) if references is not None else None,
    )
    path = write_result(result, arguments.out)
    print(json_line(asdict(result)) if arguments.json else as_markdown(result))
    if not arguments.quiet:
        print(f"wrote {path}", file=sys.stderr)
    return 0


def _score_other_scale(files: "list[RatingsFile]", arguments: argparse.Namespace) -> int:
    from eval.xsts.other_scales import as_markdown, score_other_scale, write_other_scale
    from eval.xsts.validation import validate
    from nllb.io.text import json_line

    settings = _settings(arguments)
    validated = validate(files, settings, references=_references(arguments))
    result = score_other_scale(files, validated, settings)
    path = write_other_scale(result, arguments.out)
    print(json_line(asdict(result)) if arguments.json else as_markdown(result))
    if not arguments.quiet:
        print(f"wrote {path}", file=sys.stderr)
    return 0


def _input_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path,
                        help=".csv, .tsv, .xlsx, .ods, .json, .jsonl or .parquet, or an export of "
                        "Label Studio, Appraise, pearmut or WMT (ESA, MQM)")  # fmt: skip
    columns_argument(parser)
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="preset of column names: canonical, wide, sheet or training; default: detected from "
        "the header",
    )
    parser.add_argument(
        "--format", metavar="NAME",
        help="format of the files (csv, xlsx, labelstudio, appraise, ...); default: detected from "
        "the content",
    )  # fmt: skip
    parser.add_argument(
        "--sheet",
        metavar="NAME",
        help="read only this sheet; default: all visible sheets with ratings",
    )
    parser.add_argument(
        "--scale",
        choices=["xsts", "esa", "mqm"],
        help="scale of the scores; default: that of the format",
    )
    parser.add_argument(
        "--keep-rater-ids", action="store_true",
        help="show the rater ids of the files; default: pseudonyms",
    )  # fmt: skip
    parser.add_argument(
        "--merge-raters", action="store_true",
        help="join rater ids that differ only in case or spacing",
    )  # fmt: skip
    parser.add_argument(
        "--flores", type=Path, metavar="DIR", help="folder of the test set that was rated"
    )
    parser.add_argument(
        "--split",
        default="devtest",
        choices=["dev", "devtest"],
        help="split of the test set, default: devtest",
    )
    parser.add_argument(
        "--min-raters",
        type=int,
        default=3,
        metavar="N",
        help="required number of raters per item, default: 3",
    )
    parser.add_argument(
        "--calibration-size",
        type=int,
        metavar="N",
        help="number of items in the full calibration set",
    )
    parser.add_argument("--calibration", type=Path, metavar="FILE",
                        help="the calibration set, to check the rated texts against")  # fmt: skip
    parser.add_argument(
        "--detect",
        nargs="?",
        const="",
        metavar="MODEL",
        help="check the language of the texts with MODEL; default: the shipped identifier",
    )
    parser.add_argument(
        "--intersect", action="store_true", help="score only items that all systems have"
    )
    quiet_argument(parser)


def _read_all(arguments: argparse.Namespace) -> "tuple[list[RatingsFile], list[str]]":
    """Return the files that can be read, and the errors of the others."""
    files, errors = [], []
    for path in arguments.files:
        try:
            files.append(_read(path, arguments))
        except ConfigError:
            raise
        except NllbError as error:
            errors.append(str(error))
    return files, errors


def _read(path: Path, arguments: argparse.Namespace) -> "RatingsFile":
    from eval.xsts.ingestion import parse_columns, read_ratings

    return read_ratings(
        path,
        columns=parse_columns(arguments.columns),
        preset=arguments.preset,
        format_name=arguments.format,
        sheet=arguments.sheet,
        scale=arguments.scale,
    )


def _settings(arguments: argparse.Namespace) -> "ScoreSettings":
    from eval.xsts.calibration import CalibrationSettings
    from eval.xsts.validation import ScoreSettings

    shared = {
        "min_raters": arguments.min_raters,
        "intersect": arguments.intersect,
        "calibration_size": arguments.calibration_size,
        "keep_rater_ids": arguments.keep_rater_ids,
        "merge_raters": arguments.merge_raters,
    }
    if "method" not in arguments:
        return ScoreSettings(**shared)
    _check_method(arguments.method)
    return ScoreSettings(
        median=arguments.median,
        method=arguments.method,
        calibration=CalibrationSettings(centre=_centre(arguments.centre)),
        ordinal=not arguments.no_ordinal,
        fit_strength=arguments.fit_strength,
        resamples=arguments.resamples,
        seed=arguments.seed,
        **shared,
    )


def _check_method(method: str) -> None:
    from eval.xsts.result import METHODS
    from nllb.errors import did_you_mean

    if method not in METHODS:
        raise ConfigError(
            f"--method {method!r}{did_you_mean(method, METHODS) or ';'} valid: {', '.join(METHODS)}"
        )


def _centre(text: str) -> float | None:
    """Return the expected score of the calibration set; None is the mean of the directions."""
    try:
        return None if text == "mean" else float(text)
    except ValueError:
        raise ConfigError(f"--centre {text!r} is neither a number nor 'mean'") from None


def _calibration_set(arguments: argparse.Namespace) -> dict[str, tuple[str, str]] | None:
    from eval.xsts.sheet import read_items

    if arguments.calibration is None:
        return None
    items = read_items(arguments.calibration)
    return {item["item"]: (item["source_text"], item["target_text"]) for item in items}


def _references(arguments: argparse.Namespace) -> "References | None":
    if arguments.flores is None:
        return None
    from eval.xsts.automatic import references_of
    from nllb.io.benchmarks import load_flores

    return references_of(load_flores(arguments.flores, arguments.split))
