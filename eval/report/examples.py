"""Example sentences: the lowest and the most changed, marked against the reference."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import regex
from markupsafe import Markup, escape
from numpy.typing import NDArray

from eval.flores.comparison import stored_metric
from eval.flores.directions import Direction, known_languages, language_name
from eval.flores.results import Evaluation
from eval.flores.target_files import load_target
from eval.metrics.hypothesis_checks import read_hypothesis
from eval.metrics.registry import metric_title
from nllb.errors import DataError, NllbError
from nllb.io.benchmarks import load_aligned, load_flores, sentences_sha256
from nllb.io.page import heading, notice, paragraph

from .sources import Sources
from .wording import without_folders

MAX_DIRECTIONS: Final = 4
MAX_SENTENCES: Final = 2
MIN_EQUAL_RUN: Final = 2
"""Equal runs shorter than this between two differences are shown as different, for readability."""
_CODE: Final = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}[0-9]?")
_CLUSTERS: Final = regex.compile(r"\X")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One sentence with the translations of all systems."""

    direction: Direction
    """Which direction."""
    line: int
    """Line number from 1."""
    why: str
    """Reason for the choice."""
    source: str
    """The source sentence."""
    reference: str
    """The reference."""
    outputs: tuple[tuple[str, str, float], ...]
    """(system, its translation, sentence score)."""


def examples(sources: Sources) -> Iterator[Markup]:
    """Yield examples of the lowest and the most changed directions."""
    metric = sources.primary
    found = []
    problems = []
    for direction, why in _chosen(sources):
        try:
            found += _of_direction(sources, direction, why)
        except (NllbError, OSError) as error:
            problems.append(f"{direction}: {without_folders(str(error))}")
    if problems:
        yield notice("Some texts are no longer available", problems, kind="warning")
    if not found:
        yield paragraph("No example could be read.")
        return
    yield paragraph(
        "In each translation, underlined text is not in the reference, and struck-out text is only "
        f"in the reference. Scores are sentence-level {metric_title(metric)}.",
        kind="soft",
    )
    last = None
    for example in found:
        if example.direction != last:
            last = example.direction
            names = language_name(last.source), language_name(last.target)
            yield heading(f"{names[0]} to {names[1]} ({last}): {example.why}")
        yield _card(example)


def difference(reference: str, text: str) -> Markup:
    """Return the text with insertions and, struck out, what only the reference has.

    Grapheme clusters are compared, so that no mark is torn from its letter.
    """
    a, b = _CLUSTERS.findall(reference), _CLUSTERS.findall(text)
    blocks = _merged(SequenceMatcher(None, a, b, autojunk=False).get_opcodes())
    parts = []
    for kind, a_begin, a_end, b_begin, b_end in blocks:
        left, right = "".join(a[a_begin:a_end]), "".join(b[b_begin:b_end])
        if kind == "equal":
            parts.append(escape(right))
        else:
            if left:
                parts.append(Markup("<del>{}</del>").format(left))
            if right:
                parts.append(Markup("<ins>{}</ins>").format(right))
    return Markup().join(parts)


@cache
def language_tag(code: str) -> str:
    """Return the BCP 47 tag of a language, for the browser's fonts and screen readers."""
    language = known_languages().get(code)
    short = [a for a in (language.aliases if language else ()) if re.fullmatch("[a-z]{2}", a)]
    return f"{short[0] if short else code[:3]}-{code[4:]}"


def _merged(
    blocks: Sequence[tuple[str, int, int, int, int]],
) -> list[tuple[str, int, int, int, int]]:
    merged: list[tuple[str, int, int, int, int]] = []
    for number, block in enumerate(blocks):
        kind, *_ = block
        inner = 0 < number < len(blocks) - 1
        if kind == "equal" and inner and block[2] - block[1] < MIN_EQUAL_RUN:
            kind = "replace"
        if merged and kind != "equal" and merged[-1][0] != "equal":
            old = merged[-1]
            merged[-1] = ("replace", old[1], block[2], old[3], block[4])
        else:
            merged.append((kind, *block[1:]))
    return merged


