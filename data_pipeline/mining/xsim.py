"""xsim: the share of sentences that do not find their translation in the other language.

The nearest sentence is found by margin, as in LASER: by default the ratio with the mean over 4
neighbours, within one line-aligned set. Both directions are measured, because hub sentences affect
them differently. xsim++ adds sentences that are nearly right to the lines of the pivot language.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

from nllb.errors import DataError
from nllb.io.benchmarks import FLORES_SPLITS, LineAlignedSet, load_aligned, load_flores
from nllb.io.page import Column, Page, table
from nllb.io.progress import track
from nllb.io.text import write_json

from .calibration import find_calibration
from .distractors import KINDS, Distractor, make_distractors
from .encoders.encoder import Encoder, Vectors, check_finite, normalized
from .encoders.load_encoder import load_encoder
from .margins import margins
from .mining_config import Margin, XsimConfig
from .neighbours import check_dimensions


@dataclass(frozen=True, kw_only=True, slots=True)
class XsimResult:
    """Errors of one language pair."""

    language: str
    """Language that is compared with the pivot."""
    sentences: int
    """Number of lines of the set."""
    forward: float
    """Share of its sentences that do not find their own line in the pivot language."""
    backward: float
    """The same from the pivot language to this language."""
    plus: dict[str, float] | None = None
    """xsim++: share of its sentences that find something else when the lines of the pivot language
    contain distractors: `all`, and by what was found (a kind of distractor, or `other`)."""


def error_rates(
    sources: Vectors, targets: Vectors, *, margin: Margin = "ratio", neighbours: int = 4
) -> tuple[float, float]:
    """Return the error from sources to targets and back; row n of both is a translation pair.

    Raises:
        DataError: if the sides differ in length or dimension, are empty, or contain NaN.
    """
    if len(sources) != len(targets) or not len(sources):
        raise DataError(
            f"xsim requires equally many sources and targets, at least one; got {len(sources):,} "
            f"and {len(targets):,}"
        )
    check_dimensions(sources, targets)
    check_finite(sources, "sources")
    check_finite(targets, "targets")
    cosines = normalized(sources) @ normalized(targets).T
    scores = margins(cosines, *_neighbourhoods(cosines, neighbours), margin)
    own = numpy.arange(len(cosines))
    return (
        float((scores.argmax(axis=1) != own).mean()),
        float((scores.argmax(axis=0) != own).mean()),
    )


def measure_pair(encoder: Encoder, sources: Sequence[str], targets: Sequence[str]) -> XsimResult:
    """Measure an encoder on sentences and their translations, whose languages it is not told.

    Raises:
        DataError: the sides differ in length or are empty.
    """
    forward, backward = error_rates(encoder.encode(sources, ""), encoder.encode(targets, ""))
    return XsimResult(language="", sentences=len(sources), forward=forward, backward=backward)


def plus_errors(
    sources: Vectors,
    targets: Vectors,
    distractors: Sequence[Distractor],
    vectors: Vectors,
    *,
    margin: Margin = "ratio",
    neighbours: int = 4,
) -> dict[str, float]:
    """Return the xsim++ error from sources to targets: `all`, by kind of distractor, and `other`.

    Args:
        sources: vectors of sentences.
        targets: vectors of their translations, row for row.
        distractors: sentences that differ slightly from a translation.
        vectors: vectors of the distractors.
        margin: kind of margin.
        neighbours: number of neighbours over which the margin averages.
    """
    cosines = normalized(sources) @ normalized(numpy.concatenate([targets, vectors])).T
    ahead, back = _neighbourhoods(cosines, neighbours)
    best = margins(cosines, ahead, back, margin).argmax(axis=1).tolist()
    counts = dict.fromkeys(["all", *KINDS, "other"], 0)
    for own, found in enumerate(best):
        if found == own:
            continue
        near = distractors[found - len(targets)] if found >= len(targets) else None
        counts["all"] += 1
        counts[near.kind if near is not None and near.sentence == own else "other"] += 1
    return {name: count / len(sources) for name, count in counts.items()}


def _neighbourhoods(cosines: Vectors, neighbours: int) -> tuple[Vectors, Vectors]:
    """Return the mean of the highest cosines of each row and of each column."""
    rows, columns = (min(neighbours, size) for size in cosines.shape[::-1])
    return (
        numpy.partition(cosines, -rows, axis=1)[:, -rows:].mean(axis=1)[:, None],
        numpy.partition(cosines, -columns, axis=0)[-columns:].mean(axis=0)[None, :],
    )


def measure(
    encoder: Encoder,
    test_set: LineAlignedSet,
    languages: Sequence[str],
    pivot: str,
    *,
    margin: Margin = "ratio",
    neighbours: int = 4,
    plus: bool = False,
    quiet: bool = True,
) -> list[XsimResult]:
    """Measure languages against a pivot; `plus` adds xsim++, whose pivot must be English."""
    sentences = list(test_set.sentences(pivot))
    pivots = encoder.encode(sentences, pivot)
    distractors = make_distractors(sentences) if plus else []
    wrong = encoder.encode([distractor.text for distractor in distractors], pivot)
    results = []
    for language in track(languages, "xsim", total=len(languages), quiet=quiet):
        vectors = encoder.encode(test_set.sentences(language), language)
        forward, backward = error_rates(vectors, pivots, margin=margin, neighbours=neighbours)
        results.append(
            XsimResult(
                language=language,
                sentences=len(vectors),
                forward=forward,
                backward=backward,
                plus=plus_errors(
                    vectors, pivots, distractors, wrong, margin=margin, neighbours=neighbours
                )
                if plus
                else None,
            )
        )
    return results


def thresholds_line(config: XsimConfig, sentences: int) -> str:
    """Return a sentence about the encoder's calibrated threshold, with its precision and recall."""
    calibration = find_calibration(config.encoder, load_encoder(config.encoder))
    if calibration is None:
        return (
            f"The encoder {config.encoder} has no calibrated thresholds; run "
            "`nllb data calibrate-encoder`."
        )
    try:
        point = calibration.margin_point(config.margin, config.neighbours, sentences)
    except DataError as error:
        return str(error)
    return (
        f"Calibrated threshold of the {config.margin} margin with {config.neighbours} neighbours "
        f"among {sentences:,} sentences: {point.threshold}; precision {point.precision}, recall "
        f"{point.recall}, F1 {point.f1} ({calibration.text}, pairs hidden among distractors)."
    )


