"""The data of a report: evaluations, the comparison of two, human ratings and toxicity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from eval.flores.changes import Comparison
from eval.flores.comparison import compare
from eval.flores.directions import Direction
from eval.flores.results import EVALUATION_FILE, Evaluation, load_evaluation
from eval.flores.target_files import Row
from eval.metrics.significance import RESAMPLES
from eval.toxicity.added_toxicity import FILE_NAME as TOXICITY_FILE
from eval.toxicity.added_toxicity import SCHEMA as TOXICITY_SCHEMA
from eval.toxicity.added_toxicity import ToxicityResult
from eval.xsts.other_scales import FILE_NAME as HUMAN_SCORES_FILE
from eval.xsts.other_scales import read_other_scale
from eval.xsts.result import FILE_NAME as XSTS_FILE
from eval.xsts.result import read_result
from nllb.errors import DataError
from nllb.io.records import to_record
from nllb.io.text import read_json

MAX_LABEL: Final = 20
"""Maximum length of a system's name in the head of a table."""


def short_labels(names: Sequence[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a label for each name: the name itself, or a letter if some names are long.

    Args:
        names: different names.
        known: labels of names that already have one.
    """
    known = known or {}
    if all(len(name) <= MAX_LABEL for name in names):
        return {name: name for name in names}
    free = (chr(ord("A") + number) for number in range(26 * 26))
    unused = (letter for letter in free if letter not in known.values())
    return {name: known[name] if name in known else next(unused) for name in names}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Everything in the folders of one report."""

    evaluations: tuple[Evaluation, ...]
    """Scored systems, in the order of the folders; the first is the baseline."""
    comparison: Comparison | None
    """Comparison of the first system with the last, if there are several."""
    xsts: tuple[Mapping[str, Any], ...]
    """Results of `nllb eval xsts score`."""
    human_scores: tuple[Mapping[str, Any], ...]
    """Its results on other scales: ESA and MQM."""
    toxicity: tuple[tuple[str, Mapping[str, Any]], ...]
    """(folder's name, result of `nllb eval toxicity`)."""

    @property
    def latest(self) -> Evaluation:
        """The system that the report is about."""
        return self.evaluations[-1]

    @property
    def primary(self) -> str:
        """The metric by which tables are sorted: chrF++ if it was computed."""
        metrics = self.latest.metrics
        return "chrf++" if "chrf++" in metrics else metrics[0]

    @cached_property
    def rows(self) -> tuple[dict[Direction, Row], ...]:
        """The rows of each evaluation by direction."""
        return tuple({row.direction: row for row in one.rows} for one in self.evaluations)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A different name for each system."""
        names = [one.system for one in self.evaluations]
        if len(set(names)) < len(names):
            return tuple(f"{name} ({number})" for number, name in enumerate(names, 1))
        return tuple(names)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A short label for each system: its name, or a letter if a name is too long."""
        return tuple(short_labels(self.names).values())


def read_sources(
    directories: Sequence[Path], *, resamples: int = RESAMPLES, quiet: bool = True
) -> Sources:
    """Read the folders of a report; two systems are compared.

    Raises:
        DataError: if a folder has no result, or two evaluations cannot be compared.
    """
    evaluations, xsts, human_scores, toxicity = [], [], [], []
    for directory in directories:
        found = False
        if (directory / EVALUATION_FILE).is_file():
            evaluations.append(load_evaluation(directory))
            found = True
        if (directory / XSTS_FILE).is_file():
            xsts.append(read_result(directory))
            found = True
        if (directory / HUMAN_SCORES_FILE).is_file():
            human_scores.append(read_other_scale(directory / HUMAN_SCORES_FILE))
            found = True
        if (directory / TOXICITY_FILE).is_file():
            toxicity.append((directory.resolve().name, _read_toxicity(directory / TOXICITY_FILE)))
            found = True
        if not found:
            raise DataError(
                f"{directory} has no result: expected {EVALUATION_FILE} of 'nllb eval flores', "
                f"{XSTS_FILE} or {HUMAN_SCORES_FILE} of 'nllb eval xsts score', or "
                f"{TOXICITY_FILE} of 'nllb eval toxicity'"
            )
    comparison = None
    if len(evaluations) > 1:
        comparison = compare(evaluations[0], evaluations[-1], resamples=resamples, quiet=quiet)
    return Sources(
        evaluations=tuple(evaluations),
        comparison=comparison,
        xsts=tuple(xsts),
        human_scores=tuple(human_scores),
        toxicity=tuple(toxicity),
    )


def _read_toxicity(path: Path) -> Mapping[str, Any]:
    value = read_json(path)
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != TOXICITY_SCHEMA:
        raise DataError(
            f"{path}: schema is {repr(schema)[:60]}, this version reads {TOXICITY_SCHEMA!r}; "
            "measure again"
        )
    to_record(ToxicityResult, value, path)
    return dict(value)
