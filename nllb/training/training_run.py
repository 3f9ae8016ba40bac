"""One training run and its steps, which two runners can drive.

`plain_loop` is a small loop; `fairseq2_loop` passes the same methods to fairseq2's trainer. For
each step both call `begin_step`, `batch_loss` and the backward pass for each micro-batch,
`scale_gradients`, `clip_gradients`, the optimizer, and `end_step`.
"""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nllb.errors import DataError, NllbError, ResourceError
from nllb.io.progress import Progress

from .batches.reader import Batch, BatchReader
from .checkpoints.checkpoint import CheckpointFolder, RunState
from .distributed.data_parallel import ParallelModel
from .distributed.expert_parallel import drop_exchange
from .distributed.ranks import Ranks, StopFlag
from .loss import seed_batch
from .metrics.step_statistics import StepStatistics
from .metrics.writers import MetricsWriter
from .optimization import constant_steps, learning_rate, scale_gradients, set_rate
from .router_balance import RouterBalancer
from .train_config import Precision, TrainConfig
from .validation import Validator

Ending = Literal["finished", "stopped", "no better result"]

RISE_OVER_FIRST, RISE_OVER_LOWEST = 1.1, 1.0
"""A run has diverged if its last training loss exceeds the first one by this factor, or the lowest
one by this many nats per label."""
_log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class TrainingRun:
    """Everything that one rank trains with.

    Attributes:
        config: the configuration.
        precision: number type of the matrix products: `float32` or `bfloat16`.
        ranks: the processes that train together.
        model: the model with its loss.
        optimizer: AdamW or Muon.
        reader: the training batches.
        validator: the held-out batches.
        checkpoints: the checkpoints.
        state: step, counters and best result.
        metrics: destination of the records.
        statistics: sums since the last record.
        balancer: balances the experts by a bias of the router, if configured.
        stop: whether a signal asked the run to stop.
        progress: the progress bar.
        ending: why training ended; None while it continues.
        saved_step: step of the newest checkpoint.
    """

    config: TrainConfig
    precision: Precision
    ranks: Ranks
    model: ParallelModel
    optimizer: torch.optim.Optimizer
    reader: BatchReader
    validator: Validator
    checkpoints: CheckpointFolder
    state: RunState
    metrics: MetricsWriter
    statistics: StepStatistics
    balancer: RouterBalancer | None
    stop: StopFlag
    progress: Progress
    ending: Ending | None = None
    saved_step: int | None = None
    _losses: list[tuple[Batch, Tensor]] | None = None
    _num_targets: int = 0
    _num_batches: int = 0
    _started: float = 0.0
    _window: float = 0.0
    _norm: float = 0.0

    def begin(self) -> None:
        """Start the clocks; a run that is already complete ends at once."""
        self.model.module.train()
        self._started = self._window = time.monotonic()
        if self.state.step >= self.config.schedule.steps:
            self.ending = "finished"
        elif self._is_stale():
            self.ending = "no better result"

    def begin_step(self) -> None:
        """Set the learning rate of the step, and decide whether ranks exchange tokens."""
        rate = learning_rate(
            self.config.optimizer, self.state.step, steps=self.config.schedule.steps
        )
        set_rate(self.optimizer, rate)
        if dropout := self.config.routing.gating_dropout:
            model = self.model.module.model
            drop_exchange(model, dropout, seed=self.config.seed, step=self.state.step)
        self._losses, self._num_targets = [], 0

    def batch_loss(self, batch: Batch, number: int) -> Tensor:
        """Return the loss of this rank's micro-batch `number` of the step."""
        assert self._losses is not None
        seed_batch(self.config.seed, self.state.step, number * self.ranks.size + self.ranks.rank)
        device = self.ranks.device
        with (
            explain_out_of_memory(self.config),
            torch.autocast(device.type, torch.bfloat16, self.precision == "bfloat16"),
            # On a CPU the backward pass of the fused attention kernel is 4 to 10 times slower.
            sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext(),
        ):
            result = self.model.module.compute(batch.to(device), self.model.wrapper)
        count = batch.num_targets
        self.statistics.add(result, count)
        if self.balancer is not None:
            self.balancer.add()
        self._losses.append((batch, result.loss.detach()))
        self._num_targets += count
        self._num_batches += 1
        return result.loss

    def count_targets(self) -> Tensor:
        """Return the number of labels of the whole step, on all ranks."""
        total = self.ranks.sum(torch.tensor(self._num_targets, device=self.ranks.device))
        self.state.tokens += int(total)
        return total

    def scale_gradients(self) -> None:
        """Divide the gradients, which are means over ranks, by the labels of the whole step."""
        factor = self.ranks.size / self.count_targets()
        scale_gradients(self.model.module.parameters(), factor)

    def clip_gradients(self) -> Tensor:
        """Clip the norm of the gradient.

        Raises:
            DataError: The norm is not finite.
        """
        norm = self.model.clip(self.config.optimizer.clip_norm, error=self._not_finite)
        self._norm = float(norm)
        return norm

    def end_step(self) -> None:
        """Record, validate and save, and decide whether training continues."""
        schedule, self._losses = self.config.schedule, None
        if self.balancer is not None:
            self.balancer.update()
        self.state.step += 1
        step = self.state.step
        told_to_stop = self.stop.common()
        if step >= schedule.steps:
            self.ending = "finished"
        elif told_to_stop:
            self.ending = "stopped"
        if step % schedule.log_every == 0 or self.ending:
            self._record()
        is_better = False
        if schedule.validate_every and len(self.validator):
            if step % schedule.validate_every == 0 or self.ending == "finished":
                is_better = self._validate()
        if self.ending is None and self._is_stale():
            self.ending = "no better result"
        ends_constant_rate = step == constant_steps(self.config)
        if ends_constant_rate:
            self.state.constant_step = step
        if is_better or ends_constant_rate or step % schedule.checkpoint_every == 0 or self.ending:
            self._save()
        self.progress.advance()

    def early_stop_reason(self) -> str:
        """Return why early stopping ended the run."""
        state, schedule = self.state, self.config.schedule
        assert state.best is not None and state.best_step is not None
        by_chrf = schedule.best_by == "chrf"
        best = f"chrF++ {-state.best:.1f}" if by_chrf else f"validation loss {state.best:.4f}"
        return (
            f"stopped early at step {state.step:,} of {schedule.steps:,}: none of the last "
            f"{state.without_better} validations improved on {best} at step "
            f"{state.best_step:,} (schedule.patience is {schedule.patience}; raise it to continue)"
        )

    def divergence(self) -> str | None:
        """Return a warning if training diverged, so that the result is probably useless."""
        state = self.state
        symptom = None
        guessing = math.log(self.model.module.model.config.vocabulary_size)
        by_loss = self.config.schedule.best_by == "loss"
        if state.first_loss is not None and state.last_loss is not None:
            lowest = state.lowest_loss if state.lowest_loss is not None else state.last_loss
            if state.last_loss > state.first_loss * RISE_OVER_FIRST:
                symptom = f"rose from {state.first_loss:.2f} to {state.last_loss:.2f}"
            elif state.last_loss > lowest + RISE_OVER_LOWEST:
                symptom = f"fell to {lowest:.2f} and rose again to {state.last_loss:.2f}"
        if symptom is not None:
            symptom = f"the training loss per label {symptom}"
        elif by_loss and state.best is not None and state.best > guessing:
            symptom = (
                f"the best validation loss, {state.best:.2f}, is above {guessing:.2f}, the loss of "
                f"guessing tokens at random"
            )
        if symptom is None:
            return None
        exported = (
            f"the best checkpoint (step {state.best_step:,})"
            if state.best_step is not None
            else f"the last checkpoint (step {state.step:,})"
        )
        return (
            f"training diverged: {symptom}. The exported model is {exported} and is probably "
            f"useless. Lower optimizer.learning_rate (now "
            f"{self.config.optimizer.learning_rate:g}), set optimizer.clip_norm or raise "
            f"optimizer.warm_up_steps, and train into another folder"
        )

    def _is_stale(self) -> bool:
        patience = self.config.schedule.patience
        return bool(patience) and self.state.without_better >= patience

    def _record(self) -> None:
        now = time.monotonic()
        values = self.statistics.take(self._num_batches * self.ranks.size)
        seconds, self._window = now - self._window, now
        speed = values["targets"] / max(seconds, 1e-9)
        values |= {
            "gradient_norm": self._norm,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "tokens": self.state.tokens,
            "targets_per_second": round(speed),
            "left_out_as_too_long": self.reader.too_long,
        }
        self._num_batches = 0
        loss = values["negative_log_likelihood"]
        state = self.state
        state.last_loss = loss
        state.first_loss = loss if state.first_loss is None else state.first_loss
        state.lowest_loss = min(loss, loss if state.lowest_loss is None else state.lowest_loss)
        self.metrics.write("train", state.step, values)
        self.progress.advance(0, f"loss {loss:.3f}, {speed:,.0f} labels/s")

    def _validate(self) -> bool:
        result = self.validator.run()
        by_chrf = self.config.schedule.best_by == "chrf" and result.chrf
        score = -result.mean_chrf if by_chrf else result.loss
        is_better = self.state.best is None or score < self.state.best
        if is_better:
            self.state.best, self.state.best_step = score, self.state.step
            self.state.without_better = 0
        else:
            self.state.without_better += 1
        self.metrics.write("valid", self.state.step, {**result.record(), "best": is_better})
        if self.ranks.is_first:
            chrf = f", chrF++ {result.mean_chrf:.1f}" if result.chrf else ""
            _log.info("step %s: validation loss %.4f%s", f"{self.state.step:,}", result.loss, chrf)
        self._window = time.monotonic()
        return is_better

    def _save(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._started
        self._started = now
        self.checkpoints.save(
            self.model.tensors(self.optimizer),
            self.state,
            spread_experts=self.model.spreads_experts,
        )
        self.saved_step = self.state.step
        self.checkpoints.prune(
            keep_last=self.config.schedule.keep_last,
            keep_steps={self.state.best_step, self.state.constant_step},
        )
        self._window += time.monotonic() - now

    def _not_finite(self) -> NllbError:
        names = [direction.name for direction in self.reader.manifest.directions]
        local = [
            f"micro-batch {number} (rank {self.ranks.rank}; {len(batch.source)} pairs of "
            f"{', '.join(sorted({names[d] for d in batch.directions.tolist()})[:5])}): loss {loss}"
            for number, (batch, loss) in enumerate(self._losses or [])
            if not torch.isfinite(loss)
        ]
        found = "; ".join(part for rank in self.ranks.gather(local) for part in rank)
        kept = "none yet" if self.saved_step is None else f"step {self.saved_step:,}"
        return DataError(
            f"the gradient of step {self.state.step:,} is not finite; "
            f"{found or 'all losses are finite'}. The last good checkpoint is kept ({kept}): lower "
            f"optimizer.learning_rate or set optimizer.clip_norm, and run the command again"
        )


def plain_loop(run: TrainingRun) -> None:
    """Train without fairseq2."""
    run.begin()
    while run.ending is None:
        batches = run.reader.step(run.state.step)
        run.begin_step()
        for number, batch in enumerate(batches):
            is_last = number + 1 == len(batches)
            with run.model.no_sync(last=is_last), explain_out_of_memory(run.config):
                run.batch_loss(batch, number).backward()
        run.scale_gradients()
        run.clip_gradients()
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.end_step()


@contextmanager
def explain_out_of_memory(config: TrainConfig) -> Iterator[None]:
    """Name the settings that save memory if memory runs out inside the block.

    Raises:
        ResourceError: Memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        is_memory = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not is_memory:
            raise
        raise ResourceError(
            f"out of memory ({str(error).splitlines()[0][:200]}): lower reader.max_tokens (now "
            f"{config.reader.max_tokens:,}) and raise reader.batches_per_step (now "
            f"{config.reader.batches_per_step}) by the same factor, which requires another output "
            f"folder if this run has a checkpoint, or set activation_checkpointing: true or "
            f"precision: bfloat16"
        ) from error
