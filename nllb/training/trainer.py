"""Trains a model from a configuration: opens all parts, resumes, runs, and writes the model.

OUT/config.yaml      the resolved configuration      OUT/start/       shape and tokenizer
OUT/checkpoints/     see checkpoint.py               OUT/metrics/     JSON lines
OUT/tensorboard/     the same for TensorBoard        OUT/model/       the result
"""

import dataclasses
import gc
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nllb.config import write_config
from nllb.config.fingerprints import changed_fields
from nllb.config.loading import plain
from nllb.errors import ConfigError, ResourceError
from nllb.io.manifest import Manifest, read_manifest
from nllb.io.progress import Progress
from nllb.model.configuration import ModelConfig
from nllb.model.formats.open_model import load_model, open_model
from nllb.model.formats.weights import read_weight
from nllb.model.moe import MixtureOfExperts
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import Transformer
from nllb.training.checkpoint import (
    WEIGHT,
    CheckpointFolder,
    RunState,
    read_moments,
    read_state,
    read_tensors,
)
from nllb.training.expert_parallel import spread_experts
from nllb.training.export import MODEL_DIR, export_checkpoint, write_start
from nllb.training.initialization import initialize, materialize
from nllb.training.lexicon import lexical_embedding, look_up_words
from nllb.training.loss import LossModule, Teacher
from nllb.training.metrics import MetricLog, StepStatistics
from nllb.training.optimization import build_optimizer
from nllb.training.parallel import ParallelModel, recompute_layers
from nllb.training.ranks import Ranks, StopFlag, join_ranks
from nllb.training.reader import BatchReader, read_validation
from nllb.training.run import Ending, TrainingRun, plain_loop
from nllb.training.train_config import TrainConfig
from nllb.training.validation import Scorer, Validator
from nllb.training.vocabulary import TokenIds, check_fits, tokenizer_of, word_starts

