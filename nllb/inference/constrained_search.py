"""Beam search for outputs that have to contain given terms.

Dynamic beam allocation (Post and Vilar 2018): hypotheses compete within banks, one for each number
of term tokens that they contain, so that those with a term are not pushed out by more probable ones
without. Each term is a set of alternatives, of which one is enough. An output ends only when it has
all terms. Two things differ from the paper, so that small beams suffice: a term is begun only where
its first token is not too improbable, or where the output would otherwise end; and the best
hypothesis of all keeps its place whatever its bank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nllb.inference.search import IMPOSSIBLE, BeamSearch, Output, check_scores

MAX_START_COST: Final = 6.0
"""A term may begin where its first token's log-probability is this far below the best token's."""
SPARE_TOKENS: Final = 4
"""Room beyond what the terms need; with less, a term begins whatever it costs."""
MIN_FINISHED: Final = 2
"""Outputs with all terms after which the search for a sentence ends."""

Alternatives = tuple[tuple[int, ...], ...]
"""Token sequences, one of which an output must contain."""


@dataclass(frozen=True)
class TermState:
    """What a hypothesis has of its terms."""

    terms: tuple[Alternatives, ...]
    missing: tuple[int, ...]
    """Numbers of the terms that it lacks."""
    begun: tuple[tuple[int, ...], ...] = ()
    """What is left of the alternatives of the term that it is in the middle of."""
    begun_term: int = -1
    progress: int = 0
    """Tokens of that term that it has."""
    completes: bool = False
    """Whether its last token completed a term."""

    @property
    def num_met(self) -> int:
        """Term tokens that it has; the bank of the hypothesis."""
        return sum(max(map(len, term)) for term in self.terms) - self.num_left

    @property
    def num_left(self) -> int:
        """Term tokens that it lacks."""
        return sum(max(map(len, self.terms[number])) for number in self.missing) - self.progress

    @cached_property
    def following(self) -> dict[int, "TermState"]:
        """The state after each token that begins or continues a term."""
        found: dict[int, TermState] = {}
        for number in self.missing:
            if number != self.begun_term:
                for token in {alternative[0] for alternative in self.terms[number]}:
                    found.setdefault(token, self._after(token, number, self.terms[number], 0))
        for token in {rest[0] for rest in self.begun}:
            found[token] = self._after(token, self.begun_term, self.begun, self.progress)
        return found

    @cached_property
    def interrupted(self) -> "TermState":
        """The state after any other token."""
        return TermState(terms=self.terms, missing=self.missing)

    def _after(
        self, token: int, number: int, alternatives: Alternatives, progress: int
    ) -> "TermState":
        left = tuple(rest[1:] for rest in alternatives if rest[0] == token)
        if () in left:
            missing = tuple(other for other in self.missing if other != number)
            return TermState(terms=self.terms, missing=missing, completes=True)
        return TermState(
            terms=self.terms,
            missing=self.missing,
            begun=left,
            begun_term=number,
            progress=progress + 1,
        )


class ConstrainedBeamSearch(BeamSearch):
    """Beam search whose jobs have terms."""

    def run(self) -> list[list[Output]]:
        """Return the outputs of each job; those with all terms first."""
        width = self.options.beam_size
        self._states = [
            [TermState(terms=job.terms, missing=tuple(range(len(job.terms))))] * width
            for job in self.jobs
        ]
        return super().run()

    def _extend(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        width = self.options.beam_size
        rows = 1 if step == 0 else width
        scores_RV, ends_first = self._scores(step, rows)
        best, tokens = (x.numpy() for x in scores_RV.topk(min(2 * width, scores_RV.shape[1])))
        count = len(self.sentences)
        chosen = []
        for sentence in range(count):
            own = slice(sentence * rows, (sentence + 1) * rows)
            room = int(self.limits[sentence]) - step - 1
            scored = _Scored(scores_RV[own], best[own], tokens[own], ends_first[own], room)
            chosen.append(self._choose(sentence, scored))
        lengths = np.maximum(step + 2 - self.prefix_lengths, 1)[:, None]
        penalties = (lengths**self.options.length_penalty).astype(np.float32)
        at_limit = step + 1 >= self.limits
        self._finish(step, chosen, at_limit, penalties)
        return self._continue(step, rows, chosen, at_limit)

    def _scores(self, step: int, rows: int) -> tuple[Tensor, list[bool]]:
        """Return log-probabilities by the rules, and which rows would rather end."""
        count = len(self.sentences) * rows
        histories = self.tokens[:, :rows, :step].reshape(count, step)
        jobs = [self.jobs[self.sentences[row // rows]] for row in range(count)]
        scores_RV = self.decoding.logits().log_softmax(-1)
        check_scores(scores_RV.amax(-1).numpy())
        self.rules.apply(scores_RV, histories, jobs)
        ends_first = (scores_RV.argmax(-1) == self.end).tolist()
        inside_word = self.rules.word_pieces
        for row in range(count):
            state = self._states[row // rows][row % rows]
            if state.missing:
                scores_RV[row, self.end] = -torch.inf
            if state.completes and inside_word is not None:
                scores_RV[row, inside_word] = -torch.inf
        return scores_RV, ends_first

    def _choose(self, sentence: int, scored: "_Scored") -> "_Chosen":
        """Return the next hypotheses of a sentence and those that end."""
        width = self.options.beam_size
        running: list[_Candidate] = []
        ending: list[_Candidate] = []
        for beam in range(len(scored.best)):
            score = float(self.scores[sentence, beam])
            if score <= IMPOSSIBLE / 2:
                continue
            state = self._states[sentence][beam]
            following = state.following
            for place, token in enumerate(scored.tokens[beam].tolist()):
                logged = float(scored.best[beam, place])
                if not np.isfinite(logged) or token in following:
                    continue
                candidate = _Candidate(score + logged, logged, beam, token, state.interrupted)
                if token != self.end:
                    running.append(candidate)
                elif place < width:
                    ending.append(candidate)
            if not following:
                continue
            steps = scored.scores_WV[beam, list(following)].tolist()
            is_due = scored.ends_first[beam] or scored.room <= state.num_left + SPARE_TOKENS
            highest = float(scored.best[beam, 0])
            for (token, after), logged in zip(following.items(), steps, strict=True):
                goes_on = bool(state.begun) and any(rest[0] == token for rest in state.begun)
                may_begin = logged >= highest - MAX_START_COST or is_due
                if np.isfinite(logged) and (goes_on or may_begin):
                    running.append(_Candidate(score + logged, logged, beam, token, after))
        running.sort(key=lambda each: -each.total)
        ending.sort(key=lambda each: -each.total)
        return _Chosen(_allocate(running, width), ending[:width])

    def _finish(
        self,
        step: int,
        chosen: Sequence["_Chosen"],
        at_limit: NDArray[np.bool_],
        penalties: NDArray[np.float32],
    ) -> None:
        ends = [
            each.ending + (each.running if full else [])
            for each, full in zip(chosen, at_limit.tolist(), strict=True)
        ]
        if not any(ends):
            return
        shape = len(chosen), self.options.beam_size
        totals = np.full(shape, IMPOSSIBLE, np.float32)
        steps = np.zeros(shape, np.float32)
        tokens, beams = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        ending = np.zeros(shape, bool)
        for row, candidates in enumerate(ends):
            # An output that has reached its limit without all terms is the last resort.
            ordered = sorted(candidates, key=lambda c: (len(c.state.missing), -c.total))
            for place, each in enumerate(ordered[: shape[1]]):
                worse = 1e4 * len(each.state.missing)
                totals[row, place], steps[row, place] = each.total - worse, each.logged
                tokens[row, place], beams[row, place] = each.token, each.beam
                ending[row, place] = True
        self._finish_beams(
            step,
            scores=totals / penalties,
            steps=steps,
            tokens=tokens,
            beams=beams,
            ending=ending,
        )

    def _continue(
        self, step: int, rows: int, chosen: Sequence["_Chosen"], at_limit: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        count, width = len(chosen), self.options.beam_size
        beams, tokens = np.zeros((2, count, width), np.int64)
        steps = np.zeros((count, width), np.float32)
        self.scores = np.full((count, width), IMPOSSIBLE, np.float32)
        states = []
        for row, each in enumerate(chosen):
            for place, candidate in enumerate(each.running):
                beams[row, place], tokens[row, place] = candidate.beam, candidate.token
                steps[row, place] = candidate.logged
                self.scores[row, place] = candidate.total
            own = [candidate.state for candidate in each.running]
            spare = TermState(terms=self.jobs[self.sentences[row]].terms, missing=())
            states.append(own + [spare] * (width - len(own)))
        self._states = states
        own_row = np.arange(count)[:, None]
        self.tokens, self.steps = self.tokens[own_row, beams], self.steps[own_row, beams]
        self.tokens[:, :, step], self.steps[:, :, step] = tokens, steps
        enough = max(MIN_FINISHED, self.options.num_hypotheses)
        has_any = np.array([bool(each.running) for each in chosen])
        active = ~at_limit & has_any & (self.done.sum(1) < min(enough, width))
        parents = beams + np.arange(count)[:, None] * rows
        if not active.all():
            self._remove_finished(active)
            self._states = [s for s, keep in zip(states, active.tolist(), strict=True) if keep]
            parents, tokens = parents[active], tokens[active]
        return parents, tokens


@dataclass(frozen=True, slots=True)
class _Scored:
    """The next tokens of the hypotheses of one sentence."""

    scores_WV: Tensor
    best: NDArray[np.float32]
    tokens: NDArray[np.int64]
    ends_first: Sequence[bool]
    """Which would rather end."""
    room: int
    """Tokens that fit in after the next one."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    total: float
    logged: float
    """Log-probability of the token."""
    beam: int
    token: int
    state: TermState


@dataclass(frozen=True, slots=True)
class _Chosen:
    running: list[_Candidate]
    ending: list[_Candidate]


def _allocate(candidates: Sequence[_Candidate], width: int) -> list[_Candidate]:
    """Return the best of each bank, then the best of the others, of candidates in order."""
    if not candidates:
        return []
    first_of_bank: dict[int, _Candidate] = {}
    for each in candidates:
        first_of_bank.setdefault(each.state.num_met, each)
    banks = [candidates[0]]
    for bank in sorted(first_of_bank, reverse=True):
        if first_of_bank[bank] is not candidates[0]:
            banks.append(first_of_bank[bank])
    chosen = banks[:width]
    taken = set(map(id, chosen))
    for each in candidates:
        if len(chosen) >= width:
            break
        if id(each) not in taken:
            chosen.append(each)
    return sorted(chosen, key=lambda each: -each.total)
