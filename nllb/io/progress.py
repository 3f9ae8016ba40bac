"""Progress of long work: a bar on a terminal, an occasional line of text elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

Item = TypeVar("Item")
PLAIN_INTERVAL_S = 10.0


class Progress:
    """Shows the progress of some work on stderr; use it in a `with` block."""

    def __init__(
        self, name: str, *, total: int | None = None, unit: str = "items", quiet: bool = False
    ) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = self._done_before = 0
        self.note = ""
        self._quiet = quiet
        self._start = self._last_line = time.monotonic()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._start = self._last_line = time.monotonic()
        if not self._quiet and sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self.unit + " {task.fields[note]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(self.name, total=self.total, note="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self._quiet:
            self._print_line("done" if kind is None else "stopped")

    def resume(self, count: int, note: str | None = None) -> None:
        """Count steps of an earlier run; the rate and the remaining time ignore them."""
        self._done_before += count
        self.advance(count, note)

    def set_total(self, total: int) -> None:
        """Set the number of all steps if it was not known at the beginning."""
        if total != self.total:
            self.total = total
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, total=total)

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count `count` more steps; `note` is a short text that is shown after the count."""
        self.done += count
        if note is not None:
            self.note = note
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=self.note)
        elif not self._quiet and time.monotonic() - self._last_line >= PLAIN_INTERVAL_S:
            self._print_line("")

    def _print_line(self, end: str) -> None:
        self._last_line = time.monotonic()
        elapsed = self._last_line - self._start
        total = f" of {self.total:,}" if self.total is not None else ""
        parts = [f"{self.name}: {self.done:,}{total} {self.unit} in {elapsed:.0f} s"]
        rate = (self.done - self._done_before) / elapsed if elapsed > 1 else 0.0
        if rate:
            number = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
            parts.append(f"{number} {self.unit}/s")
        if rate and self.total is not None and not end:
            parts.append(f"{(self.total - self.done) / rate / 60:.0f} min left")
        parts += [self.note, end]
        print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)


def track(
    items: Iterable[Item],
    name: str,
    *,
    total: int | None = None,
    unit: str = "items",
    quiet: bool = False,
) -> Iterator[Item]:
    """Yield the items and show how many were yielded."""
    with Progress(name, total=total, unit=unit, quiet=quiet) as progress:
        for item in items:
            yield item
            progress.advance()


@contextmanager
def stage(name: str, *, quiet: bool = False) -> Iterator[None]:
    """Print on stderr when a stage begins and, with its duration, when it ends."""
    start = time.monotonic()
    if not quiet:
        print(f"{name} ...", file=sys.stderr, flush=True)
    yield
    if not quiet:
        print(f"{name}: done in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
