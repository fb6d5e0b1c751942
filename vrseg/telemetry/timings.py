"""Durations counted by size, for what is timed several times for each frame."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

SECONDS_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_BOUNDS = (*map(floatToGoString, SECONDS_BUCKETS), "+Inf")


@dataclass(slots=True)
class _Series:
    counts: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))
    """By bucket; each duration in one."""
    sum_s: float = 0.0


class Timings(Collector):
    """A Prometheus histogram with one label, for the event loop alone.

    `prometheus_client.Histogram` gives the same, but takes a lock for each of its numbers: with nine durations to a
    frame that was a fifth of what the machinery costs.
    """

    def __init__(self, name: str, documentation: str, label: str, *, registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._series: defaultdict[str, _Series] = defaultdict(_Series)
        registry.register(self)

    def observe(self, value: str, duration_s: float) -> None:
        """Count a duration under this value of the label."""
        series = self._series[value]
        series.counts[bisect_left(SECONDS_BUCKETS, duration_s)] += 1
        series.sum_s += duration_s

    def forget(self, value: str) -> None:
        """Drop what was counted under this value of the label."""
        self._series.pop(value, None)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, series in self._series.items():
            # Prometheus wants in each bucket what is in the smaller ones too.
            family.add_metric([value], list(zip(_BOUNDS, accumulate(series.counts), strict=True)), series.sum_s)
        yield family
