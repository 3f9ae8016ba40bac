"""The flags of verbs that score: which metrics, which vocabulary, which language identifier."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nllb.cli.stage_flags import quiet_argument

if TYPE_CHECKING:
    from eval.metrics.registry import MetricChoice
    from lid import Detector

EXIT_FLAGGED = 1


@dataclass(frozen=True)
class LidLabels:
    """Names the language of texts by our own identifier; opens it on first use, in each process."""

    model: str | None = None
    """Model directory; None is the one that ships."""

    def __call__(self, texts: Sequence[str]) -> Sequence[str]:
        """Return the label of each text."""
        detector = _detector(self.model)
        return [detection.language for detection in detector.detect_batch(list(texts))]


_DETECTORS: "dict[str | None, Detector]" = {}


def _detector(model: str | None) -> "Detector":
    if model not in _DETECTORS:
        from lid import Detector

        _DETECTORS[model] = Detector.load(Path(model) if model else None)
    return _DETECTORS[model]


def metric_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="M",
        help="any of chrf++, chrf, spbleu, bleu; default: chrf++, and spbleu where --spm is given",
    )
    parser.add_argument(
        "--spm",
        type=Path,
        metavar="F",
        help="SentencePiece model for spBLEU (of FLORES-200 or FLORES-101)",
    )
    parser.add_argument(
        "--spm-name",
        choices=("flores200", "flores101", "standin"),
        default="flores200",
        help="what that model is, default: flores200; printed only where --spm-sha256 pins it",
    )
    parser.add_argument("--spm-sha256", metavar="HEX", help="SHA-256 that the model must have")
    parser.add_argument(
        "--detect",
        nargs="?",
        const="",
        metavar="MODEL",
        help="count lines in another language than the target, by MODEL; default: the shipped one",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    quiet_argument(parser)
    parser.add_argument(
        "--strict", action="store_true", help="exit 1 where a file has faults or is missing"
    )


def metric_choice(arguments: argparse.Namespace) -> "MetricChoice":
    from eval.metrics.registry import choose_metrics

    return choose_metrics(
        ",".join(arguments.metrics or ()),
        spm=arguments.spm,
        spm_name=arguments.spm_name,
        spm_sha256=arguments.spm_sha256,
    )


def label_detector(arguments: argparse.Namespace) -> LidLabels | None:
    return None if arguments.detect is None else LidLabels(arguments.detect or None)
