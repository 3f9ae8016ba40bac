"""The sections on data quality and provenance."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from markupsafe import Markup

from eval.flores.results import Evaluation
from eval.metrics.registry import UNICODE_WARNING, metric_title
from nllb.io.page import Cell, Column, definitions, details, heading, notice, paragraph, table

from .sources import Sources
from .wording import without_folders

MAX_ROWS: Final = 50
"""Maximum number of rows of a table; report.json contains all rows."""
CODE_WORDS: Final = {
    "empty": "empty lines",
    "bad_utf8": "lines that are not UTF-8",
    "copy_of_source": "lines equal to the source",
    "mixed_unicode": "lines not in the Unicode form of the rest",
    "repeated": "equal lines with different references",
    "looping": "lines that repeat themselves",
    "off_target": "lines not in the target language",
    "line_breaks": "lines with a line break inside",
}


def quality(sources: Sources) -> Iterator[Markup]:
    """Yield the problems of the hypothesis files, and scores that depend on the Unicode form."""
    for one, name in zip(sources.evaluations, sources.names, strict=True):
        if len(sources.names) > 1:
            yield heading(name)
        files = Counter[str](finding.code for row in one.rows for finding in row.findings)
        lines = next(part.flags for part in one.flags if part.group == "all")
        if one.failed:
            yield notice(
                "Files that could not be scored",
                [
                    f"{direction}: {without_folders(reason)}"
                    for direction, reason in list(one.failed.items())[:20]
                ],
                kind="error",
            )
        if not lines:
            yield paragraph(
                f"No problem in {len(one.rows):,} files of {one.num_sentences:,} lines."
            )
        else:
            yield table(
                [Column(title="Problem"), Column(title="Lines", kind="number", digits=0),
                 Column(title="Files", kind="number", digits=0)],
                [[CODE_WORDS.get(code, code), count, files[code]] for code, count in lines.items()],
                caption=f"Problems in {len(one.rows):,} files of {one.num_sentences:,} lines",
            )  # fmt: skip
            yield _files(one)
        if any(part.judged for part in one.flags):
            yield _languages(one)
        yield from _unicode(sources, name)


def _languages(evaluation: Evaluation) -> Markup:
    rows: list[list[Cell]] = [
        [
            part.group,
            part.judged,
            100 * part.right / part.judged,
            None if part.reference_share is None else 100 * part.reference_share,
        ]
        for part in evaluation.flags
        if part.judged
    ]
    return table(
        [
            Column(title="Directions", kind="code"),
            Column(title="Lines", kind="number", digits=0),
            Column(title="In the target language, %", kind="number", digits=1),
            Column(title="References, %", kind="number", digits=1),
        ],
        rows,
        caption="Lines that the detector identifies as the target language, and the same fraction "
        "of the references' lines",
    )


def _files(evaluation: Evaluation) -> Markup:
    rows: list[list[Cell]] = [
        [
            str(row.direction),
            sum(finding.count for finding in row.findings),
            "; ".join(finding.message for finding in row.findings),
        ]
        for row in evaluation.rows
        if row.findings
    ]
    rows.sort(key=lambda cells: -float(str(cells[1])))
    columns = [Column(title="Direction", kind="code")]
    columns += [Column(title="Lines", kind="number", digits=0), Column(title="What")]
    body = table(
        columns, rows[:MAX_ROWS], caption=f"Files with problems, most first, at most {MAX_ROWS}",
        tall=True,
    )  # fmt: skip
    return details(f"{len(rows):,} files with problems", body)


def _unicode(sources: Sources, name: str) -> Iterator[Markup]:
    evaluation = sources.evaluations[sources.names.index(name)]
    rows: list[list[Cell]] = []
    for row in evaluation.rows:
        for metric, score in row.scores.items():
            if abs(score.score - score.nfc_score) > UNICODE_WARNING:
                rows.append(
                    [
                        str(row.direction), metric_title(metric), score.score, score.nfc_score,
                        score.nfc_score - score.score,
                    ]
                )  # fmt: skip
    if not rows:
        yield paragraph(f"The Unicode form changes no score by more than {UNICODE_WARNING} points.")
        return
    rows.sort(key=lambda cells: -abs(float(str(cells[4]))))
    yield table(
        [
            Column(title="Direction", kind="code"), Column(title="Metric"),
            Column(title="Raw", kind="number", digits=2),
            Column(title="NFC both sides", kind="number", digits=2),
            Column(title="Difference", kind="number", digits=2),
        ],
        rows[:MAX_ROWS],
        caption=f"{len(rows):,} scores that the Unicode form changes by more than "
        f"{UNICODE_WARNING}; the paper's are raw",
        tall=len(rows) > 20,
    )  # fmt: skip


def origin(sources: Sources) -> Iterator[Markup]:
    """Yield signatures, hashes and versions: everything needed to repeat or compare the numbers."""
    for one, name in zip(sources.evaluations, sources.names, strict=True):
        yield heading(name)
        facts = [
            ("Test set", f"{one.benchmark}, {one.num_sentences:,} sentences"),
            ("Outputs", without_folders(one.outputs)),
            ("Directions", f"{len(one.rows):,} scored, {len(one.missing) + len(one.failed):,} not"),
        ]
        for metric in one.metrics:
            by_target = one.signatures[metric]
            for target, signature in list(by_target.items())[:6]:
                place = "" if target == "*" else f" into {target}"
                facts.append((f"{metric_title(metric)}{place}", signature or "not computed"))
            if len(by_target) > 6:
                facts.append((metric_title(metric), f"and {len(by_target) - 6} more targets"))
        facts += [(key, without_folders(value)) for key, value in one.provenance.items()]
        facts.append(("settings", one.settings))
        yield definitions(facts)
    rows: list[list[Cell]] = [
        [code, digest] for code, digest in sources.latest.reference_sha256.items()
    ]
    yield details(
        f"Hashes of the {len(rows):,} references",
        table(
            [Column(title="Language", kind="code"), Column(title="SHA-256", kind="code")],
            rows,
            caption="SHA-256 of the sentences of each reference, each followed by a line feed",
            tall=len(rows) > 20,
        ),
    )
