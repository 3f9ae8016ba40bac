"""The queue of segments in front of a model, with dynamic batching for concurrent requests.

Each request has a ticket. Its segments wait in the queue until a worker is free. The worker then
combines the segments of all tickets with the same source, target and search options, one of each
ticket in turn, and translates them as one batch. Nothing is delayed to wait for further requests:
batches grow with the segments that arrive while the workers compute.

Retries have search options of their own, so that they cannot be in the batches of first attempts.
The group with the most waiting segments goes first, and the rarer ones gather in the meantime;
after `MAX_PASSED_OVER` batches, the group of the ticket that has waited for longest has its turn.

Tickets with many segments (documents) get small batches while short requests are active, so that a
short request waits for one small batch at most. Equal segments in flight are computed once, and
recent results are cached. A cancelled ticket gives up its segments, except those that another
ticket also waits for.
"""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from nllb.errors import NllbError
from nllb.inference.generator import Generator, Hypothesis, SearchOptions, Terms
from nllb.languages import Language

from .generator_proxy import GeneratorProxy
from .output_checks import BatchChecks, KnownChecks, OutputCheck

SHORT_SEGMENTS: Final = 8
"""Number of waiting segments above which a ticket is long, and its share of a batch limited."""
SHORT_ACTIVE_S: Final = 10.0
"""Time without short requests after which long texts fill whole batches again."""
MAX_BATCH_CHARACTERS: Final = 6000
"""Maximum padded size of a batch: its number of segments times the length of the longest one."""
MAX_PASSED_OVER: Final = 3
"""Number of batches of larger groups that may precede the group that has waited longest."""


class RequestCancelled(NllbError):
    """The client of a request has gone away, or the request ran out of time."""


class QueueClosed(NllbError):
    """The model is being unloaded or the server is shutting down."""


Group = tuple[str, str, SearchOptions]
"""Source code, target code and options: segments of one group can be in one batch."""
_Key = tuple[Group, str, str, Terms]
"""Group, segment, forced prefix and terms."""


@dataclass(eq=False, slots=True)
class _Work:
    """One segment to compute."""

    key: _Key
    source: Language
    target: Language
    num_waiting: int = 0
    """Number of tickets that wait for it; 0 if all of them were cancelled."""
    taken: bool = False
    done: bool = False
    answer: list[Hypothesis] | None = None
    error: BaseException | None = None
    checked: bool = False
    """Whether a ticket asks for the checks of its output."""
    check: OutputCheck | None = None
    tickets: list["Ticket"] = field(default_factory=list)

    @property
    def segment(self) -> str:
        return self.key[1]

    @property
    def is_waiting(self) -> bool:
        """Whether it is yet to be computed, and a ticket waits for it."""
        return not self.taken and not self.done and self.num_waiting > 0


class Ticket:
    """The place of one request in the queue."""

    def __init__(self, queue: "SegmentQueue", known: KnownChecks | None = None) -> None:
        self._queue, self.known = queue, known
        self.cancelled = False
        self.pending: dict[Group, deque[_Work]] = {}
        self.num_pending = 0
        self.num_missing = 0
        """Number of segments of the running call that have no result yet."""
        self.ready = threading.Condition(queue.lock)
        self.num_segments = 0
        """Total number of segments that this request has requested."""

    @property
    def is_long(self) -> bool:
        """Whether many of its segments are waiting."""
        return self.num_pending > SHORT_SEGMENTS

    def cancel(self) -> None:
        """Give up all segments; the waiting thread gets `RequestCancelled`."""
        with self._queue.lock:
            self.cancelled = True
            self.ready.notify_all()

    def generate(
        self,
        segments: Sequence[str],
        *,
        source: Language,
        target: Language,
        search: SearchOptions,
        prefixes: Sequence[str] | None = None,
        terms: Sequence[Terms] | None = None,
    ) -> list[list[Hypothesis]]:
        """Translate segments; waits for their batches.

        Raises:
            RequestCancelled: `cancel` was called.
            QueueClosed: The queue was closed.
        """
        return self._queue.compute(
            self,
            segments,
            source=source,
            target=target,
            search=search,
            prefixes=prefixes,
            terms=terms,
        )


