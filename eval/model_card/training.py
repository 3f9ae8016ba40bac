"""The part of a model card on data and training, from the files of the training run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nllb.errors import DataError
from nllb.io.manifest import Manifest, read_manifest
from nllb.io.text import read_json, read_json_lines, read_text
from nllb.model.formats.model_directory import ModelDirectory
from nllb.model.formats.weight_names import num_parameters

MAX_CURVE_ROWS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """The files of a training run that a card reports."""

    config: tuple[str, ...]
    """Lines of the resolved configuration, without comments and without the path of the data."""
    state: Mapping[str, Any]
    """State of the model's checkpoint, or of the newest one if that was deleted."""
    validations: tuple[Mapping[str, Any], ...]
    """Records of the validations up to that checkpoint."""
    manifest: Manifest
    """Manifest of the token shards."""
    statistics: Mapping[str, Any]
    """Statistics that `nllb data stats` wrote beside the data; empty if there are none."""

    @classmethod
    def read(cls, run_dir: Path, *, data_dir: Path, trained: Mapping[str, Any]) -> "TrainingRecord":
        """Read the record of a run.

        Args:
            run_dir: OUT of `nllb train`.
            data_dir: folder of the token shards that it was trained on.
            trained: the model directory's record of the training, with the step of its weights.

        Raises:
            DataError: if the folder has no checkpoint.
        """
        states = sorted(run_dir.glob("checkpoints/step_*/state.json"))
        if not states:
            raise DataError(f"{run_dir} contains no checkpoint: give the OUT of 'nllb train'")
        state = read_json(states[-1])
        for path in states:
            if (earlier := read_json(path))["step"] == trained.get("step"):
                state = earlier
        lines = read_text(run_dir / "config.yaml").splitlines()
        valid = run_dir / "metrics" / "valid.jsonl"
        statistics = data_dir.parent / "stats" / "stats.json"
        return cls(
            config=tuple(
                line
                for line in lines
                if not line.lstrip().startswith("#") and not line.startswith("data: ")
            ),
            state=state,
            validations=tuple(
                record
                for record in (read_json_lines(valid) if valid.is_file() else ())
                if record["step"] <= state["step"]
            ),
            manifest=read_manifest(data_dir),
            statistics=read_json(statistics) if statistics.is_file() else {},
        )


def data_section(run: TrainingRecord) -> Iterator[str]:
    """Yield the lines on the training data."""
    manifest = run.manifest
    yield from ("## Data", "", "| corpus | origin | licence | pairs |", "|---|---|---|---|")
    for corpus in manifest.corpora:
        licence = corpus.licence or "not stated"
        yield f"| {corpus.name} | {corpus.origin} | {licence} | {corpus.num_pairs:,} |"
    total = sum(corpus.num_pairs for corpus in manifest.corpora)
    yield f"| all | | | {total:,} |"
    yield ""
    yield (
        f"{len(manifest.languages)} languages, {len(manifest.directions):,} directions. Vocabulary "
        f"{manifest.vocabulary.name}, {manifest.vocabulary.num_pieces:,} pieces, SHA-256 "
        f"`{manifest.vocabulary.sha256}`. Shards `{run.state['made_by']['data']}` (hash over the "
        f"files' XXH3-128), made by configuration "
        f"`{manifest.made_by.get('configuration', 'not stated')}`."
    )
    if not run.statistics:
        yield from ("", "The statistics of the data (`nllb data stats`) were not available.")
        return
    decontamination, toxicity = run.statistics["shield"], run.statistics["toxicity"]
    yield from (
        "",
        f"Evaluation sets whose sentences were removed, in every language and on both sides: "
        f"{', '.join(decontamination['sets'])}; {decontamination['num_finds']:,} lines were "
        f"removed.",
        "",
    )
    lists = toxicity["languages_with_list"]
    without = toxicity["languages_not_measurable"]
    if toxicity["measured"] and lists:
        yield (
            f"Toxicity was filtered in the languages with a word list: {', '.join(lists)}. "
            f"Languages without a list, where it is not measurable: {', '.join(without) or 'none'}."
        )
    else:
        yield (
            "Toxicity: **not measurable**. No language had a word list: no text was filtered, and "
            "the toxicity that the model adds is unknown."
        )


def training_section(
    run: TrainingRecord, model: ModelDirectory, *, command: str | None, hardware: str | None
) -> Iterator[str]:
    """Yield the lines on the model's size, its training and its validations."""
    config, state = model.config, run.state
    experts = (
        f", {config.num_experts} experts in every {config.encoder_sparse_step}. layer"
        if config.num_experts
        else ""
    )
    yield from ("", "## Training", "")
    yield (
        f"{num_parameters(config):,} parameters: {config.encoder_layers} + "
        f"{config.decoder_layers} layers of width {config.model_dim}, inner width "
        f"{config.encoder_ffn_dim}{experts}. {state['step']:,} steps, {state['tokens']:,} target "
        f"tokens, {state['seconds'] / 3600:.1f} hours" + (f" on {hardware}." if hardware else ".")
    )
    if command:
        yield from ("", f"    {command}")
    if run.validations:
        yield from _curve(run.validations)
    yield from ("", "The configuration, resolved:", "")
    yield from (f"    {line}" for line in run.config)


def _curve(validations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    every = -(-len(validations) // MAX_CURVE_ROWS)
    shown = [v for n, v in enumerate(validations, 1) if n % every == 0 or n == len(validations)]
    yield from ("", "Held-out lines of the training sources (mean over directions):", "")
    yield from ("| step | loss | chrF++ |", "|---|---|---|")
    for value in shown:
        chrf = f"{value['chrf']:.1f}" if "chrf" in value else ""
        yield f"| {value['step']:,} | {value['loss']:.3f} | {chrf} |"