def run_xsim(config: XsimConfig, out: Path | None, *, quiet: bool = False) -> list[XsimResult]:
    """Measure an encoder as configured; if `out` is given, write xsim.json and xsim.html there."""
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
        plus=config.plus,
        quiet=quiet,
    )
    if out is not None:
        write_report(
            results,
            out,
            encoder=encoder.name,
            pivot=pivot,
            test_set=test_set.title,
            thresholds=thresholds_line(config, results[0].sentences),
        )
    return results


def open_set(directory: Path, split: str) -> LineAlignedSet:
    """Open FLORES in any layout, or a folder of line-aligned files; empty files are ignored."""
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
    results: Sequence[XsimResult],
    out: Path,
    *,
    encoder: str,
    pivot: str,
    test_set: str,
    thresholds: str = "",
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
            "thresholds": thresholds,
            "languages": [
                {
                    "language": result.language,
                    "sentences": result.sentences,
                    "forward": result.forward,
                    "backward": result.backward,
                    **({} if result.plus is None else {"plus": result.plus}),
                }
                for result in results
            ],
        },
    )
    kinds = list(results[0].plus or {})
    page = Page("xsim", subtitle=f"{encoder} on {test_set}, against {pivot}")
    page.add(
        "Errors",
        "The share of sentences whose nearest sentence in the other language is not their "
        f"translation. Mean to {pivot}: {100 * forward:.2f} %, back: {100 * backward:.2f} %.",
        thresholds,
        table(
            [
                Column(title="Language", kind="code"),
                Column(title="Sentences", kind="number", digits=0),
                Column(title=f"to {pivot}, %", kind="number", digits=2),
                Column(title="back, %", kind="number", digits=2),
                *(Column(title=f"++ {kind}, %", kind="number", digits=2) for kind in kinds),
            ],
            [
                [
                    result.language,
                    result.sentences,
                    100 * result.forward,
                    100 * result.backward,
                    *(100 * (result.plus or {})[kind] for kind in kinds),
                ]
                for result in sorted(results, key=lambda result: -result.forward)
            ],
            caption=f"Errors against {pivot}",
        ),
    )
    path = out / "xsim.html"
    page.save(path)
    return path
