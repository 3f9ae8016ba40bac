"""A complete evaluation: find or create the hypotheses of a system, then score them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eval.metrics.hypothesis_checks import Detect
from eval.metrics.registry import MetricChoice
from nllb.config.fingerprints import model_fingerprint
from nllb.errors import ConfigError, DataError
from nllb.io.benchmarks import HOW_TO_OBTAIN, LineAlignedSet, load_aligned, load_flores

from .direction_scores import score_outputs
from .directions import Direction, outputs_in, parse_directions
from .outputs import (
    Translate,
    copy_sources,
    output_path,
    translate_outputs,
)
from .results import Evaluation

OUTPUTS_DIR = "outputs"
COPYING = "copying the source"
"""Name of the baseline that outputs the source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypotheses:
    """The files to score, and where they come from."""

    folder: Path
    """Folder of the files."""
    files: Mapping[Direction, Path]
    """File of each direction that has one."""
    wanted: Sequence[Direction]
    """Directions to report on."""
    system: str
    """Name of the system for reports."""
    made_by: Mapping[str, str] = field(default_factory=dict)
    """How the files were made: model, search."""
    unmade: Mapping[str, str] = field(default_factory=dict)
    """Directions that could not be translated, with the reason."""

    def describe(self, benchmark: LineAlignedSet) -> str:
        """Return the number of directions and of files in one line."""
        have = sum(direction in self.files for direction in self.wanted)
        return f"{len(self.wanted):,} directions of {benchmark.title}; {have:,} have a file"


def open_benchmark(
    folder: Path | str | None, *, split: str = "devtest", num_lines: int | None = None
) -> LineAlignedSet:
    """Return FLORES-200, FLORES+ or any folder of line-aligned files.

    Args:
        folder: where it is.
        split: of FLORES.
        num_lines: use only the first sentences, for a quick test.

    Raises:
        ConfigError: if no folder is given; the message says how to obtain FLORES.
        DataError: if the folder has no test set.
    """
    if not folder:
        raise ConfigError(f"give --flores DIR, or set NLLB_FLORES. {HOW_TO_OBTAIN}")
    try:
        benchmark = load_flores(folder, split)
    except DataError as no_flores:
        try:
            benchmark = load_aligned(folder)
        except DataError:
            raise no_flores from None
    return benchmark.first(num_lines) if num_lines else benchmark


def find_hypotheses(
    folder: Path, benchmark: LineAlignedSet, directions: Sequence[str] | None
) -> Hypotheses:
    """Return the files `SRC-TGT.txt` of a folder.

    Without `directions` every file is scored, and directions without a file are not missing.
    """
    files = outputs_in(folder, benchmark.languages)
    if directions:
        wanted = parse_directions(
            directions, sources=benchmark.languages, targets=benchmark.languages
        )
    else:
        wanted = sorted(files)
    name = str(folder.resolve().name)
    return Hypotheses(folder=folder, files=files, wanted=wanted, system=name)


def copied_hypotheses(
    out: Path, benchmark: LineAlignedSet, directions: Sequence[str] | None
) -> Hypotheses:
    """Return the sources as if they were translations: the baseline of every comparison."""
    wanted = wanted_directions(benchmark, directions)
    folder = out / OUTPUTS_DIR
    files = copy_sources(folder, wanted, benchmark=benchmark)
    return Hypotheses(folder=folder, files=files, wanted=wanted, system=COPYING)


def translated_hypotheses(
    out: Path,
    benchmark: LineAlignedSet,
    directions: Sequence[str] | None,
    *,
    model: str,
    model_path: Path,
    search: str,
    make_translate: Callable[[], Translate],
    quiet: bool = True,
) -> Hypotheses:
    """Translate the directions that have no file yet and return all files.

    Args:
        out: folder of the evaluation; resumes.
        benchmark: the sources.
        directions: what to translate; None means every pair.
        model: name of the model as the user gave it.
        model_path: its files, whose hash identifies it.
        search: description of the search, for the record.
        make_translate: loads the translator; it is called after the folder is claimed.
        quiet: no progress on stderr.
    """
    wanted = wanted_directions(benchmark, directions)
    folder = out / OUTPUTS_DIR
    made_by = {"model": model, "model files": model_fingerprint(model_path), "search": search}
    unmade = translate_outputs(
        folder, wanted, benchmark=benchmark, translate=make_translate(), made_by=made_by,
        quiet=quiet,
    )  # fmt: skip
    paths = {direction: output_path(folder, direction) for direction in wanted}
    return Hypotheses(
        folder=folder,
        files={direction: path for direction, path in paths.items() if path.is_file()},
        wanted=wanted,
        system=Path(model).name if Path(model).exists() else model,
        made_by=made_by,
        unmade=unmade,
    )


def planned_hypotheses(
    out: Path, benchmark: LineAlignedSet, directions: Sequence[str] | None, *, system: str
) -> Hypotheses:
    """Return the directions of a run and the files that exist already; nothing is written."""
    folder = out / OUTPUTS_DIR
    have = outputs_in(folder, benchmark.languages) if folder.is_dir() else {}
    return Hypotheses(
        folder=folder, files=have, wanted=wanted_directions(benchmark, directions), system=system
    )


def wanted_directions(
    benchmark: LineAlignedSet, directions: Sequence[str] | None
) -> list[Direction]:
    """Return the requested directions; None means every pair of languages."""
    languages = benchmark.languages
    return parse_directions(directions or ["all"], sources=languages, targets=languages)


def evaluate_hypotheses(
    made: Hypotheses,
    *,
    benchmark: LineAlignedSet,
    out: Path,
    choice: MetricChoice,
    system: str | None = None,
    workers: int = 1,
    detect: Detect | None = None,
    quiet: bool = True,
) -> Evaluation:
    """Score hypotheses and write the folder `out`; resumes."""
    return score_outputs(
        made.files,
        benchmark=benchmark,
        out=out,
        choice=choice,
        system=system or made.system,
        outputs=made.folder,
        wanted=made.wanted,
        workers=1 if choice.neural else workers,
        detect=detect,
        made_by=made.made_by,
        unmade=made.unmade,
        quiet=quiet,
    )
