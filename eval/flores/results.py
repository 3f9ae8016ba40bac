"""Reads and writes the folder of `nllb eval flores`.

evaluation.json        settings, signatures, groups, missing directions, provenance
scores.tsv             one row per direction
targets/CODE.npz       for each target language (`eval.flores.target_files`)
index.npz              totals for the next run (`eval.flores.index`)
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from nllb.errors import DataError
from nllb.io.records import to_record
from nllb.io.text import read_json, write_json

from .target_files import TARGETS_DIR, Row, load_summary, without_collection

SCHEMA: Final = "nllb-evaluation/3"
EVALUATION_FILE: Final = "evaluation.json"
SCORES_FILE: Final = "scores.tsv"


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupScore:
    """The mean of a group of directions under one metric."""

    group: str
    """Name, such as `eng-xx.low`."""
    metric: str
    """Metric name."""
    count: int
    """Directions that were scored."""
    missing: int
    """Requested directions without a score, which the mean does not include."""
    mean: float
    """Unweighted mean of the scores."""
    nfc_mean: float
    """The same of the NFC scores."""
    low: float
    """Lower end of the 95 % interval over sentences."""
    high: float
    """Upper end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupFlags:
    """Problems of the outputs of a group of directions."""

    group: str
    """Name, such as `eng-xx.low`."""
    lines: int
    """Lines of all its files."""
    flags: Mapping[str, int]
    """Code of a problem -> lines that have it."""
    judged: int
    """Lines whose language was detected; 0 without a detector."""
    right: int
    """Number of these lines that are in the target language."""
    reference_share: float | None
    """Mean fraction of the references' lines that the detector identifies as their language."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One system on one test set: the content of `evaluation.json`, and the rows."""

    system: str
    """Name for reports."""
    benchmark: str
    """Name and split of the test set."""
    benchmark_dir: str
    """Folder of the test set as given; only the examples of reports need it."""
    num_sentences: int
    """Sentences of each file."""
    outputs: str
    """Folder of the hypotheses as given."""
    metrics: tuple[str, ...]
    """Metric names in the order of reports."""
    signatures: Mapping[str, Mapping[str, str]]
    """Metric -> target language (`*` for all others) -> signature."""
    reference_sha256: Mapping[str, str]
    """Language -> hash of its reference sentences."""
    missing: tuple[str, ...]
    """Requested directions that have no file."""
    failed: Mapping[str, str]
    """Direction that could not be scored -> reason."""
    notes: tuple[str, ...]
    """Warnings about the scores."""
    groups: tuple[GroupScore, ...]
    """Means and intervals."""
    flags: tuple[GroupFlags, ...]
    """Problems and languages of the outputs, by group."""
    provenance: Mapping[str, str]
    """Versions, revision, time, hashes."""
    settings: str
    """Hash of metrics and resampling."""
    num_directions: int
    """Directions that were scored."""
    directory: Path = field(default=Path(), repr=False)
    """Folder it was read from or written to."""

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The scored directions, sorted; read from the folder on first use."""
        found: list[Row] = []
        with without_collection():
            for target in self.reference_sha256:
                summary = load_summary(self.directory, target)
                found += summary.rows if summary else ()
        if len(found) != self.num_directions:
            raise DataError(
                f"{self.directory}: {EVALUATION_FILE} lists {self.num_directions:,} directions, "
                f"but the files in {TARGETS_DIR} have {len(found):,}; some are damaged or of "
                "another run: run 'nllb eval flores' again"
            )
        return tuple(sorted(found, key=lambda row: (row.direction.source, row.direction.target)))

    def signature(self, metric: str, target: str) -> str:
        """Return the signature of a metric for a target language."""
        by_target = self.signatures.get(metric, {})
        return by_target.get(target, by_target.get("*", ""))

    @property
    def has_flags(self) -> bool:
        """Whether a requested direction has no file, or an output has a problem."""
        return bool(self.missing) or any(part.flags for part in self.flags)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the directions, the means and the counts of problems as values for JSON."""
        yield from (row.as_json() for row in self.rows)
        yield from map(asdict, self.groups)
        yield from map(asdict, self.flags)

    def save(self) -> None:
        """Write evaluation.json."""
        write_json(self.directory / EVALUATION_FILE, {"schema": SCHEMA, **self.head()})

    def head(self) -> dict[str, Any]:
        """Return everything except the rows as values for JSON."""
        names = [field.name for field in fields(self) if field.name in _HEAD]
        values = {name: getattr(self, name) for name in names}
        for name in ("groups", "flags"):
            values[name] = [asdict(group) for group in values[name]]
        return values


_HEAD: Final = {field.name for field in fields(Evaluation)} - {"directory"}


def load_evaluation(directory: Path) -> Evaluation:
    """Read a folder that `nllb eval flores` wrote.

    Raises:
        DataError: if it is not such a folder, or has another version of the format.
    """
    path = directory / EVALUATION_FILE
    if not path.is_file():
        raise DataError(f"{directory} has no {EVALUATION_FILE}: give an OUT of 'nllb eval flores'")
    value = read_json(path)
    schema = value.pop("schema", None) if isinstance(value, dict) else None
    if schema != SCHEMA:
        shown = repr(schema)[:60]
        raise DataError(f"{path}: schema {shown}, this version reads {SCHEMA!r}; evaluate again")
    if value.keys() != _HEAD:
        odd = ", ".join(sorted(value.keys() ^ _HEAD))
        raise DataError(f"{path}: fields missing or unknown: {odd}; evaluate again")
    evaluation = to_record(Evaluation, {**value, "directory": directory}, path)
    if not evaluation.metrics or set(evaluation.metrics) - evaluation.signatures.keys():
        raise DataError(f"{path} is damaged: a metric has no signature; evaluate again")
    return evaluation
