"""The sections of automatic scores: verdict, groups, map, levels, extremes, languages."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from eval.flores.changes import DirectionChange, PartChange
from eval.flores.directions import (
    CELLS,
    GROUPS,
    KINDS,
    LEVEL_WORDS,
    LEVELS,
    Direction,
    known_languages,
    language_level,
    language_name,
)
from eval.flores.results import Evaluation, GroupScore
from eval.metrics.neural_metric import PREFIX
from eval.metrics.registry import LOWER_IS_BETTER, metric_title
from nllb.io.page import (
    Axis,
    Cell,
    Column,
    HeatMapLayer,
    definitions,
    heading,
    heat_map,
    notice,
    paragraph,
    table,
)

from .charts import Spread, strips
from .sources import Sources

KIND_WORDS = {
    "eng-xx": "from English",
    "xx-eng": "into English",
    "non-eng": "between others",
    "all": "all",
}
MAX_NAMED: Final = 20
MAX_MAP_SCORE: Final = 600.0
_LEVEL_CLASSES: Final[dict[str, Literal["high", "low", "very-low"]]] = {
    "high": "high",
    "low": "low",
    "very_low": "very-low",
}


def verdict_text(sources: Sources) -> str:
    """Return the main result as one sentence."""
    if sources.comparison is not None:
        return sources.comparison.verdict
    one, metric = sources.latest, sources.primary
    by_name = {group.group: group for group in one.groups if group.metric == metric}
    whole = by_name["all"]
    parts = [
        f"{KIND_WORDS[kind]} {by_name[kind].mean:.1f}" for kind in KINDS if kind in by_name
    ]  # fmt: skip
    text = (
        f"{one.system} reaches {whole.mean:.1f} {metric_title(metric)} on {one.benchmark} over "
        f"{whole.count:,} direction{'s' if whole.count > 1 else ''} (95 % {whole.low:.1f} to "
        f"{whole.high:.1f})"
    )
    if len(parts) > 1:
        text += ": " + ", ".join(parts)
    if "all.very_low" in by_name and by_name["all.very_low"].count < whole.count:
        text += f"; with a very low-resource language {by_name['all.very_low'].mean:.1f}"
    return text + "."


def verdict(sources: Sources) -> Iterator[Markup]:
    """Yield the first section: the main result, missing directions and the table of groups."""
    yield paragraph(verdict_text(sources), kind="verdict")
    if sources.labels != sources.names:
        yield definitions(zip(sources.labels, sources.names, strict=True))
    for one, name in zip(sources.evaluations, sources.names, strict=True):
        absent = [*one.missing, *one.failed]
        if absent:
            shown = [*absent[:30]] + (
                [f"and {len(absent) - 30:,} more"] if len(absent) > 30 else []
            )
            yield notice(
                f"{name}: there is no score for {len(absent):,} requested "
                f"direction{'s' if len(absent) > 1 else ''}, which no mean includes:",
                [", ".join(shown)],
                kind="error",
            )
    notes: dict[str, list[str]] = {}
    for one, name in zip(sources.evaluations, sources.names, strict=True):
        for note in one.notes:
            notes.setdefault(note, []).append(name)
    if sources.comparison is not None:
        notes |= {note: ["the comparison"] for note in sources.comparison.notes}
    if notes:
        yield notice(
            "Read this first",
            [f"{note} ({' and '.join(names)})" for note, names in notes.items()],
            kind="warning",
        )
    if sources.comparison is not None:
        only = (*sources.comparison.only_first, *sources.comparison.only_second)
        if only:
            yield notice(
                f"{len(only):,} directions have only one of the two systems and are not compared",
                [", ".join(only[:30])],
                kind="warning",
            )
    for metric in sources.latest.metrics:
        yield group_table(sources, metric)
    yield paragraph(
        "Groups as in the NLLB paper: a direction has the level of its weaker language by public "
        "bitext, and very low-resource is a part of low-resource. Means are unweighted. Intervals "
        "resample the sentences of the test set, the same ones for all directions. All p-values "
        "are two-sided.",
        kind="soft",
    )


def group_table(sources: Sources, metric: str) -> Markup:
    """Return the means of the paper's groups under one metric."""
    compared = sources.comparison is not None and metric in sources.comparison.metrics
    gaps = any(group.missing for group in sources.latest.groups)
    columns = [Column(title="Directions"), Column(title="Resources")]
    columns.append(Column(title="n", kind="number", digits=0))
    if gaps:
        columns.append(Column(title="Missing", kind="number", digits=0))
    for name in sources.labels:
        title = name if len(sources.labels) > 1 else metric_title(metric)
        columns += [
            Column(title=title, kind="number", digits=_digits(metric)), _interval_column(),
        ]  # fmt: skip
    if compared:
        columns += [_change_column(metric)]
        columns += [_interval_column(), Column(title="Better / worse")]
    by_system = [
        {(group.group, group.metric): group for group in one.groups} for one in sources.evaluations
    ]
    changes: dict[tuple[str, str], PartChange] = {}
    if sources.comparison is not None:
        changes = {(part.part, part.metric): part for part in sources.comparison.groups}
    rows = []
    for group in GROUPS:
        last = by_system[-1].get((group.name, metric))
        if last is None:
            continue
        cells: list[Cell] = [KIND_WORDS[group.kind], LEVEL_WORDS[group.level]]
        cells += [last.count, last.missing] if gaps else [last.count]
        for found in by_system:
            cells += _mean_cells(found.get((group.name, metric)), _digits(metric))
        if compared:
            cells += _change_cells(changes.get((group.name, metric)), _digits(metric))
        rows.append(cells)
    return table(columns, rows, caption=f"Mean {metric_title(metric)} by group")


