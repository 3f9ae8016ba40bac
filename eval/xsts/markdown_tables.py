"""The result of a human evaluation as Markdown, for a terminal or an issue."""

from math import isnan

from eval.markdown import table

from .other_scales import differences_table
from .result import Estimate, XstsResult


def as_markdown(result: XstsResult) -> str:
    """Return scores, raters, agreement, sensitivity and notes."""
    method = result.calibration.method
    parts = ["**Interim results**", ""] if result.interim else []
    parts += [_scores(result), ""]
    if result.differences:
        parts += [
            "Paired differences of systems (interval over items and raters; p of a paired "
            "randomisation test, two-sided; q after Benjamini-Hochberg):",
            "", differences_table(result.differences), "",
        ]  # fmt: skip
    if result.raters:
        parts += [_raters(result), ""]
    agreement = result.agreement
    parts += [
        f"Krippendorff's alpha (ordinal): {_number(agreement.alpha)}; on calibration items "
        f"{_number(agreement.alpha_calibration)}; weighted kappa "
        f"{_number(agreement.weighted_kappa)} over {agreement.pairs} pairs of raters.",
        "",
    ]
    if len(result.sensitivity) > 1:
        parts += [_sensitivity(result), ""]
    if result.validation.quarantined:
        listed = ", ".join(f"{c} {n}" for c, n in result.validation.quarantined.items())
        parts += [f"Set aside of {result.validation.rows} rows: {listed}.", ""]
    centre = f"centre {result.calibration.centre:.2f} ({result.calibration.centre_kind})"
    parts += [f"Calibration shown: {method}, {centre}."]
    parts += [f"- {note}" for note in result.notes]
    return "\n".join(parts)


def _scores(result: XstsResult) -> str:
    method = result.calibration.method
    metrics = sorted({name for one in result.directions for name in one.automatic})
    head = ["direction", "system", "items", "raters", "as rated", f"calibrated ({method})", ">= 3",
            ">= 4", "incoherent", "shape", "alpha", *metrics]  # fmt: skip
    rows = []
    for one in result.directions:
        name = f"{one.source}-{one.target}" + (f" ({one.study})" if one.study else "")
        calibrated = one.score if method == "none" else one.calibrated.get(method)
        rows.append(
            [
                name + ("" if one.ranking_allowed else " *"),
                one.system or "-",
                str(one.items),
                str(one.raters),
                _interval(one.score),
                _interval(calibrated) if calibrated else f"withheld: {one.withheld}",
                f"{one.share_3.value:.0%}",
                f"{one.share_4.value:.0%}",
                f"{one.target_incoherent:.0%}",
                one.shape,
                _number(one.alpha),
                *(_number(one.automatic.get(name)) for name in metrics),
            ]
        )
    text = table(head, rows)
    if any(not one.ranking_allowed for one in result.directions):
        text += "\n\n\\* too uncertain for a ranking, or rated on other items."
    return text


def _raters(result: XstsResult) -> str:
    head = ["rater", "ratings", "mean", "severity", "calibration mean", "strata", "kappa",
            "self-agreement", "flags"]  # fmt: skip
    rows = [
        [
            one.rater,
            str(one.ratings),
            _number(one.mean),
            "-" if one.severity is None else f"{one.severity:+.2f}",
            _number(one.calibration_mean),
            _number(one.calibration_spearman),
            _number(one.weighted_kappa),
            "-" if one.self_agreement is None else f"{one.self_agreement:.0%} of {one.repeated}",
            " ".join(one.flags) or "-",
        ]
        for one in result.raters
    ]
    return table(head, rows)


def _sensitivity(result: XstsResult) -> str:
    metrics = sorted({name for one in result.sensitivity for name in one.correlations})
    head = ["calibration", "directions", "mean", "mean shift", "largest shift", "rank correlation",
            *(f"Spearman {name}" for name in metrics)]  # fmt: skip
    rows = [
        [
            one.method,
            str(one.directions),
            _number(one.mean),
            f"{one.mean_shift:+.2f}",
            f"{one.largest_shift:+.2f}",
            _number(one.rank_correlation),
            *(_number(one.correlations.get(name)) for name in metrics),
        ]
        for one in result.sensitivity
    ]
    return table(head, rows)


def _interval(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return f"{one.value:.2f}"
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _number(value: float | None) -> str:
    return "-" if value is None or isnan(value) else f"{value:.2f}"
