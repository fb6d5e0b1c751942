"""For people who bring their own frames: submit arrays, iterate results. The same machinery as the daemon's."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import av

from vrseg.assembly import credits_for
from vrseg.config.build import build
from vrseg.config.quantity import format_duration
from vrseg.config.schema import Config
from vrseg.errors import VrsegError
from vrseg.frame import Detections, Frame, Packet, Segmentation
from vrseg.pipeline.batcher import Inlet
from vrseg.pipeline.channel import Channel, ChannelClosedError
from vrseg.pipeline.ledger import Ledger
from vrseg.pipeline.worker import Worker
from vrseg.plan import make_plan
from vrseg.postprocess.class_map import class_map, foreground_mask
from vrseg.running import Running, models_at_work
from vrseg.telemetry.logs import make_logger
from vrseg.telemetry.status import status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable
    from types import TracebackType

    from vrseg.frame import U8, Result
    from vrseg.pipeline.model import ModelRunner
    from vrseg.stage import Decode

T = TypeVar("T")

STREAM = "array"
MODEL = "model"


class PipelineClosedError(VrsegError, RuntimeError):
    """A frame was submitted to a pipeline that is not open, or not any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the model said of one submitted frame."""

    index: int
    """Counts submitted frames from 0."""
    width: int
    height: int
    """Size of the submitted frame, pixels."""
    result: Result = field(repr=False)
    """`Segmentation` or `Detections`."""
    latency_s: float
    """From submitted to ready."""

    @property
    def detections(self) -> Detections:
        """Boxes of a detecting model.

        Raises:
            TypeError: the model segments.
        """
        if not isinstance(self.result, Detections):
            raise TypeError("this model gives masks, not boxes: use mask() or classes()")
        return self.result

    def mask(self) -> U8:
        """Return (height, width): 255 where there is any class but background, else 0."""
        return foreground_mask(self._segmentation(), self.width, self.height)

    def classes(self) -> U8:
        """Return (height, width): the class of each pixel."""
        return class_map(self._segmentation(), self.width, self.height)

    def _segmentation(self) -> Segmentation:
        if not isinstance(self.result, Segmentation):
            raise TypeError("this model gives boxes, not masks: use detections")
        return self.result


class AsyncPipeline:
    """A model for frames of your own.

    ::

        async with AsyncPipeline("demo") as pipeline:
            await pipeline.submit(image_hwc)
            pipeline.finish()
            async for prediction in pipeline.results():
                prediction.mask()

    Frames are batched as they come, predictions come in the order of submission. `submit` waits while too many frames
    are under way, so take results while you submit: from another task, or with `map`.

    Raises:
        ModelError, ConfigError: on entering: the model does not load.
    """

    def __init__(
        self,
        model: str | Path = "demo",
        *,
        description: str | Path | None = None,
        device: str = "auto",
        batch: int = 8,
        max_delay_s: float = 0.005,
    ) -> None:
        batching = {"max_size": batch, "max_delay": format_duration(max_delay_s)}
        beside = None if description is None else str(description)
        section = {"path": str(model), "description": beside, "batch": batching}
        self._values = {"device": device, "models": {MODEL: section}}
        self._batch = batch
        self._submitted = 0
        self._open = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        running = Running(make_plan(build(Config, self._values), Path.cwd()), make_logger("text", "warning"))
        room = credits_for(self._batch, running.plan.backend)
        self._recorder = running.recorder
        self._ledger = Ledger(STREAM, room, running.recorder)
        running.recorder.add_stream(self._ledger)
        self._decoded: Channel[Frame] = Channel(f"{STREAM}.decoded", room)
        self._done: Channel[Frame] = Channel(f"{STREAM}.done", room)
        inlet = Inlet(self._decoded, self._done, self._ledger)
        await self._stack.enter_async_context(models_at_work(running))
        self._worker = await self._stack.enter_async_context(Worker(f"{STREAM}.decode"))
        self._decoder = running.plan.backend.make_decoder(STREAM, live=False, first_index=0)
        await self._worker.call(self._decoder.open)
        self._stack.push_async_callback(self._worker.call, self._decoder.close)
        await self._stack.enter_async_context(_served(running.models[MODEL], inlet, self._done))
        running.recorder.stream_state(STREAM, "running")
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        await self._stack.__aexit__(kind, error, trace)

    async def submit(self, image_hwc: U8) -> int:
        """Hand in a frame; return its index. Waits while there is no room.

        Args:
            image_hwc: uint8, (height, width, 3), RGB. It is copied.

        Raises:
            PipelineClosedError: after `finish`, or outside the `async with` block.
            ValueError: the array has another shape or dtype.
        """
        if image_hwc.ndim != 3 or image_hwc.shape[2] != 3 or image_hwc.dtype != "uint8":
            raise ValueError(f"expected uint8 (height, width, 3), got {image_hwc.dtype} {image_hwc.shape}")
        if not self._open:
            raise PipelineClosedError("the pipeline is not open: use it within its `with` block")
        index = self._submitted
        self._submitted += 1
        frame = await self._worker.call(_brought_in, self._decoder, image_hwc, index)
        self._ledger.enter()
        try:
            await self._decoded.put(frame)
        except BaseException as error:
            self._ledger.drop_queued("stopped")
            if isinstance(error, ChannelClosedError):
                raise PipelineClosedError("the pipeline is finished: open a new one to submit more") from None
            raise
        return index

    def finish(self) -> None:
        """Say that no more frames come: `results` ends after the last one."""
        self._decoded.close()

    async def results(self) -> AsyncGenerator[Prediction]:
        """Yield predictions in order, until `finish` was called and all are out."""
        async for frame in self._done:
            ready_s = time.monotonic()
            self._ledger.deliver(frame, ready_s)
            assert frame.result is not None  # noqa: S101 -- the model's head sets it on every frame
            yield Prediction(
                index=frame.index,
                width=frame.width,
                height=frame.height,
                result=frame.result,
                latency_s=ready_s - frame.decoded_s,
            )

    async def map(self, images: Iterable[U8]) -> AsyncGenerator[Prediction]:
        """Submit all images and yield their predictions, in order, with as many under way as there is room for."""

        async def submit_all() -> None:
            try:
                for image_hwc in images:
                    await self.submit(image_hwc)
            finally:
                self.finish()

        submitting = asyncio.create_task(submit_all())
        try:
            async for prediction in self.results():
                yield prediction
            await submitting
        finally:
            submitting.cancel()

    def stats(self) -> dict[str, Any]:
        """Return stages, bottleneck, frames and queues as they are now; see `/api/v1/status`."""
        return status(self._recorder)


def _brought_in(decoder: Decode, image_hwc: U8, index: int) -> Frame:
    """Make a frame of the pipeline's device of a picture of the caller's."""
    picture = av.VideoFrame.from_ndarray(image_hwc, format="rgb24")
    picture.pts, picture.time_base = index, Fraction(1, 1)
    (frame,) = decoder.process(Packet(payload=picture, arrived_s=time.monotonic()))
    return frame


@asynccontextmanager
async def _served(model: ModelRunner, inlet: Inlet, done: Channel[Frame]) -> AsyncIterator[None]:
    """Let the model serve the inlet inside the block, and close `done` behind its last frame."""
    model.attach(inlet)
    try:
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(_close_when_drained(model, inlet, done))
            try:
                yield
            finally:
                closing.cancel()
    finally:
        inlet.decoded.abort()
        done.abort()
        await model.detach(inlet)


async def _close_when_drained(model: ModelRunner, inlet: Inlet, done: Channel[Frame]) -> None:
    await model.drained(inlet)
    done.close()