class SegmentQueue:
    """The queue and the workers of one model."""

    def __init__(
        self,
        generator: Generator,
        *,
        num_workers: int = 1,
        max_batch_segments: int = 16,
        max_bulk_segments: int = 4,
        cached_segments: int = 0,
        checks: BatchChecks | None = None,
        observe: Callable[[int, float], None] = lambda num_segments, seconds: None,
    ) -> None:
        """Start the workers.

        Args:
            generator: Translates batches; it must be usable from several threads at once if
                there are several workers.
            num_workers: Number of batches computed at the same time.
            max_batch_segments: Maximum number of segments in a batch.
            max_bulk_segments: Maximum number of segments of long texts in a batch while short
                requests are active.
            cached_segments: Number of results that are cached.
            checks: Checks the outputs of batches for the tickets that ask for it.
            observe: Called after each batch with its size and duration.
        """
        self.generator = generator
        self.lock = threading.RLock()
        self._arrived = threading.Condition(self.lock)
        self._max_batch, self._max_bulk = max_batch_segments, max_bulk_segments
        self._cached = cached_segments
        self._cache: OrderedDict[_Key, tuple[list[Hypothesis], OutputCheck | None]] = OrderedDict()
        self._in_flight: dict[_Key, _Work] = {}
        self._rotation: OrderedDict[Ticket, None] = OrderedDict()
        self._closed = self._long_waits = False
        self._passed_over = 0
        self._short_seen = float("-inf")
        self._checks, self._observe = checks, observe
        self._workers = [
            threading.Thread(target=self._work, name=f"nllb-batch-{number}", daemon=True)
            for number in range(num_workers)
        ]
        for worker in self._workers:
            worker.start()

    def ticket(self, known: KnownChecks | None = None) -> Ticket:
        """Return a place for one request; `known` gets the checks of its outputs."""
        return Ticket(self, known)

    @property
    def num_waiting(self) -> int:
        """Segments that wait or are being computed."""
        return len(self._in_flight)

    def close(self) -> None:
        """Refuse new segments, fail the waiting ones, and end the workers."""
        with self.lock:
            self._closed = True
            for work in list(self._in_flight.values()):
                if not work.taken:
                    self._finish(work, None, QueueClosed("the server is shutting down"))
            self._rotation.clear()
            self._arrived.notify_all()
        for worker in self._workers:
            worker.join()
        if self._checks is not None:
            self._checks.close()

    def compute(
        self,
        ticket: Ticket,
        segments: Sequence[str],
        *,
        source: Language,
        target: Language,
        search: SearchOptions,
        prefixes: Sequence[str] | None,
        terms: Sequence[Terms] | None,
    ) -> list[list[Hypothesis]]:
        """Put a ticket's segments into the queue and wait for their results."""
        group = (source.code, target.code, search)
        forced = [""] * len(segments) if prefixes is None else prefixes
        wanted = [()] * len(segments) if terms is None else terms
        keys = [(group, *each) for each in zip(segments, forced, wanted, strict=True)]
        with self.lock:
            works = self._enter(ticket, group, list(dict.fromkeys(keys)), source, target)
            try:
                while ticket.num_missing and not ticket.cancelled:
                    ticket.ready.wait()
            finally:
                self._leave(ticket, works)
            if ticket.cancelled:
                raise RequestCancelled("the request was cancelled")
        answers: dict[_Key, list[Hypothesis]] = {}
        for work in works:
            if work.error is not None:
                raise work.error
            assert work.answer is not None
            answers[work.key] = work.answer
            if ticket.known is not None and work.check is not None:
                ticket.known.add(work.check)
        return [answers[key] for key in keys]

    def _enter(
        self,
        ticket: Ticket,
        group: Group,
        keys: Sequence[_Key],
        source: Language,
        target: Language,
    ) -> list[_Work]:
        if self._closed:
            raise QueueClosed("the server is shutting down")
        ticket.num_segments += len(keys)
        works: list[_Work] = []
        new: list[_Work] = []
        for key in keys:
            if key in self._cache:
                self._cache.move_to_end(key)
                answer, check = self._cache[key]
                works.append(_Work(key, source, target, done=True, answer=answer, check=check))
                continue
            work = self._in_flight.get(key)
            if work is None:
                work = self._in_flight[key] = _Work(key, source, target)
            if not work.taken:
                new.append(work)
            work.num_waiting += 1
            work.checked |= ticket.known is not None
            work.tickets.append(ticket)
            works.append(work)
        ticket.num_missing = sum(not work.done for work in works)
        if new:
            # Similar lengths together: less padding in the batches of a long text.
            new.sort(key=lambda work: -len(work.segment))
            ticket.pending.setdefault(group, deque()).extend(new)
            ticket.num_pending += len(new)
            self._rotation[ticket] = None
            if not ticket.is_long:
                self._short_seen = monotonic()
            self._arrived.notify(len(new))
        return works

    def _leave(self, ticket: Ticket, works: Sequence[_Work]) -> None:
        """Remove a ticket from the queue; segments that nobody waits for any more are dropped."""
        ticket.pending.clear()
        ticket.num_pending = ticket.num_missing = 0
        self._rotation.pop(ticket, None)
        for work in works:
            if ticket in work.tickets:
                work.tickets.remove(ticket)
                work.num_waiting -= 1
                if not work.num_waiting and not work.taken and not work.done:
                    self._in_flight.pop(work.key, None)

    def _work(self) -> None:
        while True:
            with self.lock:
                batch = self._take()
                while not batch:
                    if self._closed:
                        return
                    self._arrived.wait()
                    batch = self._take()
            started = monotonic()
            answers = self._generate(batch)
            self._observe(len(batch), monotonic() - started)
            self._check(batch, answers)
            with self.lock:
                for work, answer in zip(batch, answers, strict=True):
                    if isinstance(answer, BaseException):
                        self._finish(work, None, answer)
                    else:
                        self._finish(work, answer, None)

    def _take(self) -> list[_Work]:
        """Return the next batch: one segment of each ticket in turn, while it has room."""
        long = [ticket for ticket in self._rotation if ticket.is_long]
        short = [ticket for ticket in self._rotation if not ticket.is_long]
        active = monotonic() - self._short_seen <= SHORT_ACTIVE_S
        batch: list[_Work] = []
        if self._long_waits:
            self._fill(batch, long, self._max_bulk)
        self._fill(batch, short, self._max_batch)
        if not batch:
            self._fill(batch, long, self._max_bulk if active else self._max_batch)
        # Short requests come first and without long texts, but at most every second time.
        self._long_waits = not self._long_waits and bool(long) and bool(short)
        return batch

    def _fill(self, batch: list[_Work], tickets: Sequence[Ticket], limit: int) -> None:
        """Add segments of tickets to a batch until it reaches the limit."""
        group = batch[0].key[0] if batch else self._choose(tickets)
        waiting = deque(tickets)
        longest = max((len(work.segment) for work in batch), default=0)
        while waiting and len(batch) < limit:
            ticket = waiting.popleft()
            work = self._next(ticket, batch[0].key[0] if batch else group)
            if work is None:
                continue
            longest = max(longest, len(work.segment))
            if batch and longest * (len(batch) + 1) > MAX_BATCH_CHARACTERS:
                ticket.pending[work.key[0]].appendleft(work)
                ticket.num_pending += 1
                return
            work.taken = True
            batch.append(work)
            if ticket.num_pending:
                waiting.append(ticket)
                self._rotation.move_to_end(ticket)
            else:
                self._rotation.pop(ticket, None)

    def _choose(self, tickets: Sequence[Ticket]) -> Group | None:
        """Return the group whose segments are the next batch; None if nothing waits."""
        counts: Counter[Group] = Counter()
        for ticket in tickets:
            for group, works in ticket.pending.items():
                works_left = sum(work.is_waiting for work in works)
                if works_left:
                    counts[group] += works_left
        if not counts:
            return None
        oldest, largest = next(iter(counts)), max(counts, key=counts.__getitem__)
        if counts[oldest] == counts[largest] or self._passed_over >= MAX_PASSED_OVER:
            self._passed_over = 0
            return oldest
        self._passed_over += 1
        return largest

    def _next(self, ticket: Ticket, group: Group | None) -> _Work | None:
        """Take a ticket's next segment of a group, or of any group."""
        for of_group, works in ticket.pending.items():
            if group is not None and of_group != group:
                continue
            while works:
                work = works.popleft()
                ticket.num_pending -= 1
                if work.is_waiting:
                    return work
        if not ticket.num_pending:
            self._rotation.pop(ticket, None)
        return None

    def _generate(self, batch: Sequence[_Work]) -> list[list[Hypothesis] | BaseException]:
        """Translate a batch; if that fails, each segment alone, so that only bad ones fail."""
        first = batch[0]
        try:
            answers = self.generator.generate(
                [work.segment for work in batch],
                source=first.source,
                target=first.target,
                search=first.key[0][2],
                **_further(batch),
            )
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} outputs for {len(batch)} segments")
            return list(answers)
        except Exception as error:
            if len(batch) == 1:
                return [error]
        return [self._generate([work])[0] for work in batch]

    def _check(
        self, batch: Sequence[_Work], answers: Sequence[list[Hypothesis] | BaseException]
    ) -> None:
        """Check the first output of each segment, as far as its tickets ask for it."""
        if self._checks is None:
            return
        chosen = [
            (work, answer[0])
            for work, answer in zip(batch, answers, strict=True)
            if work.checked and not isinstance(answer, BaseException) and answer
        ]
        if not chosen:
            return
        try:
            found = self._checks(
                [best.source for _, best in chosen],
                [best.text for _, best in chosen],
                source=batch[0].source,
                target=batch[0].target,
            )
        except Exception:
            return  # The request makes the check again, alone, and reports its error.
        for (work, _), check in zip(chosen, found, strict=True):
            work.check = check

    def _finish(
        self, work: _Work, answer: list[Hypothesis] | None, error: BaseException | None
    ) -> None:
        work.answer, work.error, work.done = answer, error, True
        self._in_flight.pop(work.key, None)
        if answer is not None and self._cached:
            self._cache[work.key] = answer, work.check
            if len(self._cache) > self._cached:
                self._cache.popitem(last=False)
        for ticket in work.tickets:
            ticket.num_missing -= 1
            if not ticket.num_missing:
                ticket.ready.notify_all()


def _further(batch: Sequence[_Work]) -> dict[str, Any]:
    """Return the optional arguments that any segment of a batch has."""
    further: dict[str, Any] = {}
    if any(work.key[2] for work in batch):
        further["prefixes"] = [work.key[2] for work in batch]
    if any(work.key[3] for work in batch):
        further["terms"] = [work.key[3] for work in batch]
    return further


class QueuedGenerator(GeneratorProxy):
    """A `Generator` for one request: its segments go through the queue of the model."""

    def __init__(self, ticket: Ticket, generator: Generator) -> None:
        super().__init__(generator)
        self._ticket = ticket
        self.generate = ticket.generate
