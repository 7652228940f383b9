"""What Prometheus reads at /metrics; no label holds an id of a person or an item."""

from __future__ import annotations

import prometheus_client as prometheus

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """The gateway's own numbers, in a registry of their own: two apps of one process do not mix."""

    def __init__(self) -> None:
        self.registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        self.requests = prometheus.Counter(
            "shelfwise_gateway_requests", "Answers.", ["route", "method", "status"], registry=registry
        )
        self.seconds = prometheus.Histogram(
            "shelfwise_gateway_request_seconds",
            "From the request's first byte to the answer's last.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.model_seconds = prometheus.Histogram(
            "shelfwise_gateway_model_seconds",
            "What the model took.",
            ["signature"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.lists = prometheus.Counter(
            "shelfwise_gateway_lists", "Shown lists.", ["surface", "arm", "fallback"], registry=registry
        )
        self.fallbacks = prometheus.Counter(
            "shelfwise_gateway_fallbacks", "Lists that no model made.", ["reason"], registry=registry
        )
        self.events = prometheus.Counter(
            "shelfwise_gateway_events", "Events by what became of them.", ["outcome"], registry=registry
        )
        self.lists_lost = prometheus.Counter(
            "shelfwise_gateway_lists_lost", "Shown lists that could not be written down.", registry=registry
        )
        self.batch_rows = prometheus.Histogram(
            "shelfwise_gateway_write_rows",
            "Events and places in one transaction.",
            buckets=(1, 10, 50, 100, 500, 1000, 5000),
            registry=registry,
        )
        self.write_seconds = prometheus.Histogram(
            "shelfwise_gateway_write_seconds", "One transaction.", buckets=_SECONDS, registry=registry
        )
        self.in_flight = prometheus.Gauge(
            "shelfwise_gateway_requests_in_flight", "Requests in work.", registry=registry
        )
