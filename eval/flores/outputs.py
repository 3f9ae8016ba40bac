"""Files `SRC-TGT.txt` for scoring: translations by a model, or copied sources.

A file grows under a temporary name and is renamed when it is complete, so that a killed run resumes
after the last window of lines. `made_by.json` records the model and the search, so that the outputs
of two models or searches are never mixed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from nllb.config.fingerprints import claim_directory
from nllb.errors import DataError, LanguageError
from nllb.io.benchmarks import LineAlignedSet
from nllb.io.progress import Progress
from nllb.io.text import write_lines
from nllb.translation.files import PartialOutput
from nllb.translation.retry import SegmentError

from .directions import Direction

WINDOW_LINES: Final = 256
"""Lines that are translated and written together; a killed run loses at most these."""

Translate = Callable[[Sequence[str], str, str], Sequence[str]]
"""(sentences, source, target) -> one translation for each sentence."""


def output_path(directory: Path, direction: Direction) -> Path:
    """Return the path of a direction's translations."""
    return directory / f"{direction}.txt"


def translate_outputs(
    directory: Path,
    directions: Sequence[Direction],
    *,
    benchmark: LineAlignedSet,
    translate: Translate,
    made_by: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> dict[str, str]:
    """Translate the directions that have no file yet.

    A sentence without output becomes an empty line, which scoring counts.

    Args:
        directory: folder of the outputs; resumes.
        directions: what to translate.
        benchmark: the sources.
        translate: the translator.
        made_by: what the outputs depend on: model, search.
        quiet: no progress on stderr.

    Returns: directions whose languages the translator does not have, with the reason.

    Raises:
        ConfigError: if the folder has outputs of another model or search.
        DataError: if the translator returns a different number of lines.
    """
    made_by = {**(made_by or {}), "sources": benchmark.title}
    claim_directory(directory, made_by, ignored=["model"])  # the model may have moved
    failed = {}
    total = sum(len(benchmark.sentences(direction.source)) for direction in directions)
    with Progress("translating", total=total, unit="lines", quiet=quiet) as progress:
        for direction in directions:
            sentences = benchmark.sentences(direction.source)
            path = output_path(directory, direction)
            if path.is_file():
                progress.resume(len(sentences), str(direction))
                continue
            try:
                _translate_file(path, direction, sentences, translate, progress)
            except LanguageError as error:
                failed[str(direction)] = str(error)
                progress.advance(len(sentences), str(direction))
    return failed


def copy_sources(
    directory: Path, directions: Sequence[Direction], *, benchmark: LineAlignedSet
) -> dict[Direction, Path]:
    """Write each source once and return it as the output of its directions: the copying baseline.

    A useful model scores higher, which is hard between closely related languages.
    """
    claim_directory(directory, {"model": "copying the source", "sources": benchmark.title})
    files = {}
    for direction in directions:
        path = directory / f"{direction.source}.txt"
        if not path.is_file():
            write_lines(path, benchmark.sentences(direction.source))
        files[direction] = path
    return files


def translate_all(
    sentences: Sequence[str], translate: Callable[[list[str]], Sequence[str]]
) -> list[str]:
    """Translate sentences; a sentence without output becomes empty."""
    try:
        return list(translate(list(sentences)))
    except SegmentError:
        if len(sentences) == 1:
            return [""]
        half = len(sentences) // 2
        return translate_all(sentences[:half], translate) + translate_all(
            sentences[half:], translate
        )


def _translate_file(
    path: Path,
    direction: Direction,
    sentences: Sequence[str],
    translate: Translate,
    progress: Progress,
) -> None:
    job: dict[str, Any] = {"direction": str(direction), "lines": len(sentences)}
    with PartialOutput(path, job) as output:
        done = min(output.lines_done, len(sentences))
        progress.resume(done, str(direction))
        for at in range(done, len(sentences), WINDOW_LINES):
            window = sentences[at : at + WINDOW_LINES]
            lines = translate(window, direction.source, direction.target)
            if len(lines) != len(window):
                raise DataError(
                    f"{direction}: the translator returned {len(lines):,} lines for {len(window):,}"
                )
            # A line break inside a translation would shift every line after it.
            output.write("".join(" ".join(line.split("\n")) + "\n" for line in lines))
            output.flush()
            progress.advance(len(window))
        output.finish()
