"""The end of a frame's way: encode it once for each encoding, hand the packets to the sinks, record the results."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrseg.pipeline.run import StageRunner, opened

if TYPE_CHECKING:
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


class _OpenOutput:
    """An encoder and its sinks, open."""

    def __init__(
        self, encoder: StageRunner[Frame, EncodedPacket], sinks: list[StageRunner[EncodedPacket, Never]]
    ) -> None:
        self._encoder = encoder
        self._sinks = sinks

    async def write(self, frame: Frame, waited_s: float) -> float:
        """Encode and hand on; return when the packets were handed to the sinks."""
        packets = await self._encoder.process(frame, waited_s)
        handed_s = time.monotonic()
        await self._hand_on(packets)
        return handed_s

    async def finish(self) -> None:
        """Write the encoder's tail, then let the sinks commit."""
        await self._hand_on(await self._encoder.flush())
        for sink in self._sinks:
            await sink.flush()

    async def _hand_on(self, packets: list[EncodedPacket]) -> None:
        for packet in packets:
            if len(self._sinks) == 1:
                await self._sinks[0].process(packet)
            else:
                await asyncio.gather(*(sink.process(packet) for sink in self._sinks))


class _OpenResults:
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
) -> None:
    """Deliver every frame that comes to every output, then commit them all.

    A frame is taken only when all outputs are done with the one before. So what waits, waits as a frame, where it can
    still grow too old and be dropped, and never as a packet.
    """
    stream = ledger.stream
    async with AsyncExitStack() as stack:
        writers: list[_OpenOutput | _OpenResults] = []
        for number, output in enumerate(outputs):
            sinks = [
                await stack.enter_async_context(opened("sink", sink, observer, thread=f"{stream}.sink{number}.{place}"))
                for place, sink in enumerate(output.sinks)
            ]
            encoder = await stack.enter_async_context(
                opened("encode", output.encode, observer, thread=f"{stream}.encode{number}", inbox=rendered)
            )
            writers.append(_OpenOutput(encoder, sinks))
        for place, sink in enumerate(results):
            runner = await stack.enter_async_context(
                opened("sink", sink, observer, thread=f"{stream}.results{place}", inbox=None if outputs else rendered)
            )
            writers.append(_OpenResults(runner))
        async for frame in rendered:
            ledger.deliver(frame, await _write_all(writers, frame, rendered.last_wait_s))
        for writer in writers:
            await writer.finish()


async def _write_all(writers: list[_OpenOutput | _OpenResults], frame: Frame, waited_s: float) -> float:
    if not writers:
        return time.monotonic()
    if len(writers) == 1:
        return await writers[0].write(frame, waited_s)
    return max(await asyncio.gather(*(writer.write(frame, waited_s) for writer in writers)))
