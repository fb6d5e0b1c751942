"""Source to decoded frames: one connection, and the loop that makes a new one when it is lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vrseg.backoff import wait_or_stop
from vrseg.errors import SourceStalledError, StreamLostError, TransientError, VrsegError
from vrseg.pipeline.channel import Channel, ChannelClosedError
from vrseg.pipeline.run import Burst, opened, pump_bursts
from vrseg.pipeline.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.backoff import Backoff
    from vrseg.frame import Frame, Packet
    from vrseg.pipeline.ledger import Ledger
    from vrseg.pipeline.observer import DecodeErrorReason, Observer
    from vrseg.pipeline.presence import Presence
    from vrseg.pipeline.tap import Tap
    from vrseg.stage import Decode, Source

# Enough that the demuxer can run ahead of the decoder; small enough that a slow decoder soon holds back a file.
PACKETS_AHEAD = 16

_COUNTED_AS: dict[str, DecodeErrorReason] = {
    "errors": "undecodable",
    "concealed": "concealed",
    "skipped_until_key": "no_key_frame",
}
"""What decoders count of a connection; only the first is there in all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestStages:
    """What a stream reads from. Each new connection gets a new source and a new decoder."""

    make_source: Callable[[], Source]
    make_decoder: Callable[[int], Decode]
    """Argument: index of the first frame."""
    live: bool
    open_timeout_s: float
    stall_timeout_s: float
    backoff: Backoff
    niceness: int = 0
    """Of the decoder's threads; see `StreamStages.niceness`."""


