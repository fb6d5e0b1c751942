"""What the machinery itself costs a host: CPU time and context switches for each frame of files.

Sources, decoders, network and encoders do nothing; queues, credits, batcher and threads are the daemon's own. A device
that is pretended takes its time for each batch and sets the pace, as a GPU does, so threads do have to wake up.

    python scripts/bench_machinery.py [--streams 16] [--frames 8000] [--batch-ms 8]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import uvloop
from no_work import BATCH, NoEngine, NoHead, NoPreprocess, NoWork, observed_model

from vrseg.backoff import Backoff
from vrseg.frame import Frame, Packet, SourceInfo
from vrseg.pipeline.ingest import IngestStages
from vrseg.pipeline.ledger import Ledger
from vrseg.pipeline.outputs import OutputStages
from vrseg.pipeline.stream import QueueRule, StreamStages, run_stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import Inference

CREDITS = 4 * BATCH + 2
"""As a stream on a GPU has them."""
PACKETS_READ = 16
"""As a file's source gives them."""
TIME_BASE = Fraction(1, 30)


class AskingPreprocess(NoPreprocess):
    """Says that it only asks a device."""

    device_s = 0.0


class AskingEngine(NoEngine):
    """As `AskingPreprocess`."""

    device_s = 0.0


class WaitingHead(NoHead):
    """Waits for the device, as long as that takes for a batch."""

    def __init__(self, batch_s: float) -> None:
        self._batch_s = batch_s

    def process(self, item: Inference, /) -> Iterable[Frame]:
        """Wait, then pass on."""
        time.sleep(self._batch_s)
        return super().process(item)


class NoPackets:
    """A file of so many packets with nothing in them."""

    live = False

    def __init__(self, count: int) -> None:
        self._left = count

    def open(self) -> SourceInfo:
        """Say what a file says."""
        return SourceInfo(codec="none", width=2, height=2, frame_rate=None, frame_count=None, duration_s=None)

    def read(self) -> list[Packet]:
        """Return the next packets."""
        count = min(self._left, PACKETS_READ)
        self._left -= count
        nothing: Any = None
        return [Packet(payload=nothing, arrived_s=0.0)] * count

    def close(self) -> None:
        """Nothing to release."""


class NoDecoder(NoWork):
    """A frame for each packet."""

    errors = 0

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._index = 0

    def process(self, _item: Packet, /) -> Iterable[Frame]:
        """Make a frame without a picture."""
        index, self._index = self._index, self._index + 1
        yield Frame(
            stream=self._stream,
            index=index,
            pts=index,
            time_base=TIME_BASE,
            picture=None,
            width=2,
            height=2,
            decoded_s=time.monotonic(),
        )


class NoEncoder(NoWork):
    """Takes frames and gives nothing."""

    def process(self, _item: Frame, /) -> Iterable[Any]:
        """Forget it."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a run."""

    frames_per_s: float
    cpu_us: float
    """CPU time of the process for a frame."""
    switches: float
    """Context switches for a frame, voluntary and not."""


async def measure(streams: int, frames: int, batch_s: float) -> Cost:
    """Run so many frames, all streams together."""
    recorder, model = observed_model(AskingPreprocess(), AskingEngine(), WaitingHead(batch_s))
    each, stop = frames // streams, asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(model.run())
        await model.ready.wait()
        gc.collect()
        gc.freeze()  # as the daemon does
        began_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        async with asyncio.TaskGroup() as running:
            for number in range(streams):
                ledger = Ledger(str(number), CREDITS, recorder)
                recorder.add_stream(ledger)
                running.create_task(run_stream(_file(str(number), each), model, ledger, recorder, stop))
        passed_s, after = time.perf_counter() - began_s, resource.getrusage(resource.RUSAGE_SELF)
        model.close()
    return _cost(before, after, passed_s, each * streams)


def _file(name: str, frames: int) -> StreamStages:
    return StreamStages(
        ingest=IngestStages(
            make_source=lambda: NoPackets(frames),
            make_decoder=lambda _first: NoDecoder(name),
            live=False,
            open_timeout_s=10.0,
            stall_timeout_s=10.0,
            backoff=Backoff(),
        ),
        queue=QueueRule(size=BATCH, policy="block", max_age_s=0.0),
        render=None,
        outputs=(OutputStages(encode=NoEncoder(), sinks=()),),
        results=(),
    )


def _cost(before: resource.struct_rusage, after: resource.struct_rusage, passed_s: float, frames: int) -> Cost:
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    switches = after.ru_nvcsw - before.ru_nvcsw + after.ru_nivcsw - before.ru_nivcsw
    return Cost(frames_per_s=frames / passed_s, cpu_us=1e6 * cpu_s / frames, switches=switches / frames)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--frames", type=int, default=8000)
    parser.add_argument("--batch-ms", type=float, default=8.0)
    asked = parser.parse_args()
    cost = uvloop.run(measure(asked.streams, asked.frames, asked.batch_ms / 1000))
    print(
        f"{asked.streams} streams, {cost.frames_per_s:.0f} frames/s: {cost.cpu_us:.0f} us of CPU and "
        f"{cost.switches:.1f} context switches for a frame"
    )


if __name__ == "__main__":
    main()