def _change_column(metric: str) -> Column:
    return Column(
        title="Change", kind="number", digits=_digits(metric), signed=True,
        lower_is_better=metric in LOWER_IS_BETTER,
    )  # fmt: skip


def _interval_column() -> Column:
    return Column(title="95 %", kind="interval")


def _digits(metric: str) -> int:
    """Return the decimals of a metric: scores of neural metrics are often between 0 and 1."""
    return 4 if metric.startswith(PREFIX) else 2


def _mean_cells(group: GroupScore | None, digits: int) -> list[Cell]:
    if group is None:
        return [None, ""]
    return [group.mean, f"{group.low:.{digits}f} to {group.high:.{digits}f}"]


def _change_cells(part: PartChange | None, digits: int) -> list[Cell]:
    if part is None:
        return [None, "", ""]
    interval = f"{part.low:+.{digits}f} to {part.high:+.{digits}f}"
    return [part.delta, interval, f"{part.better:,} / {part.worse:,}"]


def direction_map(sources: Sources) -> Iterator[Markup]:
    """Yield the heat-map of all directions, one layer for each system and metric."""
    codes = sorted({code for one in sources.evaluations for row in one.rows
                    for code in (row.direction.source, row.direction.target)})  # fmt: skip
    if len(codes) < 3:
        return
    table_of = known_languages()
    family = [table_of[code].family if code in table_of else "" for code in codes]
    script = [table_of[code].script if code in table_of else "" for code in codes]
    axis = Axis(
        labels=codes,
        titles=[language_name(code) for code in codes],
        levels=[_level_class(code) for code in codes],
        groups={
            "family": family,
            "script": script,
            # The numbers sort the levels from high to very low.
            "resource level": [str(LEVELS.index(language_level(code))) for code in codes],
        },
    )
    layers = []
    for metric in sources.latest.metrics:
        for one, name in zip(sources.evaluations, sources.labels, strict=True):
            title = metric_title(metric) + (f", {name}" if len(sources.labels) > 1 else "")
            layers.append(HeatMapLayer(name=title, values=_matrix(one, metric, codes)))
    yield heat_map(axis, layers, caption="Score of every direction, source by target")


def _matrix(evaluation: Evaluation, metric: str, codes: Sequence[str]) -> NDArray[np.float64]:
    place = {code: number for number, code in enumerate(codes)}
    values = np.full((len(codes), len(codes)), np.nan)
    for row in evaluation.rows:
        if metric in row.scores:
            # The map stores 0 to 655; neural scores may be negative.
            score = min(max(row.scores[metric].score, 0.0), MAX_MAP_SCORE)
            values[place[row.direction.source], place[row.direction.target]] = score
    return values


def _level_class(code: str) -> Literal["high", "low", "very-low"]:
    return _LEVEL_CLASSES[language_level(code)]


def levels(sources: Sources) -> Iterator[Markup]:
    """Yield the spread of scores by kind and level."""
    metric = sources.primary
    scores: dict[tuple[int, int], list[float]] = {}
    for number, rows in enumerate(sources.rows):
        for direction, row in rows.items():
            if metric in row.scores:
                scores.setdefault((direction.cell, number), []).append(row.scores[metric].score)
    spreads = []
    for (cell, number), values in sorted(scores.items()):
        kind, level = CELLS[cell]
        marks = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()
        system = f" ({sources.labels[number]})" if len(sources.names) > 1 else ""
        spreads.append(
            Spread(
                label=f"{kind}, {LEVEL_WORDS[level]}{system}",
                tone=f"series-{min(number + 1, 5)}",
                numbers=(marks[0], marks[1], marks[2], marks[3], marks[4]),
                count=len(values),
            )
        )
    yield strips(
        spreads,
        title="Spread of the scores: minimum, quartiles, median, maximum",
        unit=metric_title(metric),
    )


