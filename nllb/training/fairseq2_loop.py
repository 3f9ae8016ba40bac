"""Training with fairseq2's trainer, and the workarounds for the bugs of version 0.8.1.

fairseq2 runs the step: reading, forward and backward passes, gradient accumulation, scaling,
clipping and the optimizer. Validation, checkpoints, metrics and stopping are
`TrainingRun.end_step`, which this module calls in place of the learning-rate scheduler. This avoids
the following bugs and limitations:

* A stop request is ignored if `max_num_steps` is set: we leave it unset, and the run requests the
  stop itself.
* A stop request applies to one rank only: the run's flag is reduced over ranks at each step.
* `num_data_epochs` ends a resumed run at once: our reader is endless.
* Recipes ignore early stopping and changes of the learning rate on resume, and fail on a damaged
  checkpoint: the run has its own implementation of all three.
* Recipes log every environment variable: we build the trainer without a recipe.
* `fairseq2.trainer` cannot be imported before `fairseq2.recipe`.
* `Seq2SeqBatch` counts source tokens as targets: our batch counts labels.
* The gradient norm covers one rank only: the facade adds the experts of all ranks.
"""

from typing import Any

# soundfile ships libsndfile, which fairseq2's native library needs.
import soundfile  # noqa: F401

# isort: split
import fairseq2.recipe  # noqa: F401  must come first because of circular imports
import torch
from fairseq2.checkpoint import NOOP_HG_EXPORTER, CheckpointManager
from fairseq2.datasets import DataReader
from fairseq2.early_stopper import NOOP_EARLY_STOPPER
from fairseq2.gang import FakeGang, Gangs, ProcessGroupGang
from fairseq2.metrics.recorders import NOOP_METRIC_RECORDER
from fairseq2.nn.data_parallel import DataParallelFacade, set_data_parallel_facade
from fairseq2.optim.fp16_loss_scaler import NOOP_FP16_LOSS_SCALER
from fairseq2.profilers import NOOP_PROFILER
from fairseq2.task import TaskStopException
from fairseq2.trainer import Trainer, TrainUnit
from fairseq2.utils.device_stat import NOOP_DEVICE_STAT_TRACKER
from fairseq2.utils.gc import NOOP_GARBAGE_COLLECTOR
from fairseq2.utils.progress import NOOP_PROGRESS_REPORTER
from fairseq2.utils.stopwatch import Stopwatch
from fairseq2.validator import NOOP_VALIDATOR
from torch import Tensor, distributed

from .batches.reader import Batch
from .distributed.ranks import Ranks
from .training_run import TrainingRun, explain_out_of_memory


def fairseq2_loop(run: TrainingRun) -> None:
    """Train with fairseq2's trainer."""
    run.begin()
    if run.ending is not None:
        return
    set_data_parallel_facade(run.model.wrapper, _Facade(run))
    after = _AfterStep(run)
    trainer = Trainer(
        model=run.model.wrapper,
        unit=_Unit(run),
        data_reader=_StepReader(run),
        gangs=_gangs(run.ranks),
        amp=False,  # the loss of the run casts
        amp_dtype=torch.float32,
        optimizer=run.optimizer,
        lr_scheduler=after,
        fp16_loss_scaler=NOOP_FP16_LOSS_SCALER,
        validator=NOOP_VALIDATOR,
        early_stopper=NOOP_EARLY_STOPPER,
        checkpoint_manager=_NoCheckpoints(),
        hg_exporter=NOOP_HG_EXPORTER,
        metric_recorder=NOOP_METRIC_RECORDER,
        garbage_collector=NOOP_GARBAGE_COLLECTOR,
        profiler=NOOP_PROFILER,
        device_stat_tracker=NOOP_DEVICE_STAT_TRACKER,
        wall_watch=Stopwatch(),
        progress_reporter=NOOP_PROGRESS_REPORTER,
        seed=run.config.seed,
        no_sync_grad_accumulation=True,
    )
    after.trainer = trainer
    try:
        with explain_out_of_memory(run.config):
            trainer.run()
    except TaskStopException:
        pass  # raised by the trainer after a stop request


