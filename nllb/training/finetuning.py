"""Fine-tuning a model, and teaching it a language: vocabulary, data, training, before and after.

OUT/start/   the model with its new rows      OUT/data/    token shards of the given text
OUT/run/     the training run                 OUT/run/model/   the result     OUT/report.json
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from nllb.config import format_size
from nllb.config.fingerprints import claim_directory, file_fingerprint
from nllb.errors import ConfigError
from nllb.io.manifest import Manifest, read_manifest
from nllb.io.progress import stage
from nllb.io.text import read_json, write_json
from nllb.model.formats.hugging_face import is_hugging_face, write_hugging_face
from nllb.model.formats.open_model import load_model, open_model
from nllb.model.routing_options import RoutingOptions
from nllb.model.tokenizer import Tokenizer
from nllb.training.architecture import ModelSection
from nllb.training.estimate import Estimate, estimate
from nllb.training.finetune_config import FinetuneConfig, TextPairs
from nllb.training.text_shards import read_pairs, write_text_shards
from nllb.training.train_config import TrainConfig
from nllb.training.trainer import MakeScorer, TrainingResult, train
from nllb.training.vocabulary_extension import (
    extend_vocabulary,
    extended_weights,
    missing_characters,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A model and data that are ready to train."""

    train_config: TrainConfig
    """The training run."""
    manifest: Manifest
    """The data."""
    characters: tuple[str, ...]
    """Characters that were added to the vocabulary."""
    size: Estimate
    """What training will take."""


def prepare(config: FinetuneConfig, out_dir: Path, *, quiet: bool = False) -> Prepared:
    """Write the extended model and the token shards; what is there already stays.

    Raises:
        ConfigError: what is there was made of another model, other text or other languages.
    """
    claim_directory(out_dir, _made_by(config))
    start_dir, data_dir = out_dir / "start", out_dir / "data"
    if not is_hugging_face(start_dir):
        with stage("extend the vocabulary", quiet=quiet):
            _write_start(config, start_dir)
    opened = open_model(start_dir)
    tokenizer = opened.tokenizer()
    if not (data_dir / "manifest.json").is_file():
        with stage("encode the text", quiet=quiet):
            write_text_shards(
                config.text,
                tokenizer,
                data_dir,
                replay_share=config.replay_share,
                held_out_fraction=config.held_out_fraction,
            )
    train_config = TrainConfig(
        data=data_dir,
        model=ModelSection(initial=str(start_dir), dropout=config.dropout),
        routing=RoutingOptions(balance_weight=config.balance_weight),
        reader=config.reader,
        optimizer=config.optimizer,
        schedule=config.schedule,
        parallel=config.parallel,
        precision=config.precision,
        activation_checkpointing=config.activation_checkpointing,
        device=config.device,
        seed=config.seed,
    )
    return Prepared(
        train_config=train_config,
        manifest=read_manifest(data_dir),
        characters=tuple(opened.settings.get("added_characters", ())),
        size=estimate(train_config, opened.config),
    )


def finetune(
    config: FinetuneConfig,
    out_dir: Path,
    *,
    make_scorer: MakeScorer | None = None,
    quiet: bool = False,
) -> tuple[TrainingResult, dict[str, object]]:
    """Fine-tune, and report each direction before and after.

    Returns:
        What became of the run, and the report.
    """
    prepared = prepare(config, out_dir, quiet=quiet)
    train_config = prepared.train_config
    before_path = out_dir / "before.json"
    if not before_path.is_file():
        write_json(before_path, _score(train_config, prepared, out_dir / "start", make_scorer))
    result = train(train_config, out_dir / "run", make_scorer=make_scorer, quiet=quiet)
    if result.model_dir is None:
        return result, {}
    before, after = (
        read_json(before_path),
        _score(train_config, prepared, result.model_dir, make_scorer),
    )
    replayed = {name for p in config.text if p.is_replay for name in _names(p)}
    report: dict[str, object] = {
        "model": str(result.model_dir),
        "steps": result.state.step,
        "added_languages": [language.code for language in config.add],
        "added_characters": list(prepared.characters),
        "directions": {
            name: {
                "role": "old" if name in replayed else "new",
                "before": before.get(name),
                "after": score,
            }
            for name, score in after.items()
        },
    }
    write_json(out_dir / "report.json", report)
    return result, report


def describe(size: Estimate) -> str:
    """Return what training will take, for people."""
    return (
        f"{size.parameters:,} parameters; about {format_size(size.memory_bytes)} of memory, of "
        f"which {format_size(size.state_bytes)} for weights, gradients and the optimizer; lower "
        f"reader.max_tokens where that is too much"
    )


def _made_by(config: FinetuneConfig) -> dict[str, object]:
    """Return what the extended model and the shards depend on."""
    return {
        "model": config.model,
        "text": [
            [file_fingerprint(pairs.path), pairs.source, pairs.target, pairs.is_replay]
            for pairs in config.text
        ],
        "add": [[language.code, language.like] for language in config.add],
        "min_character_lines": config.min_character_lines,
        "replay_share": config.replay_share,
        "held_out_fraction": config.held_out_fraction,
    }


def _write_start(config: FinetuneConfig, start_dir: Path) -> None:
    opened = open_model(config.model)
    tokenizer = opened.tokenizer()
    characters: list[str] = []
    if config.min_character_lines:
        lines = (
            text for p in config.text if not p.is_replay for pair in read_pairs(p) for text in pair
        )
        characters = missing_characters(tokenizer, lines, least=config.min_character_lines)
    extension = extend_vocabulary(tokenizer, config.add, characters)
    _require_languages(config, extension.tokenizer)
    shape = dataclasses.replace(opened.config, vocabulary_size=extension.tokenizer.vocabulary_size)
    weights = load_model(opened).state_dict()
    write_hugging_face(
        start_dir,
        shape,
        extended_weights(weights, extension),
        extension.tokenizer,
        settings={
            **{key: value for key, value in opened.settings.items() if key == "licence"},
            "source": {"name": opened.name, "format": opened.format},
            "added_languages": [language.code for language in config.add],
            "added_characters": characters,
        },
    )


def _require_languages(config: FinetuneConfig, tokenizer: Tokenizer) -> None:
    wanted = {code for pairs in config.text for code in (pairs.source, pairs.target)}
    if missing := sorted(wanted - set(tokenizer.languages)):
        raise ConfigError(
            f"the model has no language {', '.join(missing)}: put each under `add` with a language "
            f"that it is like"
        )


def _names(pairs: TextPairs) -> tuple[str, str]:
    return f"{pairs.source}-{pairs.target}", f"{pairs.target}-{pairs.source}"


def _score(
    config: TrainConfig, prepared: Prepared, model_dir: Path, make_scorer: MakeScorer | None
) -> dict[str, float]:
    if make_scorer is None or not config.schedule.translations:
        return {}
    opened = open_model(model_dir)
    scorer = make_scorer(config, prepared.manifest, opened.tokenizer())
    return dict(scorer(load_model(opened)))
