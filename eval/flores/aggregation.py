"""Aggregation of scored directions: group means with intervals, missing directions, notes."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from eval.metrics.registry import UNICODE_WARNING, MetricChoice, metric_title
from eval.metrics.significance import RESAMPLES, SEED, interval
from eval.metrics.tokenization import bleu_tokenizer_name
from eval.provenance import provenance
from nllb.errors import DataError
from nllb.io.benchmarks import LineAlignedSet

from .directions import GROUPS, Direction, Group
from .index import FLAGGED_SHARE, CellSums, CellTotals, TargetTotals
from .results import Evaluation, GroupFlags, GroupScore
from .target_files import SUM_SCALE

MAX_FLAGGED_NAMED: Final = 4
"""Maximum number of flagged files that a warning names."""


def summarise(
    targets: Sequence[TargetTotals],
    cell_sums: CellSums,
    *,
    missing: Sequence[str],
    unmade: Mapping[str, str],
    benchmark: LineAlignedSet,
    choice: MetricChoice,
    system: str,
    outputs: Path,
    out: Path,
    made_by: Mapping[str, str],
) -> Evaluation:
    """Join the results of all target languages.

    Args:
        targets: totals of each target language.
        cell_sums: sums of resampled scores over all of them.
        missing: requested directions that have no file.
        unmade: directions that could not be translated, with the reasons.
        benchmark: the test set.
        choice: metrics.
        system: name for reports.
        outputs: folder of the hypotheses.
        out: folder of the results.
        made_by: how the hypotheses were made, if known.

    Raises:
        DataError: if no direction was scored.
    """
    failed = {**unmade, **{name: why for one in targets for name, why in one.failed.items()}}
    targets = sorted((one for one in targets if one.lines), key=lambda one: one.target)
    if not targets:
        raise DataError("no direction could be scored: " + "; ".join(failed.values()))
    settings = json.dumps(sorted(one.settings for one in targets))
    codes = [one.target for one in targets]
    return Evaluation(
        system=system,
        benchmark=benchmark.title,
        benchmark_dir=str(benchmark.directory),
        num_sentences=targets[0].num_sentences,
        outputs=str(outputs),
        metrics=choice.all_names,
        signatures=_signatures(choice, codes),
        reference_sha256={one.target: one.reference_sha256 for one in targets},
        missing=tuple(missing),
        failed=failed,
        notes=tuple(_notes(targets, choice, benchmark)),
        groups=tuple(_groups(targets, cell_sums, [*missing, *failed], choice.all_names)),
        flags=tuple(_group_flags(targets)),
        provenance=provenance() | {"resamples": str(RESAMPLES), "seed": str(SEED)} | dict(made_by),
        settings=sha256(settings.encode()).hexdigest(),
        num_directions=sum(len(one.lines) for one in targets),
        directory=out,
    )


def _groups(
    targets: Sequence[TargetTotals],
    cell_sums: CellSums,
    absent: Sequence[str],
    names: Sequence[str],
) -> Iterator[GroupScore]:
    lost = Counter(
        Direction(source=a, target=b).cell for a, _, b in (d.partition("-") for d in absent)
    )
    for name in names:
        for group in GROUPS:
            inside = list(_inside(targets, group))
            scores = [totals.scores[name] for totals in inside if name in totals.scores]
            count = sum(number for number, _, _ in scores)
            if not count:
                continue
            samples = cell_sums[name][group.cells].sum(axis=0) / (SUM_SCALE * count)
            low, high = interval(samples)
            asked = sum(totals.rows for totals in inside) + sum(lost[cell] for cell in group.cells)
            yield GroupScore(
                group=group.name,
                metric=name,
                count=count,
                missing=asked - count,
                mean=sum(raw for _, raw, _ in scores) / count,
                nfc_mean=sum(nfc for _, _, nfc in scores) / count,
                low=low,
                high=high,
            )


def _group_flags(targets: Sequence[TargetTotals]) -> Iterator[GroupFlags]:
    for group in GROUPS:
        inside = list(_inside(targets, group))
        if not inside:
            continue
        counts: Counter[str] = Counter()
        for totals in inside:
            counts.update(totals.flags)
        shares = sum(totals.reference_shares[0] for totals in inside)
        yield GroupFlags(
            group=group.name,
            lines=sum(totals.rows for totals in inside) * targets[0].num_sentences,
            flags=dict(counts),
            judged=sum(totals.judged for totals in inside),
            right=sum(totals.right for totals in inside),
            reference_share=sum(totals.reference_shares[1] for totals in inside) / shares
            if shares
            else None,
        )


def _inside(targets: Sequence[TargetTotals], group: Group) -> Iterator[CellTotals]:
    for one in targets:
        for cell in group.cells:
            if cell in one.cells:
                yield one.cells[cell]


def _signatures(choice: MetricChoice, targets: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {name: {} for name in choice.all_names}
    for target in targets:
        for name, signature in choice.signatures(target).items():
            if name == "bleu":
                found[name][target] = signature
            else:
                found[name]["*"] = signature
    return found


def _notes(
    targets: Sequence[TargetTotals], choice: MetricChoice, benchmark: LineAlignedSet
) -> Iterator[str]:
    if benchmark.limit is not None:
        yield (
            f"only the first {benchmark.limit:,} sentences were scored: do not compare these "
            f"scores with scores on the whole set"
        )
    flagged = sorted(
        (found for one in targets for found in one.flagged), key=lambda f: (-f[0], f[1])
    )
    if flagged:
        shown = ", ".join(what for _, what in flagged[:MAX_FLAGGED_NAMED])
        files = "1 file has" if len(flagged) == 1 else f"{len(flagged):,} files have"
        more = ", ..." if len(flagged) > MAX_FLAGGED_NAMED else ""
        yield f"{files} a problem in more than {FLAGGED_SHARE:.0%} of the lines: {shown}{more}"
    for name in choice.names:
        apart = sorted(
            direction for one in targets for direction in one.unicode_matters.get(name, ())
        )
        if apart:
            yield (
                f"{metric_title(name)}: raw and NFC score differ by more than {UNICODE_WARNING} in "
                f"{len(apart):,} directions ({_first(apart)}): these scores depend on the Unicode "
                "form of the output"
            )
        absent = [
            one.target
            for one in targets
            if not all(name in totals.scores for totals in one.cells.values())
        ]
        if absent:
            yield (
                f"{metric_title(name)} was not computed into {_first(absent)}: tokenizer "
                f"{bleu_tokenizer_name(absent[0])[0]} is not installed"
            )
    if "bleu" in choice.names:
        other = [one.target for one in targets if bleu_tokenizer_name(one.target)[1]]
        if other:
            yield (
                f"BLEU into {_first(other)} does not use the NLLB paper's tokenizer on some test "
                f"sets: see the signatures"
            )
    if choice.spm is not None and not choice.spm.verified:
        yield (
            f"spBLEU uses {choice.spm.path.name} with SHA-256 {choice.spm.sha256[:16]}..., which "
            "is not verified to be the FLORES model: pin it with --spm-sha256"
        )


def _first(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (
        f" and {len(names) - most:,} more" if len(names) > most else ""
    )
