"""The end of a frame's way: encode it once for each encoding, hand the packets to the sinks, record the results."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from vrseg.pipeline.run import StageRunner, opened, opened_on
from vrseg.pipeline.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Never

    from vrseg.frame import EncodedPacket, Frame
    from vrseg.pipeline.channel import Channel
    from vrseg.pipeline.ledger import Ledger
    from vrseg.pipeline.observer import Observer
    from vrseg.stage import Encode, ResultSink, VideoSink


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputStages:
    """One encoding and all sinks that take it."""

    encode: Encode
    sinks: tuple[VideoSink, ...]


class _Video:
    """An encoder and its sinks, open, on one thread.

    Packets go from hand to hand where they are made. A thread for each sink would cost a hop for each packet and gain
    nothing: the next frame may not be encoded before the packets of this one are written anyway.
    """

    def __init__(self, stages: OutputStages, worker: Worker, observer: Observer) -> None:
        self._encode = stages.encode
        self._sinks = stages.sinks
        self._worker = worker
        self._observer = observer

    async def write(self, frame: Frame, waited_s: float) -> float:
        """Encode a frame and write its packets; return when the sinks were given them."""
        started_s, handed_s, ended_s = await self._worker.call(self._write, partial(self._encode.process, frame))
        self._observer.stage_done("encode", waited_s, handed_s - started_s)
        self._observer.stage_done("sink", 0.0, ended_s - handed_s)
        return handed_s

    async def finish(self) -> None:
        """Write the encoder's tail, then let the sinks commit."""
        await self._worker.call(self._write, self._encode.flush)
        for sink in self._sinks:
            await self._worker.call(_exhaust, sink.flush)

    def _write(self, encode: Callable[[], Iterable[EncodedPacket]]) -> tuple[float, float, float]:
        started_s = time.monotonic()
        packets = list(encode())
        handed_s = time.monotonic()
        for packet in packets:
            for sink in self._sinks:
                _exhaust(partial(sink.process, packet))
        return started_s, handed_s, time.monotonic()


class _Results:
    """A result sink, open."""

    def __init__(self, sink: StageRunner[Frame, Never]) -> None:
        self._sink = sink

    async def write(self, frame: Frame, waited_s: float) -> float:
        await self._sink.process(frame, waited_s)
        return time.monotonic()

    async def finish(self) -> None:
        await self._sink.flush()


async def run_outputs(
    rendered: Channel[Frame],
    outputs: tuple[OutputStages, ...],
    results: tuple[ResultSink, ...],
    ledger: Ledger,
    observer: Observer,
    *,
    ahead: int,
) -> None:
    """Deliver every frame that comes to every output, then commit them all.

    With `ahead` 0, a frame is taken only when all outputs are done with the one before. So what waits, waits as a
    frame, where it can still grow too old and be dropped, and never as a packet. Where nothing grows too old, 1 keeps
    an encoder from idling while the loop hands it the next frame.
    """
    stream = ledger.stream
    async with AsyncExitStack() as stack:
        writers: list[_Video | _Results] = []
        for number, output in enumerate(outputs):
            worker = await stack.enter_async_context(Worker(f"{stream}.encode{number}"))
            for sink in output.sinks:
                await stack.enter_async_context(opened_on(worker, "sink", sink, observer, inbox=rendered))
            await stack.enter_async_context(opened_on(worker, "encode", output.encode, observer, inbox=rendered))
            writers.append(_Video(output, worker, observer))
        for number, recorder in enumerate(results):
            runner = await stack.enter_async_context(
                opened(
                    "sink", recorder, observer, thread=f"{stream}.results{number}", inbox=None if outputs else rendered
                )
            )
            writers.append(_Results(runner))

        async def deliver() -> None:
            async for frame in rendered:
                ledger.deliver(frame, await _write_all(writers, frame, rendered.last_wait_s))

        # Whoever takes a frame hands it to the threads before anybody else runs: they get the frames in order.
        async with asyncio.TaskGroup() as group:
            for _ in range(1 + ahead):
                group.create_task(deliver())
        # Results first: a video appears under its name last, when nothing can fail any more.
        for writer in reversed(writers):
            await writer.finish()


async def _write_all(writers: list[_Video | _Results], frame: Frame, waited_s: float) -> float:
    if not writers:
        return time.monotonic()
    if len(writers) == 1:
        return await writers[0].write(frame, waited_s)
    return max(await asyncio.gather(*(writer.write(frame, waited_s) for writer in writers)))


def _exhaust(work: Callable[[], Iterable[Never]]) -> None:
    """Run a sink's work to its end; it gives nothing out."""
    for _ in work():
        pass
