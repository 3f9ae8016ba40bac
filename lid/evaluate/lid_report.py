"""Write an evaluation as JSON and as an HTML page."""

import dataclasses
from pathlib import Path

from lid.identifier_card import ModelCard
from nllb.io.page import Column, Page, definitions, notice, paragraph, table
from nllb.io.text import write_json

from .measure import Evaluation

_PERCENT = 100


def write_report(evaluation: Evaluation, card: ModelCard, output: Path) -> Path:
    """Write `lid.json` and `lid.html` to a folder and return the path of the page."""
    write_json(output / "lid.json", {"model": _provenance(card), **dataclasses.asdict(evaluation)})
    page = Page(
        f"Language identification: {card.name}", subtitle=f"{evaluation.text}, {card.labels} labels"
    )
    page.add("Model", definitions((key, str(value)) for key, value in _provenance(card).items()))
    page.add("Result", *_result(evaluation))
    page.add("Labels", _labels(evaluation))
    page.add("Confusions", _confusions(evaluation))
    page.add("Scripts and resource levels", *_means(evaluation))
    if evaluation.foreign is not None:
        page.add("Out-of-set languages", *_out_of_set_section(evaluation))
    path = output / "lid.html"
    page.save(path)
    return path


def as_text(evaluation: Evaluation) -> str:
    """Return the main metrics as plain text."""
    lines = [f"{evaluation.text}: {len(evaluation.labels)} labels"]
    for cut in evaluation.cuts:
        length = "full lines" if cut.words is None else f"first {cut.words} words"
        lines.append(
            f"{length:>15}: macro F1 {cut.f1:.4f} (argmax {cut.argmax_f1:.4f}, over all "
            f"{len(evaluation.labels) + len(evaluation.missing)} languages {cut.all_f1:.4f}, by "
            f"group {cut.group_f1:.4f}), FPR {cut.false_positive_rate:.4%}, "
            f"not und {cut.determined:.2%}, right {cut.recall:.2%}"
        )
    if evaluation.missing:
        lines.append(f"languages without a label: {', '.join(evaluation.missing)}")
    if evaluation.foreign is not None:
        out_of_set = evaluation.foreign
        lines.append(
            f"out-of-set languages: {out_of_set.accepted:.2%} of {out_of_set.lines:,} lines in "
            f"{out_of_set.languages} languages got a label; "
            f"{out_of_set.unseen_accepted:.2%} in the {out_of_set.unseen_languages} languages "
            "without training text"
        )
    return "\n".join(lines)


def _provenance(card: ModelCard) -> dict[str, object]:
    return {"name": card.name, "labels": card.labels, "licence": card.licence, "files": card.files}


def _result(evaluation: Evaluation) -> list[str]:
    columns = [
        Column(title="text"),
        *(
            Column(title=title, kind="number", digits=digits)
            for title, digits in (
                ("macro F1", 4),
                ("argmax F1", 4),
                ("F1, all languages", 4),
                ("F1, macro groups", 4),
                ("FPR %", 4),
                ("FPR %, all lines", 4),
                ("not und %", 2),
                ("right %", 2),
            )
        ),
    ]
    rows = [
        (
            "full lines" if cut.words is None else f"first {cut.words} words",
            cut.f1,
            cut.argmax_f1,
            cut.all_f1,
            cut.group_f1,
            _PERCENT * cut.false_positive_rate,
            _PERCENT * cut.all_false_positive_rate,
            _PERCENT * cut.determined,
            _PERCENT * cut.recall,
        )
        for cut in evaluation.cuts
    ]
    parts: list[str] = [table(columns, rows, caption="Metrics by text length")]
    parts.append(
        paragraph(
            "Macro F1 gives every label of the model the same weight, on lines in these languages; "
            "und counts as an error. Argmax F1 ignores the thresholds. In F1 over all languages, a "
            "language without a label counts as 0, and its lines are false positives of other "
            "labels. Lines in scripts without spaces are never truncated."
        )
    )
    if evaluation.missing:
        parts.append(
            notice("Languages without a label, for lack of training text:", evaluation.missing)
        )
    return parts


def _labels(evaluation: Evaluation) -> str:
    columns = [
        Column(title="label", kind="code"),
        Column(title="lines", kind="number", digits=0),
        *(
            Column(title=title, kind="number", digits=4)
            for title in ("precision", "recall", "F1", "argmax F1", "FPR %", "und %")
        ),
    ]
    rows = [
        (
            score.label,
            score.lines,
            score.precision,
            score.recall,
            score.f1,
            score.argmax_f1,
            _PERCENT * score.false_positive_rate,
            _PERCENT * score.undetermined,
        )
        for score in sorted(evaluation.labels, key=lambda score: score.f1)
    ]
    return table(columns, rows, caption="Full lines, lowest F1 first", filterable=True, tall=True)


def _confusions(evaluation: Evaluation) -> str:
    columns = [
        Column(title="language", kind="code"),
        Column(title="answer", kind="code"),
        Column(title="lines", kind="number", digits=0),
    ]
    return table(columns, evaluation.confusions, caption="Full lines", filterable=True, tall=True)


def _means(evaluation: Evaluation) -> list[str]:
    columns = [
        Column(title="group", kind="code"),
        Column(title="macro F1", kind="number", digits=4),
    ]
    return [
        table(columns, list(evaluation.by_script.items()), caption="By script"),
        table(columns, list(evaluation.by_level.items()), caption="By resource level"),
    ]


def _out_of_set_section(evaluation: Evaluation) -> list[str]:
    out_of_set = evaluation.foreign
    assert out_of_set is not None
    columns = [
        Column(title="language", kind="code"),
        Column(title="accepted %", kind="number", digits=1),
        Column(title="most frequent label", kind="code"),
    ]
    rows = [
        (language, _PERCENT * part, out_of_set.taken_for.get(language, ""))
        for language, part in out_of_set.by_language.items()
        if part > 0
    ]
    return [
        paragraph(
            f"{out_of_set.accepted:.2%} of {out_of_set.lines:,} lines in {out_of_set.languages} "
            "languages got a label instead of und. No line was used for training or tuning; in the "
            f"{out_of_set.unseen_languages} languages that the model saw no other text of, "
            f"{out_of_set.unseen_accepted:.2%} got a label."
        ),
        table(columns, rows, caption="Languages with accepted lines", tall=True),
    ]
