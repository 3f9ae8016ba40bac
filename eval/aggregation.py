"""From scored directions to an evaluation: group means with intervals, gaps, notes."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.directions import CELLS, GROUPS, Direction
from eval.metrics import UNICODE_WARNING, MetricChoice, metric_title
from eval.provenance import provenance
from eval.results import Evaluation, GroupFaults, GroupScore, Row, Summary
from eval.significance import RESAMPLES, SEED, interval
from eval.tokenization import bleu_tokenizer_name
from nllb.benchmarks import LineAlignedSet
from nllb.errors import DataError


def summarise(
    summaries: Sequence[Summary],
    *,
    failed: Mapping[str, str],
    missing: Sequence[str],
    benchmark: LineAlignedSet,
    choice: MetricChoice,
    system: str,
    outputs: Path,
    out: Path,
    made_by: Mapping[str, str],
) -> Evaluation:
    """Join the results of all target languages.

    Args:
        summaries: what was scored, by target language.
        failed: directions that could not be scored, and why.
        missing: directions that were asked for and have no file.
        benchmark: the test set.
        choice: metrics.
        system: name for reports.
        outputs: folder of the hypotheses.
        out: folder of the results.
        made_by: how the hypotheses came about, where it is known.

    Raises:
        DataError: where no direction was scored.
    """
    rows = sorted((row for summary in summaries for row in summary.rows), key=_place)
    if not rows:
        raise DataError("no direction could be scored: " + "; ".join(failed.values()))
    sums = {name: np.zeros((len(CELLS), RESAMPLES)) for name in choice.names}
    for summary in summaries:
        for name, target_sums in summary.cell_sums.items():
            sums[name] += target_sums
    targets = sorted({row.direction.target for row in rows})
    settings = json.dumps(sorted(summary.settings for summary in summaries))
    return Evaluation(
        system=system,
        benchmark=benchmark.title,
        benchmark_dir=str(benchmark.directory),
        num_sentences=summaries[0].num_sentences,
        outputs=str(outputs),
        metrics=choice.names,
        signatures=_signatures(choice, targets),
        reference_sha256={s.rows[0].direction.target: s.reference_sha256 for s in summaries},
        missing=tuple(missing),
        failed=dict(failed),
        notes=tuple(_notes(rows, choice, targets, benchmark)),
        groups=tuple(_groups(rows, sums, [*missing, *failed], choice.names)),
        faults=tuple(_faults(rows, summaries[0].num_sentences)),
        provenance=provenance() | {"resamples": str(RESAMPLES), "seed": str(SEED)} | dict(made_by),
        settings=sha256(settings.encode()).hexdigest(),
        rows=tuple(rows),
        directory=out,
    )


def _place(row: Row) -> tuple[str, str]:
    return row.direction.source, row.direction.target


def _groups(
    rows: Sequence[Row],
    sums: Mapping[str, NDArray[np.float64]],
    absent: Sequence[str],
    names: Sequence[str],
) -> Iterator[GroupScore]:
    cells = np.array([row.direction.cell for row in rows])
    lost = np.array(
        [Direction(source=a, target=b).cell for a, _, b in (d.partition("-") for d in absent)]
    )
    for name in names:
        found = [row.scores.get(name) for row in rows]
        raw = np.array([score.score if score else np.nan for score in found])
        nfc = np.array([score.nfc_score if score else np.nan for score in found])
        for group in GROUPS:
            inside = np.isin(cells, group.cells)
            scored = inside & ~np.isnan(raw)
            count = int(scored.sum())
            if not count:
                continue
            low, high = interval(sums[name][group.cells].sum(axis=0) / count)
            yield GroupScore(
                group=group.name,
                metric=name,
                count=count,
                missing=int(np.isin(lost, group.cells).sum() + inside.sum()) - count,
                mean=float(raw[scored].mean()),
                nfc_mean=float(nfc[scored].mean()),
                low=low,
                high=high,
            )


def _faults(rows: Sequence[Row], num_sentences: int) -> Iterator[GroupFaults]:
    by_cell: dict[int, list[Row]] = {}
    for row in rows:
        by_cell.setdefault(row.direction.cell, []).append(row)
    for group in GROUPS:
        inside = [row for cell in group.cells for row in by_cell.get(cell, ())]
        if not inside:
            continue
        counts: Counter[str] = Counter()
        for row in inside:
            for finding in row.findings:
                counts[finding.code] += finding.count
        languages = [row.language for row in inside if row.language is not None]
        shares = [row.reference_share for row in inside if row.reference_share is not None]
        yield GroupFaults(
            group=group.name,
            lines=len(inside) * num_sentences,
            faults=dict(counts),
            judged=sum(count.judged for count in languages),
            right=sum(count.right for count in languages),
            reference_share=sum(shares) / len(shares) if shares else None,
        )


def _signatures(choice: MetricChoice, targets: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {name: {} for name in choice.names}
    for target in targets:
        for name, signature in choice.signatures(target).items():
            if name == "bleu":
                found[name][target] = signature
            else:
                found[name]["*"] = signature
    return found


def _notes(
    rows: Sequence[Row], choice: MetricChoice, targets: Sequence[str], benchmark: LineAlignedSet
) -> Iterator[str]:
    if benchmark.limit is not None:
        yield (
            f"only the first {benchmark.limit:,} sentences were scored: do not compare with scores "
            "of the whole set"
        )
    for name in choice.names:
        apart = [
            str(row.direction) for row in rows
            if name in row.scores
            and abs(row.scores[name].score - row.scores[name].nfc_score) > UNICODE_WARNING
        ]  # fmt: skip
        if apart:
            yield (
                f"{metric_title(name)}: raw and NFC score differ by more than {UNICODE_WARNING} in "
                f"{len(apart):,} directions ({_first(apart)}): the Unicode form of the output "
                "decides these scores"
            )
        absent = sorted({row.direction.target for row in rows if name not in row.scores})
        if absent:
            yield (
                f"{metric_title(name)} was not computed into {_first(absent)}: "
                f"tokenizer {bleu_tokenizer_name(absent[0])[0]} is not installed"
            )
    if "bleu" in choice.names:
        other = [code for code in targets if bleu_tokenizer_name(code)[1]]
        if other:
            yield (
                f"BLEU into {_first(other)} uses another tokenizer than the NLLB paper did on some "
                "test sets: see the signatures"
            )
    if choice.spm is not None and not choice.spm.verified:
        yield (
            f"spBLEU uses {choice.spm.path.name} with SHA-256 {choice.spm.sha256[:16]}...; no one "
            "has verified that it is the FLORES model: pin it with --spm-sha256"
        )


def _first(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (
        f" and {len(names) - most:,} more" if len(names) > most else ""
    )
