"""Opens everything that a rank needs for training, at the newest intact checkpoint."""

import hashlib
import json
import logging
from pathlib import Path

import torch

from nllb.config import write_config
from nllb.config.fingerprints import changed_fields
from nllb.config.loading import plain
from nllb.errors import CheckpointError, ConfigError
from nllb.io.manifest import Manifest, read_manifest
from nllb.io.progress import Progress
from nllb.model.configuration import ModelConfig
from nllb.model.encoder_source_tokenizer import EncoderSourceTokenizer
from nllb.model.formats.encoder_directory import EncoderDirectory
from nllb.model.formats.encoder_of_model import frozen_states
from nllb.model.pretrained_encoder import PretrainedEncoder
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import SourceStates, Transformer

from .batches.reader import BatchReader, read_validation
from .batches.token_ids import TokenIds, word_starts
from .build_model import (
    initial_model,
    meta_model,
    open_teacher,
    open_tokenizer,
    resolve_model_config,
)
from .checkpoints.checkpoint import (
    CheckpointFolder,
    RunState,
    find_checkpoint,
    read_state,
)
from .checkpoints.export import CONFIG_NAME, write_start
from .checkpoints.tensor_files import TensorReader
from .distributed.data_parallel import ParallelModel, recompute_layers
from .distributed.ranks import Ranks, StopFlag
from .held_out_scores import held_out_scorer
from .lexicon import initialize_lookup, lexical_embedding
from .loss import LossModule, Teacher
from .metrics.step_statistics import StepStatistics
from .metrics.writers import CombinedWriter, open_writers
from .muon import Muon
from .optimization import build_optimizer, constant_steps
from .precision import choose_precision
from .router_balance import RouterBalancer
from .train_config import Precision, TrainConfig
from .training_run import TrainingRun
from .translating import Translators
from .validation import Validator

_log = logging.getLogger(__name__)


def open_run(
    config: TrainConfig,
    out_dir: Path,
    ranks: Ranks,
    stop: StopFlag,
    progress: Progress,
    *,
    translators: Translators | None = None,
    quiet: bool = False,
) -> TrainingRun:
    """Open the data, the model, its optimizer and the newest intact checkpoint.

    Raises:
        NllbError: The data, vocabulary, model or number of ranks do not fit the configuration.
    """
    manifest = read_manifest(config.data)
    tokenizer = open_tokenizer(config, manifest)
    checkpoints = CheckpointFolder(out_dir / "checkpoints", ranks)
    newest = _newest_of_schedule(checkpoints, config, ranks)
    checkpoint = None if newest is None else checkpoints.path(newest)
    made_by = _fingerprints(config, manifest)
    state = RunState(made_by=made_by) if checkpoint is None else read_state(checkpoint)
    _require_same_inputs(state.made_by, made_by, out_dir)
    if checkpoint is None and ranks.is_first:
        manifest.verify()
    ranks.wait()
    encoder = tokenizer if isinstance(tokenizer, EncoderSourceTokenizer) else None
    reader = BatchReader(
        manifest,
        config.reader,
        rank=ranks.rank,
        num_ranks=ranks.size,
        ids=TokenIds.from_tokenizer(tokenizer),
        word_starts=word_starts(tokenizer),
        encoder=encoder,
    )
    shape = resolve_model_config(config, tokenizer)
    if checkpoint is None:
        model = _first_model(config, shape, manifest, ranks, tokenizer, quiet=quiet)
        model = model.to(ranks.device)
    else:
        model = meta_model(config, shape, ranks)
    if config.model.tune_encoder:
        _attach_encoder(model, encoder, config, ranks, is_new=checkpoint is None)
    elif encoder is not None:
        model.source_states = _source_states(config, encoder, shape, translators, ranks)
    if ranks.is_first:
        if checkpoint is None:
            out_dir.mkdir(parents=True, exist_ok=True)
            write_start(out_dir, shape, tokenizer)
        write_config(config, out_dir / CONFIG_NAME)
    teacher = open_teacher(config, tokenizer, shape, ranks)
    parallel_model = _parallel_model(config, model, teacher, ranks)
    optimizer = build_optimizer(parallel_model.module, config.optimizer)
    if checkpoint is not None:
        parallel_model.load(TensorReader(checkpoint), optimizer, step=state.step)
        _log_new_rate(state, config, ranks)
    state.learning_rate = config.optimizer.learning_rate
    precision = _resolve_precision(config, state, ranks)
    if isinstance(optimizer, Muon):
        optimizer.low_precision = precision == "bfloat16"
    return TrainingRun(
        config=config,
        precision=precision,
        ranks=ranks,
        model=parallel_model,
        optimizer=optimizer,
        reader=reader,
        validator=_open_validator(
            config, manifest, tokenizer, parallel_model, translators=translators, ranks=ranks
        ),
        checkpoints=checkpoints,
        state=state,
        metrics=_open_metrics(config, out_dir, state, ranks),
        statistics=StepStatistics(model, ranks),
        balancer=RouterBalancer(model, ranks, rate=config.routing.bias_rate)
        if config.routing.balance_by == "bias"
        else None,
        stop=stop,
        progress=progress,
        saved_step=newest,
    )


