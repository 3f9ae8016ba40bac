"""What went in, what came out and why, by stage, corpus, pair and reason: JSON and a page."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy
import polars
from markupsafe import Markup

from data_pipeline.blocks import read_columns, read_facts
from data_pipeline.monolingual import judged_blocks
from data_pipeline.readers.ingestion import ingestion_counts
from data_pipeline.run import Run
from data_pipeline.stages import Block
from nllb.io.atomic import atomic_text
from nllb.io.manifest import MANIFEST_NAME, read_manifest
from nllb.io.page import Column, Page, table
from nllb.io.text import json_line, write_json

STAGE = "stats"
NUM_BINS: Final = 40
MAX_SAMPLES: Final = 5
"""Rejected lines shown per stage and reason."""
MAX_FINDS: Final = 200
"""Lines of the shield's report shown; all of them stand in removed.jsonl."""
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
}
"""Score -> range of its histogram; what lies outside counts into the last bin of its side."""


def write_statistics(run: Run) -> dict[str, Any]:
    """Collect the statistics of all finished blocks and write stats.json and stats.html."""
    report = collect(run)
    directory = run.out / STAGE
    finds = report["shield"].pop("all_finds")
    with atomic_text(directory / "removed.jsonl") as stream:
        stream.writelines(json_line(find) + "\n" for find in finds)
    write_json(directory / "stats.json", report)
    page(report).save(directory / "stats.html")
    return {"report": str(directory / "stats.json"), "page": str(directory / "stats.html")}


def collect(run: Run) -> dict[str, Any]:
    """Return the statistics as plain values."""
    stages: dict[str, Sequence[Block]] = {
        "clean": run.cleaned,
        "filter": run.filtered,
        "dedup": run.deduplicated,
        "shield": run.shielded,
    }
    rows = [row for name, blocks in stages.items() for row in _stage_rows(name, blocks)]
    for judged, kept in judged_blocks(run.config, run.out):
        rows += [*_stage_rows("monolingual", [judged]), *_stage_rows("monolingual dedup", [kept])]
    ingestion = ingestion_counts(run.config, run.out)
    finds = [find for row in rows for find in row["finds"]]
    report: dict[str, Any] = {
        "ingestion": ingestion,
        "stages": _totals(rows, ("stage",)),
        "corpora": _totals(rows, ("stage", "corpus")),
        "pairs": _totals(rows, ("stage", "corpus", "pair")),
        "samples": _samples(rows),
        "histograms": _histograms(run.filtered),
        "toxicity": _toxicity(rows, measured=run.config.filter.toxicity is not None),
        "shield": {
            "sets": [section.name for section in run.config.decontamination],
            "all_finds": finds,
            "finds": finds[:MAX_FINDS],
            "num_finds": len(finds),
            "by_set": _counted(
                f"{find['sentence'].split(':')[0]}, {find['kind']}" for find in finds
            ),
            "by_kind": _counted(find["kind"] for find in finds),
        },
        "manifest": _manifest(run.out / "prepare"),
    }
    return report


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
                    {"corpus": block.corpus, "pair": pair, **find}
                    for find in facts.get("finds", [])
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
    """Take samples of each reason from as many blocks as possible."""
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
        "left_out": manifest.made_by.get("left_out", ""),
        "corpora": [
            {"corpus": record.name, "licence": record.licence, "pairs": record.num_pairs}
            for record in manifest.corpora
        ],
    }


def page(report: dict[str, Any]) -> Page:
    """Return the page of a report."""
    made = Page("Data pipeline", subtitle="What went in, what came out, and why")
    made.add(
        "Stages",
        table(
            _counts_columns("Stage"),
            [[row["stage"], *_counts(row)] for row in report["stages"]],
            caption="Lines by stage",
        ),
        _toxicity_text(report["toxicity"]),
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
            caption="Lines rejected, a few of each reason",
        ),
    )
    made.add("Evaluation shield", *_shield_parts(report["shield"]))
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
    listed = f" Not measurable, for want of a list: {', '.join(missing)}." if missing else ""
    return f"Toxicity was measured in {len(toxicity['languages_with_list'])} languages.{listed}"


def _ingestion_text(ingestion: Sequence[dict[str, Any]]) -> str:
    read = sum(row["rows_read"] for row in ingestion)
    bad = sum(row["quarantined"] for row in ingestion)
    return f"Ingested: {read:,} rows of {len(ingestion):,} sources; put in quarantine: {bad:,}."


def _histogram_parts(histograms: dict[str, dict[str, Any]]) -> Iterator[str]:
    if not histograms:
        yield "No score was taken."
    for name, histogram in histograms.items():
        low, high = histogram["range"]
        yield _bars(
            histogram["counts"],
            f"{name}, {low:g} to {high:g}, {sum(histogram['counts']):,} lines",
        )


def _bars(counts: Sequence[int], title: str) -> Markup:
    """Draw a histogram; a count that is not 0 can always be seen."""
    most = max(counts)
    heights = [max(0.5, 20 * count / most) if count else 0 for count in counts]
    path = "".join(f"M{place} 20v-{height:.2f}h.9V20z" for place, height in enumerate(heights))
    return Markup(
        '<figure><figcaption>{title}</figcaption><svg viewBox="0 0 {width} 20" width="{pixels}" '
        'height="80" preserveAspectRatio="none" role="img" aria-label="{title}">'
        '<path d="{path}" fill="currentColor"/></svg></figure>'
    ).format(title=title, width=len(counts), pixels=12 * len(counts), path=path)


def _shield_parts(shield: dict[str, Any]) -> Iterator[str]:
    if not shield["sets"]:
        yield "No evaluation set was given: nothing was kept out."
        return
    kinds = "; ".join(f"{name} {count:,}" for name, count in shield["by_set"].items()) or "none"
    yield (
        f"Kept out: {', '.join(shield['sets'])}. Sides found, by set and kind: {kinds}. All of "
        "them stand in removed.jsonl; the first are below."
    )
    if shield["finds"]:
        yield table(
            [
                Column(title="Corpus"),
                Column(title="Pair", kind="code"),
                Column(title="Line", kind="number", digits=0),
                Column(title="Side"),
                Column(title="How"),
                Column(title="Evaluation sentence", kind="code"),
            ],
            [
                [find[key] for key in ("corpus", "pair", "line", "side", "kind", "sentence")]
                for find in shield["finds"]
            ],
            caption="Lines that held an evaluation sentence",
            tall=True,
        )


def _manifest_parts(manifest: dict[str, Any]) -> Iterator[str]:
    phases = "; ".join(
        f"to {'the end' if phase['until_step'] is None else phase['until_step']}: "
        f"{phase['directions']:,} directions"
        for phase in manifest["phases"]
    )
    yield (
        f"Vocabulary {manifest['vocabulary']} of {manifest['vocabulary_size']:,} rows; "
        f"{manifest['languages']} languages, {len(manifest['directions']):,} directions, "
        f"{manifest['held_out_pairs']:,} pairs held out. Curriculum: {phases}."
    )
    if manifest["left_out"]:
        yield f"Left out for too few pairs: {manifest['left_out']}."
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
