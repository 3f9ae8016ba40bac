"""Beam search for outputs that must contain given terms.

Dynamic beam allocation (Post and Vilar 2018): hypotheses compete within banks, one for each number
of term tokens that they contain, so that hypotheses with a term are not displaced by more probable
ones without it. Each term is a set of alternatives, one of which is sufficient. An output ends only
when it contains all terms. Two differences from the paper make small beams sufficient: a term is
begun only where its first token is not too improbable, or where the output would otherwise end; and
the best hypothesis is kept regardless of its bank.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .search import IMPOSSIBLE, BeamSearch, Output

MAX_START_COST: Final = 6.0
"""Maximum distance in log-probability of a term's first token from the best token."""
SPARE_TOKENS: Final = 4
"""Spare positions besides those of the missing terms; with fewer, a term begins at any cost."""
MIN_FINISHED: Final = 2
"""Number of outputs with all terms after which the search for a sentence ends."""

Alternatives = tuple[tuple[int, ...], ...]
"""Token sequences, one of which an output must contain."""


@dataclass(frozen=True)
class TermState:
    """The progress of a hypothesis with its terms; equal states of a sentence are one object.

    Attributes:
        terms: the terms of the sentence.
        missing: indices of the terms that the hypothesis lacks.
        begun: the remaining tokens of each alternative of the begun term.
        begun_term: index of the term that the hypothesis is in the middle of, or -1.
        progress: number of tokens of the begun term that the hypothesis contains.
        completes: whether the last token completed a term.
        known: all states of the sentence.
    """

    terms: tuple[Alternatives, ...]
    missing: tuple[int, ...]
    begun: tuple[tuple[int, ...], ...] = ()
    begun_term: int = -1
    progress: int = 0
    completes: bool = False
    known: "dict[Any, TermState]" = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def num_met(self) -> int:
        """Number of term tokens that the hypothesis contains, which is its bank."""
        return sum(max(map(len, term)) for term in self.terms) - self.num_left

    @cached_property
    def num_left(self) -> int:
        """Number of term tokens that the hypothesis lacks."""
        return sum(max(map(len, self.terms[number])) for number in self.missing) - self.progress

    @cached_property
    def following(self) -> "dict[int, TermState]":
        """The state after each token that begins or continues a term."""
        found: dict[int, TermState] = {}
        for number in self.missing:
            if number != self.begun_term:
                for token in {alternative[0] for alternative in self.terms[number]}:
                    found.setdefault(token, self._after(token, number, self.terms[number], 0))
        for token in self.continuing:
            found[token] = self._after(token, self.begun_term, self.begun, self.progress)
        return found

    @cached_property
    def continuing(self) -> frozenset[int]:
        """The tokens that continue the begun term."""
        return frozenset(rest[0] for rest in self.begun)

    @cached_property
    def interrupted(self) -> "TermState":
        """The state after any other token."""
        return self._state(self.missing)

    def _after(
        self, token: int, number: int, alternatives: Alternatives, progress: int
    ) -> "TermState":
        left = tuple(rest[1:] for rest in alternatives if rest[0] == token)
        if () in left:
            missing = tuple(other for other in self.missing if other != number)
            return self._state(missing, completes=True)
        return self._state(self.missing, begun=left, begun_term=number, progress=progress + 1)

    def _state(self, missing: tuple[int, ...], **fields: Any) -> "TermState":
        key = missing, *fields.values()
        if key not in self.known:
            self.known[key] = TermState(self.terms, missing, known=self.known, **fields)
        return self.known[key]


