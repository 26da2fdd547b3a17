"""What Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts of one server. A request for no known model counts under the model ''."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "ringkas_requests", "Requests for embeddings.", ("model", "status"), registry=registry
        )
        self._seconds = Histogram(
            "ringkas_request_seconds", "From the whole body to the answer.", ("model",), buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._texts = Counter("ringkas_texts", "Texts encoded.", ("model",), registry=registry)
        self._tokens = Counter("ringkas_tokens", "Tokens encoded.", ("model",), registry=registry)
        self._long = Counter("ringkas_long_texts", "Texts over the limit.", ("model",), registry=registry)
        self._batch = Histogram(
            "ringkas_batch_rows", "Rows in a batch.", ("model",), buckets=_TEXTS, registry=registry
        )
        self._queued = Gauge("ringkas_queued_tokens", "Tokens that wait.", ("model",), registry=registry)
        self.of = cache(self._of)
        self._counted = cache(self._requests.labels)

    def request(self, model: str, status: int) -> None:
        self._counted(model, str(status)).inc()

    def queue(self, model: str, tokens: Callable[[], float]) -> None:
        """`tokens` is asked whenever the metrics are read."""
        self._queued.labels(model).set_function(tokens)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def _of(self, model: str) -> ModelMetrics:
        return ModelMetrics(
            self._seconds.labels(model), self._texts.labels(model), self._tokens.labels(model),
            self._long.labels(model), self._batch.labels(model),
        )  # fmt: skip


class ModelMetrics:
    """Those of one model, looked up once."""

    def __init__(
        self, seconds: Histogram, texts: Counter, tokens: Counter, long: Counter, batch: Histogram
    ) -> None:
        self._seconds, self._texts, self._tokens, self._long = seconds, texts, tokens, long
        self._batch = batch

    def answered(self, seconds: float, texts: int, tokens: int, long: int) -> None:
        self._seconds.observe(seconds)
        self._texts.inc(texts)
        self._tokens.inc(tokens)
        if long:
            self._long.inc(long)

    def batch(self, rows: int, tokens: int) -> None:
        self._batch.observe(rows)
