"""One model at work for all streams that use it: batch, preprocess, infer, postprocess, hand back."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from vrseg.pipeline.batcher import Batcher, Inlet
from vrseg.pipeline.channel import Channel, ChannelClosedError
from vrseg.pipeline.run import InOneVisit, StageRunner, opened, opened_on, pump
from vrseg.pipeline.worker import Worker
from vrseg.stage import asks_device

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from vrseg.frame import Batch, Frame, Inference
    from vrseg.pipeline.observer import Observer
    from vrseg.stage import Infer, Postprocess, Preprocess

    Feed: TypeAlias = Callable[[], Coroutine[None, None, None]]
    """Brings frames as far as inference, until the model is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStages:
    """What a model is made of, and how its frames are gathered."""

    name: str
    preprocess: Preprocess
    infer: Infer
    postprocess: Postprocess
    max_batch: int
    max_delay_s: float
    niceness: int = 0
    """Of all its threads; see `StreamStages.niceness`."""

    def largest_batch(self) -> int:
        """Frames that the open engine has room for: on a full device fewer than it was asked for."""
        return int(getattr(self.infer, "largest_batch", self.max_batch))


class ModelRunner:
    """Serves streams with one model. Frames of a stream come back in order.

    Each of the three stages works on one batch, and one waits at most before the next: more would only add latency.
    Preprocessing and inference share a thread where they only ask a device to work.
    """

    def __init__(self, stages: ModelStages, observer: Observer) -> None:
        self.name = stages.name
        self.max_batch = stages.max_batch
        self.ready = asyncio.Event()
        """Set when all three stages are open: the model is loaded and warm."""
        self._stages = stages
        self._observer = observer
        self._batcher = Batcher(stages.max_batch, stages.max_delay_s)
        self._inlets: dict[str, Inlet] = {}
        self._returned = asyncio.Event()
        self._ended = False

    def attach(self, inlet: Inlet) -> None:
        """Serve a stream."""
        self._inlets[inlet.ledger.stream] = inlet
        self._batcher.attach(inlet)

    async def detach(self, inlet: Inlet) -> None:
        """Serve the stream no more; wait until none of its frames is in the model."""
        self._batcher.detach(inlet)
        try:
            await self.returned(inlet)
        finally:
            del self._inlets[inlet.ledger.stream]

    async def returned(self, inlet: Inlet) -> None:
        """Wait until every frame that was taken from the stream has been handed back."""
        while inlet.in_model and not self._ended:
            self._returned.clear()
            await self._returned.wait()

    async def drained(self, inlet: Inlet) -> None:
        """Wait until the stream's queue was closed and emptied, and every frame has been handed back."""
        await inlet.decoded.wait_closed()
        await inlet.ledger.queue_empty()
        await self.returned(inlet)

    def close(self) -> None:
        """Let `run` return once the attached streams have ended."""
        self._batcher.close()

    async def run(self) -> None:
        """Load the model, then serve until closed. Whatever ends it, no frame stays unaccounted."""
        try:
            await self._serve()
        finally:
            self._ended = True
            if lost := sum(inlet.in_model for inlet in self._inlets.values()):
                self._observer.batch_done(self.name, lost, ok=False)
            for inlet in self._inlets.values():
                for _ in range(inlet.in_model):
                    inlet.ledger.fail("infer")
                inlet.in_model = 0
            self._returned.set()

    async def _serve(self) -> None:
        name, stages, watch = self.name, self._stages, self._observer
        inferred: Channel[Inference] = Channel(f"{name}.inferred", 1)
        together = asks_device(stages.preprocess) and asks_device(stages.infer)
        async with (
            (self._opened_together if together else self._opened_apart)(inferred) as feeds,
            opened(
                "postprocess",
                stages.postprocess,
                watch,
                thread=f"{name}.postprocess",
                niceness=stages.niceness,
                inbox=None if together else inferred,
            ) as post,
            asyncio.TaskGroup() as group,
        ):
            self._follow_engine()
            self.ready.set()
            for feed in feeds:
                group.create_task(feed())
            group.create_task(_emptying(inferred, pump(inferred, post, self._hand_back)))

    @asynccontextmanager
    async def _opened_apart(self, inferred: Channel[Inference]) -> AsyncIterator[tuple[Feed, ...]]:
        """Open preprocessing and inference, each on a thread of its own: while one works, so does the other."""
        name, stages, watch, nice = self.name, self._stages, self._observer, self._stages.niceness
        prepared: Channel[Batch] = Channel(f"{name}.prepared", 1)
        async with (
            opened(
                "preprocess", stages.preprocess, watch, thread=f"{name}.preprocess", niceness=nice, outbox=prepared
            ) as preprocess,
            opened(
                "infer", stages.infer, watch, thread=f"{name}.infer", niceness=nice, inbox=prepared, outbox=inferred
            ) as infer,
        ):
            put = partial(self._pass_on, inferred)
            yield (
                lambda: _closing(prepared, pump(self._batcher, preprocess, prepared.put)),
                lambda: _closing(inferred, _emptying(prepared, pump(prepared, infer, put))),
            )

    @asynccontextmanager
    async def _opened_together(self, inferred: Channel[Inference]) -> AsyncIterator[tuple[Feed, ...]]:
        """Open preprocessing and inference on one thread: both only ask a device, which does them in order anyway.

        What was asked for waits for the device, not for the head. So the queue between tells nothing of either, and
        the observer does not see it.
        """
        name, stages, watch = self.name, self._stages, self._observer
        async with (
            Worker(f"{name}.enqueue", niceness=stages.niceness) as worker,
            opened_on(worker, "preprocess", stages.preprocess, watch),
            opened_on(worker, "infer", stages.infer, watch),
        ):
            both = InOneVisit(
                StageRunner("preprocess", stages.preprocess, worker, watch, thread=f"{name}.preprocess"),
                StageRunner("infer", stages.infer, worker, watch, thread=f"{name}.infer"),
            )
            put = partial(self._pass_on, inferred)
            yield (lambda: _closing(inferred, pump(self._batcher, both, put)),)

    async def _pass_on(self, inferred: Channel[Inference], inference: Inference) -> None:
        self._follow_engine()
        self._observer.batch_done(self.name, len(inference.frames), ok=True)
        for frame in inference.frames:
            self._observer.frame_passed(frame.stream, "infer")
        await inferred.put(inference)

    def _follow_engine(self) -> None:
        """It may shrink, when memory runs out, or change for another one."""
        self._batcher.max_size = min(self.max_batch, self._stages.largest_batch())

    async def _hand_back(self, frame: Frame) -> None:
        inlet = self._inlets[frame.stream]
        inlet.in_model -= 1
        inlet.hand_back(frame)
        self._returned.set()


async def _emptying(inbox: Channel[Any], work: Coroutine[None, None, None]) -> None:
    """Let go of what was not taken: a batch may hold the buffer that the stage before it waits for."""
    try:
        await work
    finally:
        inbox.abort()


async def _closing(outbox: Channel[Any], work: Coroutine[None, None, None]) -> None:
    try:
        with suppress(ChannelClosedError):  # who takes from it has ended, and says itself why
            await work
    finally:
        outbox.close()
