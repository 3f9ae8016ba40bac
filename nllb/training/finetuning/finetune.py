"""Fine-tunes a model on text files, optionally with new languages, and reports the effect.

OUT/start/     the original model with its new embedding rows    OUT/replay/   self-replay text
OUT/data/      token shards of the text                          OUT/run/      the training run
OUT/model/     the resulting model                               OUT/report.json
"""

import dataclasses
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from nllb.config import write_config
from nllb.config.fingerprints import claim_directory, file_fingerprint, model_fingerprint
from nllb.errors import ConfigError
from nllb.io.manifest import Manifest, read_manifest
from nllb.io.progress import stage
from nllb.io.text import read_json, write_json
from nllb.model.formats.hugging_face import is_hugging_face, write_hugging_face
from nllb.model.formats.model_directory import ModelDirectory
from nllb.model.formats.open_model import load_model, open_model
from nllb.model.routing_options import RoutingOptions
from nllb.model.tokenizer import Tokenizer
from nllb.training.architecture import ModelSection
from nllb.training.estimate import RunEstimate, estimate
from nllb.training.finetune_config import FinetuneConfig, TextPairs
from nllb.training.held_out_scores import copying_scores, held_out_scorer
from nllb.training.open_run import check_resumable
from nllb.training.train_config import TrainConfig
from nllb.training.trainer import TrainingResult, train
from nllb.training.translating import Translators

