"""The report for programs: JSON, Parquet, Hugging Face model-index YAML, Markdown."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import yaml

from eval.flores.directions import CELLS, GROUPS, LEVEL_WORDS
from eval.flores.results import Evaluation
from eval.markdown import escape
from eval.metrics.registry import metric_title
from eval.metrics.signature import merge_signatures
from nllb.errors import ResourceError
from nllb.io.atomic import atomic_path, atomic_text
from nllb.io.text import write_json

from .gates import Gate
from .scores import KIND_WORDS, verdict_text
from .sources import Sources
from .wording import without_folders

SCHEMA: Final = "nllb-report/1"
MAX_INDEXED: Final = 50
"""Maximum number of directions in a model index; the Parquet file contains all scores."""
_DATASETS: Final = {"flores200": "facebook/flores", "flores_plus": "openlanguagedata/flores_plus"}


def write_report_json(path: Path, sources: Sources, gates: Sequence[Gate]) -> None:
    """Write everything that the HTML shows, under a versioned schema.

    The scores of directions are columns, not objects: 40,602 of them stay a few megabytes.
    """
    value: dict[str, Any] = {"schema": SCHEMA}
    if sources.evaluations:
        value["verdict"] = verdict_text(sources)
    value["systems"] = [_system(one) for one in sources.evaluations]
    if sources.comparison is not None:
        changes = sources.comparison.directions
        comparison = asdict(replace(sources.comparison, directions=()))
        comparison["directions"] = {
            "direction": [str(change.direction) for change in changes],
            **{
                name: [getattr(change, name) for change in changes]
                for name in ("metric", "first", "second", "delta", "low", "high",
                             "p_bootstrap", "p_randomisation", "q_value")
            },
        }  # fmt: skip
        value["comparison"] = comparison
    value["xsts"] = list(sources.xsts)
    value["toxicity"] = [{"name": name, **result} for name, result in sources.toxicity]
    value["gates"] = [asdict(gate) for gate in gates]
    write_json(path, value)


def _system(evaluation: Evaluation) -> dict[str, Any]:
    value = evaluation.head()
    for name in ("outputs", "benchmark_dir"):
        value[name] = without_folders(value[name])
    value["provenance"] = {k: without_folders(v) for k, v in value["provenance"].items()}
    rows = evaluation.rows
    columns: dict[str, list[Any]] = {
        "direction": [str(row.direction) for row in rows],
        "sha256": [row.sha256 for row in rows],
        "flags": [{f.code: f.count for f in row.findings} for row in rows],
        "language": [asdict(row.language) if row.language else None for row in rows],
        "reference_share": [row.reference_share for row in rows],
    }
    for metric in evaluation.metrics:
        scores = [row.scores.get(metric) for row in rows]
        for name in ("score", "nfc_score", "low", "high"):
            columns[f"{metric}.{name}"] = [getattr(s, name) if s else None for s in scores]
    value["directions"] = columns
    return value


def write_parquet(path: Path, sources: Sources) -> None:
    """Write one row per system, direction and metric.

    Raises:
        ResourceError: if pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ResourceError("Parquet needs pyarrow; run: pip install 'nllb[data]'") from None
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("system", "source", "target", "kind", "level", "metric", "score",
                     "nfc_score", "low", "high", "signature", "sha256")
    }  # fmt: skip
    for one, name in zip(sources.evaluations, sources.names, strict=True):
        for row in one.rows:
            kind, level = CELLS[row.direction.cell]
            for metric, score in row.scores.items():
                values = (
                    name, row.direction.source, row.direction.target, kind, level, metric,
                    score.score, score.nfc_score, score.low, score.high,
                    one.signature(metric, row.direction.target), row.sha256,
                )  # fmt: skip
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
    with atomic_path(path) as beside:
        parquet.write_table(pyarrow.table(columns), beside, compression="zstd")


def write_model_index(path: Path, sources: Sources) -> None:
    """Write the scores of the last system as a model index for a Hugging Face model card.

    Source: the model-index of the hub's model cards: tasks with a data set and its metrics.
    """
    one = sources.latest
    name, _, split = one.benchmark.partition("/")
    dataset = {"name": one.benchmark, "type": _DATASETS.get(name, name), "split": split or "test"}
    results = []
    for group in GROUPS:
        metrics = [
            _indexed(one, score.metric, score.mean, f"mean over {score.count:,} directions", "*")
            for score in one.groups
            if score.group == group.name
        ]
        if metrics:
            title = f"{KIND_WORDS[group.kind]}, {LEVEL_WORDS[group.level]}"
            results.append(_result(title, dataset, group.name, metrics))
    rows = [row for row in one.rows if "eng_Latn" in (row.direction.source, row.direction.target)]
    rows = (rows or list(one.rows))[:MAX_INDEXED]
    for row in rows:
        metrics = [
            _indexed(one, metric, score.score, "", row.direction.target)
            for metric, score in row.scores.items()
        ]
        results.append(_result(str(row.direction), dataset, str(row.direction), metrics))
    value = {"model-index": [{"name": html.escape(one.system, quote=False), "results": results}]}
    with atomic_text(path) as stream:
        yaml.safe_dump(value, stream, allow_unicode=True, sort_keys=False, width=100)


