"""What the machinery itself adds: from decoded to handed to the encoder, live, with a network that does nothing.

A clip is read at its own speed and really decoded; queues, credits, batcher and threads are the daemon's own;
preprocessing, network and head pass frames on untouched; the encoder only notes how old each frame is.

    python scripts/bench_latency.py CLIP.mp4 [--streams 1] [--seconds 20]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import uvloop
from no_work import NoEngine, NoHead, NoPreprocess, NoWork, observed_model

from vrseg.backoff import Backoff
from vrseg.decode.cpu import PyavDecoder
from vrseg.pipeline.ingest import IngestStages
from vrseg.pipeline.ledger import Ledger
from vrseg.pipeline.outputs import OutputStages
from vrseg.pipeline.stream import QueueRule, StreamStages, run_stream
from vrseg.source.file import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import Frame

MAX_AGE_S = 0.5


class Clock(NoWork):
    """An encoder that notes the age of its frames."""

    def __init__(self) -> None:
        self.ages_s: list[float] = []

    def process(self, item: Frame, /) -> Iterable[Any]:
        """Note and forget."""
        self.ages_s.append(time.monotonic() - item.decoded_s)
        return ()


async def measure(clip: str, streams: int, seconds: float) -> list[float]:
    """Return the ages of all frames as they came to their encoders."""
    recorder, model = observed_model(NoPreprocess(), NoEngine(), NoHead())
    stop, clocks = asyncio.Event(), [Clock() for _ in range(streams)]
    asyncio.get_running_loop().call_later(seconds, stop.set)
    async with asyncio.TaskGroup() as group:
        group.create_task(model.run())
        await model.ready.wait()
        async with asyncio.TaskGroup() as running:
            for number, clock in enumerate(clocks):
                ledger = Ledger(str(number), 18, recorder, deadline_s=MAX_AGE_S)
                recorder.add_stream(ledger)
                stages = stream(str(number), clip, clock)
                running.create_task(run_stream(stages, model, ledger, recorder, stop))
        model.close()
    return [age_s for clock in clocks for age_s in clock.ages_s]


def stream(name: str, clip: str, clock: Clock) -> StreamStages:
    """Return a live stream of the clip that ends at the clock."""
    return StreamStages(
        ingest=IngestStages(
            make_source=lambda: FileSource(clip, loop=True, realtime=True),
            make_decoder=lambda first: PyavDecoder(name, threads=0, live=True, first_index=first),
            live=True,
            open_timeout_s=10.0,
            stall_timeout_s=10.0,
            backoff=Backoff(),
        ),
        queue=QueueRule(size=4, policy="drop_oldest", max_age_s=MAX_AGE_S),
        render=None,
        outputs=(OutputStages(encode=clock, sinks=()),),
        results=(),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    ages_s = uvloop.run(measure(arguments.clip, arguments.streams, arguments.seconds))
    p50, p95, p99 = 1000 * np.quantile(ages_s, (0.5, 0.95, 0.99))
    print(f"{len(ages_s)} frames of {arguments.streams} streams: p50 {p50:.2f} ms, p95 {p95:.2f} ms, p99 {p99:.2f} ms")


if __name__ == "__main__":
    main()