from .interpolation import choose_share, interpolate, score_shares
from .report import DirectionReport, FinetuneReport, find_problems
from .self_replay import (
    replay_languages,
    replay_sources,
    write_self_replay,
)
from .text_shards import read_pairs, split_pairs, write_text_shards
from .vocabulary_extension import (
    Extension,
    extend_vocabulary,
    extended_weights,
    missing_characters,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetunePlan:
    """A fine-tuning run that is ready to start.

    Attributes:
        train_config: configuration of the training run.
        characters: characters that were added to the vocabulary.
        size: memory and computation of the training run.
        self_replay: languages into which the original model will translate the new text for replay.
    """

    train_config: TrainConfig
    characters: tuple[str, ...]
    size: RunEstimate
    self_replay: tuple[str, ...]


def plan_finetuning(
    config: FinetuneConfig, out_dir: Path, *, dry_run: bool = False, quiet: bool = False
) -> FinetunePlan:
    """Extend the original model, and estimate the cost of training.

    Args:
        config: the configuration.
        out_dir: output folder.
        dry_run: write neither the folder nor the extended model.
        quiet: whether to hide progress.

    Raises:
        ConfigError: The folder belongs to a run with another model, text, languages or reader.
    """
    original = open_model(config.model)
    _require_nllb_layout(original)
    made_by = _made_by(config, original)
    claim_directory(out_dir, made_by, ignored=["model"], only_check=dry_run)
    start_dir = out_dir / "start"
    train_config = _train_config(config, out_dir)
    if is_hugging_face(start_dir):
        opened = open_model(start_dir)
        characters, shape = opened.settings.get("added_characters", ()), opened.config
    else:
        with stage("extend the vocabulary", quiet=quiet):
            extension = _extend(config, original.tokenizer())
            characters = extension.characters
            shape = dataclasses.replace(
                original.config, vocabulary_size=extension.tokenizer.vocabulary_size
            )
            if not dry_run:
                _write_start(config, original, extension, start_dir)
    # This must precede the replacement of the configuration in the folder.
    check_resumable(train_config, out_dir / "run")
    if not dry_run:
        write_config(config, out_dir / "finetune.yaml")
    return FinetunePlan(
        train_config=train_config,
        characters=tuple(characters),
        size=estimate(train_config, shape),
        self_replay=tuple(_self_replay_languages(config, original.tokenizer())),
    )


def _train_config(config: FinetuneConfig, out_dir: Path) -> TrainConfig:
    return TrainConfig(
        data=out_dir / "data",
        model=ModelSection(initial=str(out_dir / "start"), dropout=config.dropout),
        routing=RoutingOptions(mode="dropless", balance_weight=config.balance_weight),
        reader=config.reader,
        optimizer=config.optimizer,
        schedule=config.schedule,
        parallel=config.parallel,
        precision=config.precision,
        activation_checkpointing=config.activation_checkpointing,
        device=config.device,
        seed=config.seed,
    )


def finetune(
    config: FinetuneConfig,
    out_dir: Path,
    *,
    translators: Translators | None = None,
    quiet: bool = False,
) -> tuple[TrainingResult, FinetuneReport | None]:
    """Fine-tune a model, or resume an interrupted run.

    Args:
        config: the configuration.
        out_dir: output folder.
        translators: inference engine for self-replay and chrF++; None trains without either.
        quiet: whether to hide progress.

    Returns:
        The result of training and, unless the run was stopped, the report.
    """
    plan = plan_finetuning(config, out_dir, quiet=quiet)
    train_config = plan.train_config
    if not (train_config.data / "manifest.json").is_file():
        _write_data(config, plan, out_dir, translators, quiet=quiet)
    manifest = read_manifest(train_config.data)
    before_path = out_dir / "before.json"
    if not before_path.is_file():
        start_dir = out_dir / "start"
        write_json(before_path, _scores(train_config, manifest, start_dir, translators))
    result = train(train_config, out_dir / "run", translators=translators, quiet=quiet)
    if result.model_dir is None:
        return result, None
    report = _compare(config, plan, result, out_dir, translators=translators, quiet=quiet)
    write_json(out_dir / "report.json", report.to_json())
    return result, report


def _compare(
    config: FinetuneConfig,
    plan: FinetunePlan,
    result: TrainingResult,
    out_dir: Path,
    *,
    translators: Translators | None,
    quiet: bool,
) -> FinetuneReport:
    """Choose the fraction of the weight change to keep, write that model, and report on it."""
    assert result.model_dir is not None
    manifest = read_manifest(plan.train_config.data)
    original, tuned = open_model(out_dir / "start"), open_model(result.model_dir)
    before: dict[str, float] = read_json(out_dir / "before.json")
    old = {name for pairs in config.text if pairs.is_replay for name in _direction_names(pairs)}
    share, after = 1.0, dict[str, float]()
    if translators is not None and config.schedule.translations:
        scorer = held_out_scorer(plan.train_config, manifest, tuned.tokenizer(), translators)
        with stage("compare with the original model", quiet=quiet):
            scores = score_shares(original, tuned, config.interpolation, scorer)
        share = choose_share(scores, before.keys() - old)
        after = scores[share]
        _log.info("the result keeps %.0f %% of the change of the weights", 100 * share)
    copying = copying_scores(plan.train_config, manifest, tuned.tokenizer())
    directions = tuple(
        DirectionReport(
            name=name,
            role="old" if name in old else "new",
            before=before.get(name),
            after=score,
            copying=copying.get(name),
        )
        for name, score in after.items()
    )
    problems = find_problems(
        directions,
        learning_rate=config.optimizer.learning_rate,
        has_replay=bool(old or plan.self_replay),
    )
    warning = [result.warning] if result.warning else []
    return FinetuneReport(
        model=str(_write_model(out_dir, tuned, share)),
        steps=result.state.step,
        interpolation=share,
        added_languages=tuple(language.code for language in config.add),
        added_characters=plan.characters,
        directions=directions,
        problems=(*warning, *problems),
    )


def _made_by(config: FinetuneConfig, original: ModelDirectory) -> dict[str, object]:
    """Return the values that the extended model and the shards depend on."""
    return {
        "model": config.model,
        "model files": model_fingerprint(original.path),
        "text": [
            [file_fingerprint(pairs.path), pairs.source, pairs.target, pairs.is_replay]
            for pairs in config.text
        ],
        "add": [[language.code, language.like] for language in config.add],
        "min_character_lines": config.min_character_lines,
        "replay_share": config.replay_share,
        "self_replay": [config.self_replay_lines, *config.self_replay_languages],
        "held_out_fraction": config.held_out_fraction,
        "max_held_out_pairs": config.max_held_out_pairs,
    }


def _extend(config: FinetuneConfig, tokenizer: Tokenizer) -> Extension:
    """Return the vocabulary extended by the new languages and the characters of the text."""
    characters: list[str] = []
    if config.min_character_lines:
        lines = (
            text for p in config.text if not p.is_replay for pair in read_pairs(p) for text in pair
        )
        characters = missing_characters(tokenizer, lines, min_lines=config.min_character_lines)
    extension = extend_vocabulary(tokenizer, config.add, characters)
    _require_languages(config, extension.tokenizer)
    return extension


def _write_start(
    config: FinetuneConfig, original: ModelDirectory, extension: Extension, start_dir: Path
) -> None:
    """Write the original model with its extended vocabulary."""
    size = extension.tokenizer.vocabulary_size
    write_hugging_face(
        start_dir,
        dataclasses.replace(original.config, vocabulary_size=size),
        extended_weights(load_model(original).state_dict(), extension),
        extension.tokenizer,
        settings={
            **{key: value for key, value in original.settings.items() if key == "licence"},
            "source": {"name": original.name, "format": original.format},
            "added_languages": [language.code for language in config.add],
            "added_characters": list(extension.characters),
        },
        generation=original.generation,
    )


def _write_model(out_dir: Path, tuned: ModelDirectory, share: float) -> Path:
    """Write the model that keeps the chosen fraction of the weight change."""
    output = out_dir / "model"
    if output.exists():
        shutil.rmtree(output)
    write_hugging_face(
        output,
        tuned.config,
        interpolate(open_model(out_dir / "start"), tuned, share),
        tuned.tokenizer(),
        settings={**tuned.settings, "interpolation": share},
        generation=open_model(out_dir / "start").generation,
    )
    return output


def _require_nllb_layout(original: ModelDirectory) -> None:
    """Check that the model has NLLB's input format, in which training data is written."""
    layout = original.tokenizer().layout
    if layout.family != "nllb" or layout.prompt != "source first":
        kind = "M2M-100" if layout.family != "nllb" else "NLLB with legacy_behaviour"
        raise ConfigError(
            f"{original.name} has the token format of {kind}, in which training data cannot be "
            f"written: fine-tune an NLLB model without legacy_behaviour, or fine-tune this model "
            f"with transformers"
        )


def _require_languages(config: FinetuneConfig, tokenizer: Tokenizer) -> None:
    needed = {code for pairs in config.text for code in (pairs.source, pairs.target)}
    if missing := sorted(needed - set(tokenizer.languages)):
        raise ConfigError(
            f"the model has no language {', '.join(missing)}: list it under `add`, with a similar "
            f"language that the model has"
        )


def _self_replay_languages(config: FinetuneConfig, original: Tokenizer) -> list[str]:
    """Return the languages of self-replay; none if replay text is given or replay is off."""
    if any(pairs.is_replay for pairs in config.text) or not config.self_replay_lines:
        return []
    if not config.replay_share:
        return []
    used = {code for pairs in config.text for code in (pairs.source, pairs.target)}
    return replay_languages(config.self_replay_languages, original.languages, sorted(used))


def _write_data(
    config: FinetuneConfig,
    plan: FinetunePlan,
    out_dir: Path,
    translators: Translators | None,
    *,
    quiet: bool,
) -> None:
    """Write the token shards of the text and of its replay."""
    replay: list[TextPairs] = []
    known = open_model(config.model).tokenizer().languages
    if plan.self_replay and translators is not None:
        splits = [
            split_pairs(
                pairs,
                held_out_fraction=config.held_out_fraction,
                max_held_out=config.max_held_out_pairs,
            )
            for pairs in config.text
        ]
        sources = replay_sources(
            [(pairs, split["train"]) for pairs, split in zip(config.text, splits, strict=True)],
            known,
            config.self_replay_lines,
        )
        folder = out_dir / "replay"
        folder.mkdir(exist_ok=True)
        translate = translators.load(config.model, device=config.device)
        replay = write_self_replay(sources, plan.self_replay, translate, folder, quiet=quiet)
    if not replay and not any(pairs.is_replay for pairs in config.text):
        _log.warning(
            "fine-tuning without replay: the model may forget its other directions; give old "
            "bitext as replay, or text in a language that the model already knows"
        )
    with stage("encode the text", quiet=quiet):
        write_text_shards(
            config.text,
            open_model(out_dir / "start").tokenizer(),
            plan.train_config.data,
            replay_share=config.replay_share,
            held_out_fraction=config.held_out_fraction,
            max_held_out=config.max_held_out_pairs,
            self_replay=replay,
        )


def _direction_names(pairs: TextPairs) -> tuple[str, str]:
    return f"{pairs.source}-{pairs.target}", f"{pairs.target}-{pairs.source}"


def _scores(
    config: TrainConfig, manifest: Manifest, model_dir: Path, translators: Translators | None
) -> dict[str, float]:
    """Return the chrF++ of each direction; empty without an inference engine."""
    if translators is None or not config.schedule.translations:
        return {}
    opened = open_model(model_dir)
    scorer = held_out_scorer(config, manifest, opened.tokenizer(), translators)
    return dict(scorer(load_model(opened)))
