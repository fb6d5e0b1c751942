"""An encoder and the sinks of its packets, on one thread."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from vrseg.pipeline.worker import taken
from vrseg.stage import LastingOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from fractions import Fraction
    from typing import Never

    from vrseg.frame import EncodedPacket, Frame
    from vrseg.pipeline.observer import Observer
    from vrseg.pipeline.outputs import OutputStages
    from vrseg.pipeline.worker import Worker
    from vrseg.stage import Absence, OutputState, StandIn, VideoSink


Handful: TypeAlias = list[tuple["Frame", float]]
"""Frames that are written in one visit to a thread, each with how long it waited for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a frame at one writer."""

    handed_s: float
    """Monotonic time at which the sinks were given it, or recorded it."""
    busy_s: float
    """How long the writer's thread worked for it."""
    lost: str = ""
    """Why no sink took it; empty when one did."""


class _Done(NamedTuple):
    """When a frame was written, in monotonic time."""

    began_s: float
    encoded_s: float
    ended_s: float
    lost: str
    """As in `Written`."""


class Video:
    """An encoder and its sinks, open, on one thread.

    Packets go from hand to hand where they are made. A thread for each sink would cost a hop for each packet and gain
    nothing: the next frame may not be encoded before the packets of this one are written anyway.
    """

    def __init__(self, stages: OutputStages, worker: Worker, observer: Observer, stream: str) -> None:
        self._encode = stages.encode
        self._stand_in = stages.stand_in
        self._sinks = tuple(_Feed(sink, steady=sink in stages.steady) for sink in stages.sinks)
        self._worker = worker
        self._observer = observer
        self._stream = stream
        self._time_base: Fraction | None = None
        """Of the encoder: that of its first frame."""
        self._made_pts: set[int] = set()
        """Of pictures that stand in and have not come out of the encoder yet."""
        self._stood_in = False

    @property
    def bridges(self) -> bool:
        """Somebody here wants to see a picture while the source gives none."""
        return self._stand_in is not None and any(feed.steady for feed in self._sinks)

    def join(self) -> None:
        """Show the sinks to the observer."""
        for feed in self._sinks:
            if feed.lasting is not None:
                self._observer.output_added(self._stream, feed.lasting)
        self._tell()

    def leave(self) -> None:
        """Take them out of its sight."""
        for feed in self._sinks:
            if feed.lasting is not None:
                self._observer.output_removed(self._stream, feed.lasting)

    async def write(self, frames: Handful, written: list[Written]) -> None:
        """Encode frames and write their packets. What became of each is added to `written`.

        Should one fail, what became of those before it is there.
        """
        done: list[_Done] = []
        waiting = deque(frame for frame, _ in frames)
        try:
            await self._worker.call_for_each(waiting, partial(self._write_frames, done=done))
        finally:
            for (_, waited_s), one in zip(frames, done, strict=False):
                self._tell_done(waited_s, one)
                busy_s = one.ended_s - one.began_s
                written.append(Written(handed_s=one.encoded_s, busy_s=busy_s, lost=one.lost))
            self._tell()

    async def bridge(self, absence: Absence) -> None:
        """Write a picture that stands in for a frame, to those who want it."""
        if self._stand_in is not None:
            await self._worker.call(self._write_stand_in, self._stand_in, absence)
            self._tell()

    async def keep_house(self) -> None:
        """Let the sinks do what is due without a packet."""
        for feed in self._sinks:
            if feed.lasting is not None:
                await self._worker.call(feed.lasting.keep_house)

    async def finish(self) -> None:
        """Write the encoder's tail, then let the sinks commit."""
        await self._worker.call(lambda: self._hand_out(self._encode.flush()))
        for feed in self._sinks:
            await self._worker.call(_exhaust, feed.sink.flush)
        self._tell()

    def _write_frames(self, frames: deque[Frame], *, done: list[_Done]) -> None:
        for frame in taken(frames):
            done.append(self._write_frame(frame))  # noqa: PERF401 -- one that fails leaves those before it

    def _write_frame(self, frame: Frame) -> _Done:
        began_s = time.monotonic()
        if self._time_base is None:
            self._time_base = frame.time_base
        # Who left out what stood in for frames can go on at a key frame only.
        wishes = [feed.take_key_wish() for feed in self._sinks]
        if self._stood_in or any(wishes):
            self._stood_in = False
            self._ask_for_key()
        packets = list(self._encode.process(frame))
        encoded_s = time.monotonic()
        lost = self._hand_out(packets)
        return _Done(began_s, encoded_s, time.monotonic(), lost)

    def _write_stand_in(self, stand_in: StandIn, absence: Absence) -> None:
        if self._time_base is None:
            return
        self._stood_in = True
        # Who comes back meanwhile need not wait for the source.
        wishes = [feed.take_key_wish() for feed in self._sinks if feed.steady]
        if any(wishes):
            self._ask_for_key()
        for frame in stand_in.process(absence):
            self._made_pts.add(round(frame.pts * frame.time_base / self._time_base))
            self._hand_out(self._encode.process(frame))

    def _ask_for_key(self) -> None:
        # Read like this, since a stage may be wrapped; one that cannot be asked gives key frames in its own time.
        request: Callable[[], None] | None = getattr(self._encode, "request_key_frame", None)
        if request is not None:
            request()

    def _hand_out(self, packets: Iterable[EncodedPacket]) -> str:
        """Give packets to all sinks; return why none took the last of them, or nothing if one did."""
        lost = ""
        for packet in packets:
            made = packet.pts in self._made_pts
            self._made_pts.discard(packet.pts)
            answers = [feed.give(packet, made=made) for feed in self._sinks]
            lost = "" if "" in answers or not answers else answers[0]
        return lost

    def _tell_done(self, waited_s: float, done: _Done) -> None:
        name, tell = self._worker.name, self._observer.stage_done
        tell("encode", waited_s, done.encoded_s - done.began_s, ended_s=done.encoded_s, thread=name)
        tell("sink", 0.0, done.ended_s - done.encoded_s, ended_s=done.ended_s, thread=f"{name}, sinks")

    def _tell(self) -> None:
        for feed in self._sinks:
            feed.tell(self._observer, self._stream)