class _NumberedBatch:
    """A micro-batch with its index in the step."""

    def __init__(self, batch: Batch, number: int) -> None:
        self.batch, self.number = batch, number

    def to(self, device: torch.device, *, non_blocking: bool = False) -> None:
        """Do nothing: the loss moves the batch to the device."""


class _StepReader(DataReader[_NumberedBatch]):
    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def __iter__(self) -> "_StepReader":
        return self

    def __next__(self) -> list[_NumberedBatch]:
        batches = self._run.reader.step(self._run.state.step)
        return [_NumberedBatch(batch, number) for number, batch in enumerate(batches)]

    def reset(self) -> None:
        """Do nothing: the reader is endless."""

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Do nothing: the order is a function of the step."""

    @property
    def num_accumulate(self) -> int:
        return self._run.config.reader.batches_per_step // self._run.ranks.size


class _Unit(TrainUnit[_NumberedBatch]):
    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def prepare_metric_bag(self, metric_bag: Any) -> None:
        """Do nothing: the run records its own metrics."""

    def set_step_nr(self, step_nr: int) -> None:
        self._run.begin_step()

    def process_batch(self, batch: _NumberedBatch, metric_bag: Any) -> tuple[Tensor, int]:
        loss = self._run.batch_loss(batch.batch, batch.number)
        return loss, batch.batch.num_targets


class _Facade(DataParallelFacade):
    """The interface through which the trainer uses a data-parallel model."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Do nothing: the run has loaded its checkpoint."""

    def no_sync(self) -> Any:
        return self._run.model.no_sync(last=False)

    def clip_grad_norm(self, max_norm: float | None) -> Tensor:
        self._run.count_targets()
        return self._run.clip_gradients()

    def summon_full_parameters(self) -> Any:
        return self._run.model.no_sync(last=True)


class _AfterStep:
    """Replaces the learning-rate scheduler, which the trainer calls after each step."""

    trainer: Trainer

    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of the previous step."""
        return [group["lr"] for group in self._run.optimizer.param_groups]

    def step(self) -> None:
        """Finish the step, and stop the trainer when the run ends."""
        self._run.end_step()
        if self._run.ending is not None:
            self.trainer.request_stop()

    def state_dict(self) -> dict[str, object]:
        """Return nothing: the learning rate is a function of the step."""
        return {}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Do nothing."""


def _none(*_arguments: Any, **_options: Any) -> None:
    return None


class _NoCheckpoints(CheckpointManager):
    """A manager without checkpoints: the run writes and reads its own."""

    save_checkpoint = save_model_only = save_score = maybe_complete_save_operation = _none
    load_trainer_state = load_model_state = load_optimizer_state = load_data_reader_state = _none
    delete_checkpoint = maybe_get_last_step_number = _none
    is_saving = False

    def load_scores(self) -> list[tuple[float, int]]:
        return []

    def has_checkpoint(self, *, exclude_model_only: bool = False) -> bool:
        return False

    def get_step_numbers(self, *, exclude_model_only: bool = False) -> list[int]:
        return []

    def get_stale_step_numbers(self, *_arguments: Any) -> list[int]:
        return []


def _gangs(ranks: Ranks) -> Gangs:
    """Return fairseq2's view of the ranks; `root` is a fake gang because the trainer closes it."""
    root = FakeGang(ranks.device, rank=ranks.rank, size=ranks.size)
    alone = FakeGang(ranks.device)
    group = distributed.group.WORLD
    everyone = ProcessGroupGang(group, ranks.device) if ranks.size > 1 else alone
    return Gangs(root=root, dp=everyone, rdp=everyone, sdp=alone, tp=alone, pp=alone)
