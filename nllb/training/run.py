"""One training run: what a step does, and what follows it. Two runners drive it.

`plain_loop` is a small loop; `fairseq2_loop` hands the same methods to fairseq2's trainer. Both do,
for each step: `begin_step`, for each micro-batch `batch_loss` and its gradient, `finish_gradients`,
the optimizer's step, `end_step`.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nllb.errors import DataError, NllbError, ResourceError
from nllb.io.progress import Progress
from nllb.training.checkpoint import CheckpointFolder, RunState
from nllb.training.expert_parallel import drop_exchange
from nllb.training.loss import seed_batch
from nllb.training.metrics import MetricLog, StepStatistics
from nllb.training.optimization import learning_rate, scale_gradients, set_rate
from nllb.training.parallel import ParallelModel
from nllb.training.ranks import Ranks, StopFlag
from nllb.training.reader import Batch, BatchReader
from nllb.training.train_config import TrainConfig
from nllb.training.validation import Validator

Ending = Literal["finished", "stopped", "no better result"]


@dataclass(kw_only=True, slots=True)
class TrainingRun:
    """Everything that one rank trains with."""

    config: TrainConfig
    """What to do."""
    out_dir: Path
    """Folder of the run."""
    ranks: Ranks
    """The processes that train together."""
    model: ParallelModel
    """The model with its loss."""
    optimizer: torch.optim.Optimizer
    """Adam."""
    reader: BatchReader
    """The training batches."""
    validator: Validator
    """The held-out batches."""
    checkpoints: CheckpointFolder
    """The checkpoints."""
    state: RunState
    """How far it is."""
    log: MetricLog
    """Where metrics go."""
    statistics: StepStatistics
    """What was added up since the last record."""
    stop: StopFlag
    """Whether a signal asked to stop."""
    progress: Progress
    """What people see."""
    quiet: bool = False
    """Say nothing of validations."""
    ending: Ending | None = None
    """Why training ended; None while it goes on."""
    saved_step: int | None = None
    """Step of the newest checkpoint."""
    _losses: list[tuple[Batch, Tensor]] | None = None
    _num_targets: int = 0
    _num_batches: int = 0
    _started: float = 0.0
    _window: float = 0.0
    _norm: float = 0.0

    def begin(self) -> None:
        """Start the clocks; a run that has done its steps ends at once."""
        self.model.module.train()
        self._started = self._window = time.monotonic()
        if self.state.step >= self.config.schedule.steps:
            self.ending = "finished"
        elif self._is_stale():
            self.ending = "no better result"

    def begin_step(self) -> None:
        """Set the rate of the step, and whether it exchanges tokens."""
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
        place = self.ranks.device
        with (
            explain_memory(self.config),
            torch.autocast(place.type, torch.bfloat16, self.config.precision == "bfloat16"),
            # On a CPU the gradient of the fused kernel is 4 to 10 times slower than plain products.
            sdpa_kernel(SDPBackend.MATH) if place.type == "cpu" else nullcontext(),
        ):
            result = self.model.module.of(batch.to(place), self.model.wrapper)
        count = batch.num_targets
        self.statistics.add(result, count)
        self._losses.append((batch, result.loss.detach()))
        self._num_targets += count
        self._num_batches += 1
        return result.loss

    def count_targets(self) -> Tensor:
        """Return the labels of the whole step, on all ranks."""
        total = self.ranks.sum(torch.tensor(self._num_targets, device=self.ranks.device))
        self.state.tokens += int(total)
        return total

    def scale_gradients(self) -> None:
        """Divide the gradients, means over the ranks, by the labels of the whole step."""
        factor = self.ranks.size / self.count_targets()
        scale_gradients(self.model.module.parameters(), factor)

    def clip_gradients(self) -> Tensor:
        """Cut the gradient's norm, and refuse one that is no number."""
        norm = self.model.clip(self.config.optimizer.clip_norm, fault=self._not_a_number)
        self._norm = float(norm)
        return norm

    def end_step(self) -> None:
        """Record, validate, save and decide whether to go on."""
        schedule, self._losses = self.config.schedule, None
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
        if is_better or step % schedule.checkpoint_every == 0 or self.ending:
            self._save()
        self.progress.advance()

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
        self.log.write("train", self.state.step, values)
        note = f"loss {values['negative_log_likelihood']:.3f}, {speed:,.0f} tokens/s"
        self.progress.advance(0, note)

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
        self.log.write("valid", self.state.step, {**result.record(), "best": is_better})
        chrf = f", chrF++ {result.mean_chrf:.1f}" if result.chrf else ""
        self._say(f"step {self.state.step:,}: validation loss {result.loss:.4f}{chrf}")
        self._window = time.monotonic()
        return is_better

    def _save(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._started
        self._started = now
        self.checkpoints.save(self.model.weights(), self.model.moments(self.optimizer), self.state)
        self.saved_step = self.state.step
        self.checkpoints.prune(
            keep_last=self.config.schedule.keep_last, best_step=self.state.best_step
        )
        self._window += time.monotonic() - now

    def _say(self, text: str) -> None:
        if self.ranks.is_first and not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def _not_a_number(self) -> NllbError:
        names = [direction.name for direction in self.reader.manifest.directions]
        faults = [
            f"micro-batch {number} (rank {self.ranks.rank}; {len(batch.source)} pairs of "
            f"{', '.join(sorted({names[d] for d in batch.directions.tolist()})[:5])}): loss {loss}"
            for number, (batch, loss) in enumerate(self._losses or [])
            if not torch.isfinite(loss)
        ]
        found = "; ".join(part for rank in self.ranks.gather(faults) for part in rank)
        kept = f"step {self.saved_step:,}" if self.saved_step is not None else "none yet"
        return DataError(
            f"the gradient of step {self.state.step:,} is not a number; "
            f"{found or 'all losses are finite'}. The last good checkpoint is kept ({kept}): lower "
            f"optimizer.learning_rate, or set optimizer.clip_norm, and start again"
        )


def plain_loop(run: TrainingRun) -> None:
    """Train without fairseq2."""
    run.begin()
    while run.ending is None:
        batches = run.reader.step(run.state.step)
        run.begin_step()
        for number, batch in enumerate(batches):
            with run.model.no_sync(last=number + 1 == len(batches)), explain_memory(run.config):
                run.batch_loss(batch, number).backward()
        run.scale_gradients()
        run.clip_gradients()
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.end_step()


@contextmanager
def explain_memory(config: TrainConfig) -> Iterator[None]:
    """Say what to lower where memory runs out.

    Raises:
        ResourceError: memory ran out.
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
            f"{config.reader.batches_per_step}) by as much, or take activation_checkpointing: true "
            f"or precision: bfloat16"
        ) from error
