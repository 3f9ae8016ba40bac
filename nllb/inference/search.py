"""Greedy search, beam search and sampling of output tokens with an engine.

Greedy search is beam search with a beam of one. Scores, length penalty and stopping criterion are
those of `generate` in transformers, so that the output tokens are identical.
In contrast to transformers, finished sentences are removed from the batch, and the language token
is part of the prompt together with the start token.

Shapes: A active sentences, W rows (beams) per sentence, K candidates per sentence, T output
positions, R rows, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xxhash
from torch import Tensor

from nllb.errors import CheckpointError, ConfigError
from nllb.model.configuration import ModelConfig

from .byte_fallback import ByteRules
from .engine import Decoding, Engine, OutputChoice
from .generator import MAX_BEAM_SIZE, SearchOptions

IMPOSSIBLE = np.float32(-1e9)
"""Score of a missing beam, as in transformers; it is finite so that sums stay comparable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The search for the output of one sentence.

    Attributes:
        source: encoder input, including the language and end tokens.
        prompt: decoder start token and, in most models, the target language token.
        prefix: forced prefix of the output.
        limit: maximum number of tokens after the prompt, including the end token.
        copied: output tokens that spell the source, which a shortlist must not exclude.
        terms: alternatives, as tokens, of each term that the output must contain.
    """

    source: tuple[int, ...]
    prompt: tuple[int, ...]
    prefix: tuple[int, ...] = ()
    limit: int
    copied: tuple[int, ...] = ()
    terms: tuple[tuple[tuple[int, ...], ...], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """One output of the search.

    Attributes:
        token_ids: tokens after the prompt, including the forced prefix but not the end token.
        token_log_probabilities: log-probabilities of all tokens after the forced prefix, including
            the end token.
        score: sum of the log-probabilities with the length penalty.
        finished: whether the output ended with the end token.
    """

    token_ids: tuple[int, ...]
    token_log_probabilities: tuple[float, ...]
    score: float
    finished: bool

    @property
    def log_probability(self) -> float:
        """Sum of the token log-probabilities."""
        return float(sum(self.token_log_probabilities))


def check_options(options: SearchOptions, *, num_positions: int) -> None:
    """Validate the search options.

    Raises:
        ConfigError: an option is invalid; the message lists all errors.
    """
    errors = []
    if not 1 <= options.beam_size <= MAX_BEAM_SIZE:
        errors.append(f"beam_size is {options.beam_size}; it must be 1 to {MAX_BEAM_SIZE}")
    if options.num_hypotheses < 1:
        errors.append(f"num_hypotheses is {options.num_hypotheses}; it must be at least 1")
    if options.sampling and options.beam_size != 1:
        errors.append(f"sampling requires beam_size 1, not {options.beam_size}")
    if not options.sampling and options.num_hypotheses > max(options.beam_size, 1):
        errors.append(
            f"num_hypotheses {options.num_hypotheses} is more than beam_size {options.beam_size}"
        )
    if options.max_output_tokens is not None:
        if options.max_output_tokens < 1:
            errors.append(
                f"max_output_tokens is {options.max_output_tokens}; it must be at least 1"
            )
        if options.min_output_tokens > options.max_output_tokens:
            errors.append(
                f"min_output_tokens {options.min_output_tokens} is more than"
                f" max_output_tokens {options.max_output_tokens}"
            )
    if options.min_output_tokens > num_positions:
        errors.append(
            f"min_output_tokens {options.min_output_tokens} exceeds the model's maximum of "
            f"{num_positions}"
        )
    if not (0 < options.temperature < math.inf and 0 < options.repetition_penalty < math.inf):
        errors.append("temperature and repetition_penalty must be finite and greater than 0")
    if not math.isfinite(options.length_penalty):
        errors.append(f"length_penalty is {options.length_penalty}; it must be finite")
    if not 0 < options.top_p <= 1:
        errors.append(f"top_p is {options.top_p}; it must be in (0, 1]")
    if min(options.top_k, options.no_repeat_ngram, options.min_output_tokens) < 0:
        errors.append("top_k, no_repeat_ngram and min_output_tokens must not be negative")
    if errors:
        raise ConfigError("the search options are invalid: " + "; ".join(errors))


@torch.inference_mode()
def search(
    engine: Engine,
    jobs: Sequence[Job],
    options: SearchOptions,
    *,
    choice: OutputChoice | None = None,
    byte_rules: ByteRules | None = None,
    word_pieces: frozenset[int] | None = None,
    beam_search: "type[BeamSearch] | None" = None,
) -> list[list[Output]]:
    """Return `options.num_hypotheses` outputs for each job, best first.

    With `byte_rules`, the byte pieces of every output form valid UTF-8. `beam_search` is the class
    for jobs with terms; `word_pieces` are the tokens that it excludes after a term, because they
    would continue the term's last word.

    Raises:
        CheckpointError: the model's scores are not finite, or a token is not in its vocabulary.
        ConfigError: the beam is larger than the number of available output tokens.
    """
    check_jobs(jobs, engine.config)
    num_open = engine.config.vocabulary_size
    if choice is not None:
        num_open = len(choice.ids) + min(map(len, choice.extra))
    if not options.sampling and options.beam_size > num_open:
        raise ConfigError(
            f"beam_size is {options.beam_size}, but outputs can use only {num_open} tokens; the "
            f"maximum beam_size is {num_open}"
        )
    memory = engine.encode([job.source for job in jobs])
    width = options.num_hypotheses if options.sampling else options.beam_size
    positions = max(job.limit for job in jobs) + 2
    decoding = engine.decode(memory, width=width, max_positions=positions, choice=choice)
    rules = Rules(options, end=engine.config.eos_id, byte_rules=byte_rules, word_pieces=word_pieces)
    if options.sampling:
        return _Sampling(decoding, jobs, rules).run()
    return (beam_search or BeamSearch)(decoding, jobs, rules).run()


def check_jobs(jobs: Sequence[Job], config: ModelConfig) -> None:
    """Check the token ids and limits of jobs.

    Raises:
        CheckpointError: a token is not in the model's vocabulary.
        ConfigError: a limit is invalid.
    """
    for job in jobs:
        # The pieces of a pretrained encoder are checked by that encoder.
        ids = (*(() if config.pretrained_layers else job.source), *job.prompt, *job.prefix)
        if min(ids) < 0 or max(ids) >= config.vocabulary_size:
            raise CheckpointError(
                f"a segment has token ids from {min(ids)} to {max(ids)}, but the model's are 0 to "
                f"{config.vocabulary_size - 1}: its tokenizer belongs to another model"
            )
        if not len(job.prefix) < job.limit <= config.max_positions - 2:
            raise ConfigError(
                f"the limit of {job.limit} output tokens with a prefix of {len(job.prefix)} is "
                f"invalid: it must exceed the prefix, and the model has {config.max_positions} "
                f"positions, of which the prompt uses 2"
            )


def check_scores(best: np.ndarray) -> None:
    """Check that the best score of each row is finite before rules forbid any token."""
    if not np.isfinite(best).all():
        raise CheckpointError(
            "the model's scores are not finite numbers, because sums overflow with its large "
            "weights; the checkpoint is damaged, or the training run diverged"
        )


class Rules:
    """Modifies logits: minimum length, repetition penalty, n-gram blocking, valid UTF-8."""

    def __init__(
        self,
        options: SearchOptions,
        *,
        end: int,
        byte_rules: ByteRules | None = None,
        word_pieces: frozenset[int] | None = None,
    ):
        self.options, self.end = options, end
        self.byte_rules, self.word_pieces = byte_rules, word_pieces

    @property
    def need_logits(self) -> bool:
        """Whether the rules concern tokens beyond the best ones."""
        return self.options.repetition_penalty != 1 or self.options.no_repeat_ngram > 0

    def apply(self, logits_RV: Tensor, tokens_RT: np.ndarray, jobs: Sequence[Job]) -> None:
        """Modify the logits (or log-probabilities) of rows in place, given their tokens so far.

        N-gram blocking includes the prompt, as in transformers. The repetition penalty does not,
        because every prompt starts with the end token, which would become less likely.
        """
        options = self.options
        unfinished = self.byte_rules.open_characters(tokens_RT) if self.byte_rules else {}
        if options.repetition_penalty != 1 and tokens_RT.shape[1]:
            tokens = torch.from_numpy(tokens_RT)
            seen = logits_RV.gather(1, tokens)
            penalty = options.repetition_penalty
            logits_RV.scatter_(1, tokens, torch.where(seen < 0, seen * penalty, seen / penalty))
        if options.no_repeat_ngram:
            for row, (job, tokens) in enumerate(zip(jobs, tokens_RT.tolist(), strict=True)):
                if row in unfinished:
                    continue  # the bytes of the character must be completed in any case
                if banned := _repeating([*job.prompt, *tokens], options.no_repeat_ngram):
                    logits_RV[row, banned] = -torch.inf
        if tokens_RT.shape[1] < options.min_output_tokens:
            logits_RV[:, self.end] = -torch.inf
        if self.byte_rules is not None:
            left = np.array([job.limit for job in jobs]) - tokens_RT.shape[1]
            forbidden = self.byte_rules.forbidden(tokens_RT, left)
            logits_RV.masked_fill_(torch.from_numpy(forbidden), -torch.inf)


def _repeating(tokens: list[int], size: int) -> list[int]:
    """Return the tokens that would complete an n-gram that occurs in `tokens` already."""
    if len(tokens) < size:
        return []
    start = tuple(tokens[len(tokens) - size + 1 :])
    return [
        tokens[i + size - 1]
        for i in range(len(tokens) - size + 1)
        if tuple(tokens[i : i + size - 1]) == start
    ]


class BeamSearch:
    """Beam search whose arrays have one row per active sentence; finished ones are removed."""

    def __init__(self, decoding: Decoding, jobs: Sequence[Job], rules: Rules):
        self.decoding, self.jobs, self.rules = decoding, jobs, rules
        self.options, self.end = rules.options, rules.end
        count, width = len(jobs), rules.options.beam_size
        longest = max(job.limit for job in jobs)
        self.sentences = np.arange(count)
        self.limits = np.array([job.limit for job in jobs])
        self.prompt_length = len(jobs[0].prompt)
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
        """Return the outputs of each job, best first."""
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
        rows = 1 if step == 0 else width  # the first step has one row per sentence
        steps, tokens = self._candidates(step, rows)
        each = steps.shape[1] // rows
        totals = steps + self.scores[:, :rows].repeat(each, axis=1)
        order = _best_first(totals)[:, : 2 * width]
        totals, steps, tokens = (np.take_along_axis(x, order, 1) for x in (totals, steps, tokens))
        beams = order // each
        self._force_prefixes(step, totals, steps, tokens, beams)
        ending = (tokens == self.end) | (step + 1 >= self.limits)[:, None]
        # The length includes the language token of the prompt.
        lengths = np.maximum(step + self.prompt_length - self.prefix_lengths, 1)[:, None]
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

        can_improve = self.scores[:, 0] / penalties[:, 0] > self.done_scores.min(axis=1)
        goes_on = can_improve & (not self.options.early_stopping)
        active = ~ending.all(axis=1) & (~self.done.all(axis=1) | goes_on)
        parents = beams + np.arange(len(beams))[:, None] * rows
        if not active.all():
            self._remove_finished(active)
            parents, tokens = parents[active], tokens[active]
        return parents, tokens

    def _candidates(self, step: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-probabilities and ids of enough next tokens for each sentence."""
        needed = 2 * self.options.beam_size
        count = len(self.sentences) * rows
        histories = self.tokens[:, :rows, :step].reshape(count, step)
        if self.rules.need_logits:
            steps, tokens = self._best_by_rules(np.arange(count), histories, rows, needed)
        else:
            # One more candidate is needed while the minimum length forbids the end token.
            too_short = step < self.options.min_output_tokens
            steps, tokens = self.decoding.best(needed + too_short)
            check_scores(steps[:, 0])
            if too_short:
                steps = np.where(tokens == self.end, -np.float32(np.inf), steps)
            if self.rules.byte_rules is not None:
                steps, tokens = self._keep_valid(steps, tokens, histories, rows)
        return steps.reshape(len(self.sentences), -1), tokens.reshape(len(self.sentences), -1)

    def _keep_valid(
        self, steps: np.ndarray, tokens: np.ndarray, histories: np.ndarray, rows: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Replace candidates that would make an output invalid UTF-8.

        The search uses at most `beam_size` candidates of a row and the end token. If the best
        tokens of a row contain fewer valid candidates, the complete vocabulary is searched.
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
        """Return the best candidates of some rows with the rules applied to the vocabulary."""
        logits = self.decoding.logits()[torch.from_numpy(chosen)]
        check_scores(logits.amax(-1).numpy())
        jobs = [self.jobs[self.sentences[row // rows]] for row in chosen.tolist()]
        if self.options.beam_size == 1:  # the order of operations in transformers
            self.rules.apply(logits, histories[chosen], jobs)
            logits = logits.log_softmax(-1)
        else:
            logits = logits.log_softmax(-1)
            self.rules.apply(logits, histories[chosen], jobs)
        best, tokens = logits.topk(min(needed, logits.shape[1]), dim=-1)
        # A row without valid candidates gets the finite score of a missing beam.
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
        """Keep the best `width` of the finished outputs and of those that end in this step."""
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

    def _remove_finished(self, active: np.ndarray) -> None:
        """Store the outputs of finished sentences and remove these sentences from the arrays."""
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
    """Independent samples with separate random streams, so that they do not depend on batches."""

    def __init__(self, decoding: Decoding, jobs: Sequence[Job], rules: Rules):
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
        check_scores(log_probabilities.amax(-1).numpy())
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
                length = max(len(steps) + len(self.jobs[number].prompt) - 1, 1)
                penalty = length**self.options.length_penalty
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
