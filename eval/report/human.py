"""The XSTS page: what people said, before and after calibration, and who said it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from markupsafe import Markup

from eval.flores.directions import language_name
from eval.report.charts import Arrow, Bar, Point, arrows, scatter, stacked
from nllb.io.page import Cell, Column, heading, notice, paragraph, table

SCORE_WORDS: Final = (
    "1 not equivalent",
    "2 some details shared",
    "3 mostly equivalent",
    "4 paraphrase",
    "5 the same",
)
TONES: Final = tuple(f"score-{number}" for number in range(1, 6))
MOST_BARS: Final = 40


def human(result: Mapping[str, Any]) -> Iterator[Markup]:
    """Yield the page of one `xsts.json`."""
    method = result["calibration"]["method"]
    if result["notes"]:
        yield notice("Before you believe a number", result["notes"], kind="warning")
    directions = result["directions"]
    if not directions:
        yield paragraph("No direction has ratings that could be used.")
        return
    yield paragraph(
        f"Each item's score is the median over its raters, a direction's score the mean over "
        f"items. Calibration shown: {method} (centre {result['calibration']['centre']:g}, "
        f"{result['calibration']['centre_kind']}); all others are in the table of sensitivity."
    )
    yield _score_table(directions, method)
    yield stacked(
        [Bar(label=_label(one), counts=one["distribution"]) for one in directions[:MOST_BARS]],
        legend=SCORE_WORDS,
        tones=TONES,
        title="Distribution of the ratings",
    )
    moved = [one for one in directions if method in one["calibrated"]]
    if moved:
        yield arrows(
            [
                Arrow(
                    label=_label(one),
                    start=one["score"]["value"],
                    end=one["calibrated"][method]["value"],
                    low=one["calibrated"][method]["low"],
                    high=one["calibrated"][method]["high"],
                )
                for one in moved[:MOST_BARS]
            ],
            title=f"From the raw score to the calibrated one ({method}), with its 95 % interval",
            unit="XSTS",
            ends=(1, 5),
        )
    yield from _against_machines(result, method)
    yield from _sensitivity(result)
    yield from _raters(result)
    yield from _validation(result)


def _score_table(directions: list[Mapping[str, Any]], method: str) -> Markup:
    columns = [
        Column(title="Direction", kind="code"), Column(title="From"), Column(title="Into"),
        Column(title="System"), Column(title="Items", kind="number", digits=0),
        Column(title="Raters", kind="number", digits=0),
        Column(title="Raw", kind="number", digits=2), Column(title="95 %", kind="interval"),
        Column(title="Calibrated", kind="number", digits=2), Column(title="95 %", kind="interval"),
        Column(title="3 or more, %", kind="number", digits=0),
        Column(title="4 or more, %", kind="number", digits=0),
        Column(title="Incoherent, %", kind="number", digits=1),
        Column(title="Shape"), Column(title="alpha", kind="number", digits=2),
        Column(title="Caution"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for one in directions:
        calibrated = one["calibrated"].get(method)
        caution = one["withheld"] or ("" if one["ranking_allowed"] else "do not rank by it")
        rows.append(
            [
                f"{one['source']}-{one['target']}", language_name(one["source"]),
                language_name(one["target"]), one["system"], one["items"], one["raters"],
                one["score"]["value"], _ends(one["score"]),
                calibrated["value"] if calibrated else None, _ends(calibrated),
                100 * one["share_3"]["value"], 100 * one["share_4"]["value"],
                100 * one["target_incoherent"], one["shape"], one["alpha"], caution,
            ]
        )  # fmt: skip
    return table(columns, rows, caption="XSTS by direction", tall=len(rows) > 25)


def _against_machines(result: Mapping[str, Any], method: str) -> Iterator[Markup]:
    metrics = list(dict.fromkeys(m for one in result["directions"] for m in one["automatic"]))
    if not metrics:
        return
    yield heading("Against automatic scores of the same items")
    metric = "chrF++" if "chrF++" in metrics else metrics[0]
    for title, calibration in (("raw XSTS", None), (f"calibrated XSTS ({method})", method)):
        points = []
        for one in result["directions"]:
            score = one["score"] if calibration is None else one["calibrated"].get(calibration)
            if metric in one["automatic"] and score is not None:
                point = Point(x=one["automatic"][metric], y=score["value"], label=_label(one))
                points.append(point)
        if len(points) > 1:
            yield scatter(points, title=f"{metric} and {title}", x_title=metric, y_title=title)
    yield table(
        [
            Column(title="Metric"), Column(title="Calibration"),
            Column(title="Spearman", kind="number", digits=3),
            Column(title="95 %", kind="interval"),
            Column(title="Directions", kind="number", digits=0),
        ],
        [
            [
                one["metric"], one["method"], one["spearman"]["value"], _ends(one["spearman"]),
                one["directions"],
            ]
            for one in result["correlations"]
        ],
        caption="Rank correlation over directions",
    )  # fmt: skip


def _sensitivity(result: Mapping[str, Any]) -> Iterator[Markup]:
    if not result["sensitivity"]:
        return
    yield heading("What the calibration does to the result")
    yield table(
        [
            Column(title="Method"), Column(title="Directions", kind="number", digits=0),
            Column(title="Mean", kind="number", digits=2),
            Column(title="Mean shift", kind="number", digits=2),
            Column(title="Largest shift", kind="number", digits=2),
            Column(title="Rank correlation with raw", kind="number", digits=3),
        ],
        [
            [
                one["method"], one["directions"], one["mean"], one["mean_shift"],
                one["largest_shift"], one["rank_correlation"],
            ]
            for one in result["sensitivity"]
        ],
        caption="Every calibration side by side",
    )  # fmt: skip


def _raters(result: Mapping[str, Any]) -> Iterator[Markup]:
    if not result["raters"]:
        return
    yield heading("Raters")
    agreement = result["agreement"]
    yield paragraph(
        f"Krippendorff's alpha (ordinal) {_number(agreement['alpha'])}, on calibration items "
        f"{_number(agreement['alpha_calibration'])}; weighted kappa "
        f"{_number(agreement['weighted_kappa'])} over {agreement['pairs']:,} pairs of raters."
    )
    yield table(
        [
            Column(title="Rater", kind="code"), Column(title="Ratings", kind="number", digits=0),
            Column(title="Mean", kind="number", digits=2),
            Column(title="Severity", kind="number", digits=2),
            Column(title="Calibration mean", kind="number", digits=2),
            Column(title="Strata correlation", kind="number", digits=2),
            Column(title="Kappa", kind="number", digits=2),
            Column(title="Self-agreement, %", kind="number", digits=0), Column(title="Findings"),
        ],
        [
            [
                one["rater"], one["ratings"], one["mean"], one["severity"],
                one["calibration_mean"], one["calibration_spearman"], one["weighted_kappa"],
                None if one["self_agreement"] is None else 100 * one["self_agreement"],
                ", ".join(one["flags"]),
            ]
            for one in result["raters"]
        ],
        caption="Raters, most severe first (severity: points below the others on the same items)",
        tall=len(result["raters"]) > 25,
    )  # fmt: skip


def _validation(result: Mapping[str, Any]) -> Iterator[Markup]:
    validation = result["validation"]
    yield heading("What the checks found")
    aside = sum(validation["quarantined"].values())
    yield paragraph(
        f"{validation['rows']:,} rows read, {validation['kept']:,} kept, {aside:,} set aside."
    )
    if validation["findings"]:
        yield table(
            [
                Column(title="Code", kind="code"), Column(title="Severity"), Column(title="Place"),
                Column(title="What"), Column(title="Mend"),
            ],
            [
                [
                    one["code"], one["severity"],
                    f"{one['file']}:{one['line']}" if one["line"] else one["file"],
                    one["message"], one["mend"],
                ]
                for one in validation["findings"]
            ],
            caption="Findings of the checks X01 to X16",
            tall=len(validation["findings"]) > 15,
        )  # fmt: skip


def _label(one: Mapping[str, Any]) -> str:
    system = f" {one['system']}" if one["system"] else ""
    return f"{one['source']}-{one['target']}{system}"


def _ends(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None or estimate["low"] is None:
        return ""
    return f"{estimate['low']:.2f} to {estimate['high']:.2f}"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f}"