MakeScorer = Callable[[TrainConfig, Manifest, Tokenizer], Scorer]
"""Makes what translates and scores in validations; the command line knows how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """What became of a run."""

    ending: Ending
    """Why it ended; `stopped` goes on when the same command is started again."""
    state: RunState
    """How far it came."""
    model_dir: Path | None
    """The model, where training has ended."""


def train(
    config: TrainConfig,
    out_dir: Path,
    *,
    make_scorer: MakeScorer | None = None,
    quiet: bool = False,
) -> TrainingResult:
    """Train, or go on with a run that was interrupted.

    Raises:
        NllbError: data, vocabulary, model, ranks or machine do not allow it; the text says what to
            do.
    """
    with join_ranks(config.device) as ranks:
        result = _train(config, out_dir, ranks, make_scorer, quiet or not ranks.is_first)
        # What holds on to the process group goes before the group does: freed after it, it can wait
        # for ever for a thread of the group.
        gc.collect()
        ranks.wait()
    return result


def _train(
    config: TrainConfig, out_dir: Path, ranks: Ranks, make_scorer: MakeScorer | None, quiet: bool
) -> TrainingResult:
    loop = _loop_of(config)
    stop = StopFlag(ranks)
    bar = Progress("training", total=config.schedule.steps, unit="steps", quiet=quiet)
    with stop.listening():
        # Before the bar: what cannot be opened is told without a line of progress.
        run = open_run(config, out_dir, ranks, stop, bar, make_scorer=make_scorer, quiet=quiet)
        try:
            with bar:
                bar.resume(run.state.step)
                loop(run)
        finally:
            run.log.close()
    assert run.ending is not None
    model_dir = _write_model(run) if run.ending != "stopped" else None
    return TrainingResult(ending=run.ending, state=run.state, model_dir=model_dir)


def _loop_of(config: TrainConfig) -> Callable[[TrainingRun], None]:
    if config.parallel.runner == "plain":
        return plain_loop
    try:
        from nllb.training.fairseq2_loop import fairseq2_loop
    except ImportError as error:
        raise ResourceError(
            f"fairseq2 cannot be loaded ({error}); run: pip install 'nllb[train]', or set "
            f"parallel.runner=plain, which trains the same weights without it"
        ) from error
    return fairseq2_loop


def open_run(
    config: TrainConfig,
    out_dir: Path,
    ranks: Ranks,
    stop: StopFlag,
    progress: Progress,
    *,
    make_scorer: MakeScorer | None = None,
    quiet: bool = False,
) -> TrainingRun:
    """Open everything that a rank trains with, at the newest whole checkpoint."""
    manifest = read_manifest(config.data)
    tokenizer = open_tokenizer(config, manifest)
    checkpoints = CheckpointFolder(out_dir / "checkpoints", ranks)
    newest = checkpoints.newest()
    at = None if newest is None else checkpoints.path(newest)
    identity = _identity(config, manifest)
    state = RunState(made_by=identity) if at is None else read_state(at)
    _require_same(state.made_by, identity, out_dir)
    if newest is None and ranks.is_first:
        manifest.verify()
    ranks.wait()
    ids = TokenIds.of_tokenizer(tokenizer)
    reader = BatchReader(
        manifest,
        config.reader,
        rank=ranks.rank,
        num_ranks=ranks.size,
        ids=ids,
        word_starts=word_starts(tokenizer),
    )
    shape = shape_of(config, tokenizer)
    model = build_model(config, shape, ranks, checkpoint=at)
    if at is None and config.lexicon.pivot is not None:
        embedding_VD = model.embedding.weight.data
        embedding_VD.copy_(
            lexical_embedding(manifest, embedding_VD, config.lexicon, seed=config.seed, quiet=quiet)
        )
        look_up_words(model)
    if ranks.is_first and newest is None:
        out_dir.mkdir(parents=True, exist_ok=True)
        write_start(out_dir, shape, tokenizer)
    if ranks.is_first:
        write_config(config, out_dir / "config.yaml")
    module = LossModule(
        model.to(ranks.device),
        label_smoothing=config.label_smoothing,
        balance_weight=config.routing.balance_weight,
        softmax_negatives=config.softmax_negatives,
        teacher=open_teacher(config, tokenizer, shape, ranks),
    )
    parallel_model = ParallelModel(module, config.parallel, ranks)
    if parallel_model.spreads_experts:
        checkpoints.spread_experts()
    optimizer = build_optimizer(module, config.optimizer)
    if at is not None:
        wanted = parallel_model.module.model.state_dict()
        parallel_model.restore(optimizer, read_moments(at, wanted), step=state.step)
        _say_new_rate(state, config, ranks)
    state.learning_rate = config.optimizer.learning_rate
    validation = read_validation(
        manifest, config.reader, max_pairs=config.schedule.validation_pairs, ids=ids
    )
    wants_scorer = make_scorer is not None and config.schedule.translations > 0
    if wants_scorer and parallel_model.passes_are_common:
        raise ConfigError(
            "schedule.translations needs the whole model on one rank: set it to 0, or take "
            "parallel.data: ddp and parallel.experts: false"
        )
    scorer = make_scorer(config, manifest, tokenizer) if make_scorer and wants_scorer else None
    return TrainingRun(
        config=config,
        out_dir=out_dir,
        ranks=ranks,
        model=parallel_model,
        optimizer=optimizer,
        reader=reader,
        validator=Validator(parallel_model, list(validation), ranks, scorer=scorer),
        checkpoints=checkpoints,
        state=state,
        log=MetricLog(out_dir, ranks, from_step=state.step),
        statistics=StepStatistics(module.model, ranks),
        stop=stop,
        progress=progress,
        quiet=quiet,
        saved_step=newest,
    )


def open_tokenizer(config: TrainConfig, manifest: Manifest) -> Tokenizer:
    """Return the tokenizer of the initial model, or else of the data."""
    if config.model.initial is None:
        return tokenizer_of(manifest)
    tokenizer = open_model(config.model.initial).tokenizer()
    check_fits(tokenizer, manifest, config.model.initial)
    return tokenizer


def shape_of(config: TrainConfig, tokenizer: Tokenizer) -> ModelConfig:
    """Return the shape of the model."""
    if config.model.initial is None:
        return config.model.resolve(vocabulary_size=tokenizer.vocabulary_size)
    return dataclasses.replace(
        open_model(config.model.initial).config,
        dropout=config.model.dropout,
        attention_dropout=config.model.attention_dropout,
        activation_dropout=config.model.activation_dropout,
    )


def open_teacher(
    config: TrainConfig, tokenizer: Tokenizer, shape: ModelConfig, ranks: Ranks
) -> Teacher | None:
    """Load the model that is learned from, if there is one.

    Raises:
        ConfigError: it has another vocabulary.
    """
    wanted = config.distillation
    if wanted.teacher is None:
        return None
    opened = open_model(wanted.teacher)
    theirs = opened.tokenizer()
    same_ids = theirs.languages == tokenizer.languages and all(
        theirs.language_id(code) == tokenizer.language_id(code) for code in theirs.languages
    )
    same_size = opened.config.vocabulary_size == shape.vocabulary_size
    if theirs.vocabulary != tokenizer.vocabulary or not same_ids or not same_size:
        raise ConfigError(
            f"distillation.teacher: {wanted.teacher} has another vocabulary than the model that "
            f"learns ({opened.config.vocabulary_size:,} rows and {shape.vocabulary_size:,}): take "
            f"a teacher that was trained on the same data folder"
        )
    model = load_model(opened, ranks.device)
    return Teacher(model=model, temperature=wanted.temperature, alpha=wanted.alpha)


def build_model(
    config: TrainConfig, shape: ModelConfig, ranks: Ranks, *, checkpoint: Path | None = None
) -> Transformer:
    """Return what this rank has of the model: at a checkpoint, or else with its first weights.

    It takes memory only for what the rank keeps: with spread experts, its share of them.
    """
    with torch.device("meta"):
        model = Transformer(shape)
    for part in model.modules():
        if isinstance(part, MixtureOfExperts):
            part.options = config.routing
    if config.parallel.experts and ranks.size > 1:
        spread_experts(model, ranks)
    wanted = model.state_dict()
    weights: Mapping[str, Tensor] = {}
    if checkpoint is not None:
        weights = read_tensors(checkpoint, wanted, WEIGHT)
    elif config.model.initial is not None:
        opened = open_model(config.model.initial).weights
        weights = {name: read_weight(opened, name).float() for name in wanted}
    materialize(model)
    if weights:
        model.load_state_dict(weights)
    else:
        initialize(model, config.seed)
    if config.activation_checkpointing:
        recompute_layers(model)
    return model


def _say_new_rate(state: RunState, config: TrainConfig, ranks: Ranks) -> None:
    rate = config.optimizer.learning_rate
    if ranks.is_first and state.learning_rate != rate:
        print(
            f"the learning rate changes from {state.learning_rate:g} to {rate:g} after step "
            f"{state.step:,}",
            file=sys.stderr,
            flush=True,
        )


def _identity(config: TrainConfig, manifest: Manifest) -> dict[str, str]:
    """Return what may not change within a run."""
    data = json.dumps(
        [
            manifest.vocabulary.sha256,
            [[file.xxh3_128 for file in part.files] for part in manifest.parts],
        ]
    )
    reader = plain(config.reader)
    return {
        "data": hashlib.sha256(data.encode()).hexdigest()[:16],
        "reader": json.dumps(reader, sort_keys=True),
        "seed": str(config.seed),
    }


def _require_same(got: dict[str, str], wanted: dict[str, str], out_dir: Path) -> None:
    if changed := changed_fields(got, wanted):
        raise ConfigError(
            f"{out_dir} holds a run with another {' and '.join(changed)}: its order of batches "
            f"would not go on; name another folder, or start with the configuration in "
            f"{out_dir / 'config.yaml'}"
        )


def _write_model(run: TrainingRun) -> Path:
    """Write the best checkpoint, or else the last, as a model directory."""
    output = run.out_dir / MODEL_DIR
    if run.ranks.is_first:
        steps = run.checkpoints.steps()
        best = run.state.best_step
        step = best if best in steps else steps[-1]
        export_checkpoint(run.checkpoints.path(step), output, replace=True, quiet=run.quiet)
    run.ranks.wait()
    return output
