"""xsim: the share of sentences whose nearest sentence in the other language is not their own.

Nearest by margin, as LASER measures it: ratio with the mean over 4 neighbours, each side among the
lines of one line-aligned set. Both directions count, since hubs spoil them unequally.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

from data_pipeline.mining.config import XsimConfig
from data_pipeline.mining.encoders import Encoder, Vectors, check_finite, load_encoder, normalized
from data_pipeline.mining.margins import Margin, margins
from nllb.benchmarks import FLORES_SPLITS, LineAlignedSet, load_aligned, load_flores
from nllb.errors import DataError
from nllb.page import Column, Page, table
from nllb.progress import track
from nllb.textio import write_json


@dataclass(frozen=True, kw_only=True, slots=True)
class XsimResult:
    """Error of one pair of languages."""

    language: str
    """Language that is compared with the pivot."""
    sentences: int
    """Lines of the set."""
    forward: float
    """Share of its sentences that do not find their own line in the pivot language."""
    backward: float
    """The same from the pivot language to it."""


def error_rates(
    sources: Vectors, targets: Vectors, *, margin: Margin = "ratio", neighbours: int = 4
) -> tuple[float, float]:
    """Return the error from sources to targets and back; row n of both belongs together.

    Raises:
        DataError: where the sides differ in length, are empty, or hold NaN.
    """
    if len(sources) != len(targets) or not len(sources):
        raise DataError(
            f"xsim needs as many sources as targets, and one at least; got {len(sources):,} and "
            f"{len(targets):,}"
        )
    check_finite(sources, "sources")
    check_finite(targets, "targets")
    cosines = normalized(sources) @ normalized(targets).T
    k = min(neighbours, len(cosines))
    ahead = numpy.partition(cosines, -k, axis=1)[:, -k:].mean(axis=1)
    back = numpy.partition(cosines, -k, axis=0)[-k:].mean(axis=0)
    scores = margins(cosines, ahead[:, None], back[None, :], margin)
    own = numpy.arange(len(cosines))
    return (
        float((scores.argmax(axis=1) != own).mean()),
        float((scores.argmax(axis=0) != own).mean()),
    )


def measure(
    encoder: Encoder,
    test_set: LineAlignedSet,
    languages: Sequence[str],
    pivot: str,
    *,
    margin: Margin = "ratio",
    neighbours: int = 4,
    quiet: bool = True,
) -> list[XsimResult]:
    """Measure languages against a pivot language."""
    pivots = encoder.encode(test_set.sentences(pivot), pivot)
    results = []
    for language in track(languages, "xsim", total=len(languages), quiet=quiet):
        vectors = encoder.encode(test_set.sentences(language), language)
        forward, backward = error_rates(vectors, pivots, margin=margin, neighbours=neighbours)
        results.append(
            XsimResult(
                language=language, sentences=len(vectors), forward=forward, backward=backward
            )
        )
    return results


def run_xsim(config: XsimConfig, out: Path | None, *, quiet: bool = False) -> list[XsimResult]:
    """Measure an encoder as configured; with `out`, write xsim.json and xsim.html there."""
    encoder = load_encoder(config.encoder)
    test_set = open_set(config.directory, config.split)
    pivot = config.pivot.code
    languages = [language.code for language in config.languages] or [
        code for code in test_set.languages if code != pivot
    ]
    results = measure(
        encoder,
        test_set,
        languages,
        pivot,
        margin=config.margin,
        neighbours=config.neighbours,
        quiet=quiet,
    )
    if out is not None:
        write_report(results, out, encoder=encoder.name, pivot=pivot, test_set=test_set.title)
    return results


def open_set(directory: Path, split: str) -> LineAlignedSet:
    """Open FLORES in any layout, or any folder of line-aligned files; empty languages are out."""
    try:
        found = load_flores(directory, split) if split in FLORES_SPLITS else load_aligned(directory)
    except DataError:
        found = load_aligned(directory)
    files = {code: path for code, path in found.files.items() if path.stat().st_size > 0}
    return LineAlignedSet(
        name=found.name,
        split=found.split,
        directory=found.directory,
        files=files,
        num_lines=found.num_lines,
    )


def mean_errors(results: Sequence[XsimResult]) -> tuple[float, float]:
    """Return the mean error of both directions."""
    return (
        sum(result.forward for result in results) / len(results),
        sum(result.backward for result in results) / len(results),
    )


def write_report(
    results: Sequence[XsimResult], out: Path, *, encoder: str, pivot: str, test_set: str
) -> Path:
    """Write xsim.json and xsim.html and return the page."""
    forward, backward = mean_errors(results)
    write_json(
        out / "xsim.json",
        {
            "encoder": encoder,
            "test_set": test_set,
            "pivot": pivot,
            "mean": {"forward": forward, "backward": backward},
            "languages": [
                {
                    "language": result.language,
                    "sentences": result.sentences,
                    "forward": result.forward,
                    "backward": result.backward,
                }
                for result in results
            ],
        },
    )
    page = Page("xsim", subtitle=f"{encoder} on {test_set}, against {pivot}")
    page.add(
        "Errors",
        f"Share of sentences whose nearest sentence in the other language is not their own. Mean "
        f"to {pivot}: {100 * forward:.2f} %, back: {100 * backward:.2f} %.",
        table(
            [
                Column(title="Language", kind="code"),
                Column(title="Sentences", kind="number", digits=0),
                Column(title=f"to {pivot}, %", kind="number", digits=2),
                Column(title="back, %", kind="number", digits=2),
            ],
            [
                [
                    result.language,
                    result.sentences,
                    100 * result.forward,
                    100 * result.backward,
                ]
                for result in sorted(results, key=lambda result: -result.forward)
            ],
            caption=f"Errors against {pivot}",
        ),
    )
    path = out / "xsim.html"
    page.save(path)
    return path
