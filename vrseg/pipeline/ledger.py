"""Frame conservation: every frame that came in ends as exactly one of delivered, dropped or failed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.frame import Frame
    from vrseg.pipeline.observer import Observer, StageName


class Ledger:
    """The books of one stream: what came in, how it ended, and how much room its output has.

    A frame needs a credit to leave the queue of decoded frames, and gives it back when it ends. So frames under way
    never exceed the room behind the model, and a slow output holds up its own stream only.
    """

    def __init__(self, stream: str, credits_: int, observer: Observer, *, deadline_s: float = 0.0) -> None:
        self.stream = stream
        self.entered = 0
        self.delivered = 0
        self.failed = 0
        self.dropped: Counter[str] = Counter()
        """By reason."""
        self.returned = 0
        """Frames that left the queue of decoded frames and have ended since, in whatever way."""
        self.last_entered_s = 0.0
        """Monotonic time of the last decoded frame."""
        self.on_credit: Callable[[], None] | None = None
        """Called whenever a credit comes back."""
        self._observer = observer
        self._deadline_s = deadline_s
        self._credits = credits_
        self._queued = 0
        self._under_way = 0
        self._changed = asyncio.Event()

    @property
    def credits(self) -> int:
        """Frames that may leave the queue now."""
        return self._credits - self._under_way

    @property
    def held(self) -> int:
        """Frames in the queue of decoded frames or under way behind it."""
        return self._queued + self._under_way

    @property
    def under_way(self) -> int:
        """Frames that left the queue of decoded frames and have not ended."""
        return self._under_way

    @property
    def unaccounted(self) -> int:
        """Frames that came in, are not held anywhere and have no end: always 0, or there is a leak."""
        return self.entered - self.delivered - self.failed - self.dropped.total() - self.held

    def enter(self) -> None:
        """A frame came out of the decoder."""
        self.entered += 1
        self._queued += 1
        self.last_entered_s = time.monotonic()
        self._observer.frame_passed(self.stream, "decode")

    def depart(self) -> None:
        """A frame left the queue of decoded frames, using a credit."""
        self._queued -= 1
        self._under_way += 1
        self._changed.set()

    async def credit(self) -> None:
        """Wait until a frame may leave the queue."""
        while self.credits <= 0:
            await self._wait()

    async def queue_empty(self) -> None:
        """Wait until no frame is in the queue of decoded frames."""
        while self._queued:
            await self._wait()

    def deliver(self, frame: Frame, handed_s: float) -> None:
        """A frame has reached every output; `handed_s` is when they were given it."""
        self.delivered += 1
        latency_s = handed_s - frame.decoded_s
        late = 0.0 < self._deadline_s < latency_s
        self._observer.frame_delivered(self.stream, latency_s, handed_s=handed_s, late=late)
        self._return_credit()

    def drop_queued(self, reason: str) -> None:
        """A frame was discarded from the queue of decoded frames."""
        self._queued -= 1
        self._changed.set()
        self._count_drop("decode", reason)

    def drop(self, stage: StageName, reason: str) -> None:
        """A frame under way was discarded."""
        self._count_drop(stage, reason)
        self._return_credit()

    def fail(self, stage: StageName) -> None:
        """A frame under way was lost to an error."""
        self.failed += 1
        self._observer.frame_failed(self.stream, stage)
        self._return_credit()

    def write_off(self, stage: StageName) -> None:
        """The stream was torn down: what is still under way will never arrive."""
        while self._under_way:
            self.drop(stage, "stopped")

    def _count_drop(self, stage: StageName, reason: str) -> None:
        self.dropped[reason] += 1
        self._observer.frame_dropped(self.stream, stage, reason)

    def _return_credit(self) -> None:
        self._under_way -= 1
        self.returned += 1
        self._changed.set()
        if self.on_credit is not None:
            self.on_credit()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
