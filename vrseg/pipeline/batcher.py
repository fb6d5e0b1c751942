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

    def take(self) -> Frame:
        """Let the oldest frame go into the model. There is one that may: see `ready`."""
        frame = self.decoded.take_nowait()
        self.ledger.depart()
        self.in_model += 1
        return frame

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


class _Line:
    """Streams that take turns."""

    def __init__(self) -> None:
        self.inlets: deque[Inlet] = deque()
        """With who is next in front."""
        self._served: Inlet | None = None
        self._left = 0
        """Frames of its turn."""

    def take(self, most: int, *, turn: int) -> list[tuple[Frame, float]]:
        """Take up to `most` frames, each with how long it waited; of each stream `turn`, or as many as it has."""
        if 0 < self._left < turn <= most:
            self._left = turn  # one that a batch cut short begins anew, or all after it would be cut there too
        taken: list[tuple[Frame, float]] = []
        while len(taken) < most and (inlet := self._next(turn)) is not None:
            count = min(self._left, inlet.ready, most - len(taken))
            self._left -= count
            taken += [(inlet.take(), inlet.decoded.last_wait_s) for _ in range(count)]
        return taken

    def remove(self, inlet: Inlet) -> None:
        """Forget a stream."""
        self.inlets.remove(inlet)
        if self._served is inlet:
            self._served = None

    def _next(self, turn: int) -> Inlet | None:
        """Return whose turn it is: still that of who was served last, if the batch before ended in it."""
        if self._served is not None and self._served.ready and self._left > 0:
            return self._served
        self._served = next((inlet for inlet in self.inlets if inlet.ready), None)
        if self._served is not None:
            self._left = turn
            self.inlets.remove(self._served)
            self.inlets.append(self._served)
        return self._served


class Batcher:
    """An endless iterator of batches. A batch is made when it is asked for, so frames age in their own queues.

    It goes when it is full, when its oldest frame has waited `max_delay_s`, or when waiting cannot fill it further.
    Streams whose frames may not wait come first, and take turns frame by frame. The others, which are files as a rule,
    get what room is left, and a place in every second batch at least. Their turns are as long as a batch: what goes
    together through the model is handed on together behind it, in one visit to each thread.
    """

    def __init__(self, max_size: int, max_delay_s: float) -> None:
        self.max_size = max_size
        self.max_delay_s = max_delay_s
        self.last_wait_s = 0.0
        """How long the oldest frame of the last batch had waited."""
        self._hurried = _Line()
        self._patient = _Line()
        self._passed_over = False
        """The last batch had no place for patient streams that had frames."""
        self._changed = asyncio.Event()
        self._closed = False

    def attach(self, inlet: Inlet) -> None:
        """Take frames from this stream too."""
        inlet.decoded.on_change = inlet.ledger.on_credit = self._changed.set
        self._line_of(inlet).inlets.append(inlet)
        self._changed.set()

    def detach(self, inlet: Inlet) -> None:
        """Forget this stream. Its queue is left as it is."""
        inlet.decoded.on_change = inlet.ledger.on_credit = None
        self._line_of(inlet).remove(inlet)
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
            inlets = (*self._hurried.inlets, *self._patient.inlets)
            for inlet in inlets:
                inlet.decoded.expire()
            ready = sum(inlet.ready for inlet in inlets)
            if self._closed and not ready and all(inlet.ended for inlet in inlets):
                raise StopAsyncIteration
            patience_s = self._patience_s(inlets, ready)
            if patience_s is not None and patience_s <= 0:
                return self._gather()
            await self._change(patience_s)

    def _line_of(self, inlet: Inlet) -> _Line:
        return self._hurried if inlet.hurried else self._patient

    def _patience_s(self, inlets: tuple[Inlet, ...], ready: int) -> float | None:
        """Seconds for which waiting for more frames is worth it; None while there is no frame at all."""
        if not ready:
            return None
        if ready >= self.max_size or not any(inlet.may_grow for inlet in inlets):
            return 0.0
        now_s = time.monotonic()
        return self.max_delay_s - max(inlet.decoded.oldest_wait_s(now_s) for inlet in inlets if inlet.ready)

    def _gather(self) -> tuple[Frame, ...]:
        patient = any(inlet.ready for inlet in self._patient.inlets)
        taken = self._hurried.take(self.max_size - (patient and self._passed_over), turn=1)
        more = self._patient.take(self.max_size - len(taken), turn=self.max_size)
        self._passed_over = patient and not more
        self.last_wait_s = max(waited_s for _, waited_s in taken + more)
        return tuple(frame for frame, _ in taken + more)

    async def _change(self, timeout_s: float | None) -> None:
        timer = None
        if timeout_s is not None:
            timer = asyncio.get_running_loop().call_later(timeout_s, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()
