"""The XSTS section: human ratings before and after calibration, and the raters."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from markupsafe import Markup

from eval.flores.directions import language_name
from eval.xsts.other_scales import SCALE_WORDS
from nllb.io.page import Cell, Column, definitions, heading, notice, paragraph, table

from .charts import Arrow, Bar, Point, arrows, scatter, stacked
from .sources import short_labels

SCORE_WORDS: Final = (
    "1 not equivalent",
    "2 some details shared",
    "3 mostly equivalent",
    "4 near-equivalent",
    "5 equivalent",
)
TONES: Final = tuple(f"score-{number}" for number in range(1, 6))
MAX_BARS: Final = 40


def human(result: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Iterator[Markup]:
    """Yield the section of one `xsts.json`.

    Args:
        result: its content.
        labels: short labels of systems that the page already uses.
    """
    result, key = _shortened(result, "directions", labels)
    yield from key
    method = result["calibration"]["method"]
    if result["notes"]:
        yield notice("Read this first", result["notes"], kind="warning")
    directions = result["directions"]
    if not directions:
        yield paragraph("No direction has ratings that could be used.")
        return
    yield paragraph(
        f"Each item's score is the median over its raters, a direction's score the mean over "
        f"items. Calibration shown: {method} (centre {result['calibration']['centre']:g}, "
        f"{result['calibration']['centre_kind']}); the sensitivity table shows all methods."
    )
    yield _score_table(directions, method)
    yield from _differences(result)
    yield stacked(
        [Bar(label=_label(one), counts=one["distribution"]) for one in directions[:MAX_BARS]],
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
                for one in moved[:MAX_BARS]
            ],
            title=f"From the raw score to the calibrated one ({method}), with its 95 % interval",
            unit="XSTS",
            ends=(1, 5),
        )
    yield from _against_machines(result, method)
    yield from _sensitivity(result)
    yield from _raters(result)
    yield from _validation(result)


def other_scale(
    result: Mapping[str, Any], labels: Mapping[str, str] | None = None
) -> Iterator[Markup]:
    """Yield the section of one `human_scores.json`: ESA or MQM on its own scale."""
    result, key = _shortened(result, "systems", labels)
    yield from key
    lower = result["scale"] == "mqm"
    words = SCALE_WORDS[result["scale"]]
    yield paragraph(f"Scale: {words}. These scores are not comparable with XSTS.")
    if result["validation"]["blank"]:
        yield notice(
            f"Interim results: {result['validation']['blank']:,} ratings are still blank",
            kind="warning",
        )
    columns = [
        Column(title="Direction", kind="code"), Column(title="From"), Column(title="Into"),
        Column(title="System"), Column(title="Segments", kind="number", digits=0),
        Column(title="Raters", kind="number", digits=0),
        Column(title=result["scale"].upper(), kind="number", digits=2),
        Column(title="95 %", kind="interval"), Column(title="z", kind="number", digits=2),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            f"{one['source']}-{one['target']}", language_name(one["source"]),
            language_name(one["target"]), one["system"], one["segments"], one["raters"],
            one["score"]["value"], _ends(one["score"]), one["z_score"],
        ]
        for one in result["systems"]
    ]  # fmt: skip
    yield table(columns, rows, caption="Mean over segments of the mean over raters")
    yield from _differences(result, lower_is_better=lower)


def _shortened(
    result: Mapping[str, Any], rows: str, labels: Mapping[str, str] | None
) -> tuple[Mapping[str, Any], list[Markup]]:
    """Return a result with short labels for systems, and their legend if it is needed."""
    differences = result.get("differences") or ()
    systems = [one["system"] for one in result[rows]]
    systems += [one[side] for one in differences for side in ("first", "second")]
    short = short_labels(tuple(dict.fromkeys(systems)), labels)
    changed = {
        **result,
        rows: [{**one, "system": short[one["system"]]} for one in result[rows]],
        "differences": [
            {**one, "first": short[one["first"]], "second": short[one["second"]]}
            for one in differences
        ],
    }
    if all(name == label for name, label in short.items()):
        return changed, []
    return changed, [definitions((label, name) for name, label in short.items())]


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


def _differences(result: Mapping[str, Any], *, lower_is_better: bool = False) -> Iterator[Markup]:
    """Yield the paired differences of systems; results of earlier versions lack them."""
    found = result.get("differences") or ()
    if not found:
        return
    yield table(
        [
            Column(title="Direction", kind="code"), Column(title="From"), Column(title="To"),
            Column(title="Items", kind="number", digits=0),
            Column(
                title="Difference", kind="number", digits=2, signed=True,
                lower_is_better=lower_is_better,
            ),
            Column(title="95 %", kind="interval"), Column(title="p", kind="number", digits=4),
            Column(title="q", kind="number", digits=4),
        ],
        [
            [
                f"{one['source']}-{one['target']}", one["first"], one["second"], one["items"],
                one["difference"]["value"], _ends(one["difference"]), one["p_value"],
                one["q_value"],
            ]
            for one in found
        ],
        caption="Systems rated on the same items: difference, p of a paired randomisation test "
        "(two-sided), q after Benjamini-Hochberg",
    )  # fmt: skip


def _against_machines(result: Mapping[str, Any], method: str) -> Iterator[Markup]:
    metrics = list(dict.fromkeys(m for one in result["directions"] for m in one["automatic"]))
    if not metrics:
        return
    yield heading("Agreement with automatic scores of the same items")
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
    yield heading("Sensitivity to the calibration")
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
        caption="All calibration methods",
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
    yield heading("Findings of the checks")
    aside = sum(validation["quarantined"].values())
    yield paragraph(
        f"{validation['rows']:,} rows read, {validation['kept']:,} kept, {aside:,} set aside."
    )
    if validation["findings"]:
        yield table(
            [
                Column(title="Code", kind="code"), Column(title="Severity"), Column(title="Place"),
                Column(title="What"), Column(title="What to do"),
            ],
            [
                [
                    one["code"], one["severity"],
                    f"{one['file']}:{one['line']}" if one["line"] else one["file"],
                    one["message"], one["mend"],
                ]
                for one in validation["findings"]
            ],
            caption="Findings of the checks",
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
