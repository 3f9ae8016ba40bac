"""Language detection for streams of lines, optionally in several processes."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from nllb.languages.detection import Detection

from .detector import Detector

_BLOCK = 4096
_detector: Detector | None = None


def detect_lines(
    lines: Iterable[str],
    *,
    model: Path | None = None,
    detector: Detector | None = None,
    top: int = 1,
    candidates: Sequence[str] | None = None,
    threshold: float | None = None,
    workers: int = 1,
) -> Iterator[Detection]:
    """Yield one detection per line, in input order.

    Args:
        lines: The texts.
        model: The model path that every process passes to `Detector.load`.
        detector: A loaded detector, used only with a single worker.
        top: Number of labels to return per line, the answer included.
        candidates: Languages that the answers are restricted to.
        threshold: Minimum acceptance score; None uses the thresholds of the model.
        workers: Number of processes; with 1, detection runs in the calling process.
    """
    iterator = iter(lines)
    if workers <= 1:
        detector = detector or Detector.load(model)
        while block := list(islice(iterator, _BLOCK)):
            yield from detector.detect_batch(
                block, top=top, candidates=candidates, threshold=threshold
            )
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_load, initargs=(model,)
    )
    with closing(_Shutdown(pool)):
        waiting: deque[Future[list[Detection]]] = deque()
        while block := list(islice(iterator, _BLOCK)):
            waiting.append(pool.submit(_detect_block, block, top, candidates, threshold))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


class _Shutdown:
    """Shuts the pool down even if the caller stops iterating early."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _load(model: Path | None) -> None:
    global _detector  # noqa: PLW0603 - one per worker process, set by the pool initializer
    _detector = Detector.load(model)


def _detect_block(
    block: list[str], top: int, candidates: Sequence[str] | None, threshold: float | None
) -> list[Detection]:
    assert _detector is not None
    return _detector.detect_batch(block, top=top, candidates=candidates, threshold=threshold)
