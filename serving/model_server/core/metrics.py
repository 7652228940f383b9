"""Prometheus metrics, under the names of TensorFlow Serving where it has them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import prometheus_client
from prometheus_client import exposition, metrics_core, registry

CONTENT_TYPE = exposition.CONTENT_TYPE_PLAIN_0_0_4

# TF Serving's buckets, in microseconds: 10 * 1.8^i for requests, 100 * 1.2^i for queues.
_REQUEST_BUCKETS = tuple(10 * 1.8**power for power in range(33))
_QUEUE_BUCKETS = tuple(100 * 1.2**power for power in range(52))
_SIZE_BUCKETS = tuple(float(2**power) for power in range(15))
_PREFIX = ":tensorflow:serving:"


class _Counters(registry.Collector):
    """Counters without the suffix `_total`, which prometheus_client adds and TF Serving has not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, tuple[str, tuple[str, ...], dict[tuple[str, ...], float]]] = {}

    def declare(self, name: str, text: str, *labels: str) -> None:
        self._values[name] = (text, labels, {})

    def add(self, name: str, *values: str, amount: float = 1) -> None:
        with self._lock:
            cells = self._values[name][2]
            cells[values] = cells.get(values, 0) + amount

    def total(self, name: str) -> float:
        with self._lock:
            return sum(self._values[name][2].values()) if name in self._values else 0

    def collect(self) -> Iterator[metrics_core.Metric]:
        with self._lock:
            copies = {
                name: (text, labels, dict(cells)) for name, (text, labels, cells) in self._values.items()
            }
        for name, (text, labels, cells) in copies.items():
            metric = metrics_core.Metric(name, text, "unknown")  # "counter" would rename it
            for values, value in cells.items():
                metric.add_sample(name, dict(zip(labels, values, strict=True)), value)
            yield metric


class Metrics:
    """All metrics of one server. Thread-safe; the recording methods take about a microsecond."""

    def __init__(self) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._counters = _Counters()
        self._counters.declare(
            f"{_PREFIX}request_count", "The total number of requests.", "model_name", "status"
        )
        self._counters.declare(
            f"{_PREFIX}request_example_count_total", "The total number of tensorflow.Examples.", "model"
        )
        self._counters.declare(
            f"{_PREFIX}batching_session:wrapped_run_count", "Batches that ran (also batches of one request)."
        )
        self._counters.declare(
            ":tensorflow:cc:saved_model:load_attempt_count",
            "Versions that were loaded, by outcome.",
            *("model_path", "status"),
        )
        self._registry.register(self._counters)

        def histogram(
            name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
        ) -> prometheus_client.Histogram:
            return prometheus_client.Histogram(name, text, labels, buckets=buckets, registry=self._registry)

        self._request = histogram(
            f"{_PREFIX}request_latency",
            "Microseconds from the request to its answer, within the server.",
            ("model_name", "API", "entrypoint"),
            _REQUEST_BUCKETS,
        )
        self._runtime = histogram(
            f"{_PREFIX}runtime_latency",
            "Microseconds in TensorFlow.",
            ("model_name", "API", "runtime"),
            _REQUEST_BUCKETS,
        )
        self._warmup = histogram(
            f"{_PREFIX}model_warmup_latency",
            "Microseconds of a version's warm-up.",
            ("model_path", "status"),
            _REQUEST_BUCKETS,
        )
        self._queue = histogram(
            f"{_PREFIX}batching_session:queuing_latency",
            "Microseconds that requests waited for their batch.",
            ("thread_pool_name",),
            _QUEUE_BUCKETS,
        )
        self._batch = histogram(
            f"{_PREFIX}batching_session:processed_batch_size", "Rows of a batch.", (), _SIZE_BUCKETS
        )
        self._examples = histogram(
            f"{_PREFIX}request_example_counts", "tensorflow.Examples of a request.", ("model",), _SIZE_BUCKETS
        )
        self._versions = prometheus_client.Gauge(
            "shelfwise_model_version_state",
            "State of each version, as GetModelStatus numbers it (30: available).",
            ("model_name", "version"),
            registry=self._registry,
        )
        self._in_flight = prometheus_client.Gauge(
            "shelfwise_requests_in_flight", "gRPC calls that are queued or in work.", registry=self._registry
        )

    def request(self, model: str, api: str, entrypoint: str, status: str, seconds: float) -> None:
        """One request ended. As in TF Serving, the latency counts successful ones only."""
        self._counters.add(f"{_PREFIX}request_count", model, status)
        if status == "OK":
            self._request.labels(model, api, entrypoint).observe(seconds * 1e6)

    def runtime(self, model: str, api: str, seconds: float) -> None:
        """The graph ran once."""
        self._runtime.labels(model, api, "TF2").observe(seconds * 1e6)

    def examples(self, model: str, count: int) -> None:
        """A request brought `count` tf.Examples."""
        self._examples.labels(model).observe(count)
        self._counters.add(f"{_PREFIX}request_example_count_total", model, amount=count)

    def queued(self, pool: str, seconds: float) -> None:
        """A request waited so long for its batch."""
        self._queue.labels(pool).observe(seconds * 1e6)

    def batch(self, rows: int) -> None:
        """A batch of `rows` rows runs."""
        self._batch.observe(rows)
        self._counters.add(f"{_PREFIX}batching_session:wrapped_run_count")

    def loaded(self, path: str, status: str) -> None:
        """A version was loaded, or could not be."""
        self._counters.add(":tensorflow:cc:saved_model:load_attempt_count", path, status)

    def warmed(self, path: str, status: str, seconds: float) -> None:
        """A version's warm-up ended."""
        self._warmup.labels(path, status).observe(seconds * 1e6)

    def page(self, states: dict[tuple[str, int], int], in_flight: int) -> bytes:
        """The text that Prometheus scrapes.

        Args:
          states: state of each (model, version) now.
          in_flight: gRPC calls queued or in work now.
        """
        self._versions.clear()
        for (model, version), state in states.items():
            self._versions.labels(model, str(version)).set(state)
        self._in_flight.set(in_flight)
        return exposition.generate_latest(self._registry)

    def total(self, name: str) -> int:
        """Sum over all labels of a counter, by TF Serving's own name (`/tensorflow/...`); 0 if unknown."""
        return int(self._counters.total(name.replace("/", ":")))