def _chosen(sources: Sources) -> list[tuple[Direction, str]]:
    metric = sources.primary
    chosen: dict[Direction, str] = {}
    if sources.comparison is not None:
        changes = [one for one in sources.comparison.directions if one.metric == metric]
        changes.sort(key=lambda change: change.delta)
        if changes and changes[0].delta < 0:
            chosen[changes[0].direction] = f"largest loss, {changes[0].delta:+.2f}"
        if changes and changes[-1].delta > 0:
            chosen[changes[-1].direction] = f"largest gain, {changes[-1].delta:+.2f}"
    rows = [row for row in sources.latest.rows if metric in row.scores]
    rows.sort(key=lambda row: row.scores[metric].score)
    for row in rows:
        if len(chosen) >= MAX_DIRECTIONS:
            break
        chosen.setdefault(row.direction, f"among the lowest, {row.scores[metric].score:.1f}")
    return list(chosen.items())


def _of_direction(sources: Sources, direction: Direction, why: str) -> list[Example]:
    latest = sources.latest
    scores = [_sentence_scores(one, direction, sources.primary) for one in sources.evaluations]
    known = [values for values in scores if values is not None]
    if scores[-1] is None:
        return []
    if len(known) > 1:
        order = np.argsort(-np.abs(known[-1] - known[0]), kind="stable")
    else:
        order = np.argsort(scores[-1], kind="stable")
    texts = [_output(one, direction) for one in sources.evaluations]
    source, reference = _texts(latest, direction)
    return [
        Example(
            direction=direction,
            line=number + 1,
            why=why,
            source=source[number],
            reference=reference[number],
            outputs=tuple(
                (name, lines[number], float(values[number]))
                for name, lines, values in zip(sources.labels, texts, scores, strict=True)
                if values is not None and lines
            ),
        )
        for number in order[:MAX_SENTENCES].tolist()
    ]


def _sentence_scores(
    evaluation: Evaluation, direction: Direction, metric_name: str
) -> NDArray[np.float64] | None:
    if direction not in {row.direction for row in evaluation.rows}:
        return None
    metric = stored_metric(metric_name)
    result = load_target(evaluation.directory, direction.target)
    place = [row.direction for row in result.rows].index(direction)
    return metric.score(result.statistics(metric, place))


def _output(evaluation: Evaluation, direction: Direction) -> list[str]:
    """Return the lines that were scored, and no others.

    Results of unknown origin can contain any path of this machine: the lines of a file are shown
    only if they have the hash in the results.
    """
    for row in evaluation.rows:
        if row.direction == direction:
            path = Path(evaluation.outputs) / row.file
            lines, _ = read_hypothesis(path, expected=evaluation.num_sentences)
            if sentences_sha256(lines) != row.sha256:
                raise DataError(f"{path} is not the file that was scored, or has changed since")
            return lines
    return []


def _texts(evaluation: Evaluation, direction: Direction) -> tuple[tuple[str, ...], tuple[str, ...]]:
    _, _, split = evaluation.benchmark.partition("[")[0].partition("/")
    folder = evaluation.benchmark_dir
    benchmark = load_flores(folder, split) if split else load_aligned(folder)
    benchmark = benchmark.first(evaluation.num_sentences)
    for code in (direction.target, direction.source):
        recorded = evaluation.reference_sha256.get(code)
        # Results contain the hash of a source only if it is also a reference. Other files are shown
        # only if their names are those of test sets.
        if recorded is None and code == direction.source and _CODE.fullmatch(code):
            continue
        if benchmark.sha256(code) != recorded:
            raise DataError(f"{benchmark.path(code)} is not what was scored")
    return benchmark.sentences(direction.source), benchmark.sentences(direction.target)


def _card(example: Example) -> Markup:
    source, target = map(language_tag, (example.direction.source, example.direction.target))
    rows = [
        Markup('<dt>Source, line {}</dt><dd dir="auto" lang="{}">{}</dd>').format(
            example.line, source, example.source
        ),
        Markup('<dt>Reference</dt><dd dir="auto" lang="{}">{}</dd>').format(
            target, example.reference
        ),
    ]
    rows += [
        Markup('<dt>{} ({})</dt><dd dir="auto" lang="{}">{}</dd>').format(
            name, f"{score:.1f}", target, difference(example.reference, text)
        )
        for name, text, score in example.outputs
    ]
    return Markup('<div class="example"><dl>{}</dl></div>').format(Markup().join(rows))