class ConstrainedBeamSearch(BeamSearch):
    """Beam search for jobs with terms."""

    def run(self) -> list[list[Output]]:
        """Return the outputs of each job; outputs with all terms are first."""
        width = self.options.beam_size
        self._states = [
            [TermState(terms=job.terms, missing=tuple(range(len(job.terms))))] * width
            for job in self.jobs
        ]
        pieces = self.rules.word_pieces
        self._word_pieces = frozenset(() if pieces is None else pieces)
        return super().run()

    def _extend(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows = 1 if step == 0 else self.options.beam_size
        count = len(self.sentences)
        best, tokens = self._candidates(step, rows)
        shape = count, rows, -1
        scored = _Scored(best.reshape(shape), tokens.reshape(shape), *self._term_scores(step, rows))
        chosen = [
            self._choose(row, scored, int(self.limits[row]) - step - 1) for row in range(count)
        ]
        lengths = np.maximum(step + 2 - self.prefix_lengths, 1)[:, None]
        penalties = (lengths**self.options.length_penalty).astype(np.float32)
        at_limit = step + 1 >= self.limits
        self._finish(step, chosen, at_limit, penalties)
        return self._continue(step, rows, chosen, at_limit, penalties[:, 0])

    def _term_scores(
        self, step: int, rows: int
    ) -> tuple[dict[int, int], NDArray[np.float32], NDArray[np.bool_]]:
        """Return the columns of term tokens, their scores, and the rows inside a character."""
        count = len(self.sentences)
        ids = np.unique(
            [t for own in self._states for state in own[:rows] for t in state.following]
            or [self.end]
        )
        scores = self.decoding.log_probabilities(ids).reshape(count, rows, -1)
        in_character = np.zeros(count * rows, bool)
        if self.rules.byte_rules is not None:
            histories = self.tokens[:, :rows, :step].reshape(count * rows, step)
            in_character[list(self.rules.byte_rules.open_characters(histories))] = True
        columns = {token: column for column, token in enumerate(ids.tolist())}
        return columns, scores, in_character.reshape(count, rows)

    def _choose(self, sentence: int, scored: "_Scored", room: int) -> "_Chosen":
        """Return the next hypotheses of a sentence, and those that end.

        `room` is the number of tokens that fit after the next one.
        """
        width = self.options.beam_size
        running: list[_Candidate] = []
        ending: list[_Candidate] = []
        inside_word: list[_Candidate] = []
        scores = self.scores[sentence].tolist()
        best, tokens = scored.best[sentence].tolist(), scored.tokens[sentence].tolist()
        for beam, state in enumerate(self._states[sentence][: len(best)]):
            if scores[beam] <= IMPOSSIBLE / 2:
                continue
            following, after = state.following, state.interrupted
            for place, (token, logged) in enumerate(zip(tokens[beam], best[beam], strict=True)):
                if logged <= IMPOSSIBLE / 2 or token in following:
                    continue
                candidate = _Candidate(scores[beam] + logged, logged, beam, token, after)
                if token == self.end:
                    if not state.missing and place < width:
                        ending.append(candidate)
                elif state.completes and token in self._word_pieces:
                    inside_word.append(candidate)
                else:
                    running.append(candidate)
            is_due = tokens[beam][0] == self.end or room <= state.num_left + SPARE_TOKENS
            for token, after in following.items():
                logged = float(scored.of_terms[sentence, beam, scored.columns[token]])
                goes_on = token in state.continuing
                may_begin = logged >= best[beam][0] - MAX_START_COST or is_due
                if goes_on or (may_begin and not scored.in_character[sentence, beam]):
                    running.append(_Candidate(scores[beam] + logged, logged, beam, token, after))
        running = running or inside_word
        running.sort(key=_by_total)
        ending.sort(key=_by_total)
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
            # An output that reached its limit without all terms is the last resort.
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
        self,
        step: int,
        rows: int,
        chosen: Sequence["_Chosen"],
        at_limit: NDArray[np.bool_],
        penalties: NDArray[np.float32],
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
        enough = min(max(MIN_FINISHED, self.options.num_hypotheses), width)
        has_any = np.array([bool(each.running) for each in chosen])
        # Scores of longer outputs are rarely better.
        can_improve = self.scores.max(1) / penalties > self.done_scores[:, enough - 1]
        active = ~at_limit & has_any & can_improve & (self.done.sum(1) < enough)
        parents = beams + np.arange(count)[:, None] * rows
        if not active.all():
            self._remove_finished(active)
            self._states = [s for s, keep in zip(states, active.tolist(), strict=True) if keep]
            parents, tokens = parents[active], tokens[active]
        return parents, tokens


@dataclass(frozen=True, slots=True)
class _Scored:
    """The next tokens of all hypotheses, by sentence and beam."""

    best: NDArray[np.float32]
    tokens: NDArray[np.int64]
    columns: dict[int, int]
    """Column of each term token in `of_terms`."""
    of_terms: NDArray[np.float32]
    in_character: NDArray[np.bool_]
    """Hypotheses that end in the middle of a character's bytes."""


class _Candidate(NamedTuple):
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
    """Return the best candidate of each bank, then the best others; candidates are sorted."""
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
    return sorted(chosen, key=_by_total)


def _by_total(candidate: _Candidate) -> float:
    return -candidate.total
