"""How busy each stage is and how full its queues are, over a window of time."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.pipeline.observer import STAGES

if TYPE_CHECKING:
    from vrseg.pipeline.channel import Channel
    from vrseg.pipeline.observer import StageName

# Enough for p99 to mean something, little enough to be forgotten within a minute at 60 frames a second.
RECENT_ITEMS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Seconds."""

    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReading:
    """One stage over a window. All streams and models together."""

    stage: StageName
    workers: int
    """Threads at work for the stage now."""
    items: int
    """Since the start."""
    busy_ratio: float
    """Time working / (time passed x workers), 0 to 1."""
    input_full_ratio: float
    """Share of the time in which its input queue was full, 0 to 1."""
    output_full_ratio: float
    """As `input_full_ratio`; a stage that waits on a full output is held up by the next."""
    duration: Quantiles
    wait: Quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """All stages that have worked, in the order of a frame's path, and the machine's cores."""

    window_s: float
    stages: tuple[StageReading, ...]
    cores: int
    cores_busy: float
    """CPU time of the process / time passed: 0 to `cores`."""


@dataclass(slots=True)
class _Gauge:
    """Running totals of one stage."""

    workers: int = 0
    items: int = 0
    busy_s: float = 0.0
    worker_s: float = 0.0
    inbox_s: float = 0.0
    outbox_s: float = 0.0
    inbox_full_s: float = 0.0
    outbox_full_s: float = 0.0
    inboxes: list[Channel[Any]] = field(default_factory=list)
    outboxes: list[Channel[Any]] = field(default_factory=list)
    durations_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_ITEMS))
    waits_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_ITEMS))


@dataclass(frozen=True, slots=True)
class _Totals:
    busy_s: float
    worker_s: float
    inbox_s: float
    outbox_s: float
    inbox_full_s: float
    outbox_full_s: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment from which readings can be taken."""

    at_s: float
    cpu_s: float
    totals: dict[StageName, _Totals]


class StageMeter:
    """Adds up what the stages do; answers for any window between two marks."""

    def __init__(self) -> None:
        self._gauges: dict[StageName, _Gauge] = {stage: _Gauge() for stage in STAGES}
        self._advanced_s = time.monotonic()
        self._cores = len(os.sched_getaffinity(0))

    @property
    def channels(self) -> list[Channel[Any]]:
        """Every queue in use, once. While a model is changed, two have the same name: the newer one counts."""
        seen: dict[str, Channel[Any]] = {}
        for gauge in self._gauges.values():
            seen |= {channel.name: channel for channel in (*gauge.inboxes, *gauge.outboxes)}
        return list(seen.values())

    def worker_started(self, stage: StageName, inbox: Channel[Any] | None, outbox: Channel[Any] | None) -> None:
        """A thread begins to work between these queues."""
        self._advance()
        gauge = self._gauges[stage]
        gauge.workers += 1
        if inbox is not None:
            gauge.inboxes.append(inbox)
            gauge.inbox_full_s -= inbox.full_s
        if outbox is not None:
            gauge.outboxes.append(outbox)
            gauge.outbox_full_s -= outbox.full_s

    def worker_ended(self, stage: StageName, inbox: Channel[Any] | None, outbox: Channel[Any] | None) -> None:
        """That thread is gone."""
        self._advance()
        gauge = self._gauges[stage]
        gauge.workers -= 1
        if inbox is not None:
            gauge.inboxes.remove(inbox)
            gauge.inbox_full_s += inbox.full_s
        if outbox is not None:
            gauge.outboxes.remove(outbox)
            gauge.outbox_full_s += outbox.full_s

    def stage_done(self, stage: StageName, waited_s: float, busy_s: float) -> None:
        """One item is done."""
        gauge = self._gauges[stage]
        gauge.items += 1
        gauge.busy_s += busy_s
        gauge.durations_s.append(busy_s)
        gauge.waits_s.append(waited_s)

    def items(self, stage: StageName) -> int:
        """Items that the stage has done since the start."""
        return self._gauges[stage].items

    def mark(self) -> Mark:
        """Remember this moment."""
        self._advance()
        return Mark(
            self._advanced_s, time.process_time(), {stage: _totals(gauge) for stage, gauge in self._gauges.items()}
        )

    def since(self, start: Mark, end: Mark | None = None) -> Readings:
        """Readings between two marks; up to now when `end` is left out."""
        end = end or self.mark()
        window_s = max(end.at_s - start.at_s, 1e-9)
        stages: list[StageReading] = []
        fed_by = 0.0
        for stage, gauge in self._gauges.items():
            if not gauge.items:
                continue
            before, after = start.totals[stage], end.totals[stage]
            # a stage without a queue of its own is fed straight from what the stage before it fills
            if after.inbox_s > before.inbox_s:
                fed_by = _share(after.inbox_full_s - before.inbox_full_s, after.inbox_s - before.inbox_s)
            input_full_ratio, output_full_ratio = fed_by, 0.0
            # and one that fills none hands on at once: the next one is fed from the same queue
            if after.outbox_s > before.outbox_s:
                fed_by = output_full_ratio = _share(
                    after.outbox_full_s - before.outbox_full_s, after.outbox_s - before.outbox_s
                )
            stages.append(
                StageReading(
                    stage=stage,
                    workers=gauge.workers,
                    items=gauge.items,
                    busy_ratio=_share(after.busy_s - before.busy_s, after.worker_s - before.worker_s),
                    input_full_ratio=input_full_ratio,
                    output_full_ratio=output_full_ratio,
                    duration=quantiles(gauge.durations_s),
                    wait=quantiles(gauge.waits_s),
                )
            )
        return Readings(
            window_s=window_s,
            stages=tuple(stages),
            cores=self._cores,
            cores_busy=(end.cpu_s - start.cpu_s) / window_s,
        )

    def _advance(self) -> None:
        now_s = time.monotonic()
        passed_s, self._advanced_s = now_s - self._advanced_s, now_s
        for gauge in self._gauges.values():
            gauge.worker_s += passed_s * gauge.workers
            gauge.inbox_s += passed_s * len(gauge.inboxes)
            gauge.outbox_s += passed_s * len(gauge.outboxes)


def _totals(gauge: _Gauge) -> _Totals:
    return _Totals(
        gauge.busy_s,
        gauge.worker_s,
        gauge.inbox_s,
        gauge.outbox_s,
        gauge.inbox_full_s + sum(channel.full_s for channel in gauge.inboxes),
        gauge.outbox_full_s + sum(channel.full_s for channel in gauge.outboxes),
    )


def _share(part: float, whole: float) -> float:
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else 0.0


def quantiles(values_s: deque[float]) -> Quantiles:
    """Sort what was measured; all zero when nothing was."""
    if not values_s:
        return Quantiles(p50_s=0.0, p95_s=0.0, p99_s=0.0)
    p50, p95, p99 = np.quantile(np.fromiter(values_s, float), (0.5, 0.95, 0.99)).tolist()
    return Quantiles(p50_s=p50, p95_s=p95, p99_s=p99)
