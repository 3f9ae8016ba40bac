"""Beam search on the GPU, with one CUDA graph per token and without waiting for the CPU.

The outputs equal those of `search.search`, whose beam search has one array row per active sentence
and makes every decision on the CPU. Here, finished sentences stay in the arrays, frozen, and the
CPU checks only every `STEPS_BETWEEN_CHECKS` tokens whether all of them are finished. Options that
require the history of a row on the CPU (sampling, penalties, valid UTF-8) use `search.search`.

Shapes: B sentences, W beams per sentence, K = 2 W candidates, T output positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from nllb.errors import CheckpointError

from .engine import OutputChoice, TorchEngine
from .generator import SearchOptions
from .search import IMPOSSIBLE, Job, Output, check_jobs
from .static_decoder import StaticDecoder

STEPS_BETWEEN_CHECKS: Final = 8
POSITIONS_MULTIPLE: Final = 64
"""Sizes of caches are rounded up to a multiple of this, so that few graphs serve all batches."""
MAX_SEARCHES: Final = 8
"""Number of searches of different sizes whose buffers and graphs are kept."""


def can_search_on_device(options: SearchOptions, *, vocabulary_size: int) -> bool:
    """Return whether this search supports the options."""
    return (
        not options.sampling
        and not options.early_stopping
        and options.repetition_penalty == 1
        and options.no_repeat_ngram == 0
        and options.min_output_tokens == 0
        and vocabulary_size >= 2 * options.beam_size
    )


@dataclass(frozen=True, slots=True)
class _Size:
    """The shapes of a search, which determine whether its buffers can be reused."""

    sentences: int
    width: int
    source_positions: int
    positions: int

    @classmethod
    def of(cls, jobs: Sequence[Job], width: int) -> "_Size":
        return cls(
            sentences=1 << (len(jobs) - 1).bit_length(),
            width=width,
            source_positions=_rounded(max(len(job.source) for job in jobs)),
            positions=_rounded(max(job.limit for job in jobs) + 2),
        )


def _rounded(positions: int) -> int:
    return -(-positions // POSITIONS_MULTIPLE) * POSITIONS_MULTIPLE


class DeviceSearches:
    """The searches of one engine, with separate buffers for each size."""

    def __init__(self, engine: TorchEngine, *, use_graphs: bool | None = None):
        """Prepare to search; CUDA graphs are used where the engine is on a GPU."""
        self._engine = engine
        self._use_graphs = engine.device.type == "cuda" if use_graphs is None else use_graphs
        self._searches: dict[_Size, DeviceSearch] = {}

    @torch.inference_mode()
    def search(
        self, jobs: Sequence[Job], options: SearchOptions, choice: OutputChoice | None = None
    ) -> list[list[Output]]:
        """Return `options.num_hypotheses` outputs for each job, best first.

        Raises:
            CheckpointError: the model's scores are not finite, or a token is not in its vocabulary.
        """
        check_jobs(jobs, self._engine.config)
        size = _Size.of(jobs, options.beam_size)
        found = self._searches.pop(size, None)
        if found is None:
            while len(self._searches) >= MAX_SEARCHES:
                self._searches.pop(next(iter(self._searches)))
            found = DeviceSearch(self._engine, size, use_graphs=self._use_graphs)
        self._searches[size] = found  # the most recently used is last
        return found.run(jobs, options, choice)


class DeviceSearch:
    """Beam search in buffers of one size."""

    def __init__(self, engine: TorchEngine, size: _Size, *, use_graphs: bool):
        """Allocate the buffers."""
        self._engine, self._size, self._use_graphs = engine, size, use_graphs
        self._decoder = StaticDecoder(
            engine,
            sentences=size.sentences,
            width=size.width,
            source_positions=size.source_positions,
            positions=size.positions,
        )
        self._graphs: dict[tuple[int, object], torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle() if use_graphs else None
        self._make_state()

    def _make_state(self) -> None:
        count, width, longest = self._size.sentences, self._size.width, self._size.positions

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self._engine.device)

        self._step = zeros(1)
        self._limits_B, self._prefix_lengths_B = zeros(count), zeros(count)
        self._prefixes_BT = zeros(count, longest)
        self._penalty = zeros(1, dtype=torch.float64)
        self._active_B = zeros(count, dtype=torch.bool)
        self._scores_BW = zeros(count, width, dtype=torch.float32)
        self._tokens_BWT = zeros(count, width, longest)
        self._steps_BWT = zeros(count, width, longest, dtype=torch.float32)
        self._done_BW = zeros(count, width, dtype=torch.bool)
        self._done_scores_BW = zeros(count, width, dtype=torch.float32)
        self._done_lengths_BW = zeros(count, width)
        self._done_tokens_BWT = torch.zeros_like(self._tokens_BWT)
        self._done_steps_BWT = torch.zeros_like(self._steps_BWT)
        self._finite = torch.ones(1, dtype=torch.bool, device=self._engine.device)
        self._first_rows_B1 = (torch.arange(count, device=self._engine.device) * width)[:, None]

    def run(
        self, jobs: Sequence[Job], options: SearchOptions, choice: OutputChoice | None
    ) -> list[list[Output]]:
        """Return the outputs of at most as many jobs as the search has sentences."""
        memory = self._engine.encode([job.source for job in jobs])
        self._start(jobs, options)
        self._decoder.start(memory, np.array([job.prompt for job in jobs]), choice)
        longest = max(job.limit for job in jobs)
        for step in range(longest):
            # The decoder runs at step + 2, after the prompt; attention covers written positions.
            self._replay(min(_rounded(step + 3), self._size.positions))
            if step % STEPS_BETWEEN_CHECKS == STEPS_BETWEEN_CHECKS - 1:
                if not bool(self._active_B.any()):
                    break
        if not bool(self._finite):
            raise CheckpointError(
                "the model's scores are not finite numbers, because sums overflow with its large "
                "weights; the checkpoint is damaged, or the training run diverged"
            )
        return self._outputs(jobs, options.num_hypotheses)

    def _start(self, jobs: Sequence[Job], options: SearchOptions) -> None:
        count = len(jobs)
        prefixes = np.zeros(self._prefixes_BT.shape, np.int64)
        for row, job in enumerate(jobs):
            prefixes[row, : len(job.prefix)] = job.prefix
        self._prefixes_BT.copy_(torch.from_numpy(prefixes))
        for buffer, values in (
            (self._limits_B, [job.limit for job in jobs]),
            (self._prefix_lengths_B, [len(job.prefix) for job in jobs]),
        ):
            buffer.zero_()
            buffer[:count] = torch.tensor(values, device=buffer.device)
        self._penalty.fill_(options.length_penalty)
        self._active_B.fill_(False)
        self._active_B[:count] = True
        self._finite.fill_(True)
        self._step.zero_()
        self._scores_BW.fill_(float(IMPOSSIBLE))
        self._scores_BW[:, 0] = 0
        self._done_BW.fill_(False)
        self._done_scores_BW.fill_(float(IMPOSSIBLE))
        self._done_lengths_BW.zero_()

    def _replay(self, cache_positions: int) -> None:
        """Run one step, as a CUDA graph from the second time that its shapes occur."""
        if not self._use_graphs:
            return self._advance(cache_positions)
        key = cache_positions, self._decoder.output_signature
        if key in self._graphs:
            return self._graphs[key].replay()
        # The first run allocates the workspaces of the libraries, which a capture must not do.
        self._advance(cache_positions)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):  # records the step without running it
            self._advance(cache_positions)
        valid = self._decoder.output_signatures
        self._graphs = {old: kept for old, kept in self._graphs.items() if old[1] in valid}
        self._graphs[key] = graph
        return None

    def _advance(self, cache_positions: int) -> None:
        """Choose the tokens of this step, and run the decoder over them."""
        width, end = self._size.width, self._engine.config.eos_id
        steps, tokens = self._decoder.best(2 * width)
        self._finite &= torch.isfinite(steps[self._active_rows(), 0]).all()
        steps, tokens = (x.view(self._size.sentences, -1) for x in (steps, tokens))
        totals = steps + self._scores_BW.repeat_interleave(2 * width, dim=1)
        totals, order = totals.sort(dim=1, descending=True, stable=True)
        totals, order = totals[:, : 2 * width], order[:, : 2 * width]
        steps, tokens, beams = steps.gather(1, order), tokens.gather(1, order), order // (2 * width)
        totals, steps, tokens, beams = self._force_prefixes(totals, steps, tokens, beams)
        at_limit_B1 = (self._step + 1 >= self._limits_B)[:, None]
        ending = ((tokens == end) | at_limit_B1) & self._active_B[:, None]
        lengths_B = (self._step + 2 - self._prefix_lengths_B).clamp_min(1)
        penalties_B1 = (lengths_B.double() ** self._penalty).float()[:, None]
        self._finish(totals / penalties_B1, steps, tokens, beams, ending)

        totals = totals + ending * float(IMPOSSIBLE)
        running = totals.sort(dim=1, descending=True, stable=True).indices[:, :width]
        totals, steps, tokens, beams = (
            x.gather(1, running) for x in (totals, steps, tokens, beams)
        )
        self._scores_BW.copy_(totals)
        self._tokens_BWT.copy_(self._extended(self._tokens_BWT, beams, tokens))
        self._steps_BWT.copy_(self._extended(self._steps_BWT, beams, steps))
        can_improve_B = totals[:, 0] / penalties_B1[:, 0] > self._done_scores_BW.amin(1)
        self._active_B &= ~ending.all(1) & (~self._done_BW.all(1) | can_improve_B)
        self._step += 1
        self._decoder.parents_R.copy_((self._first_rows_B1 + beams).flatten())
        self._decoder.tokens_R.copy_(tokens.flatten())
        self._decoder.advance(cache_positions)

    def _active_rows(self) -> Tensor:
        """Return the rows of the sentences; unused sentences refer to the first one."""
        rows = self._first_rows_B1[:, 0]
        return torch.where(self._active_B, rows, rows[0])

    def _force_prefixes(
        self, totals: Tensor, steps: Tensor, tokens: Tensor, beams: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        forced_B1 = (self._step < self._prefix_lengths_B)[:, None]
        forced_totals = torch.full_like(totals, float(IMPOSSIBLE))
        forced_totals[:, 0] = 0
        token_B1 = self._prefixes_BT.index_select(1, self._step)
        return (
            torch.where(forced_B1, forced_totals, totals),
            steps.masked_fill(forced_B1, 0),
            torch.where(forced_B1, token_B1, tokens),
            beams.masked_fill(forced_B1, 0),
        )

    def _extended(self, history_BWT: Tensor, beams: Tensor, new_BW: Tensor) -> Tensor:
        """Return the histories of the chosen beams with the values of this step."""
        picked = _pick(history_BWT, beams)
        return picked.index_copy_(2, self._step, new_BW[:, :, None])

    def _finish(
        self, scores: Tensor, steps: Tensor, tokens: Tensor, beams: Tensor, ending: Tensor
    ) -> None:
        """Keep the best W of the finished outputs and the outputs that end in this step."""
        width = self._size.width
        scores, steps, tokens, beams, ending = (
            x[:, :width] for x in (scores, steps, tokens, beams, ending)
        )
        scores = scores.masked_fill(~ending, 2 * float(IMPOSSIBLE))
        merged = torch.cat([self._done_scores_BW, scores], dim=1)
        merged, order = merged.sort(dim=1, descending=True, stable=True)
        order = order[:, :width]
        self._done_scores_BW.copy_(merged[:, :width])
        self._done_BW.copy_(torch.cat([self._done_BW, ending], dim=1).gather(1, order))
        lengths = torch.cat(
            [self._done_lengths_BW, (self._step + 1).expand(len(beams), width)], dim=1
        )
        self._done_lengths_BW.copy_(lengths.gather(1, order))
        for done, history, new in (
            (self._done_tokens_BWT, self._tokens_BWT, tokens),
            (self._done_steps_BWT, self._steps_BWT, steps),
        ):
            done.copy_(_pick(torch.cat([done, self._extended(history, beams, new)], dim=1), order))

    def _outputs(self, jobs: Sequence[Job], num_hypotheses: int) -> list[list[Output]]:
        done = self._done_BW.sum(1).tolist()
        lengths, scores = self._done_lengths_BW.tolist(), self._done_scores_BW.tolist()
        tokens = self._done_tokens_BWT.cpu().numpy()
        steps = self._done_steps_BWT.cpu().numpy()
        end = self._engine.config.eos_id

        def output(row: int, rank: int, job: Job) -> Output:
            length = lengths[row][rank]
            ids = tokens[row, rank, :length].tolist()
            finished = ids[-1] == end
            return Output(
                token_ids=tuple(ids[:-1] if finished else ids),
                token_log_probabilities=tuple(steps[row, rank, len(job.prefix) : length].tolist()),
                score=scores[row][rank],
                finished=finished,
            )

        return [
            [output(row, rank, job) for rank in range(min(num_hypotheses, done[row]))]
            for row, job in enumerate(jobs)
        ]


def _pick(x_BKT: Tensor, order_BW: Tensor) -> Tensor:
    return x_BKT.gather(1, order_BW[:, :, None].expand(-1, -1, x_BKT.shape[2]))
