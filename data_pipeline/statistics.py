"""Statistics of a run by stage, corpus, language pair and reason, as JSON and as an HTML page."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy
import polars
from markupsafe import Markup

from nllb.io.atomic import atomic_text
from nllb.io.manifest import MANIFEST_NAME, read_manifest
from nllb.io.page import Column, Page, table
from nllb.io.text import json_line, write_json

from .blocks import read_columns, read_facts
from .filtering.filter_stage import swapped_pairs
from .monolingual import blocks_and_decisions
from .readers.ingestion import ingestion_counts
from .run import Run
from .stages import Block

STAGE = "stats"
NUM_BINS: Final = 40
MAX_SAMPLES: Final = 5
"""Number of rejected lines that are shown per stage and reason."""
MAX_MATCHES: Final = 200
"""Number of contaminated lines that the page shows; removed.jsonl contains all of them."""
_RANGES: Final = {
    "source_length": (0.0, 400.0),
    "target_length": (0.0, 400.0),
    "source_script_share": (0.0, 1.0),
    "target_script_share": (0.0, 1.0),
    "number_mismatch": (0.0, 1.0),
    "unique_words": (0.0, 1.0),
    "longest_run": (0.0, 40.0),
    "source_toxicity": (0.0, 10.0),
    "target_toxicity": (0.0, 10.0),
    "source_probability": (0.0, 1.0),
    "target_probability": (0.0, 1.0),
    "margin": (0.9, 1.4),
    "similarity": (-0.2, 1.0),
}
"""Histogram range of each score; values outside are counted in the first or last bin."""


def write_statistics(run: Run) -> dict[str, Any]:
    """Collect the statistics of all finished blocks and write them as JSON and HTML."""
    report, matches = collect(run)
    directory = run.out / STAGE
    with atomic_text(directory / "removed.jsonl") as stream:
        stream.writelines(json_line(match) + "\n" for match in matches)
    write_json(directory / "stats.json", report)
    page(report).save(directory / "stats.html")
    return {"report": str(directory / "stats.json"), "page": str(directory / "stats.html")}


def collect(run: Run) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the statistics as JSON values, and all contaminated lines."""
    stages: dict[str, Sequence[Block]] = {
        "clean": run.cleaned,
        "filter": run.filtered,
        "dedup": run.deduplicated,
        "decontaminate": run.decontaminated,
    }
    rows = [row for name, blocks in stages.items() for row in _stage_rows(name, blocks)]
    for filtered, kept in blocks_and_decisions(run.config, run.out):
        rows += [*_stage_rows("monolingual", [filtered]), *_stage_rows("monolingual dedup", [kept])]
    ingestion = ingestion_counts(run.config, run.out)
    matches = [match for row in rows for match in row["finds"]]
    report: dict[str, Any] = {
        "ingestion": ingestion,
        "stages": _totals(rows, ("stage",)),
        "corpora": _totals(rows, ("stage", "corpus")),
        "pairs": _totals(rows, ("stage", "corpus", "pair")),
        "samples": _samples(rows),
        "histograms": _histograms(run.filtered),
        "toxicity": _toxicity(rows, measured=run.config.filter.toxicity is not None),
        # Model cards read this section under the key that earlier releases wrote.
        "shield": {
            "sets": [section.name for section in run.config.decontamination],
            "finds": matches[:MAX_MATCHES],
            "num_finds": len(matches),
            "by_set": _counted(
                f"{match['sentence'].split(':')[0]}, {match['kind']}" for match in matches
            ),
            "by_kind": _counted(match["kind"] for match in matches),
        },
        "swapped_sides": swapped_pairs(run.filtered),
        "manifest": _manifest(run.out / "prepare"),
    }
    return report, matches


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _stage_rows(stage: str, blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
    for block in blocks:
        if block.path.exists():
            facts = read_facts(block.path)
            pair = f"{block.source}-{block.target}" if block.target else block.source
            yield {
                "stage": stage,
                "corpus": block.corpus,
                "pair": pair,
                "rows_in": facts["rows_in"],
                "rows_out": facts["rows_out"],
                "reasons": facts.get("reasons", {}),
                "samples": facts.get("samples", {}),
                "finds": [
                    {"corpus": block.corpus, "pair": pair, **match}
                    for match in facts.get("finds", [])
                ],
                "toxicity_lists": facts.get("toxicity_lists", {}),
            }


def _totals(rows: Sequence[dict[str, Any]], by: tuple[str, ...]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        place = tuple(row[name] for name in by)
        total = groups.setdefault(
            place, {**dict(zip(by, place, strict=True)), "rows_in": 0, "rows_out": 0, "reasons": {}}
        )
        total["rows_in"] += row["rows_in"]
        total["rows_out"] += row["rows_out"]
        for reason, count in row["reasons"].items():
            total["reasons"][reason] = total["reasons"].get(reason, 0) + count
    for total in groups.values():
        total["reasons"] = dict(sorted(total["reasons"].items(), key=lambda item: -item[1]))
    return list(groups.values())


def _samples(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Choose samples for each reason from as many blocks as possible."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (-row["rows_in"], row["corpus"], row["pair"])):
        for reason, samples in row["samples"].items():
            place = found[f"{row['stage']}: {reason}"]
            if len(place) < MAX_SAMPLES and samples:
                place.append({"corpus": row["corpus"], "pair": row["pair"], **samples[0]})
    return dict(sorted(found.items()))


def _histograms(blocks: Sequence[Block]) -> dict[str, dict[str, Any]]:
    counts: dict[str, numpy.ndarray[Any, Any]] = {}
    for block in blocks:
        if not block.path.exists():
            continue
        scores = read_columns(block.path)
        for name in set(_RANGES) & set(scores.columns):
            values = scores[name].drop_nulls().cast(polars.Float64).to_numpy()
            low, high = _RANGES[name]
            bins, _ = numpy.histogram(numpy.clip(values, low, high), NUM_BINS, (low, high))
            counts[name] = counts.get(name, 0) + bins
    return {
        name: {"range": _RANGES[name], "counts": counts[name].tolist()}
        for name in _RANGES
        if name in counts and counts[name].sum()
    }


def _toxicity(rows: Sequence[dict[str, Any]], *, measured: bool) -> dict[str, Any]:
    lists: dict[str, bool] = {}
    for row in rows:
        lists |= row["toxicity_lists"]
    return {
        "measured": measured,
        "languages_with_list": sorted(code for code, there in lists.items() if there),
        "languages_not_measurable": sorted(code for code, there in lists.items() if not there),
    }


def _manifest(directory: Path) -> dict[str, Any] | None:
    if not (directory / MANIFEST_NAME).exists():
        return None
    manifest = read_manifest(directory)
    return {
        "vocabulary": manifest.vocabulary.name,
        "vocabulary_size": manifest.vocabulary.size,
        "languages": len(manifest.languages),
        "directions": [
            {"direction": entry.name, "pairs": entry.num_pairs, "weight": entry.weight}
            for entry in manifest.directions
        ],
        "phases": [
            {"until_step": phase.until_step, "directions": len(phase.directions)}
            for phase in manifest.phases
        ],
        "held_out_pairs": sum(part.num_pairs for part in manifest.parts if part.split == "valid"),
        "excluded_directions": manifest.made_by.get("excluded_directions", ""),
        "corpora": [
            {"corpus": record.name, "licence": record.licence, "pairs": record.num_pairs}
            for record in manifest.corpora
        ],
    }


def page(report: dict[str, Any]) -> Page:
    """Return the HTML page of a report."""
    made = Page("Data pipeline", subtitle="Lines read, kept and rejected, by reason")
    made.add(
        "Stages",
        table(
            _counts_columns("Stage"),
            [[row["stage"], *_counts(row)] for row in report["stages"]],
            caption="Lines by stage",
        ),
        _toxicity_text(report["toxicity"]),
        _swapped_text(report["swapped_sides"]),
    )
    made.add(
        "Corpora",
        table(
            [Column(title="Corpus"), *_counts_columns("Stage")],
            [[row["corpus"], row["stage"], *_counts(row)] for row in report["corpora"]],
            caption="Lines by corpus and stage",
        ),
        _ingestion_text(report["ingestion"]),
    )
    made.add(
        "Language pairs",
        table(
            [Column(title="Pair", kind="code"), Column(title="Corpus"), *_counts_columns("Stage")],
            [[row["pair"], row["corpus"], row["stage"], *_counts(row)] for row in report["pairs"]],
            caption="Lines by language pair, corpus and stage",
            filterable=True,
            tall=True,
        ),
    )
    made.add("Scores", *_histogram_parts(report["histograms"]))
    made.add(
        "Rejected lines",
        table(
            [
                Column(title="Stage and reason"),
                Column(title="Corpus"),
                Column(title="Pair", kind="code"),
                Column(title="Line", kind="number", digits=0),
                Column(title="Source, and below it the target"),
            ],
            [
                [
                    *(reason, row["corpus"], row["pair"], row["line"]),
                    Markup("{}<br>{}").format(row["source"], row["target"]),
                ]
                for reason, rows in report["samples"].items()
                for row in rows
            ],
            caption="Samples of rejected lines, by reason",
        ),
    )
    made.add("Decontamination", *_decontamination_parts(report["shield"]))
    if report["manifest"] is not None:
        made.add("Training data", *_manifest_parts(report["manifest"]))
    return made


def _counts_columns(first: str) -> list[Column]:
    return [
        Column(title=first),
        Column(title="In", kind="number", digits=0),
        Column(title="Out", kind="number", digits=0),
        Column(title="Kept, %", kind="number"),
        Column(title="Rejected, by reason"),
    ]


def _counts(row: dict[str, Any]) -> list[Any]:
    share = 100 * row["rows_out"] / row["rows_in"] if row["rows_in"] else None
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in row["reasons"].items())
    return [row["rows_in"], row["rows_out"], share, reasons]


def _toxicity_text(toxicity: dict[str, Any]) -> str:
    if not toxicity["measured"]:
        return "Toxicity was not measured: the run has no word lists."
    missing = toxicity["languages_not_measurable"]
    listed = f" Languages without a word list: {', '.join(missing)}." if missing else ""
    return f"Toxicity was measured in {len(toxicity['languages_with_list'])} languages.{listed}"


def _swapped_text(swapped: dict[str, float]) -> str:
    if not swapped:
        return ""
    listed = "; ".join(f"{name} {100 * share:.0f} %" for name, share in swapped.items())
    return f"The sides of these files are probably swapped (share of swapped lines): {listed}."


def _ingestion_text(ingestion: Sequence[dict[str, Any]]) -> str:
    read = sum(row["rows_read"] for row in ingestion)
    bad = sum(row["quarantined"] for row in ingestion)
    return f"Ingested {read:,} rows from {len(ingestion):,} sources; {bad:,} rows were quarantined."


def _histogram_parts(histograms: dict[str, dict[str, Any]]) -> Iterator[str]:
    if not histograms:
        yield "No scores were measured."
    for name, histogram in histograms.items():
        low, high = histogram["range"]
        yield _bars(
            histogram["counts"],
            f"{name}, {low:g} to {high:g}, {sum(histogram['counts']):,} lines",
        )


def _bars(counts: Sequence[int], title: str) -> Markup:
    """Draw a histogram in which every count above 0 is visible."""
    maximum = max(counts)
    heights = [max(0.5, 20 * count / maximum) if count else 0 for count in counts]
    path = "".join(f"M{place} 20v-{height:.2f}h.9V20z" for place, height in enumerate(heights))
    return Markup(
        '<figure><figcaption>{title}</figcaption><svg viewBox="0 0 {width} 20" width="{pixels}" '
        'height="80" preserveAspectRatio="none" role="img" aria-label="{title}">'
        '<path d="{path}" fill="currentColor"/></svg></figure>'
    ).format(title=title, width=len(counts), pixels=12 * len(counts), path=path)


def _decontamination_parts(section: dict[str, Any]) -> Iterator[str]:
    if not section["sets"]:
        yield "The run has no evaluation sets, so no line was removed."
        return
    kinds = "; ".join(f"{name} {count:,}" for name, count in section["by_set"].items()) or "none"
    yield (
        f"Evaluation sets: {', '.join(section['sets'])}. Contaminated sides by set and kind: "
        f"{kinds}. removed.jsonl lists all of them; the table shows the first ones."
    )
    if section["finds"]:
        yield table(
            [
                Column(title="Corpus"),
                Column(title="Pair", kind="code"),
                Column(title="Line", kind="number", digits=0),
                Column(title="Side"),
                Column(title="Kind of match"),
                Column(title="Evaluation sentence", kind="code"),
            ],
            [
                [match[key] for key in ("corpus", "pair", "line", "side", "kind", "sentence")]
                for match in section["finds"]
            ],
            caption="Lines that contain an evaluation sentence",
            tall=True,
        )


def _manifest_parts(manifest: dict[str, Any]) -> Iterator[str]:
    phases = "; ".join(
        f"to {'the end' if phase['until_step'] is None else phase['until_step']}: "
        f"{phase['directions']:,} directions"
        for phase in manifest["phases"]
    )
    yield (
        f"Vocabulary {manifest['vocabulary']} with {manifest['vocabulary_size']:,} tokens; "
        f"{manifest['languages']} languages, {len(manifest['directions']):,} directions, "
        f"{manifest['held_out_pairs']:,} held-out pairs. Curriculum: {phases}."
    )
    if manifest["excluded_directions"]:
        yield f"Excluded because they have too few pairs: {manifest['excluded_directions']}."
    yield table(
        [
            Column(title="Corpus"),
            Column(title="Licence"),
            Column(title="Pairs", kind="number", digits=0),
        ],
        [[row["corpus"], row["licence"], row["pairs"]] for row in manifest["corpora"]],
        caption="Pairs by corpus",
    )
    yield table(
        [
            Column(title="Direction", kind="code"),
            Column(title="Pairs", kind="number", digits=0),
            Column(title="Weight, %", kind="number", digits=3),
        ],
        [[row["direction"], row["pairs"], 100 * row["weight"]] for row in manifest["directions"]],
        caption="Pairs and sampling weight by direction",
        filterable=True,
        tall=True,
    )
