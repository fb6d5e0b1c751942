"""`AsyncPipeline` for code without an event loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar

import uvloop

from vrseg.api import AsyncPipeline

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from vrseg.api import Prediction
    from vrseg.frame import U8

T = TypeVar("T")


class Pipeline:
    """`AsyncPipeline` for code without an event loop: it runs one in a thread of its own.

    ::

        with Pipeline("demo") as pipeline:
            for prediction in pipeline.map(images):
                prediction.mask()
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
        self._inner = AsyncPipeline(model, description=description, device=device, batch=batch, max_delay_s=max_delay_s)
        self._life: Future[None] | None = None
        self._entered: Future[None] = Future()
        self._leave = asyncio.Event()

    def __enter__(self) -> Self:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vrseg.loop", daemon=True)
        self._thread.start()
        self._life = asyncio.run_coroutine_threadsafe(self._live(), self._loop)
        try:
            self._entered.result()
        except BaseException:
            self._stop_loop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._leave.set)
        assert self._life is not None  # noqa: S101 -- set on entering
        try:
            self._life.result()
        finally:
            self._stop_loop()

    def submit(self, image_hwc: U8) -> int:
        """Hand in a frame; return its index. See `AsyncPipeline.submit`."""
        return self._call(self._inner.submit(image_hwc))

    def finish(self) -> None:
        """Say that no more frames come."""
        self._loop.call_soon_threadsafe(self._inner.finish)

    def results(self) -> Iterator[Prediction]:
        """Yield predictions in order, until `finish` was called and all are out."""
        return self._iterate(self._inner.results())

    def map(self, images: Iterable[U8]) -> Iterator[Prediction]:
        """Submit all images and yield their predictions, in order. `images` is read on the pipeline's thread."""
        return self._iterate(self._inner.map(images))

    def stats(self) -> dict[str, Any]:
        """Return stages, bottleneck, frames and queues as they are now."""

        async def ask() -> dict[str, Any]:
            return self._inner.stats()

        return self._call(ask())

    async def _live(self) -> None:
        """Hold the pipeline open in one task, as its task groups want it."""
        try:
            async with self._inner:
                self._entered.set_result(None)
                await self._leave.wait()
        except BaseException as error:
            if self._entered.done():
                raise
            self._entered.set_exception(error)

    def _iterate(self, predictions: AsyncGenerator[Prediction]) -> Iterator[Prediction]:
        try:
            while True:
                try:
                    yield self._call(anext(predictions))
                except StopAsyncIteration:
                    return
        finally:
            if self._loop.is_running():  # an iterator may be left behind, and outlive the pipeline
                self._call(predictions.aclose())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