def _newest_of_schedule(
    checkpoints: CheckpointFolder, config: TrainConfig, ranks: Ranks
) -> int | None:
    """Return the step to resume from: the newest, or the last one before the cool-down.

    A run that is extended after the cool-down of its learning rate began continues from the last
    checkpoint of the constant rate; later checkpoints are deleted.
    """
    newest = checkpoints.newest()
    if newest is None:
        return None
    constant, wanted = read_state(checkpoints.path(newest)).constant_step, constant_steps(config)
    if constant is None or wanted is None or wanted <= constant or newest == constant:
        return newest
    if not checkpoints.rewind(constant):
        return newest
    if ranks.is_first:
        _log.warning(
            "the run is extended to %s steps: it continues from step %s, before the learning rate "
            "began to cool down",
            f"{config.schedule.steps:,}",
            f"{constant:,}",
        )
    return constant


def check_resumable(config: TrainConfig, out_dir: Path) -> None:
    """Check that the checkpoints in a folder, if any, can be resumed with a configuration.

    Raises:
        ConfigError: They belong to a run with different data, a different reader or another seed.
    """
    checkpoint = find_checkpoint(out_dir)
    if checkpoint is None:
        return
    try:
        state = read_state(checkpoint)
    except CheckpointError:  # `open_run` falls back to an earlier one
        return
    made_by = _fingerprints(config, read_manifest(config.data))
    _require_same_inputs(state.made_by, made_by, out_dir)


def _first_model(
    config: TrainConfig,
    shape: ModelConfig,
    manifest: Manifest,
    ranks: Ranks,
    tokenizer: Tokenizer,
    *,
    quiet: bool,
) -> Transformer:
    """Return the model of step 0, with lexical embeddings if they are configured."""
    model = initial_model(config, shape, ranks, tokenizer)
    if config.lexicon.pivot is not None:
        embedding_VD = model.embedding.weight.data
        embedding_VD.copy_(
            lexical_embedding(manifest, embedding_VD, config.lexicon, seed=config.seed, quiet=quiet)
        )
        initialize_lookup(model)
    return model


def _attach_encoder(
    model: Transformer,
    tokenizer: EncoderSourceTokenizer | None,
    config: TrainConfig,
    ranks: Ranks,
    *,
    is_new: bool,
) -> None:
    """Make the pretrained encoder a part of the model; its embeddings are not trained.

    In a resumed run, its weights come from the checkpoint.
    """
    if tokenizer is None:
        raise ConfigError(f"model.tune_encoder: {config.model.initial} has no pretrained encoder")
    directory = EncoderDirectory.open(tokenizer.encoder_path)
    if is_new:
        encoder = directory.load(ranks.device)
    else:
        with torch.device("meta"):
            encoder = PretrainedEncoder(directory.config)
    encoder.requires_grad_(False)
    encoder.layers.requires_grad_(True)
    model.attach_encoder(encoder)


def _source_states(
    config: TrainConfig,
    tokenizer: EncoderSourceTokenizer,
    shape: ModelConfig,
    translators: Translators | None,
    ranks: Ranks,
) -> SourceStates:
    """Return the frozen encoder, by default in the form that translation uses."""
    path = tokenizer.encoder_path
    if translators is None or config.model.encoder_type == "float32":
        return frozen_states(EncoderDirectory.open(path), ranks.device, shape)
    layers = None if shape.memory == "mix" else (-1,)
    return translators.source_states(path, layers=layers, device=str(ranks.device))


