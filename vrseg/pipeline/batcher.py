"""Gathers frames of all streams that use a model into batches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from vrseg.pipeline.channel import ChannelClosedError

if TYPE_CHECKING:
    from vrseg.frame import Frame
    from vrseg.pipeline.channel import Channel
    from vrseg.pipeline.ledger import Ledger


class Inlet:
    """One stream's way through a model: from its queue of decoded frames, as its credits allow, to `finished`."""

    def __init__(self, decoded: Channel[Frame], finished: Channel[Frame], ledger: Ledger) -> None:
        self.decoded = decoded
        self.ledger = ledger
        self._finished = finished
        self.in_model = 0
        """Frames that were taken and have not been handed back."""

    def hand_back(self, frame: Frame) -> None:
        """Take a frame with its result. There is always room for it: the credits see to that."""
        try:
            self._finished.put_nowait(frame)
        except ChannelClosedError:
            self.ledger.drop("postprocess", "stopped")

    @property
    def hurried(self) -> bool:
        """Its frames may not wait: they would be dropped."""
        return self.decoded.on_full != "block"

    @property
    def ready(self) -> int:
        """Frames that could go now."""
        return min(len(self.decoded), self.ledger.credits)

    @property
    def ended(self) -> bool:
        """No frame will come any more."""
        return self.decoded.closed and not len(self.decoded)

    @property
    def may_grow(self) -> bool:
        """Waiting may bring another frame of this stream.

        A live stream never waits for its own next frame: that would cost a whole frame time. A file delivers the next
        at once, as long as it has room.
        """
        if self.decoded.closed or self.ledger.credits <= len(self.decoded):
            return False
        return not len(self.decoded) if self.hurried else len(self.decoded) < self.decoded.capacity


class Batcher:
    """An endless iterator of batches. A batch is made when it is asked for, so frames age in their own queues.

    It goes when it is full, when its oldest frame has waited `max_delay_s`, or when waiting cannot fill it further.
    Streams take turns, and the turn moves on from batch to batch. While a live stream has a frame, a turn is one frame.
    Among files it is as many as there are: what goes together through the model is handed on together behind it, in one
    visit to each thread.
    """

    def __init__(self, max_size: int, max_delay_s: float) -> None:
        self.max_size = max_size
        self.max_delay_s = max_delay_s
        self.last_wait_s = 0.0
        """How long the oldest frame of the last batch had waited."""
        self._inlets: deque[Inlet] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def attach(self, inlet: Inlet) -> None:
        """Take frames from this stream too."""
        inlet.decoded.on_change = inlet.ledger.on_credit = self._changed.set
        self._inlets.append(inlet)
        self._changed.set()

    def detach(self, inlet: Inlet) -> None:
        """Forget this stream. Its queue is left as it is."""
        inlet.decoded.on_change = inlet.ledger.on_credit = None
        self._inlets.remove(inlet)
        self._changed.set()

    def close(self) -> None:
        """End the iteration once no attached stream can give a frame. Safe to call twice."""
        self._closed = True
        self._changed.set()

    def __aiter__(self) -> Batcher:
        return self

    async def __anext__(self) -> tuple[Frame, ...]:
        while True:
            self._changed.clear()
            for inlet in self._inlets:
                inlet.decoded.expire()
            ready = sum(inlet.ready for inlet in self._inlets)
            if self._closed and not ready and all(inlet.ended for inlet in self._inlets):
                raise StopAsyncIteration
            patience_s = self._patience_s(ready)
            if patience_s is not None and patience_s <= 0:
                return self._gather()
            await self._change(patience_s)

    def _patience_s(self, ready: int) -> float | None:
        """Seconds for which waiting for more frames is worth it; None while there is no frame at all."""
        if not ready:
            return None
        if ready >= self.max_size or not any(inlet.may_grow for inlet in self._inlets):
            return 0.0
        now_s = time.monotonic()
        return self.max_delay_s - max(inlet.decoded.oldest_wait_s(now_s) for inlet in self._inlets if inlet.ready)

    def _gather(self) -> tuple[Frame, ...]:
        frames: list[Frame] = []
        self.last_wait_s = 0.0
        turn = 1 if any(inlet.hurried and inlet.ready for inlet in self._inlets) else self.max_size
        while len(frames) < self.max_size:
            inlet = next((inlet for inlet in self._inlets if inlet.ready), None)
            if inlet is None:
                break
            # who has just been served goes to the end of the line
            self._inlets.remove(inlet)
            self._inlets.append(inlet)
            count = min(turn, inlet.ready, self.max_size - len(frames))
            frames += [self._take(inlet) for _ in range(count)]
        return tuple(frames)

    def _take(self, inlet: Inlet) -> Frame:
        frame = inlet.decoded.take_nowait()
        inlet.ledger.depart()
        inlet.in_model += 1
        self.last_wait_s = max(self.last_wait_s, inlet.decoded.last_wait_s)
        return frame

    async def _change(self, timeout_s: float | None) -> None:
        timer = None
        if timeout_s is not None:
            timer = asyncio.get_running_loop().call_later(timeout_s, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()
