"""The end of a frame's way: encode it once for each encoding, hand the packets to the sinks, record the results."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vrseg.pipeline.run import StageRunner, Visit, opened, opened_on
from vrseg.pipeline.video import Handful, Video, Written
from vrseg.pipeline.worker import Worker
from vrseg.stage import Absence

if TYPE_CHECKING:
    from typing import Never

    from vrseg.frame import Frame
    from vrseg.pipeline.channel import Channel
    from vrseg.pipeline.ledger import Ledger
    from vrseg.pipeline.observer import Observer
    from vrseg.pipeline.presence import Presence
    from vrseg.stage import Encode, ResultSink, StandIn, VideoSink


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputStages:
    """One encoding and all sinks that take it."""

    encode: Encode
    sinks: tuple[VideoSink, ...]
    stand_in: StandIn | None = None
    """Makes pictures while a live source is away."""
    steady: tuple[VideoSink, ...] = ()
    """Those of `sinks` that take these pictures, too."""


# With a thread that a disk or a receiver holds. Less than what a service manager gives a cancelled process, see
# `notify.STOP_MARGIN_S`.
PATIENCE_S = 10.0
# Longer visits save nothing more, and make the first of their frames wait for the last.
VISIT_S = 0.02
HOUSEKEEPING_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """How frames come to the outputs of a stream."""

    ahead: int
    """With 0, frames are taken only when all outputs are done with those before. So what waits, waits as a frame,
    where it can still grow too old and be dropped, and never as a packet. Where nothing grows too old, 1 keeps an
    encoder from idling while the loop hands it the next."""
    at_once: int
    """At most so many are taken at once; fewer when they take longer than `VISIT_S`."""


class _Pace:
    """How many frames go to the outputs in one visit: the way to a thread and back costs as much as a small frame."""

    def __init__(self, most: int) -> None:
        self.frames = 1
        self._most = most

    def took(self, frames: int, duration_s: float) -> None:
        """Follow how long the slowest writer worked on so many."""
        self.frames = max(1, min(self._most, int(VISIT_S * frames / max(duration_s, 1e-6))))


class _Results:
    """A result sink, open."""

    def __init__(self, sink: StageRunner[Frame, Never]) -> None:
        self._sink = sink

    async def write(self, frames: Handful, written: list[Written]) -> None:
        visit: Visit[Never] = Visit()
        try:
            await self._sink.process_burst(deque(frames), visit)
        finally:
            written += [Written(handed_s=ended_s, busy_s=ended_s - began_s) for began_s, ended_s in visit.spans]

    async def finish(self) -> None:
        await self._sink.flush()


class _Last:
    """What the outputs were given last."""

    frame: Frame | None = None


async def run_outputs(
    rendered: Channel[Frame],
    outputs: tuple[OutputStages, ...],
    results: tuple[ResultSink, ...],
    ledger: Ledger,
    observer: Observer,
    presence: Presence,
    supply: Supply,
) -> None:
    """Deliver every frame that comes to every output, then commit them all.

    While `presence` says that a live source is away, outputs that want it get pictures that stand in for its frames.
    Those are in no books: they are no frames of the source.
    """
    async with AsyncExitStack() as stack:
        videos = [
            await _open_video(stack, output, number, rendered, ledger, observer)
            for number, output in enumerate(outputs)
        ]
        writers: list[Video | _Results] = [*videos]
        for number, recorder in enumerate(results):
            thread, inbox = f"{ledger.stream}.results{number}", None if outputs else rendered
            opening = opened("sink", recorder, observer, thread=thread, patience_s=PATIENCE_S, inbox=inbox)
            runner = await stack.enter_async_context(opening)
            writers.append(_Results(runner))
        last, pace = _Last(), _Pace(supply.at_once)

        async def deliver() -> None:
            async for frame in rendered:
                frames = [(frame, rendered.last_wait_s)]
                while len(rendered) and len(frames) < pace.frames:
                    frames.append((rendered.take_nowait(), rendered.last_wait_s))
                pace.took(len(frames), await _write_all(writers, frames, ledger))
                last.frame, _ = frames[-1]
                del frame, frames  # no picture is held while the next is waited for

        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(_bridge([one for one in videos if one.bridges], last, ledger, presence)),
                group.create_task(_keep_house(videos)),
            ]
            # Whoever takes a frame hands it to the threads before anybody else runs: they get the frames in order.
            async with asyncio.TaskGroup() as deliveries:
                for _ in range(1 + supply.ahead):
                    deliveries.create_task(deliver())
            for task in beside:
                task.cancel()
        # Results first: a video appears under its name last, when nothing can fail any more.
        for writer in reversed(writers):
            await writer.finish()


async def _open_video(
    stack: AsyncExitStack, output: OutputStages, number: int, rendered: Channel[Frame], ledger: Ledger, watch: Observer
) -> Video:
    worker = await stack.enter_async_context(Worker(f"{ledger.stream}.encode{number}", patience_s=PATIENCE_S))
    for sink in output.sinks:
        await stack.enter_async_context(opened_on(worker, "sink", sink, watch, inbox=rendered))
    if output.stand_in is not None:
        await stack.enter_async_context(opened_on(worker, "encode", output.stand_in, watch))
    await stack.enter_async_context(opened_on(worker, "encode", output.encode, watch, inbox=rendered))
    video = Video(output, worker, watch, ledger.stream)
    stack.callback(video.leave)
    video.join()
    return video


async def _write_all(writers: list[Video | _Results], frames: Handful, ledger: Ledger) -> float:
    """Hand frames to all writers; return for how many seconds the slowest one worked.

    Those that all are done with are booked, also when one of them fails: then the others end with the frame in hand.
    """
    written: list[list[Written]] = [[] for _ in writers]
    try:
        if len(writers) == 1:
            await writers[0].write(frames, written[0])
        else:
            async with asyncio.TaskGroup() as group:
                for writer, outcomes in zip(writers, written, strict=True):
                    group.create_task(writer.write(frames, outcomes))
    finally:
        for number in range(min(map(len, written), default=len(frames))):
            _book(ledger, frames[number][0], [outcomes[number] for outcomes in written])
    return max((sum(one.busy_s for one in outcomes) for outcomes in written), default=0.0)


def _book(ledger: Ledger, frame: Frame, outcomes: list[Written]) -> None:
    """A frame that reached anybody is delivered. One that nobody took is dropped, for the first one's reason."""
    if outcomes and all(outcome.lost for outcome in outcomes):
        ledger.drop("sink", outcomes[0].lost)
    else:
        ledger.deliver(frame, max((outcome.handed_s for outcome in outcomes), default=time.monotonic()))


async def _keep_house(videos: list[Video]) -> None:
    """Let recordings grow too old, and be deleted, whether the camera is there or not."""
    while True:
        await asyncio.sleep(HOUSEKEEPING_EVERY_S)
        for video in videos:
            await video.keep_house()


async def _bridge(videos: list[Video], last: _Last, ledger: Ledger, presence: Presence) -> None:
    """While the source is away and nothing of it is under way, let pictures stand in for its frames."""
    while videos:
        await asyncio.sleep(presence.patience_s)
        away_s = presence.away_s
        if away_s is None or last.frame is None or ledger.held:
            continue
        absence = Absence(
            last=replace(last.frame, result=None, truth=None),
            pts=presence.timeline.place_now(),
            duration=presence.stand_in_duration(last.frame.time_base),
            text=presence.text(away_s),
        )
        await asyncio.gather(*(video.bridge(absence) for video in videos))
