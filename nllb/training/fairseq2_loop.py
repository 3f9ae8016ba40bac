"""Training by fairseq2's trainer; the only module that knows its faults (0.8.1).

fairseq2 runs the step: reading, forward and backward passes, accumulation, scaling, clipping, the
optimizer. What follows a step (validation, checkpoints, metrics, stopping) is
`TrainingRun.end_step` in both runners, hung in where the trainer moves on its learning rate.
Avoided by that:

* a stop request is dead wherever `max_num_steps` is set: it stays None, and the run asks to stop;
* a stop request is local to a rank: the run's flag is reduced over ranks at each step;
* `num_data_epochs` ends a resumed run at once: the reader is endless;
* early stopping is wired to nothing in recipes, a resumed run keeps its old learning rate, and a
  damaged checkpoint ends the run: the run has its own;
* recipes log every environment variable: the trainer is built without a recipe;
* `fairseq2.trainer` cannot be imported before `fairseq2.recipe`;
* `Seq2SeqBatch` counts source and target: labels are counted by our batch;
* the gradient norm is one rank's: the run's facade adds the experts of all ranks.
"""

from typing import Any

# It brings libsndfile, which fairseq2's native library looks for.
import soundfile  # noqa: F401

# isort: split
import fairseq2.recipe  # noqa: F401  first, or its modules import one another in a circle
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

from nllb.training.batches.reader import Batch
from nllb.training.distributed.ranks import Ranks
from nllb.training.run import TrainingRun, explain_out_of_memory


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
        data_reader=_Reader(run),
        gangs=_gangs(run.ranks),
        amp=False,  # the run's own loss casts
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
        pass  # how the trainer ends after a stop request


class _NumberedBatch:
    """A micro-batch with its number in the step."""

    def __init__(self, batch: Batch, number: int) -> None:
        self.batch, self.number = batch, number

    def to(self, device: torch.device, *, non_blocking: bool = False) -> None:
        """Do nothing: the loss moves the batch."""


class _Reader(DataReader[_NumberedBatch]):
    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def __iter__(self) -> "_Reader":
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
        """Do nothing: the run has its own metrics."""

    def set_step_nr(self, step_nr: int) -> None:
        self._run.begin_step()

    def process_batch(self, batch: _NumberedBatch, metric_bag: Any) -> tuple[Tensor, int]:
        loss = self._run.batch_loss(batch.batch, batch.number)
        return loss, batch.batch.num_targets


class _Facade(DataParallelFacade):
    """What the trainer asks of a data-parallel model."""

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
    """Stands where the trainer expects a scheduler, and is called after each optimizer step."""

    trainer: Trainer

    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def get_last_lr(self) -> list[float]:
        """Return the rate of the step that was."""
        return [group["lr"] for group in self._run.optimizer.param_groups]

    def step(self) -> None:
        """Do what follows a step, and stop the trainer where the run ends."""
        self._run.end_step()
        if self._run.ending is not None:
            self.trainer.request_stop()

    def state_dict(self) -> dict[str, object]:
        """Return nothing: the rate is a function of the step."""
        return {}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Do nothing."""


def _none(*_arguments: Any, **_options: Any) -> None:
    return None


class _NoCheckpoints(CheckpointManager):
    """The run keeps checkpoints: the trainer finds none and writes none."""

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
    """Return fairseq2's view of the ranks; the trainer closes `root`, so that is no real one."""
    root = FakeGang(ranks.device, rank=ranks.rank, size=ranks.size)
    alone = FakeGang(ranks.device)
    group = distributed.group.WORLD
    everyone = ProcessGroupGang(group, ranks.device) if ranks.size > 1 else alone
    return Gangs(root=root, dp=everyone, rdp=everyone, sdp=alone, tp=alone, pp=alone)
