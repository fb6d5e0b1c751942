"""Counters of what happens to each frame."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric


class Tallies(Collector):
    """A Prometheus counter with labels, for the event loop alone.

    `prometheus_client.Counter` gives the same, but takes a lock for each count and must be asked for a child first.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._counts: Counter[tuple[str, ...]] = Counter()
        registry.register(self)

    def count(self, *values: str) -> None:
        """Count one more under these values of the labels."""
        self._counts[values] += 1

    def forget(self, value: str) -> None:
        """Drop what was counted under this value of the first label."""
        for values in [values for values in self._counts if values[0] == value]:
            del self._counts[values]

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count)
        yield family
