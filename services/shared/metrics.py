"""Metrics of a service, in Prometheus' form at `/metrics`, and what is measured of every request and write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one service. Further ones are made with `counter`, `gauge` and `histogram`."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        self.requests = self.counter("requests_total", "Requests answered", ("api", "operation", "status"))
        self.request_seconds = self.histogram("request_seconds", "Time to answer a request", ("api", "operation"))

        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, api: str, operation: str, status: int, seconds: float) -> None:
        """A request was answered. Its labelled children are looked up once: prometheus-client takes longer over that
        than over counting."""
        key = (api, operation, status)
        children = self._answered.get(key)
        if children is None:
            children = self._answered[key] = (self.requests.labels(*key), self.request_seconds.labels(api, operation))
        children[0].inc()
        children[1].observe(seconds)

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        """A count that only grows; `roadstead_` is put before its name."""
        return Counter(f"roadstead_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        """A value that goes up and down."""
        return Gauge(f"roadstead_{name}", text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Histogram:
        """A distribution, of seconds unless the name says otherwise."""
        return Histogram(f"roadstead_{name}", text, labels, registry=self.registry, buckets=_BUCKETS)

    def observed(
        self, name: str, text: str, labels: tuple[str, ...], look: Callable[[], Mapping[tuple[str, ...], float]]
    ) -> None:
        """A gauge whose values are looked up when somebody asks: the labels' values -> the value."""
        self.registry.register(_Observed(f"roadstead_{name}", text, labels, look))

    def expose(self) -> bytes:
        """All of them, as text."""
        return generate_latest(self.registry)


class _Observed(Collector):
    def __init__(
        self, name: str, text: str, labels: tuple[str, ...], look: Callable[[], Mapping[tuple[str, ...], float]]
    ) -> None:
        self._about = name, text
        self._labels = labels
        self._look = look

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Its name, without looking."""
        return [GaugeMetricFamily(*self._about, labels=self._labels)]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """What is now."""
        family = GaugeMetricFamily(*self._about, labels=self._labels)
        for values, value in self._look().items():
            family.add_metric(values, value)
        return [family]
