"""The pipeline's observer: turns what it tells into metrics, readings and stream states."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from vrseg.address import presentable
from vrseg.telemetry.bottleneck import Verdict, find_bottleneck
from vrseg.telemetry.readings import StageMeter

if TYPE_CHECKING:
    from collections.abc import Callable

    import structlog

    from vrseg.frame import SourceInfo
    from vrseg.pipeline.channel import Channel
    from vrseg.pipeline.ledger import Ledger
    from vrseg.pipeline.observer import DecodeErrorReason, StageName, StreamState
    from vrseg.stage import LastingOutput
    from vrseg.telemetry.metrics import Metrics
    from vrseg.telemetry.readings import Mark, Readings
    from vrseg.telemetry.trace import Trace

SAMPLE_INTERVAL_S = 1.0
# The verdict looks back this far: long enough to be steady, short enough to follow a change.
WINDOW_SAMPLES = 10
# Of one stream: ten seconds at 25 frames/s, and what a person reads of its history.
RECENT_LATENCIES = 256
STATES_KEPT = 20


@dataclass(frozen=True, slots=True)
class StateChange:
    """A state that a stream went into, or a new reason for the one it is in."""

    at: float
    """Unix time in seconds."""
    state: StreamState
    detail: str


@dataclass(slots=True)
class StreamRecord:
    """What is known of one stream now."""

    ledger: Ledger
    state: StreamState = "starting"
    detail: str = ""
    since: float = field(default_factory=time.time)
    """Unix time in seconds at which it went into this state; a new reason for the same state does not count."""
    history: deque[StateChange] = field(default_factory=lambda: deque(maxlen=STATES_KEPT))
    info: SourceInfo | None = None
    last_frame_at: float = 0.0
    """Unix time of the last decoded frame; 0 before the first."""
    last_latency_s: float = 0.0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_LATENCIES))
    reconnects: int = 0
    damaged_units: int = 0
    """What could not be decoded, and was passed over."""
    outputs: dict[str, LastingOutput] = field(default_factory=dict)
    """Encoded outputs of the present life, by their number in the configuration."""


class Recorder:
    """Implements `pipeline.observer.Observer`. Lives on the event loop; nothing here blocks."""

    def __init__(self, metrics: Metrics, log: structlog.stdlib.BoundLogger) -> None:
        self.streams: dict[str, StreamRecord] = {}
        self.engines: dict[str, str] = {}
        """Engine in use, by model."""
        self.on_stream_state: Callable[[str, StreamState, str], None] = _nobody_listens
        """Told of each new state of a stream, with its detail."""
        self.trace: Trace | None = None
        """Told of every span while somebody wants a trace."""
        self.meter = StageMeter()
        self._metrics = metrics
        # To find an instrument's child anew for each batch costs more than to count.
        self._batch_size = cache(metrics.batch_size.labels)
        self._log = log
        self._start = self.meter.mark()
        self._marks: deque[Mark] = deque([self._start], maxlen=WINDOW_SAMPLES)

    def add_stream(self, ledger: Ledger) -> None:
        """Watch a stream."""
        self.streams[ledger.stream] = StreamRecord(ledger)

    def remove_stream(self, stream: str) -> None:
        """Forget a stream whose last frame has ended: what it was called is no label any more."""
        del self.streams[stream]
        self._metrics.forget_stream(stream)

    def remove_model(self, model: str) -> None:
        """Forget a model that has ended."""
        self._metrics.forget_model(model)
        self._batch_size.cache_clear()

    def sample(self) -> None:
        """Call once a second: moves the window on."""
        self._marks.append(self.meter.mark())

    def recent(self) -> Readings:
        """Readings over the last seconds."""
        return self.meter.since(self._marks[0])

    def overall(self) -> Readings:
        """Readings since the start."""
        return self.meter.since(self._start)

    def verdict(self) -> Verdict:
        """What limits now."""
        return find_bottleneck(self.recent())

    def worker_started(self, stage: StageName, inbox: Channel[Any] | None, outbox: Channel[Any] | None) -> None:
        self.meter.worker_started(stage, inbox, outbox)

    def worker_ended(self, stage: StageName, inbox: Channel[Any] | None, outbox: Channel[Any] | None) -> None:
        self.meter.worker_ended(stage, inbox, outbox)

    def stage_done(
        self, stage: StageName, waited_s: float, busy_s: float, *, ended_s: float | None = None, thread: str = ""
    ) -> None:
        if self.trace is not None:
            self.trace.stage_done(stage, thread, waited_s, busy_s, ended_s)
        self.meter.stage_done(stage, waited_s, busy_s)
        self._metrics.stage_duration.observe(stage, busy_s)
        self._metrics.stage_wait.observe(stage, waited_s)

    def batch_done(self, model: str, size: int, *, ok: bool) -> None:
        self._batch_size(model).observe(size)
        self._metrics.inference.count(model, self.engines.get(model, "unknown"), "ok" if ok else "failed")

    def frame_passed(self, stream: str, stage: StageName) -> None:
        self._metrics.frames.count(stream, stage)
        if stage == "decode" and stream in self.streams:
            self.streams[stream].last_frame_at = time.time()

    def frame_dropped(self, stream: str, stage: StageName, reason: str) -> None:
        self._metrics.dropped.labels(stream, stage, reason).inc()
        if reason != "stopped" and stage != "sink":  # why no output took it was said when that began
            self._log.warning("frames dropped", stream=stream, stage=stage, reason=reason)

    def frame_failed(self, stream: str, stage: StageName) -> None:
        self._metrics.failed.labels(stream, stage).inc()
        self._log.warning("frames failed", stream=stream, stage=stage)

    def frame_delivered(self, stream: str, latency_s: float, *, handed_s: float, late: bool) -> None:
        self._metrics.frames.count(stream, "sink")
        self._metrics.latency.observe(stream, latency_s)
        if late:
            self._metrics.deadline_misses.labels(stream).inc()
        if self.trace is not None:
            self.trace.frame_delivered(stream, latency_s, handed_s)
        if stream in self.streams:
            record = self.streams[stream]
            record.last_latency_s = latency_s
            record.latencies_s.append(latency_s)

    def stream_info(self, stream: str, info: SourceInfo) -> None:
        self.streams[stream].info = info
        self._metrics.stream_info.remove_by_labels({"stream": stream})
        self._metrics.stream_info.labels(stream, info.codec, str(info.width), str(info.height)).set(1)
        self._log.info(
            "source opened", stream=stream, codec=info.codec, size=f"{info.width}x{info.height}", rate=_rate(info)
        )

    def stream_state(self, stream: str, state: StreamState, detail: str = "") -> None:
        record, detail = self.streams[stream], presentable(detail)
        if (record.state, record.detail) == (state, detail):
            return
        now = time.time()
        if record.state != state:
            record.since = now
        record.state, record.detail = state, detail
        self.on_stream_state(stream, state, detail)
        record.history.append(StateChange(now, state, detail))
        say = {"reconnecting": self._log.warning, "failed": self._log.error}.get(state, self._log.info)
        say(f"stream {state}", stream=stream, **({"detail": detail} if detail else {}))

    def stream_reconnecting(self, stream: str, reason: str) -> None:
        self.streams[stream].reconnects += 1
        self._metrics.reconnects.labels(stream, reason).inc()

    def decode_errors(self, stream: str, reason: DecodeErrorReason, count: int) -> None:
        self._metrics.decode_errors.labels(stream, reason).inc(count)
        if reason == "no_key_frame":  # as every camera begins that is joined between two of them
            self._log.info("waited for a key frame", stream=stream, stage="decode", units=count)
            return
        if reason == "undecodable":
            self.streams[stream].damaged_units += count
        self._log.warning("damaged video", stream=stream, stage="decode", reason=reason, units=count)

    def output_added(self, stream: str, output: LastingOutput) -> None:
        self.streams[stream].outputs[output.name] = output

    def output_removed(self, stream: str, output: LastingOutput) -> None:
        outputs = self.streams[stream].outputs if stream in self.streams else {}
        if outputs.get(output.name) is output:  # and not yet the next life's
            del outputs[output.name]

    def output_changed(self, stream: str, output: LastingOutput) -> None:
        state = output.state
        if state.state == "starting":
            return
        say = self._log.info if state.state == "up" else self._log.warning
        reason = {"reason": state.reason, "detail": state.detail} if state.reason else {}
        say(f"output {output.name} {state.state}", stream=stream, kind=output.kind, **reason)

    def packets_dropped(self, stream: str, output: str, reason: str, count: int) -> None:
        self._metrics.output_dropped.labels(stream, output, reason).inc(count)


def _nobody_listens(_stream: str, _state: StreamState, _detail: str) -> None:
    pass


def _rate(info: SourceInfo) -> str:
    return f"{float(info.frame_rate):.3g}/s" if info.frame_rate else "unknown"
