"""What the pipeline tells of itself, and to whom. It never asks anything back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from vrseg.frame import SourceInfo
    from vrseg.pipeline.channel import Channel
    from vrseg.stage import LastingOutput

StageName: TypeAlias = Literal["source", "decode", "preprocess", "infer", "postprocess", "render", "encode", "sink"]
STAGES: tuple[StageName, ...] = (
    "source",
    "decode",
    "preprocess",
    "infer",
    "postprocess",
    "render",
    "encode",
    "sink",
)
"""In the order in which a frame meets them."""

StreamState: TypeAlias = Literal["starting", "running", "reconnecting", "draining", "paused", "ended", "failed"]
DecodeErrorReason: TypeAlias = Literal["undecodable", "concealed", "no_key_frame"]

STREAM_STATES: tuple[StreamState, ...] = (
    "starting",
    "running",
    "reconnecting",
    "draining",
    "paused",
    "ended",
    "failed",
)


class Observer(Protocol):
    """All calls come from the event loop and return at once."""

    def worker_started(self, stage: StageName, inbox: Channel[Any] | None, outbox: Channel[Any] | None) -> None:
        """A thread now works for `stage`, between these queues."""

    def worker_ended(self, stage: StageName, inbox: Channel[Any] | None, outbox: Channel[Any] | None) -> None:
        """That thread is gone."""

    def stage_done(
        self, stage: StageName, waited_s: float, busy_s: float, *, ended_s: float | None = None, thread: str = ""
    ) -> None:
        """One item waited, then was worked on, up to `ended_s` (monotonic time; just now, when nothing is given).

        `thread` names who did it (a thread, or a part of one), if known.
        """

    def batch_done(self, model: str, size: int, *, ok: bool) -> None:
        """One inference call ended."""

    def frame_passed(self, stream: str, stage: StageName) -> None:
        """A frame left a stage."""

    def frame_dropped(self, stream: str, stage: StageName, reason: str) -> None:
        """A frame was discarded on purpose."""

    def frame_failed(self, stream: str, stage: StageName) -> None:
        """A frame was lost to an error."""

    def frame_delivered(self, stream: str, latency_s: float, *, handed_s: float, late: bool) -> None:
        """A frame reached all outputs of its stream at `handed_s` (monotonic time); `late` past its deadline."""

    def stream_info(self, stream: str, info: SourceInfo) -> None:
        """A source was opened."""

    def stream_state(self, stream: str, state: StreamState, detail: str = "") -> None:
        """A stream changed its state."""

    def stream_reconnecting(self, stream: str, reason: str) -> None:
        """A lost stream will be tried again."""

    def decode_errors(self, stream: str, reason: DecodeErrorReason, count: int) -> None:
        """Units that could not be decoded or came before a key frame, and were passed over; or pictures guessed at."""

    def output_added(self, stream: str, output: LastingOutput) -> None:
        """A stream has this output from now on. It may be looked at at any time."""

    def output_removed(self, stream: str, output: LastingOutput) -> None:
        """The stream has it no more."""

    def output_changed(self, stream: str, output: LastingOutput) -> None:
        """It is in another state, or in the same for another reason."""

    def packets_dropped(self, stream: str, output: str, reason: str, count: int) -> None:
        """Encoded packets that an output did not take. The frames may have reached others."""
