"""Builds a report from folders of results: the HTML page, and files for programs beside it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from eval.metrics.significance import RESAMPLES
from nllb.errors import ResourceError
from nllb.io.page import Page, notice

from .examples import examples
from .exports import (
    write_markdown,
    write_model_index,
    write_parquet,
    write_report_json,
)
from .gates import Gate, judge, write_junit
from .harm import harm
from .human import human, other_scale
from .quality import origin, quality
from .scores import (
    by_language,
    direction_map,
    extremes,
    levels,
    parts,
    verdict,
    verdict_text,
)
from .sources import Sources, read_sources


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The files of a report."""

    page: Path
    """The HTML file."""
    size: int
    """Its size in bytes."""
    verdict: str
    """The sentence at its top; empty without scores."""
    gates: tuple[Gate, ...]
    """Outcomes of the conditions."""
    files: tuple[Path, ...]
    """All files beside it."""
    warnings: tuple[str, ...]
    """Files that could not be written, with the reasons."""

    @property
    def failed(self) -> bool:
        """Whether a condition failed."""
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
        directories: folders written by `nllb eval flores`, `xsts score` and `toxicity`; of several
            evaluations the first is the baseline.
        page: the HTML file to write.
        fail_if: conditions of `eval.report.gates`.
        title: heading; by default the names of the systems.
        resamples: number of resamples of the tests between two systems.
        quiet: no progress on stderr.
    """
    sources = read_sources(directories, resamples=resamples, quiet=quiet)
    gates = judge(fail_if, sources)
    html = build_page(sources, gates, title=title)
    size = html.save(page)
    files = [page.with_suffix(suffix) for suffix in (".json", ".md")]
    write_report_json(files[0], sources, gates)
    write_markdown(files[1], sources, gates, title=title)
    warnings = []
    if sources.evaluations:
        files.append(page.with_suffix(".model-index.yaml"))
        write_model_index(files[-1], sources)
        try:
            write_parquet(page.with_suffix(".parquet"), sources)
            files.append(page.with_suffix(".parquet"))
        except ResourceError as error:
            warnings.append(str(error))
    if gates:
        files.append(page.with_suffix(".junit.xml"))
        write_junit(files[-1], gates)
    return Report(
        page=page,
        size=size,
        verdict=verdict_text(sources) if sources.evaluations else "",
        gates=tuple(gates),
        files=tuple(files),
        warnings=tuple(warnings),
    )


def build_page(sources: Sources, gates: Sequence[Gate] = (), *, title: str = "") -> Page:
    """Return the page, without sections that would be empty."""
    systems = " and ".join(dict.fromkeys(sources.names)) or "human evaluation"
    page = Page(
        title or f"Translation evaluation: {systems}",
        subtitle=sources.latest.benchmark if sources.evaluations else "",
    )

    def add(heading: str, content: Iterable[Markup]) -> None:
        found = list(content)
        if found:
            page.add(heading, *found)

    if sources.evaluations:
        add("Verdict", verdict(sources))
    add("Conditions", _conditions(gates))
    if sources.evaluations:
        add("All directions", direction_map(sources))
        add("Levels", [*levels(sources), *parts(sources)])
        add("Lowest and most changed", extremes(sources))
        add("Languages", by_language(sources))
        add("Examples", examples(sources))
    labels = dict(zip(sources.names, sources.labels, strict=True))
    for result in sources.xsts:
        add("Human evaluation", human(result, labels))
    for result in sources.human_scores:
        add(f"Human evaluation ({result['scale'].upper()})", other_scale(result, labels))
    for name, toxicity in sources.toxicity:
        heading = "Added toxicity" + (f", {name}" if len(sources.toxicity) > 1 else "")
        add(heading, harm(toxicity))
    if sources.evaluations:
        add("Data quality", quality(sources))
        add("Provenance", origin(sources))
    return page


def _conditions(gates: Sequence[Gate]) -> Iterable[Markup]:
    for failed, title in ((True, "Failed"), (False, "Passed")):
        chosen = [f"{gate.condition}: {gate.message}" for gate in gates if gate.failed == failed]
        if chosen:
            yield notice(title, chosen, kind="error" if failed else "good")