def _parallel_model(
    config: TrainConfig, model: Transformer, teacher: Teacher | None, ranks: Ranks
) -> ParallelModel:
    """Return the model with its loss, wrapped for data parallelism."""
    if config.activation_checkpointing:
        recompute_layers(model)
    by_bias = config.routing.balance_by == "bias"
    module = LossModule(
        model,
        label_smoothing=config.label_smoothing,
        balance_weight=0.0 if by_bias else config.routing.balance_weight,
        softmax_negatives=config.softmax_negatives,
        teacher=teacher,
    )
    return ParallelModel(module, config.parallel, ranks)


def _open_validator(
    config: TrainConfig,
    manifest: Manifest,
    tokenizer: Tokenizer,
    model: ParallelModel,
    *,
    translators: Translators | None,
    ranks: Ranks,
) -> Validator:
    """Return the validator, which also translates if this is configured and possible."""
    scorer = None
    if translators is not None and config.schedule.translations > 0:
        if model.has_collective_passes:
            raise ConfigError(
                "schedule.translations needs the whole model on one rank: set it to 0, or set "
                "parallel.data: ddp and parallel.experts: false"
            )
        scorer = held_out_scorer(config, manifest, tokenizer, translators)
    batches = read_validation(
        manifest,
        config.reader,
        max_pairs=config.schedule.validation_pairs,
        ids=TokenIds.from_tokenizer(tokenizer),
        encoder=tokenizer if isinstance(tokenizer, EncoderSourceTokenizer) else None,
    )
    return Validator(model, list(batches), ranks, scorer=scorer)


def _open_metrics(
    config: TrainConfig, out_dir: Path, state: RunState, ranks: Ranks
) -> CombinedWriter:
    """Open the metrics writers on the first rank; the others write nothing."""
    if not ranks.is_first:
        return CombinedWriter([])
    return open_writers(config.metrics, out_dir, from_step=state.step, settings=_settings(config))


def _resolve_precision(config: TrainConfig, state: RunState, ranks: Ranks) -> Precision:
    """Return the number type of the run; with `auto`, a resumed run keeps its earlier choice."""
    if config.precision != "auto":
        chosen: Precision = config.precision
    elif state.precision:
        chosen = state.precision
    else:
        measured = choose_precision("auto", ranks.device) if ranks.is_first else None
        chosen = ranks.broadcast(measured)
    state.precision = chosen
    return chosen


def _fingerprints(config: TrainConfig, manifest: Manifest) -> dict[str, str]:
    """Return the fingerprints of everything that must not change within a run."""
    data = json.dumps(
        [
            manifest.vocabulary.sha256,
            [[file.xxh3_128 for file in part.files] for part in manifest.parts],
        ]
    )
    return {
        "data": hashlib.sha256(data.encode()).hexdigest()[:16],
        "reader": json.dumps(plain(config.reader), sort_keys=True),
        "seed": str(config.seed),
    }


def _require_same_inputs(
    recorded: dict[str, str], configured: dict[str, str], out_dir: Path
) -> None:
    if changed := changed_fields(recorded, configured):
        raise ConfigError(
            f"{out_dir} contains a run with a different {' and '.join(changed)}, whose order of "
            f"batches cannot be continued; choose another folder, or use the configuration in "
            f"{out_dir / CONFIG_NAME}"
        )


def _settings(config: TrainConfig) -> dict[str, object]:
    """Return the configuration for the metrics services, with dotted keys."""
    flat: dict[str, object] = {}
    for name, value in plain(config).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return {
        name: value if isinstance(value, (int, float)) else str(value)
        for name, value in flat.items()
    }


def _log_new_rate(state: RunState, config: TrainConfig, ranks: Ranks) -> None:
    rate = config.optimizer.learning_rate
    if ranks.is_first and state.learning_rate != rate:
        _log.warning(
            "the learning rate changes from %g to %g after step %s",
            state.learning_rate,
            rate,
            f"{state.step:,}",
        )
