"""Metrics of the server for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one server. Labels are routes of the server, never texts of requests."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        """Create the counters, all zero."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "nllb_requests", "Finished requests", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "nllb_request_seconds",
            "Duration of requests",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.characters = Counter(
            "nllb_translated_characters", "Characters of translated texts", registry=self._registry
        )
        self._batches = Histogram(
            "nllb_batch_segments",
            "Segments of a batch",
            buckets=BATCH_SIZES,
            registry=self._registry,
        )
        self._batch_seconds = Histogram(
            "nllb_batch_seconds", "Duration of a batch", buckets=SECONDS, registry=self._registry
        )

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Export a value that is computed when the metrics are read."""
        Gauge(name, description, registry=self._registry).set_function(value)

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Count a finished request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def observe_batch(self, num_segments: int, seconds: float) -> None:
        """Count a batch."""
        self._batches.observe(num_segments)
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
