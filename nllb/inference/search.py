"""Search for output tokens: greedy, beam and sampling over an engine's decoding.

Greedy search is a beam of one. Scores, length penalty and the moment at which a beam search stops
are those of transformers' `generate` (early_stopping False), so that outputs are token-identical;
unlike there, a sentence that is done leaves the batch, and the language token is not searched for
but given together with the start token.

Shapes: A active sentences, W rows (beams) a sentence, K candidates a sentence, T output positions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xxhash
from torch import Tensor

from nllb.errors import CheckpointError, ConfigError
from nllb.inference.byte_fallback import ByteRules
from nllb.inference.engine import Decoding, Engine, OutputChoice
from nllb.inference.generator import MAX_BEAM_SIZE, SearchOptions
from nllb.model.configuration import ModelConfig

IMPOSSIBLE = np.float32(-1e9)
"""Score of a beam that is not there; transformers' value, finite so that sums stay comparable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One sentence to search an output for."""

    source: tuple[int, ...]
    """Encoder input, language and end tokens included."""
    prompt: tuple[int, int]
    """Decoder start and target language."""
    prefix: tuple[int, ...] = ()
    """Tokens that the output must begin with."""
    limit: int
    """Most tokens after the prompt, the end token included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """One output of the search."""

    token_ids: tuple[int, ...]
    """Tokens after the prompt, the forced prefix included, the end token excluded."""
    token_log_probabilities: tuple[float, ...]
    """Of each token that was searched for, the end token included."""
    score: float
    """Sum of these under the length penalty."""
    finished: bool
    """The end token was reached."""

    @property
    def log_probability(self) -> float:
        """Sum of the token log-probabilities."""
        return float(sum(self.token_log_probabilities))


def check_options(options: SearchOptions, *, num_positions: int) -> None:
    """Validate the search options.

    Raises:
        ConfigError: it names all errors at once.
    """
    faults = []
    if not 1 <= options.beam_size <= MAX_BEAM_SIZE:
        faults.append(f"beam_size is {options.beam_size}, not 1 to {MAX_BEAM_SIZE}")
    if options.num_hypotheses < 1:
        faults.append(f"num_hypotheses is {options.num_hypotheses}, not 1 or more")
    if options.sampling and options.beam_size != 1:
        faults.append(f"sampling needs beam_size 1, not {options.beam_size}")
    if not options.sampling and options.num_hypotheses > max(options.beam_size, 1):
        faults.append(
            f"num_hypotheses {options.num_hypotheses} is more than beam_size {options.beam_size}"
        )
    if options.max_output_tokens is not None:
        if options.max_output_tokens < 1:
            faults.append(f"max_output_tokens is {options.max_output_tokens}, not 1 or more")
        if options.min_output_tokens > options.max_output_tokens:
            faults.append(
                f"min_output_tokens {options.min_output_tokens} is more than"
                f" max_output_tokens {options.max_output_tokens}"
            )
    if options.min_output_tokens > num_positions:
        faults.append(
            f"min_output_tokens {options.min_output_tokens} is above the model's {num_positions}"
        )
    if not (0 < options.temperature < math.inf and 0 < options.repetition_penalty < math.inf):
        faults.append("temperature and repetition_penalty must be finite and above 0")
    if not math.isfinite(options.length_penalty):
        faults.append(f"length_penalty is {options.length_penalty}, not a finite number")
    if not 0 < options.top_p <= 1:
        faults.append(f"top_p is {options.top_p}, not in (0, 1]")
    if min(options.top_k, options.no_repeat_ngram, options.min_output_tokens) < 0:
        faults.append("top_k, no_repeat_ngram and min_output_tokens must not be negative")
    if faults:
        raise ConfigError("these search options cannot be used: " + "; ".join(faults))


@torch.inference_mode()
def search(
    engine: Engine,
    jobs: Sequence[Job],
    options: SearchOptions,
    *,
    choice: OutputChoice | None = None,
    byte_rules: ByteRules | None = None,
) -> list[list[Output]]:
    """Return for each job its `options.num_hypotheses` outputs, best first.

    With `byte_rules`, the byte pieces of every output form valid UTF-8.

    Raises:
        CheckpointError: the model's scores are not finite, or a token is not in its vocabulary.
        ConfigError: the beam is larger than the number of tokens that an output can use.
    """
    _check_jobs(jobs, engine.config)
    num_open = engine.config.vocabulary_size
    if choice is not None:
        num_open = len(choice.ids) + min(map(len, choice.extra))
    if not options.sampling and options.beam_size > num_open:
        raise ConfigError(
            f"beam_size is {options.beam_size}, but outputs can use only {num_open} tokens; choose "
            f"a beam of at most {num_open}"
        )
    memory = engine.encode([job.source for job in jobs])
    width = options.num_hypotheses if options.sampling else options.beam_size
    positions = max(job.limit for job in jobs) + 2
    decoding = engine.decode(memory, width=width, max_positions=positions, choice=choice)
    rules = _Rules(options, end=engine.config.eos_id, byte_rules=byte_rules)
    if options.sampling:
        return _Sampling(decoding, jobs, rules).run()
    return _BeamSearch(decoding, jobs, rules).run()


def _check_jobs(jobs: Sequence[Job], config: ModelConfig) -> None:
    for job in jobs:
        ids = (*job.source, *job.prompt, *job.prefix)
        if min(ids) < 0 or max(ids) >= config.vocabulary_size:
            raise CheckpointError(
                f"a segment has token ids from {min(ids)} to {max(ids)}, and the model's are 0 to "
                f"{config.vocabulary_size - 1}: its tokenizer is that of another model"
            )
        if not len(job.prefix) < job.limit <= config.max_positions - 2:
            raise ConfigError(
                f"an output of at most {job.limit} tokens after {len(job.prefix)} that are given "
                f"cannot be searched for: the model has {config.max_positions} positions, 2 of "
                f"them for the start"
            )


def _check_scores(best: np.ndarray) -> None:
    """Refuse rows whose best token has no finite score, before rules forbid any token."""
    if not np.isfinite(best).all():
        raise CheckpointError(
            "the model's scores are not finite numbers: its weights are so large that sums "
            "overflow; the checkpoint is damaged, or its training diverged"
        )


class _Rules:
    """Changes of logits: minimum length, repetition penalty, n-gram block, valid UTF-8."""

    def __init__(self, options: SearchOptions, *, end: int, byte_rules: ByteRules | None = None):
        self.options, self.end, self.byte_rules = options, end, byte_rules

    @property
    def need_logits(self) -> bool:
        return self.options.repetition_penalty != 1 or self.options.no_repeat_ngram > 0

    def apply(self, logits_RV: Tensor, tokens_RT: np.ndarray, jobs: Sequence[Job]) -> None:
        """Change logits (or log-probabilities) of rows with these tokens so far, in place.

        N-grams count the prompt, as in transformers; the repetition penalty does not, so that it
        does not make the end token, with which every prompt begins, less likely.
        """
        options = self.options
        inside = self.byte_rules.open_characters(tokens_RT) if self.byte_rules else {}
        if options.repetition_penalty != 1 and tokens_RT.shape[1]:
            tokens = torch.from_numpy(tokens_RT)
            seen = logits_RV.gather(1, tokens)
            penalty = options.repetition_penalty
            logits_RV.scatter_(1, tokens, torch.where(seen < 0, seen * penalty, seen / penalty))
        if options.no_repeat_ngram:
            for row, (job, tokens) in enumerate(zip(jobs, tokens_RT.tolist(), strict=True)):
                if row in inside:
                    continue  # The character has to be finished, repeated or not.
                if banned := _repeating([*job.prompt, *tokens], options.no_repeat_ngram):
                    logits_RV[row, banned] = -torch.inf
        if tokens_RT.shape[1] < options.min_output_tokens:
            logits_RV[:, self.end] = -torch.inf
        if self.byte_rules is not None:
            left = np.array([job.limit for job in jobs]) - tokens_RT.shape[1]
            forbidden = self.byte_rules.forbidden(tokens_RT, left)
            logits_RV.masked_fill_(torch.from_numpy(forbidden), -torch.inf)


def _repeating(tokens: list[int], size: int) -> list[int]:
    """Return the tokens that would complete an n-gram which `tokens` already has."""
    if len(tokens) < size:
        return []
    start = tuple(tokens[len(tokens) - size + 1 :])
    return [
        tokens[i + size - 1]
        for i in range(len(tokens) - size + 1)
        if tuple(tokens[i : i + size - 1]) == start
    ]


class _BeamSearch:
    """Arrays have one row for each active sentence; a sentence that is done is taken out."""

    def __init__(self, decoding: Decoding, jobs: Sequence[Job], rules: _Rules):
        self.decoding, self.jobs, self.rules = decoding, jobs, rules
        self.options, self.end = rules.options, rules.end
        count, width = len(jobs), rules.options.beam_size
        longest = max(job.limit for job in jobs)
        self.sentences = np.arange(count)
        self.limits = np.array([job.limit for job in jobs])
        self.prefix_lengths = np.array([len(job.prefix) for job in jobs])
        self.scores = np.full((count, width), IMPOSSIBLE, np.float32)
        self.scores[:, 0] = 0
        self.tokens = np.zeros((count, width, longest), np.int64)
        self.steps = np.zeros((count, width, longest), np.float32)  # log-probability of each token
        self.done = np.zeros((count, width), bool)
        self.done_scores = np.full((count, width), IMPOSSIBLE, np.float32)
        self.done_lengths = np.zeros((count, width), np.int64)
        self.done_tokens, self.done_steps = np.zeros_like(self.tokens), np.zeros_like(self.steps)
        self.outputs: list[list[Output]] = [[] for _ in jobs]

    def run(self) -> list[list[Output]]:
        prompts = np.array([job.prompt for job in self.jobs])
        self.decoding.advance(prompts, np.arange(len(prompts)), self.sentences)
        step = 0
        while True:
            parents, tokens = self._extend(step)
            if not len(self.sentences):
                return self.outputs
            self.decoding.advance(tokens.reshape(-1, 1), parents.reshape(-1), self.sentences)
            step += 1

    def _extend(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Choose the tokens at position `step`; return the parents and tokens of the next rows."""
        width = self.options.beam_size
        rows = 1 if step == 0 else width  # the first step has one row a sentence
        steps, tokens = self._candidates(step, rows)
        each = steps.shape[1] // rows
        totals = steps + self.scores[:, :rows].repeat(each, axis=1)
        order = _best_first(totals)[:, : 2 * width]
        totals, steps, tokens = (np.take_along_axis(x, order, 1) for x in (totals, steps, tokens))
        beams = order // each
        self._force_prefixes(step, totals, steps, tokens, beams)
        ending = (tokens == self.end) | (step + 1 >= self.limits)[:, None]
        lengths = np.maximum(step + 2 - self.prefix_lengths, 1)[
            :, None
        ]  # the language token counts
        penalties = (lengths**self.options.length_penalty).astype(np.float32)
        if ending[:, :width].any():
            self._finish_beams(
                step,
                scores=totals / penalties,
                steps=steps,
                tokens=tokens,
                beams=beams,
                ending=ending,
            )

        totals = totals + ending * IMPOSSIBLE
        running = _best_first(totals)[:, :width]
        self.scores, steps, tokens, beams = (
            np.take_along_axis(x, running, 1) for x in (totals, steps, tokens, beams)
        )
        if width > 1:
            self.tokens, self.steps = _pick(self.tokens, beams), _pick(self.steps, beams)
        self.tokens[:, :, step], self.steps[:, :, step] = tokens, steps

        hopeful = self.scores[:, 0] / penalties[:, 0] > self.done_scores.min(axis=1)
        active = ~ending.all(axis=1) & (~self.done.all(axis=1) | hopeful)
        parents = beams + np.arange(len(beams))[:, None] * rows
        if not active.all():
            self._leave(active)
            parents, tokens = parents[active], tokens[active]
        return parents, tokens

    def _candidates(self, step: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return log-probabilities and ids of the next tokens, enough of them, by sentence."""
        needed = 2 * self.options.beam_size
        count = len(self.sentences) * rows
        histories = self.tokens[:, :rows, :step].reshape(count, step)
        if self.rules.need_logits:
            steps, tokens = self._best_by_rules(np.arange(count), histories, rows, needed)
        else:
            # The end token is forbidden below the minimum length: one candidate more is needed.
            too_short = step < self.options.min_output_tokens
            steps, tokens = self.decoding.best(needed + too_short)
            _check_scores(steps[:, 0])
            if too_short:
                steps = np.where(tokens == self.end, -np.float32(np.inf), steps)
            if self.rules.byte_rules is not None:
                steps, tokens = self._keep_valid(steps, tokens, histories, rows)
        return steps.reshape(len(self.sentences), -1), tokens.reshape(len(self.sentences), -1)

    def _keep_valid(
        self, steps: np.ndarray, tokens: np.ndarray, histories: np.ndarray, rows: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return candidates of which none makes an output invalid UTF-8.

        The search uses at most `beam_size` candidates of a row and the end token. A row that has
        fewer valid ones among its best tokens is searched again in the whole vocabulary.
        """
        assert self.rules.byte_rules is not None
        left = self.limits.repeat(rows) - histories.shape[1]
        forbidden = self.rules.byte_rules.forbidden_among(histories, left, tokens)
        if not forbidden.any():
            return steps, tokens
        steps, tokens = np.where(forbidden, IMPOSSIBLE, steps), tokens.copy()
        few = np.flatnonzero((~forbidden).sum(axis=1) <= self.options.beam_size)
        if len(few):
            steps[few], tokens[few] = self._best_by_rules(few, histories, rows, steps.shape[1])
        return steps, tokens

    def _best_by_rules(
        self, chosen: np.ndarray, histories: np.ndarray, rows: int, needed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best candidates of some rows after the rules were applied to all tokens."""
        logits = self.decoding.logits()[torch.from_numpy(chosen)]
        _check_scores(logits.amax(-1).numpy())
        jobs = [self.jobs[self.sentences[row // rows]] for row in chosen.tolist()]
        if self.options.beam_size == 1:  # the order of operations in transformers
            self.rules.apply(logits, histories[chosen], jobs)
            logits = logits.log_softmax(-1)
        else:
            logits = logits.log_softmax(-1)
            self.rules.apply(logits, histories[chosen], jobs)
        best, tokens = logits.topk(min(needed, logits.shape[1]), dim=-1)
        # A row without any candidate gets the score of a missing beam, which stays finite.
        return np.fmax(best.numpy(), IMPOSSIBLE), tokens.numpy()

    def _force_prefixes(
        self,
        step: int,
        totals: np.ndarray,
        steps: np.ndarray,
        tokens: np.ndarray,
        beams: np.ndarray,
    ) -> None:
        for row in np.flatnonzero(step < self.prefix_lengths):
            totals[row], totals[row, 0] = IMPOSSIBLE, 0
            tokens[row] = self.jobs[self.sentences[row]].prefix[step]
            steps[row], beams[row] = 0, 0

    def _finish_beams(
        self,
        step: int,
        *,
        scores: np.ndarray,
        steps: np.ndarray,
        tokens: np.ndarray,
        beams: np.ndarray,
        ending: np.ndarray,
    ) -> None:
        """Keep the best of the finished outputs and of those that end now, `width` of them."""
        width = self.options.beam_size
        scores, steps, tokens, beams, ending = (
            x[:, :width] for x in (scores, steps, tokens, beams, ending)
        )
        scores = np.where(ending, scores, 2 * IMPOSSIBLE)
        new_tokens, new_steps = _pick(self.tokens, beams), _pick(self.steps, beams)
        new_tokens[:, :, step], new_steps[:, :, step] = tokens, steps
        merged = np.concatenate([self.done_scores, scores], axis=1)
        order = _best_first(merged)[:, :width]
        self.done_scores = np.take_along_axis(merged, order, 1)
        self.done = np.take_along_axis(np.concatenate([self.done, ending], axis=1), order, 1)
        lengths = np.concatenate([self.done_lengths, np.full_like(beams, step + 1)], axis=1)
        self.done_lengths = np.take_along_axis(lengths, order, 1)
        self.done_tokens = _pick(np.concatenate([self.done_tokens, new_tokens], axis=1), order)
        self.done_steps = _pick(np.concatenate([self.done_steps, new_steps], axis=1), order)

    def _leave(self, active: np.ndarray) -> None:
        """Write the outputs of sentences that are done, and keep the others."""
        for row in np.flatnonzero(~active):
            job, found = self.jobs[self.sentences[row]], []
            for rank in range(min(self.options.num_hypotheses, int(self.done[row].sum()))):
                length = int(self.done_lengths[row, rank])
                tokens = self.done_tokens[row, rank, :length].tolist()
                finished = tokens[-1] == self.end
                found.append(
                    Output(
                        token_ids=tuple(tokens[:-1] if finished else tokens),
                        token_log_probabilities=tuple(
                            self.done_steps[row, rank, len(job.prefix) : length].tolist()
                        ),
                        score=float(self.done_scores[row, rank]),
                        finished=finished,
                    )
                )
            self.outputs[self.sentences[row]] = found
        for name in (
            *("sentences", "limits", "prefix_lengths", "scores", "tokens", "steps"),
            *("done", "done_scores", "done_lengths", "done_tokens", "done_steps"),
        ):
            setattr(self, name, getattr(self, name)[active])


def _best_first(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")


def _pick(x_AKT: np.ndarray, order_AW: np.ndarray) -> np.ndarray:
    picked: np.ndarray = x_AKT[np.arange(len(x_AKT))[:, None], order_AW]
    return picked


class _Sampling:
    """Independent draws, each from a stream of its own, so that a batch changes nothing."""

    def __init__(self, decoding: Decoding, jobs: Sequence[Job], rules: _Rules):
        options = rules.options
        self.decoding, self.jobs, self.rules = decoding, jobs, rules
        self.options, self.end = options, rules.end
        self.width = options.num_hypotheses
        self.streams = [
            _stream(options.seed, job, draw) for job in jobs for draw in range(self.width)
        ]
        self.tokens: list[list[int]] = [[] for _ in self.streams]
        self.steps: list[list[float]] = [[] for _ in self.streams]
        self.open = [True] * len(self.streams)

    def run(self) -> list[list[Output]]:
        sentences = np.arange(len(self.jobs))
        prompts = np.array([job.prompt for job in self.jobs])
        self.decoding.advance(prompts, sentences, sentences)
        parents, step = np.repeat(sentences, self.width), 0
        while True:
            draws = [int(s) * self.width + draw for s in sentences for draw in range(self.width)]
            logits = self.decoding.logits()
            if step == 0:
                logits = logits.repeat_interleave(self.width, dim=0)
            self._draw(step, draws, logits)
            step += 1
            rows = np.arange(len(draws)).reshape(-1, self.width)
            active = np.array(
                [any(self.open[d] for d in draws[row[0] : row[-1] + 1]) for row in rows]
            )
            sentences, rows = sentences[active], rows[active].reshape(-1)
            if not len(sentences):
                return self._outputs()
            last = np.array([[self.tokens[draws[row]][-1]] for row in rows])
            self.decoding.advance(last, parents[rows] if step == 1 else rows, sentences)

    def _draw(self, step: int, draws: list[int], logits_RV: Tensor) -> None:
        rows = [row for row, draw in enumerate(draws) if self.open[draw]]
        open_draws = [draws[row] for row in rows]
        logits_RV = logits_RV[rows]
        log_probabilities = logits_RV.log_softmax(-1)
        _check_scores(log_probabilities.amax(-1).numpy())
        histories = np.array([self.tokens[draw] for draw in open_draws], np.int64).reshape(
            len(rows), -1
        )
        self.rules.apply(
            logits_RV, histories, [self.jobs[draw // self.width] for draw in open_draws]
        )
        chosen = [
            self._sample(logits / self.options.temperature, self.streams[draw])
            for logits, draw in zip(logits_RV, open_draws, strict=True)
        ]
        for row, (draw, token) in enumerate(zip(open_draws, chosen, strict=True)):
            job = self.jobs[draw // self.width]
            if step < len(job.prefix):
                self.tokens[draw].append(job.prefix[step])
            else:
                self.tokens[draw].append(token)
                self.steps[draw].append(float(log_probabilities[row, token]))
            self.open[draw] = self.tokens[draw][-1] != self.end and step + 1 < job.limit

    def _sample(self, logits_V: Tensor, stream: np.random.Generator) -> int:
        options = self.options
        ids = None
        if options.top_k:
            logits_V, ids = logits_V.topk(min(options.top_k, len(logits_V)))
        elif options.top_p < 1:
            logits_V, ids = logits_V.sort(descending=True)
        shares = logits_V.double().softmax(-1).cumsum(-1).numpy()
        if options.top_p < 1:
            shares = shares[: int(np.searchsorted(shares, options.top_p)) + 1]
        drawn = int(np.searchsorted(shares, stream.random() * shares[-1], side="right"))
        drawn = min(drawn, len(shares) - 1)
        return drawn if ids is None else int(ids[drawn])

    def _outputs(self) -> list[list[Output]]:
        outputs = []
        for number in range(len(self.jobs)):
            found = []
            for draw in range(number * self.width, (number + 1) * self.width):
                tokens, steps = self.tokens[draw], self.steps[draw]
                finished = tokens[-1] == self.end
                penalty = (len(steps) + 1) ** self.options.length_penalty
                found.append(
                    Output(
                        token_ids=tuple(tokens[:-1] if finished else tokens),
                        token_log_probabilities=tuple(steps),
                        score=sum(steps) / penalty,
                        finished=finished,
                    )
                )
            outputs.append(sorted(found, key=lambda output: -output.score))
        return outputs


def _stream(seed: int, job: Job, draw: int) -> np.random.Generator:
    content = np.array([seed, draw, *job.prompt, *job.source, -1, *job.prefix], np.int64).tobytes()
    return np.random.Generator(np.random.Philox(key=xxhash.xxh3_64_intdigest(content)))
