"""Scores a model on one small test set per language, each with the same pivot language.

`nllb data decontaminate` writes such sets (`held_out_set` of its configuration): a folder for each
language with two line-aligned files, of the language and of the pivot. Unlike FLORES, the sentences
differ from language to language.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from sacrebleu.metrics.chrf import CHRF

from eval.metrics.hypothesis_checks import OFF_TARGET_CHARACTERS, Detect
from nllb.errors import DataError
from nllb.io.benchmarks import LineAlignedSet, load_aligned
from nllb.io.text import read_json, write_lines
from nllb.languages.detection import UNDETERMINED
from nllb.translation.quality import MAX_REPETITION, repetition

from .directions import Direction
from .outputs import Translate, copy_sources, output_path, translate_outputs

RESULTS_FILE: Final = "pair_sets.tsv"
_LARGEST: Final = 10
Way = Literal["into pivot", "from pivot"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairScore:
    """One direction of one set."""

    language: str
    """The language beside the pivot."""
    direction: str
    """SOURCE-TARGET."""
    lines: int
    """Sentences."""
    chrf: float
    """chrF++ of the outputs."""
    empty: int
    """Outputs without text."""
    looping: int
    """Outputs that repeat themselves."""
    judged: int
    """Number of outputs that are long enough for language identification."""
    right_language: int
    """Number of these outputs that are in the target language or undetermined."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSets:
    """The sets of a folder."""

    pivot: str
    """Code of the language that all sets have in common."""
    sets: dict[str, LineAlignedSet]
    """The set of each other language, those with the most text first."""

    def directions(self, language: str) -> dict[Way, Direction]:
        """Return both directions of a set."""
        return {
            "into pivot": Direction(source=language, target=self.pivot),
            "from pivot": Direction(source=self.pivot, target=language),
        }


def open_pair_sets(folder: Path, *, num_lines: int | None = None) -> PairSets:
    """Open a folder of sets.

    Raises:
        DataError: a set does not consist of its language and the pivot.
    """
    names = sorted(path.name for path in folder.glob("*/") if not path.name.startswith("."))
    sets = {name: load_aligned(folder / name) for name in names}
    pivots = {code for name, found in sets.items() for code in found.languages if code != name}
    wrong = [
        name for name, found in sets.items() if name not in found.files or len(found.files) != 2
    ]
    if len(pivots) != 1 or wrong:
        raise DataError(
            f"{folder} is not a folder of pair sets: expected folders CODE with the files CODE.txt "
            f"and PIVOT.txt, all with the same pivot; found "
            f"{', '.join(wrong or sorted(pivots)) or 'nothing'}"
        )
    record = folder / ".record.json"
    sizes = read_json(record).get("available", {}) if record.is_file() else {}
    ordered = sorted(sets, key=lambda name: (-sizes.get(name, 0), name))
    return PairSets(
        pivot=pivots.pop(),
        sets={name: sets[name].first(num_lines) if num_lines else sets[name] for name in ordered},
    )


def evaluate_pair_sets(
    sets: PairSets,
    out: Path,
    *,
    translate: Translate | None,
    made_by: dict[str, str] | None = None,
    detect: Detect | None = None,
    report: Callable[[PairScore], None] = lambda score: None,
    quiet: bool = True,
) -> list[PairScore]:
    """Translate every set in both directions, and score the outputs; resumes.

    Args:
        sets: the sets.
        out: folder of outputs and results.
        translate: the translator; None copies the sources as a baseline.
        made_by: what the outputs depend on: model, search.
        detect: identifies the language of outputs; None counts no output as being in a wrong
            language.
        report: receives each score when it is known.
        quiet: no progress on stderr.
    """
    scores = []
    for language, benchmark in sets.sets.items():
        directions = list(sets.directions(language).values())
        folder = out / "outputs" / language
        if translate is None:
            files = copy_sources(folder, directions, benchmark=benchmark)
        else:
            translate_outputs(
                folder, directions, benchmark=benchmark, translate=translate, made_by=made_by,
                quiet=quiet,
            )  # fmt: skip
            files = {direction: output_path(folder, direction) for direction in directions}
        for direction in directions:
            if files[direction].is_file():
                outputs = files[direction].read_text(encoding="utf-8").split("\n")[:-1]
                scores.append(_score(language, direction, outputs, benchmark, detect))
                report(scores[-1])
    rows = [asdict(score) for score in scores]
    lines = ["\t".join(map(str, row.values())) for row in rows]
    write_lines(out / RESULTS_FILE, ["\t".join(rows[0]), *lines] if rows else [])
    return scores


def _score(
    language: str,
    direction: Direction,
    outputs: Sequence[str],
    benchmark: LineAlignedSet,
    detect: Detect | None,
) -> PairScore:
    references = benchmark.sentences(direction.target)
    long = [text for text in outputs if len(text) >= OFF_TARGET_CHARACTERS]
    found = detect(long) if detect is not None else [direction.target] * len(long)
    return PairScore(
        language=language,
        direction=str(direction),
        lines=len(references),
        chrf=CHRF(word_order=2).corpus_score(list(outputs), [list(references)]).score,
        empty=sum(not text.strip() for text in outputs),
        looping=sum(repetition(text) > MAX_REPETITION for text in outputs),
        judged=len(long),
        right_language=sum(code in (direction.target, UNDETERMINED) for code in found),
    )


def summarize(sets: PairSets, scores: Sequence[PairScore]) -> Iterator[str]:
    """Yield one line for each group: mean chrF++ into and from the pivot, and the checks."""
    languages = list(sets.sets)
    for name, group in (
        (f"{_LARGEST} largest languages", languages[:_LARGEST]),
        (f"all {len(languages)} languages", languages),
    ):
        chosen = [score for score in scores if score.language in group]
        if not chosen:
            continue
        means = []
        for is_into in (True, False):
            values = [s.chrf for s in chosen if s.direction.endswith(f"-{sets.pivot}") == is_into]
            means.append(sum(values) / max(1, len(values)))
        lines, judged = sum(s.lines for s in chosen), sum(s.judged for s in chosen)
        right = sum(s.right_language for s in chosen) / max(1, judged)
        looping, empty = (sum(getattr(s, kind) for s in chosen) for kind in ("looping", "empty"))
        yield (
            f"{name}: chrF++ {means[0]:.1f} into {sets.pivot}, {means[1]:.1f} from it; right "
            f"language {right:.1%}, looping {looping / lines:.2%}, empty {empty / lines:.2%}"
        )
