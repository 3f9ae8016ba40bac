"""Write a model's card: README.md with Hugging Face metadata, scores.tsv and nllb.json.

The part of README.md between two marks is generated from the files of the runs. Other text and
other metadata are kept. `scores.tsv` has every direction, `nllb.json` the settings that are needed
to repeat the scores.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from eval.flores.results import Evaluation
from eval.metrics.registry import metric_title
from nllb.errors import ConfigError, DataError
from nllb.io.atomic import atomic_text
from nllb.io.text import read_text, write_json, write_lines
from nllb.model.coverage import COVERED
from nllb.model.formats.open_model import open_model

from .scores import COPYING, SCORES_FILE, ScoreTable
from .training import TrainingRecord, data_section, training_section

BEGIN, END = "<!-- nllb card: begin -->", "<!-- nllb card: end -->"
README = "README.md"
_LICENCE_IDS = {
    "mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
}  # fmt: skip
_DATASETS = {"flores200": "facebook/flores", "flores_plus": "openlanguagedata/flores_plus"}
_INDEXED_GROUPS = ("all", "eng-xx", "xx-eng", "non-eng")


@dataclass(frozen=True, kw_only=True, slots=True)
class CardOptions:
    """Facts that the files of the runs do not contain."""

    licence: str | None = None
    """Licence of the weights."""
    summary: str | None = None
    """One-line description of the model for `nllb models`."""
    command: str | None = None
    """Command that trained the model."""
    hardware: str | None = None
    """Machine on which it was trained."""
    min_gain: float | None = None
    """Minimum gain in chrF++ over copying in both directions with English for a language to be
    declared as covered. None declares nothing."""


def write_card(
    model_dir: Path,
    run_dir: Path,
    *,
    data_dir: Path,
    scores: Path | None = None,
    beside: tuple[str, ...] = (),
    options: CardOptions | None = None,
) -> Path:
    """Write the card of a model and return the path of its README.

    Args:
        model_dir: the model directory.
        run_dir: OUT of `nllb train`.
        data_dir: folder of the token shards that it was trained on.
        scores: OUT of `nllb eval flores` of the model.
        beside: other evaluations of the same lines, each as NAME=DIR.
        options: facts that the files do not contain.

    Raises:
        ConfigError: if `model_dir` is not a directory, or evaluations do not fit together.
        DataError: if a file of the runs is missing or damaged.
    """
    if not model_dir.is_dir():
        raise ConfigError(
            f"{model_dir} is not a directory: create the model with 'nllb convert' first"
        )
    if beside and scores is None:
        raise ConfigError("--beside requires --scores, the scores of the model itself")
    options = options or CardOptions()
    if options.min_gain is not None and f"{COPYING}=" not in " ".join(beside):
        raise ConfigError(f"--covered-gain requires the baseline: --beside {COPYING}=DIR")
    model = open_model(model_dir)
    run = TrainingRecord.read(
        run_dir, data_dir=data_dir, trained=model.settings.get("training", {})
    )
    table = None
    if scores is not None:
        table = ScoreTable.read(scores, beside, run.manifest)
        write_lines(model_dir / SCORES_FILE, table.lines())
    text = "\n".join(
        [
            *data_section(run),
            *training_section(run, model, command=options.command, hardware=options.hardware),
            *(table.markdown() if table else ()),
        ]
    )
    path = model_dir / README
    card = _with_part(path, text, title=model_dir.resolve().name)
    _set_metadata(card, options, table)
    with atomic_text(path) as stream:
        stream.write(str(card))
    write_json(model_dir / "nllb.json", _settings(model.settings, options, table))
    return path


def _settings(
    old: Mapping[str, Any], options: CardOptions, table: ScoreTable | None
) -> dict[str, Any]:
    settings = dict(old)
    for name in ("licence", "summary"):
        if value := getattr(options, name):
            settings[name] = value
    if source := settings.get("source"):  # a path of this machine
        settings["source"] = {**source, "name": Path(source["name"]).name}
    if table:
        settings["evaluation"] = table.settings()
        if options.min_gain is not None:
            settings[COVERED] = table.covered(options.min_gain)
    return settings


def _with_part(path: Path, text: str, *, title: str) -> ModelCard:
    """Return the card with the text between the marks; without marks it goes to the end."""
    old = read_text(path) if path.is_file() else f"# {title}\n"
    if not old.startswith("---\n"):
        old = "---\n{}\n---\n" + old
    card = ModelCard(old)
    before, begin, rest = card.text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and not end:
        raise DataError(f"{path}: {BEGIN} without {END} after it; write both marks or neither")
    card.text = f"{before.rstrip()}\n\n{BEGIN}\n\n{text}\n\n{END}\n{after.lstrip()}"
    return card


def _set_metadata(card: ModelCard, options: CardOptions, table: ScoreTable | None) -> None:
    """Set licence, task and scores in the metadata and keep the other values."""
    data: Any = card.data  # its attributes are those of the metadata
    data.pipeline_tag = "translation"
    if options.licence:
        identifier = options.licence.lower().replace(" ", "-")
        identifier = {"cc0": "cc0-1.0"}.get(identifier, identifier)
        known = identifier in _LICENCE_IDS
        data.license = identifier if known else "other"
        data.license_name = None if known else options.licence
    if table is not None:
        data.model_name = table.scores.system
        data.eval_results = list(_results(table.scores))


def _results(evaluation: Evaluation) -> Iterator[EvalResult]:
    name, _, split = evaluation.benchmark.partition("/")
    for group in evaluation.groups:
        if group.group in _INDEXED_GROUPS:
            title = metric_title(group.metric)
            yield EvalResult(
                task_type="translation",
                dataset_type=_DATASETS.get(name, name),
                dataset_name=evaluation.benchmark,
                dataset_config=group.group,
                dataset_split=split or None,
                metric_type="chrf" if group.metric.startswith("chrf") else title.lower(),
                metric_name=f"{title}, mean over {group.count:,} directions",
                metric_value=round(group.mean, 4),
            )