def extremes(sources: Sources) -> Iterator[Markup]:
    """Yield the directions with the lowest scores and, with a baseline, the most changed ones."""
    metric = sources.primary
    rows = [row for row in sources.latest.rows if metric in row.scores]
    worst = sorted(rows, key=lambda row: row.scores[metric].score)[:MAX_NAMED]
    columns = [*_direction_columns(), Column(title=metric_title(metric), kind="number", digits=2)]
    columns += [_interval_column(), Column(title="Problems of the file")]
    yield table(
        columns,
        [
            [
                *_direction_cells(row.direction),
                row.scores[metric].score,
                f"{row.scores[metric].low:.1f} to {row.scores[metric].high:.1f}",
                ", ".join(f"{f.code.replace('_', ' ')} {f.count}" for f in row.findings),
            ]
            for row in worst
        ],
        caption=f"The {len(worst)} lowest directions of {sources.labels[-1]}",
    )
    if sources.comparison is None:
        return
    changes = [one for one in sources.comparison.directions if one.metric == metric]
    ordered = sorted(changes, key=lambda change: change.delta)
    losses = [change for change in ordered[:MAX_NAMED] if change.delta < 0]
    gains = [change for change in reversed(ordered[-MAX_NAMED:]) if change.delta > 0]
    for title, chosen in (("Largest losses", losses), ("Largest gains", gains)):
        if chosen:
            yield change_table(chosen, caption=f"{title} against {sources.labels[0]}")
        else:
            yield paragraph(f"{title}: none.")


def change_table(changes: Sequence[DirectionChange], *, caption: str) -> Markup:
    """Return a table of changed directions."""
    columns = [
        *_direction_columns(),
        Column(title="Before", kind="number", digits=2),
        Column(title="After", kind="number", digits=2),
        Column(title="Change", kind="number", digits=2, signed=True),
        _interval_column(),
        Column(title="q", kind="number", digits=3),
    ]
    rows = [
        [
            *_direction_cells(change.direction), change.first, change.second, change.delta,
            f"{change.low:+.2f} to {change.high:+.2f}", change.q_value,
        ]
        for change in changes
    ]  # fmt: skip
    return table(columns, rows, caption=caption)


def _direction_columns() -> list[Column]:
    return [
        Column(title="Direction", kind="code"),
        Column(title="From"),
        Column(title="Into"),
        Column(title="Resources"),
    ]


def _direction_cells(direction: Direction) -> list[Cell]:
    return [
        str(direction),
        language_name(direction.source),
        language_name(direction.target),
        LEVEL_WORDS[direction.level],
    ]


def by_language(sources: Sources) -> Iterator[Markup]:
    """Yield the mean of every language as source and as target: the map as a table."""
    metric = sources.primary
    columns = [
        Column(title="Code", kind="code"), Column(title="Language"), Column(title="Family"),
        Column(title="Script", kind="code"), Column(title="Resources"),
    ]  # fmt: skip
    sums: list[dict[tuple[str, str], list[float]]] = []
    for rows, name in zip(sources.rows, sources.labels, strict=True):
        suffix = f", {name}" if len(sources.names) > 1 else ""
        columns.append(Column(title=f"From it{suffix}", kind="number", digits=2))
        columns.append(Column(title=f"Into it{suffix}", kind="number", digits=2))
        found: dict[tuple[str, str], list[float]] = {}
        for direction, row in rows.items():
            if metric in row.scores:
                found.setdefault(("from", direction.source), []).append(row.scores[metric].score)
                found.setdefault(("into", direction.target), []).append(row.scores[metric].score)
        sums.append(found)
    codes = sorted({code for found in sums for _, code in found})
    known = known_languages()
    body = []
    for code in codes:
        family = known[code].family if code in known else ""
        cells: list[Cell] = [code, language_name(code), family, code[-4:]]
        cells.append(LEVEL_WORDS[language_level(code)])
        for found in sums:
            for side in ("from", "into"):
                scores = found.get((side, code))
                cells.append(float(np.mean(scores)) if scores else None)
        body.append(cells)
    yield table(
        columns,
        body,
        caption=f"Mean {metric_title(metric)} of each language over its directions",
        filterable=len(body) > 20,
        tall=len(body) > 20,
    )


def parts(sources: Sources) -> Iterator[Markup]:
    """Yield the changes by script, family and level."""
    if sources.comparison is None:
        return
    columns = [
        Column(title="Directions"), Column(title="n", kind="number", digits=0),
        Column(title="Before", kind="number", digits=2),
        Column(title="After", kind="number", digits=2),
        _change_column(sources.primary), _interval_column(),
        Column(title="p", kind="number", digits=3), Column(title="Better / worse"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            part.part, part.count, part.first, part.second, part.delta,
            f"{part.low:+.2f} to {part.high:+.2f}", part.p_value,
            f"{part.better:,} / {part.worse:,}",
        ]
        for part in sources.comparison.parts
        if part.metric == sources.primary
    ]  # fmt: skip
    yield heading("Changes by language group")
    yield table(columns, rows, caption="Change by script, family and level", tall=len(rows) > 20)
