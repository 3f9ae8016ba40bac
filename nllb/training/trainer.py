"""Trains a model from a configuration: opens or resumes the run, trains, and exports the result.

OUT/config.yaml      resolved configuration      OUT/start/       model configuration, tokenizer
OUT/checkpoints/     see `checkpoints`           OUT/metrics/     records as JSON lines
OUT/tensorboard/     records for TensorBoard     OUT/model/       the resulting model directory
"""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nllb.errors import ResourceError
from nllb.io.machine import keep_freed_memory
from nllb.io.progress import Progress

from .checkpoints.checkpoint import RunState
from .checkpoints.export import MODEL_DIR, export_checkpoint
from .distributed.ranks import Ranks, StopFlag, join_ranks
from .open_run import open_run
from .train_config import TrainConfig
from .training_run import Ending, TrainingRun, plain_loop
from .translating import Translators

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """The outcome of a call of `train`.

    Attributes:
        ending: why training ended; a `stopped` run resumes when the same command is run again.
        state: step, counters and best result.
        model_dir: the exported model; None if the run was stopped.
        warning: why the exported model is probably useless (the run diverged), or None.
    """

    ending: Ending
    state: RunState
    model_dir: Path | None
    warning: str | None = None


def train(
    config: TrainConfig,
    out_dir: Path,
    *,
    translators: Translators | None = None,
    quiet: bool = False,
) -> TrainingResult:
    """Train a model, or resume an interrupted run.

    Raises:
        NllbError: The data, vocabulary, model, ranks or machine are unsuitable; the message
            suggests what to do.
    """
    with join_ranks(config.device) as ranks:
        if ranks.device.type == "cpu":
            keep_freed_memory()
        result = _train(config, out_dir, ranks, translators, quiet or not ranks.is_first)
        # Objects that use the process group must be freed before the group is destroyed: freed
        # later, they can wait forever for one of its threads.
        gc.collect()
        ranks.wait()
    return result


def _train(
    config: TrainConfig, out_dir: Path, ranks: Ranks, translators: Translators | None, quiet: bool
) -> TrainingResult:
    loop = _loop_of(config)
    stop = StopFlag(ranks)
    bar = Progress("training", total=config.schedule.steps, unit="steps", quiet=quiet)
    with stop.listening():
        # Opened before the bar, so that an error is not preceded by a line of progress.
        run = open_run(config, out_dir, ranks, stop, bar, translators=translators, quiet=quiet)
        try:
            with bar:
                bar.resume(run.state.step)
                loop(run)
        finally:
            run.metrics.close()
    assert run.ending is not None
    if run.ending == "no better result" and ranks.is_first:
        _log.info("%s", run.early_stop_reason())
    if run.ending == "stopped":
        return TrainingResult(ending=run.ending, state=run.state, model_dir=None)
    warning = run.divergence()
    if warning and ranks.is_first:
        _log.warning("%s", warning)
    return TrainingResult(
        ending=run.ending,
        state=run.state,
        model_dir=_export(run, out_dir, quiet=quiet),
        warning=warning,
    )


def _loop_of(config: TrainConfig) -> Callable[[TrainingRun], None]:
    if config.parallel.runner == "plain":
        return plain_loop
    try:
        from .fairseq2_loop import fairseq2_loop
    except ImportError as error:
        raise ResourceError(
            f"fairseq2 cannot be imported ({error}); run: pip install 'nllb[train]', or set "
            f"parallel.runner=plain, which trains the same weights without it"
        ) from error
    return fairseq2_loop


def _export(run: TrainingRun, out_dir: Path, *, quiet: bool) -> Path:
    """Export the best checkpoint or, without validations, the last one."""
    output = out_dir / MODEL_DIR
    if run.ranks.is_first:
        steps = run.checkpoints.steps()
        best = run.state.best_step
        step = best if best in steps else steps[-1]
        export_checkpoint(run.checkpoints.path(step), output, replace=True, quiet=quiet)
    run.ranks.wait()
    return output
