"""What the port reads and answers, as models: the checks of requests and the OpenAPI document come from here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vrseg.config.schema import Stream
from vrseg.config.section import Name, Section
from vrseg.pipeline.observer import StreamState


class Answer(BaseModel):
    """What the port answers, or a part of it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class NewStream(Section):
    """A stream to add."""

    id: Name
    """Its name; the `stream` label of the metrics."""
    stream: Stream
    """As under `streams` in the configuration. Variables (`${NAME}`) are not read here."""


class Problem(Answer):
    """One mistake."""

    message: str
    """What is wrong, and how to mend it."""
    path: str
    """Keys with dots between them, such as `streams.door.model`; empty when it is about no key."""
    line: int | None
    """Of the configuration, counted from 1; null when it is in no file."""


class Problems(Answer):
    """Why a request was refused."""

    error: str
    """A sentence."""
    problems: tuple[Problem, ...]
    """All mistakes, where there are several or where they have a place."""


class Health(Answer):
    """Whether the process must be started anew."""

    status: Literal["ok", "ill"]
    reason: str
    """Empty when it is well."""


class Readiness(Answer):
    """Whether this is the moment to send traffic."""

    ready: bool
    reasons: tuple[str, ...]
    """Why not; empty when ready."""


class Version(Answer):
    """What is at work."""

    version: str
    device: str
    """`cpu`, or `cuda:N`."""


class Quantiles(Answer):
    """Of the last items, seconds."""

    p50: float
    p95: float
    p99: float


class StageRow(Answer):
    """One stage; all streams and models together."""

    stage: str
    workers: int
    """Threads at work for it now."""
    items: int
    """Since the start."""
    busy_ratio: float
    input_full_ratio: float
    output_full_ratio: float
    duration_s: Quantiles
    wait_s: Quantiles


class Bottleneck(Answer):
    """What limits, and why."""

    stage: str
    kind: str
    evidence: str


class Cores(Answer):
    """The machine's."""

    usable: int
    busy: float


class Frames(Answer):
    """The books of a stream: what came in, and how it ended."""

    entered: int
    delivered: int
    dropped: dict[str, int]
    """By reason."""
    failed: int
    under_way: int
    unaccounted: int
    """0, or frames leak."""


class StateChange(Answer):
    """What a stream became, and when."""

    at: float
    """Unix time."""
    state: StreamState
    detail: str


class OutputRow(Answer):
    """An output of a stream, as it is now."""

    output: int
    kind: str
    state: str
    reason: str
    detail: str
    since: float
    """Unix time."""
    packets_dropped: dict[str, int]
    """By reason."""


class StreamRow(Answer):
    """A stream, as it is now."""

    name: str
    state: StreamState
    detail: str
    since: float
    """Unix time at which it came into this state."""
    codec: str | None
    width: int | None
    height: int | None
    frames: Frames
    latency_s: float
    """Of the last frame, from decoded to handed to the outputs."""
    latency_recent_s: Quantiles
    reconnects: int
    damaged_units: int
    """What could not be decoded, and was passed over."""
    history: tuple[StateChange, ...]
    """The last changes of its state, the newest last."""
    outputs: tuple[OutputRow, ...] = ()


class StreamView(StreamRow):
    """A stream, and what is known of it beside its work."""

    origin: Literal["file", "http"]
    """Streams that were added over HTTP are gone when the process ends."""
    change: Literal["remove", "restart", "pause"] | None
    """What is being done to it."""
    configuration: dict[str, Any]
    """Its section, every key, redacted."""


class Streams(Answer):
    """All streams."""

    streams: tuple[StreamView, ...]


class QueueRow(Answer):
    """A queue, as it is now."""

    queue: str
    depth: int
    capacity: int
    blocked_s: float


class Status(Answer):
    """The whole process, as it is now."""

    version: str
    device: str
    uptime_s: float
    not_ready: tuple[str, ...]
    window_s: float
    """Over which ratios are taken."""
    cores: Cores
    stages: tuple[StageRow, ...]
    bottleneck: Bottleneck
    streams: tuple[StreamRow, ...]
    queues: tuple[QueueRow, ...]


class Changed(Answer):
    """Names, sorted by what a reload did to them."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    kept: tuple[str, ...]


class Reloaded(Answer):
    """What a reload did."""

    models: Changed
    streams: Changed


class TraceMetadata(Answer):
    """Of a trace."""

    spans_left_out: int
    """Beyond what one trace may hold."""


class Trace(Answer):
    """What the stages did, in the format of Chrome's trace viewer and of Perfetto."""

    displayTimeUnit: Literal["ms"]  # noqa: N815 -- the format's own name
    traceEvents: tuple[dict[str, Any], ...]  # noqa: N815 -- as above
    metadata: TraceMetadata