class Ingest:
    """Fills the queue of decoded frames of one stream, over as many connections as it takes."""

    def __init__(
        self,
        stages: IngestStages,
        decoded: Channel[Frame],
        ledger: Ledger,
        observer: Observer,
        presence: Presence,
        tap: Tap,
    ) -> None:
        self._stages = stages
        self._decoded = decoded
        self._ledger = ledger
        self._observer = observer
        self._tap = tap
        self._presence = presence
        self._decoder: Decode | None = None
        self._told: Counter[str] = Counter()
        """Of what the decoder has counted."""
        self._running = False
        self._frames = ledger.entered

    @property
    def _burst(self) -> Burst:
        """Of packets for the decoder. A file is in no hurry."""
        if not self._stages.live:
            return Burst(items=8, duration_s=0.02, in_one=True)
        # Frames of one burst push each other out of a queue that is shorter: nobody can take one before all are in.
        return Burst(items=min(4, self._decoded.capacity), duration_s=0.002)

    async def run(self, stop: asyncio.Event) -> None:
        """Read until the source ends or `stop` is set; then close the queue.

        Raises:
            StreamLostError: the configured number of tries in a row failed.
            MediaError: a file cannot be used.
        """
        try:
            await self._reconnect(stop)
        finally:
            self._decoded.close()

    async def _reconnect(self, stop: asyncio.Event) -> None:
        stream, stages = self._ledger.stream, self._stages
        delays = stages.backoff.delays_s()
        while not stop.is_set():
            frames_before = self._frames
            lost = await self._connect(stop)
            if lost is None:
                return
            if not (stages.live and isinstance(lost, TransientError)):
                raise lost
            if self._frames > frames_before:
                delays = stages.backoff.delays_s()  # it did work: begin anew
            delay_s = next(delays, None)
            if delay_s is None:
                raise StreamLostError(
                    f"stream {stream}: gave up after {stages.backoff.attempts} tries: {lost}"
                ) from lost
            self._presence.reconnecting = True
            self._observer.stream_reconnecting(stream, lost.reason)
            self._observer.stream_state(stream, "reconnecting", f"{lost}; next try in {delay_s:.1f} s")
            await wait_or_stop(stop, delay_s)

    async def _connect(self, stop: asyncio.Event) -> VrsegError | None:
        """Run one connection to its end; return what ended it, if that was an error.

        What was read before is still decoded. The error is returned, not raised: in a traceback it would keep the dead
        connection's buffers alive for as long as the next connection lasts.
        """
        stream = self._ledger.stream
        packets: Channel[Packet] = Channel(f"{stream}.packets", PACKETS_AHEAD)
        self._presence.timeline.new_connection()
        self._running = False
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(packets))
            guard = group.create_task(self._guard(reader, stop))
            self._decoder = self._stages.make_decoder(self._frames)
            self._told.clear()
            async with opened(
                "decode",
                self._decoder,
                self._observer,
                thread=f"{stream}.decode",
                niceness=self._stages.niceness,
                inbox=packets,
                outbox=self._decoded,
            ) as runner:
                await pump_bursts(packets, runner, self._accept_all, self._burst)
            self._tell_damage()
            guard.cancel()
        if not guard.cancelled() and (stalled := guard.result()):
            return stalled
        return None if reader.cancelled() else reader.result()

    async def _read(self, packets: Channel[Packet]) -> VrsegError | None:
        """Move packets from the source's thread to the channel; return what ended it, if that was an error.

        FFmpeg's reads end by their own timeout only. So when this task is cancelled it does not wait for the thread:
        the thread finishes its read, closes the source and goes.
        """
        source = self._stages.make_source()
        async with Worker(f"{self._ledger.stream}.source") as worker:
            self._observer.worker_started("source", None, packets)
            try:
                self._observer.stream_info(self._ledger.stream, await worker.submit(source.open))
                while batch := await self._timed_read(worker, source):
                    for packet in batch:
                        await packets.put(packet)
            except VrsegError as error:
                return error
            except ChannelClosedError:
                return None  # the decoder failed, and says why itself
            finally:
                packets.close()
                closing = worker.submit(source.close)
                self._observer.worker_ended("source", None, packets)
            await closing
        return None

    async def _timed_read(self, worker: Worker, source: Source) -> list[Packet]:
        started_s = time.monotonic()
        batch = await worker.submit(source.read)
        took_s = time.monotonic() - started_s
        # reading a file is work; reading a camera is waiting for it
        waited_s, busy_s = (took_s, 0.0) if self._stages.live else (0.0, took_s)
        self._observer.stage_done("source", waited_s, busy_s, thread=worker.name)
        return batch

    async def _guard(self, reader: asyncio.Task[VrsegError | None], stop: asyncio.Event) -> VrsegError | None:
        """End the reader when it is time to stop, or when a live source has not given a frame for too long."""
        limit_s = self._stages.stall_timeout_s
        last_sign_s = time.monotonic() + self._stages.open_timeout_s
        while not stop.is_set():
            last_sign_s = max(last_sign_s, self._ledger.last_entered_s)
            patience_s = last_sign_s + limit_s - time.monotonic() if self._stages.live and limit_s else None
            if patience_s is not None and patience_s <= 0:
                reader.cancel()
                return SourceStalledError(f"no frame for {limit_s:g} s")
            await wait_or_stop(stop, patience_s)
        self._observer.stream_state(self._ledger.stream, "draining")
        reader.cancel()
        return None

    async def _accept_all(self, frames: list[Frame]) -> None:
        self._tell_damage()
        for frame in frames:
            await self._accept(frame)

    async def _accept(self, frame: Frame) -> None:
        if self._stages.live:
            self._presence.frame_came()
            if (pts := self._presence.timeline.place(frame)) != frame.pts:
                frame = replace(frame, pts=pts)
        if not self._running:
            self._running = True
            self._observer.stream_state(self._ledger.stream, "running")
        self._frames += 1
        self._ledger.enter()
        self._tap.show(frame)
        try:
            await self._decoded.put(frame)
        except ChannelClosedError:
            self._ledger.drop_queued("stopped")
        except asyncio.CancelledError:
            self._ledger.drop_queued("stopped")
            raise

    def _tell_damage(self) -> None:
        for name, reason in _COUNTED_AS.items():
            count = getattr(self._decoder, name, 0)
            if count > self._told[name]:
                self._observer.decode_errors(self._ledger.stream, reason, count - self._told[name])
                self._told[name] = count
