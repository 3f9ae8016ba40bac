"""One report from the folders of results: the HTML page, and beside it the files for programs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from eval.metrics.significance import RESAMPLES
from eval.report import examples, exports, harm, human, quality, scores
from eval.report.gates import Gate, judge, write_junit
from eval.report.sources import Sources, read_sources
from nllb.errors import ResourceError
from nllb.io.page import Page, notice


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What was written."""

    page: Path
    """The HTML file."""
    size: int
    """Its bytes."""
    verdict: str
    """The sentence on its first page; empty without scores."""
    gates: tuple[Gate, ...]
    """Outcomes of the conditions."""
    files: tuple[Path, ...]
    """Everything written beside it."""
    warnings: tuple[str, ...]
    """What could not be written, and why."""

    @property
    def failed(self) -> bool:
        """Whether a condition came true."""
        return any(gate.failed for gate in self.gates)


def write_report(
    directories: Sequence[Path],
    page: Path,
    *,
    fail_if: Sequence[str] = (),
    title: str = "",
    resamples: int = RESAMPLES,
    quiet: bool = True,
) -> Report:
    """Write `page` and, beside it, .json, .parquet, .md, .model-index.yaml and .junit.xml.

    Args:
        directories: outputs of `nllb eval flores`, `xsts score` and `toxicity`; of several
            evaluations the first is the baseline.
        page: the HTML file to write.
        fail_if: conditions of `eval.report.gates`.
        title: heading; the names of the systems by default.
        resamples: of the tests between two systems.
        quiet: no progress on stderr.
    """
    sources = read_sources(directories, resamples=resamples, quiet=quiet)
    gates = judge(fail_if, sources)
    html = build_page(sources, gates, title=title)
    size = html.save(page)
    files = [page.with_suffix(suffix) for suffix in (".json", ".md")]
    exports.write_report_json(files[0], sources, gates)
    exports.write_markdown(files[1], sources, gates)
    warnings = []
    if sources.evaluations:
        files.append(page.with_suffix(".model-index.yaml"))
        exports.write_model_index(files[-1], sources)
        try:
            exports.write_parquet(page.with_suffix(".parquet"), sources)
            files.append(page.with_suffix(".parquet"))
        except ResourceError as error:
            warnings.append(str(error))
    if gates:
        files.append(page.with_suffix(".junit.xml"))
        write_junit(files[-1], gates)
    return Report(
        page=page,
        size=size,
        verdict=scores.verdict_text(sources) if sources.evaluations else "",
        gates=tuple(gates),
        files=tuple(files),
        warnings=tuple(warnings),
    )


def build_page(sources: Sources, gates: Sequence[Gate] = (), *, title: str = "") -> Page:
    """Return the page; sections without material are left out."""
    systems = " and ".join(dict.fromkeys(sources.names)) or "human evaluation"
    page = Page(
        title or f"Translation evaluation: {systems}",
        subtitle=sources.latest.benchmark if sources.evaluations else "",
    )

    def add(heading: str, parts: Iterable[Markup]) -> None:
        found = list(parts)
        if found:
            page.add(heading, *found)

    if sources.evaluations:
        add("Verdict", scores.verdict(sources))
    add("Conditions", _conditions(gates))
    if sources.evaluations:
        add("All directions", scores.direction_map(sources))
        add("Levels", [*scores.levels(sources), *scores.parts(sources)])
        add("Lowest and most changed", scores.extremes(sources))
        add("Languages", scores.by_language(sources))
        add("Examples", examples.examples(sources))
    for result in sources.xsts:
        add("Human evaluation", human.human(result))
    for name, toxicity in sources.toxicity:
        heading = "Added toxicity" + (f", {name}" if len(sources.toxicity) > 1 else "")
        add(heading, harm.harm(toxicity))
    if sources.evaluations:
        add("Data quality", quality.quality(sources))
        add("Provenance", quality.origin(sources))
    return page


def _conditions(gates: Sequence[Gate]) -> Iterable[Markup]:
    for failed, title in ((True, "Failed"), (False, "Passed")):
        chosen = [f"{gate.condition}: {gate.message}" for gate in gates if gate.failed == failed]
        if chosen:
            yield notice(title, chosen, kind="error" if failed else "good")