class _Feed:
    """A sink, and what has been told of it."""

    def __init__(self, sink: VideoSink, *, steady: bool) -> None:
        self.sink = sink
        self.steady = steady
        self.lasting = sink if isinstance(sink, LastingOutput) else None
        self._skipped = False
        """It must go on at a key frame: what came before was not given to it."""
        self._told_state: OutputState | None = None
        self._told_drops: dict[str, int] = {}

    def take_key_wish(self) -> bool:
        return self.lasting is not None and self.lasting.take_key_wish()

    def give(self, packet: EncodedPacket, *, made: bool) -> str:
        """Hand a packet over, unless it is not for this sink; return why it was not taken, or nothing if it was."""
        if made and not self.steady:
            self._skipped = True
            return ""
        if self._skipped and not packet.key:
            return ""
        self._skipped = False
        # As plain dicts: this is done for each packet, and to copy or compare a Counter costs some times as much.
        before = dict(self.lasting.dropped) if self.lasting is not None else {}
        _exhaust(partial(self.sink.process, packet))
        after = dict(self.lasting.dropped) if self.lasting is not None else before
        return next(iter(_grown(before, after)), "") if after != before else ""

    def tell(self, observer: Observer, stream: str) -> None:
        output = self.lasting
        if output is None:
            return
        if output.state is not self._told_state:
            before, self._told_state = self._told_state, output.state
            if before is None or (before.state, before.reason) != (output.state.state, output.state.reason):
                observer.output_changed(stream, output)
        dropped = dict(output.dropped)
        if dropped != self._told_drops:
            for reason, count in _grown(self._told_drops, dropped).items():
                observer.packets_dropped(stream, output.name, reason, count)
            self._told_drops = dropped


def _grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Return by how much each number has grown, where it has."""
    return {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}


def _exhaust(work: Callable[[], Iterable[Never]]) -> None:
    """Run a sink's work to its end; it gives nothing out."""
    for _ in work():
        pass
