"""What a report is made of: evaluations, the comparison of two, ratings by people, toxicity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eval.flores.comparison import Comparison, compare
from eval.flores.directions import Direction
from eval.flores.results import EVALUATION_FILE, Evaluation, Row, load_evaluation
from eval.metrics.significance import RESAMPLES
from eval.toxicity.added_toxicity import FILE_NAME as TOXICITY_FILE
from eval.toxicity.added_toxicity import SCHEMA as TOXICITY_SCHEMA
from eval.toxicity.added_toxicity import ToxicityResult
from eval.xsts.result import FILE_NAME as XSTS_FILE
from eval.xsts.result import read_result
from nllb.errors import DataError
from nllb.io.records import to_record
from nllb.io.text import read_json


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Everything that was found in the folders of one report."""

    evaluations: tuple[Evaluation, ...]
    """Scored systems, in the order of the folders; the first is the baseline of the others."""
    comparison: Comparison | None
    """From the first system to the last, where there are several."""
    xsts: tuple[Mapping[str, Any], ...]
    """Results of `nllb eval xsts score`."""
    toxicity: tuple[tuple[str, Mapping[str, Any]], ...]
    """(folder's name, result of `nllb eval toxicity`)."""

    @property
    def latest(self) -> Evaluation:
        """The system that the report is about."""
        return self.evaluations[-1]

    @property
    def primary(self) -> str:
        """The metric that tables sort by: chrF++ where there is one."""
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


def read_sources(
    directories: Sequence[Path], *, resamples: int = RESAMPLES, quiet: bool = True
) -> Sources:
    """Read the folders of a report; two systems are compared with so many resamples.

    Raises:
        DataError: where a folder holds no result, or two evaluations cannot be compared.
    """
    evaluations, xsts, toxicity = [], [], []
    for directory in directories:
        found = False
        if (directory / EVALUATION_FILE).is_file():
            evaluations.append(load_evaluation(directory))
            found = True
        if (directory / XSTS_FILE).is_file():
            xsts.append(read_result(directory))
            found = True
        if (directory / TOXICITY_FILE).is_file():
            toxicity.append((directory.resolve().name, _read_toxicity(directory / TOXICITY_FILE)))
            found = True
        if not found:
            raise DataError(
                f"{directory} holds no result: expected {EVALUATION_FILE} of 'nllb eval flores', "
                f"{XSTS_FILE} of 'nllb eval xsts score' or {TOXICITY_FILE} of 'nllb eval toxicity'"
            )
    comparison = None
    if len(evaluations) > 1:
        comparison = compare(evaluations[0], evaluations[-1], resamples=resamples, quiet=quiet)
    return Sources(
        evaluations=tuple(evaluations),
        comparison=comparison,
        xsts=tuple(xsts),
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
