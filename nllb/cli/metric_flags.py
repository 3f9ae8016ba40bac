"""Flags shared by the verbs that score: metrics, vocabulary, language identifier."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .stage_flags import quiet_argument

if TYPE_CHECKING:
    from eval.metrics.registry import MetricChoice
    from lid import Detector

EXIT_FLAGGED = 1


@dataclass(frozen=True)
class LidLabels:
    """Identifies the language of texts with a model that each process loads on first use."""

    model: str | None = None
    """Model directory; None is the bundled model."""

    @property
    def identity(self) -> str:
        """Hash of the model files: with another identifier, scores are computed again."""
        from lid.detector import DEFAULT_MODEL_DIR
        from nllb.config.fingerprints import model_fingerprint

        return model_fingerprint(Path(self.model) if self.model else Path(DEFAULT_MODEL_DIR))

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


def metric_name_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="M",
        help="any of chrf++, chrf, spbleu, bleu, ter; default: chrf++ (and spbleu with --spm)",
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
        help="name of this model, default: flores200; it is printed only if --spm-sha256 is given",
    )
    parser.add_argument("--spm-sha256", metavar="HEX", help="required SHA-256 of the model")
    parser.add_argument(
        "--lowercase",
        action="store_true",
        help="lowercase hypotheses and references first (case:lc in the signature)",
    )


def metric_arguments(parser: argparse.ArgumentParser) -> None:
    metric_name_arguments(parser)
    parser.add_argument(
        "--detect",
        nargs="?",
        const="",
        metavar="MODEL",
        help="count lines that are not in the target language with MODEL; default: the bundled "
        "identifier",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    quiet_argument(parser)
    parser.add_argument(
        "--strict", action="store_true", help="exit with code 1 if a file has errors or is missing"
    )


def neural_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--neural",
        metavar="NAME",
        help="also compute a neural metric: comet, metricx, an installed plug-in, or a command "
        "(see eval/README.md)",
    )
    parser.add_argument("--neural-model", type=Path, metavar="F", help="local path of its weights")
    parser.add_argument(
        "--neural-python",
        type=Path,
        metavar="F",
        help="Python interpreter of the environment in which the metric is installed",
    )
    parser.add_argument(
        "--neural-cache",
        type=Path,
        metavar="DIR",
        help="folder that caches scores by the hash of sentence, metric and model",
    )


def metric_choice(arguments: argparse.Namespace) -> "MetricChoice":
    from dataclasses import replace

    from eval.metrics.neural import metric_command
    from eval.metrics.neural_metric import NeuralChoice
    from eval.metrics.registry import choose_metrics

    choice = choose_metrics(
        ",".join(arguments.metrics or ()),
        spm=arguments.spm,
        spm_name=arguments.spm_name,
        spm_sha256=arguments.spm_sha256,
        lowercase=arguments.lowercase,
    )
    if "neural" not in arguments or not arguments.neural:
        return choice
    command = metric_command(arguments.neural, python=arguments.neural_python)
    return replace(
        choice,
        neural=NeuralChoice(
            name=Path(arguments.neural.split()[-1]).stem,
            command=tuple(command),
            model=arguments.neural_model,
            cache_dir=arguments.neural_cache,
        ),
    )


def label_detector(arguments: argparse.Namespace) -> LidLabels | None:
    return None if arguments.detect is None else LidLabels(arguments.detect or None)