def _result(
    title: str, dataset: dict[str, str], config: str, metrics: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "task": {"type": "translation", "name": title},
        "dataset": {**dataset, "config": config},
        "metrics": metrics,
    }


def _indexed(one: Evaluation, metric: str, value: float, note: str, target: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {"signature": _signature(one, metric, target)}
    if metric.startswith("chrf"):
        arguments["word_order"] = metric.count("+")
    name = metric_title(metric) + (f" ({note})" if note else "")
    kind = next((k for k in ("chrf", "bleu", "ter") if k in metric), metric_title(metric))
    return {"type": kind, "name": name, "value": round(value, 4), "args": arguments}


def _signature(one: Evaluation, metric: str, target: str) -> str:
    """Return the signature of a group; it lists all tokenizers of its targets."""
    found = one.signature(metric, target)
    if found or target != "*":
        return found
    signatures = sorted({text for text in one.signatures.get(metric, {}).values() if text})
    if len(signatures) < 2:
        return "".join(signatures)
    return merge_signatures(signatures)


def write_markdown(path: Path, sources: Sources, gates: Sequence[Gate], *, title: str = "") -> None:
    """Write a short summary, for example for the page of a continuous-integration run."""
    with atomic_text(path) as stream:
        stream.write("\n".join(_markdown(sources, gates, title=title)) + "\n")


def _markdown(sources: Sources, gates: Sequence[Gate], *, title: str) -> Iterator[str]:
    yield f"# {escape(title or 'Translation evaluation')}"
    yield ""
    if sources.evaluations:
        yield escape(verdict_text(sources))
        yield ""
        yield from _markdown_groups(sources)
        for one, name in zip(sources.evaluations, sources.names, strict=True):
            if one.missing or one.failed:
                yield f"- {escape(name)}: **missing: {len(one.missing) + len(one.failed):,}**"
            yield from (f"- {escape(name)}: {escape(without_folders(note))}" for note in one.notes)
    for result in sources.xsts:
        for direction in result["directions"][:20]:
            name = f"{direction['source']}-{direction['target']}"
            system = f" {escape(direction['system'])}" if direction["system"] else ""
            yield (
                f"- XSTS {name}{system}: {direction['score']['value']:.2f} on "
                f"{direction['items']} items"
            )
        for one in result.get("differences") or ():
            yield (
                f"- XSTS {one['source']}-{one['target']}, {escape(one['first'])} to "
                f"{escape(one['second'])}: {one['difference']['value']:+.2f}, p = "
                f"{one['p_value']:.4f}"
            )
    for name, result in sources.toxicity:
        for level in result["levels"]:
            share = level["strict"]["share"]
            shown = "not measurable" if share is None else f"{100 * share:.2f} %"
            yield f"- added toxicity ({escape(name)}, {LEVEL_WORDS[level['level']]}): {shown}"
    for gate in gates:
        yield f"- {'FAILED' if gate.failed else 'passed'}: `{gate.condition}` ({gate.message})"


def _markdown_groups(sources: Sources) -> Iterator[str]:
    metrics = sources.latest.metrics
    heads = []
    for metric in metrics:
        title = metric_title(metric)
        heads += [
            f"{title} {escape(name)}" if len(sources.names) > 1 else title for name in sources.names
        ]
        heads += [f"{title} change (95 %)"] if sources.comparison is not None else []
    yield "| directions | level | n | " + " | ".join(heads) + " |"
    yield "|---|---|---:|" + "---:|" * len(heads)
    changes = {
        (part.part, part.metric): part
        for part in (sources.comparison.groups if sources.comparison else ())
    }
    found = [{(g.group, g.metric): g for g in one.groups} for one in sources.evaluations]
    for group in GROUPS:
        last = found[-1].get((group.name, metrics[0]))
        if last is None:
            continue
        cells = []
        for metric in metrics:
            for one in found:
                score = one.get((group.name, metric))
                cells.append(f"{score.mean:.2f}" if score else "")
            if sources.comparison is not None:
                part = changes.get((group.name, metric))
                cells.append(
                    f"{part.delta:+.2f} ({part.low:+.2f} to {part.high:+.2f})" if part else ""
                )
        words = f"{KIND_WORDS[group.kind]} | {LEVEL_WORDS[group.level]} | {last.count:,}"
        yield f"| {words} | " + " | ".join(cells) + " |"
    yield ""
