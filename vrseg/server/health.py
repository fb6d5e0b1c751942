"""Whether the process can still work: its loop answers, and so does its GPU."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from vrseg.errors import DeviceError, DeviceMemoryError
from vrseg.gpu.heartbeat import Heartbeat
from vrseg.pipeline.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vrseg.gpu.device import Gpu

PATIENCE_S = 2.0
# Whoever asks more often gets the last answer: asking must not become work for the GPU.
GOOD_FOR_S = 1.0


class Health:
    """Asks the GPU on a thread of its own, which a device that hangs may keep for ever."""

    def __init__(self, gpu: Gpu | None) -> None:
        self._gpu = gpu
        self._worker: Worker | None = None
        self._heart: Heartbeat | None = None
        self._asking: asyncio.Task[str] | None = None
        self._asked_s = float("-inf")

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Have the thread, where there is a GPU; the health can be asked for inside the block.

        Raises:
            ExhaustedError: the system has no room for one more.
        """
        if self._gpu is None:
            yield
            return
        async with Worker("health") as self._worker:
            yield

    async def ill(self) -> str:
        """Tell why the process must be started anew; empty when it is well."""
        if self._gpu is None:
            return ""
        if self._asking is None or (self._asking.done() and time.monotonic() - self._asked_s > GOOD_FOR_S):
            self._asked_s = time.monotonic()
            self._asking = asyncio.create_task(self._ask(self._gpu))
        await asyncio.wait({self._asking}, timeout=PATIENCE_S)
        if not self._asking.done():
            return f"the GPU has not answered for {time.monotonic() - self._asked_s:.0f} s"
        return self._asking.result()

    async def _ask(self, gpu: Gpu) -> str:
        assert self._worker is not None  # noqa: S101 -- at_work comes first
        try:
            await self._worker.submit(self._beat, gpu)
        except (DeviceError, DeviceMemoryError) as error:
            return str(error)
        return ""

    def _beat(self, gpu: Gpu) -> None:
        if self._heart is None:
            heart = Heartbeat(gpu)
            heart.open()
            self._heart = heart
        self._heart.beat()
