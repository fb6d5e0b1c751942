"""What is seen of a daemon from outside, and what can be computed of it. No effects."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name, and its labels in order."""

DECODED = "vrseg_frames_total"
DELIVERED = "vrseg_frame_latency_seconds_count"
DROPPED = "vrseg_frames_dropped_total"
FAILED = "vrseg_frames_failed_total"
RECONNECTS = "vrseg_stream_reconnects_total"
LATENCY = "vrseg_frame_latency_seconds_bucket"
UNACCOUNTED = "vrseg_frames_unaccounted"
RELOADED = "vrseg_config_last_reload_successful"
_KEPT = frozenset({DECODED, DELIVERED, DROPPED, FAILED, RECONNECTS, LATENCY})

TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """One scrape."""

    counters: Mapping[Key, int]
    """Those that a soak adds up."""
    unaccounted: Mapping[str, int]
    """Frames by stream, where there are any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A daemon at one moment."""

    time_s: float
    """Since it was ready."""
    rss_bytes: int
    threads: int
    descriptors: int
    children: int
    written_bytes: int
    """All files that the streams have on disk."""
    cpu_s: float
    """Used since it was started."""
    health: int
    """HTTP status of /healthz; 0 where no answer came in time."""
    metrics: Metrics | None
    """None where no answer came in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """How fast something grows."""

    per_hour: float
    error: float
    """Standard error."""

    def exceeds(self, bound: float, *, errors: float) -> bool:
        """Tell whether it grows faster than `bound`, by more than so many standard errors."""
        return self.per_hour - errors * self.error > bound


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCount:
    """What was logged."""

    levels: Mapping[str, int]
    events: Mapping[tuple[str, str], int]
    """By level and event, warnings and errors only."""
    tracebacks: int


def read_metrics(text: str) -> Metrics:
    """Read what /metrics answers."""
    counters: dict[Key, int] = {}
    unaccounted: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in _KEPT:
                counters[sample.name, tuple(sorted(sample.labels.items()))] = int(sample.value)
            elif sample.name == UNACCOUNTED and sample.value:
                unaccounted[sample.labels["stream"]] = int(sample.value)
    return Metrics(counters=counters, unaccounted=unaccounted)


def grown(scrapes: Iterable[Mapping[Key, int]], *, since: Mapping[Key, int] | None = None) -> Counter[Key]:
    """Add up what counters grew from scrape to scrape. One that fell had been forgotten, and began anew at 0."""
    total: Counter[Key] = Counter()
    before: Mapping[Key, int] = since or {}
    for now in scrapes:
        for key, value in now.items():
            old = before.get(key, 0)
            total[key] += value - old if value >= old else value
        before = now
    return total


def by_label(total: Mapping[Key, int], name: str, label: str | None = None) -> Counter[str]:
    """Sum the samples of one name by a label, or all of them under an empty one."""
    sums: Counter[str] = Counter()
    for (sample, labels), value in total.items():
        if sample == name:
            sums[dict(labels)[label] if label else ""] += value
    return sums


def latency_s(total: Mapping[Key, int], stream: str, quantile: float) -> float:
    """Return a quantile of a stream's latency, interpolated within its bucket; NaN where nothing was delivered."""
    buckets: list[tuple[float, float]] = sorted(
        (float(dict(labels)["le"]), count)
        for (name, labels), count in total.items()
        if name == LATENCY and dict(labels)["stream"] == stream
    )
    if not buckets or not buckets[-1][1]:
        return math.nan
    wanted = quantile * buckets[-1][1]
    for (lower_s, below), (upper_s, upto) in pairwise([(0.0, 0.0), *buckets]):
        if upto >= wanted and upto > below:
            share = (wanted - below) / (upto - below)
            return lower_s + (upper_s - lower_s) * share if math.isfinite(upper_s) else lower_s
    return math.nan


def slope(times_s: Sequence[float], values: Sequence[float]) -> Slope:
    """Fit a line by least squares.

    What is sampled every few seconds is not independent: the error is widened by what the residuals' correlation
    with their neighbours takes from the number of samples.
    """
    count = len(times_s)
    if count < 4:
        return Slope(per_hour=math.nan, error=math.inf)
    middle_s, mean = sum(times_s) / count, sum(values) / count
    spread = sum((time_s - middle_s) ** 2 for time_s in times_s)
    per_s = sum((t - middle_s) * (v - mean) for t, v in zip(times_s, values, strict=True)) / spread
    residuals = [v - mean - per_s * (t - middle_s) for t, v in zip(times_s, values, strict=True)]
    squares = sum(one * one for one in residuals)
    error = math.sqrt(squares / (count - 2) / spread)
    neighbours = sum(one * other for one, other in pairwise(residuals)) / squares if squares else 0.0
    correlation = min(max(neighbours, 0.0), 0.99)
    widened = error * math.sqrt((1 + correlation) / (1 - correlation))
    return Slope(per_hour=per_s * 3600, error=widened * 3600)


def count_log(lines: Iterable[str]) -> LogCount:
    """Count the lines of a log in JSON; what is no JSON has the level `other`."""
    levels: Counter[str] = Counter()
    events: Counter[tuple[str, str]] = Counter()
    tracebacks = 0
    for line in lines:
        tracebacks += line.count(TRACEBACK)
        level, event = _level_and_event(line)
        levels[level] += 1
        if level not in {"info", "debug"}:
            events[level, event] += 1
    return LogCount(levels=levels, events=events, tracebacks=tracebacks)


def _level_and_event(line: str) -> tuple[str, str]:
    try:
        told = json.loads(line)
        return str(told["level"]), str(told["event"])
    except (ValueError, TypeError, KeyError):
        return "other", line.strip()[:80]
