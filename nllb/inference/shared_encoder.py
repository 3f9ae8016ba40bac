"""The shipped sentence encoder, which is loaded once per process on first use."""

from .sentence_encoder import SentenceEncoder
from .threads import ForkSafeLock

_LOCK = ForkSafeLock()
_LOADED: dict[int | None, SentenceEncoder] = {}


def shared_encoder(num_threads: int | None = None) -> SentenceEncoder:
    """Return the shipped encoder; calls with the same number of threads share one object.

    Raises:
        CheckpointError: this installation lacks the encoder, or it is damaged.
    """
    with _LOCK:
        if num_threads not in _LOADED:
            _LOADED[num_threads] = SentenceEncoder.load(num_threads=num_threads)
        return _LOADED[num_threads]
