"""Translate a test set into the files `SRC-TGT.txt` that scoring reads; resumes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from eval.directions import Direction
from nllb.benchmarks import LineAlignedSet
from nllb.errors import DataError
from nllb.progress import Progress
from nllb.textio import write_lines

Translate = Callable[[Sequence[str], str, str], Sequence[str]]
"""(sentences, source, target) -> one translation for each sentence."""


def output_path(directory: Path, direction: Direction) -> Path:
    """Return where a direction's translations stand."""
    return directory / f"{direction}.txt"


def translate_outputs(
    directory: Path,
    directions: Sequence[Direction],
    *,
    benchmark: LineAlignedSet,
    translate: Translate,
    quiet: bool = False,
) -> int:
    """Translate the directions that have no file yet, and return how many those were.

    Raises:
        DataError: where the translator gives another number of lines than it got.
    """
    wanted = [d for d in directions if not output_path(directory, d).is_file()]
    with Progress("translating", total=len(wanted), unit="directions", quiet=quiet) as progress:
        for direction in wanted:
            sentences = benchmark.sentences(direction.source)
            lines = translate(sentences, direction.source, direction.target)
            if len(lines) != len(sentences):
                raise DataError(
                    f"{direction}: the translator gave {len(lines):,} lines for {len(sentences):,}"
                )
            # A line break inside a translation would shift every line after it.
            single = (" ".join(line.split("\n")) for line in lines)
            write_lines(output_path(directory, direction), single)
            progress.advance(note=str(direction))
    return len(wanted)
