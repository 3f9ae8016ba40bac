"""The section on added toxicity: listed words are redacted until the reader reveals them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup, escape

from eval.flores.directions import LEVEL_WORDS
from nllb.io.page import Cell, Column, details, notice, paragraph, redacted, table

MAX_ROWS: Final = 300
MAX_EXAMPLES: Final = 20


def harm(result: Mapping[str, Any]) -> Iterator[Markup]:
    """Yield the page of one `toxicity.json`."""
    measured = [one for one in result["directions"] if one["not_measurable"] is None]
    silent = [one for one in result["directions"] if one["not_measurable"] is not None]
    yield paragraph(
        "Strict: the source has no listed word and the translation has one. Difference: the "
        "translation has more listed words than its source. Intervals are 95 % Wilson intervals. "
        "Word lists find words regardless of their meaning."
    )
    if silent:
        reasons = sorted({str(one["not_measurable"]) for one in silent})
        yield notice(
            f"{len(silent):,} of {len(result['directions']):,} directions are not measurable, "
            "which does not mean 0 %:",
            reasons[:12] + ([f"and {len(reasons) - 12} more reasons"] if len(reasons) > 12 else []),
            kind="warning",
        )
    if result["levels"]:
        yield table(
            [
                Column(title="Level"), Column(title="Directions", kind="number", digits=0),
                Column(title="Not measurable", kind="number", digits=0), *_share_columns(),
            ],
            [
                [
                    LEVEL_WORDS.get(one["level"], one["level"]), one["directions"],
                    one["not_measurable"], *_shares(one),
                ]
                for one in result["levels"]
            ],
            caption="Added toxicity by level",
        )  # fmt: skip
    if measured:
        yield table(
            [
                Column(title="Direction", kind="code"),
                Column(title="Lines", kind="number", digits=0),
                Column(title="Words in source", kind="number", digits=0),
                Column(title="In translation", kind="number", digits=0), *_share_columns(),
            ],
            [
                [
                    f"{one['source']}-{one['target']}", one["lines"], one["source_matches"],
                    one["hypothesis_matches"], *_shares(one),
                ]
                for one in measured[:MAX_ROWS]
            ],
            caption="Added toxicity by direction, most first"
            + (f" (the first {MAX_ROWS})" if len(measured) > MAX_ROWS else ""),
            tall=len(measured) > 20,
        )  # fmt: skip
    shown = [(one, example) for one in measured for example in one["examples"]][:MAX_EXAMPLES]
    if shown:
        yield details(
            f"{len(shown)} examples, redacted (click a word to show it)",
            Markup().join(_example(one, example) for one, example in shown),
        )
    yield from _lists(result)


def _share_columns() -> list[Column]:
    return [
        Column(title="Strict, %", kind="number", digits=2),
        Column(title="95 %", kind="interval"),
        Column(title="Difference, %", kind="number", digits=2),
        Column(title="95 %", kind="interval"),
    ]


def _shares(one: Mapping[str, Any]) -> list[Cell]:
    cells: list[Cell] = []
    for name in ("strict", "difference"):
        part = one[name]
        share = part["share"] if part else None
        cells.append(None if share is None else 100 * share)
        cells.append(f"{100 * part['low']:.2f} to {100 * part['high']:.2f}" if part else "")
    return cells


def _example(one: Mapping[str, Any], example: Mapping[str, Any]) -> Markup:
    return Markup(
        '<div class="example"><dl><dt>{}-{}, line {}</dt><dd dir="auto">{}</dd>'
        '<dt>Translation</dt><dd dir="auto">{}</dd></dl></div>'
    ).format(
        one["source"], one["target"], example["line"],
        _masked(example["source"], example["source_spans"]),
        _masked(example["hypothesis"], example["hypothesis_spans"]),
    )  # fmt: skip


def _masked(text: str, spans: Sequence[Sequence[int]]) -> Markup:
    parts, at = Markup(), 0
    for begin, end in sorted(tuple(span) for span in spans):
        parts += escape(text[at:begin]) + redacted(text[begin:end])
        at = end
    return parts + escape(text[at:])


def _lists(result: Mapping[str, Any]) -> Iterator[Markup]:
    if not result["lists"]:
        return
    yield table(
        [
            Column(title="Language", kind="code"), Column(title="File", kind="code"),
            Column(title="Entries", kind="number", digits=0),
            Column(title="Recall of probes, %", kind="number", digits=1),
            Column(title="False alarms, %", kind="number", digits=2),
            Column(title="Likely benign entries", kind="number", digits=0),
            Column(title="SHA-256", kind="code"),
        ],
        [
            [
                one["language"], one["file"], one["entries"], _percent(one["recall"]),
                _percent(one["false_alarms"]), len(one["noisy"]), one["sha256"][:16],
            ]
            for one in result["lists"]
        ],
        caption="Word lists and their self-test",
        tall=len(result["lists"]) > 15,
    )  # fmt: skip


def _percent(part: Mapping[str, Any] | None) -> float | None:
    return None if part is None or part["share"] is None else 100 * part["share"]
