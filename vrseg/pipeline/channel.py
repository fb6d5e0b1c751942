"""Bounded hand-off between two stages. Closing a channel is the only end-of-stream mark."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
OnFull: TypeAlias = Literal["block", "drop_oldest", "drop_newest"]
DropReason: TypeAlias = Literal["queue_full", "max_age", "stopped"]


class ChannelClosedError(Exception):
    """Nothing more can be put; or, while taking, nothing more will come."""


@dataclass(frozen=True, kw_only=True)  # no slots: Python 3.11 cannot set up a frozen generic that has them
class Ageing(Generic[T]):
    """When an item has become worthless to its reader."""

    max_age_s: float
    born_s: Callable[[T], float]
    """Monotonic time from which the age of an item counts."""


class Channel(Generic[T]):
    """First in, first out; at most `capacity` items; many writers, many readers, one event loop.

    What is discarded, for want of room or for its age, is handed to `on_drop` with the reason, at once.
    """

    def __init__(
        self,
        name: str,
        capacity: int,
        on_full: OnFull = "block",
        *,
        ageing: Ageing[T] | None = None,
        on_drop: Callable[[T, DropReason], None] | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"channel {name!r}: {capacity=} must be at least 1")
        self.name = name
        self.capacity = capacity
        self.on_full: OnFull = on_full
        self.on_change = on_change
        """Called after every put, take and close; for a reader that waits on several channels."""
        self.closed = False
        self.last_wait_s = 0.0
        """How long the item taken last had waited here."""
        self._ageing = ageing
        self._on_drop = on_drop
        self._slots: deque[tuple[T, float]] = deque()
        """Each with the monotonic time at which it came."""
        self._readers: deque[asyncio.Future[None]] = deque()
        self._writers: deque[asyncio.Future[None]] = deque()
        self._watchers: deque[asyncio.Future[None]] = deque()
        self._blocked_s = 0.0
        self._blocked_since: dict[int, float] = {}
        self._full_s = 0.0
        self._full_since: float | None = None

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def blocked_s(self) -> float:
        """Seconds that writers have spent waiting for room, those waiting now included."""
        now_s = time.monotonic()
        return self._blocked_s + sum(now_s - since_s for since_s in self._blocked_since.values())

    @property
    def full_s(self) -> float:
        """Seconds that the channel has been full, up to now."""
        return self._full_s + (0.0 if self._full_since is None else time.monotonic() - self._full_since)

    async def put(self, item: T) -> None:
        """Add an item; wait for room only when the policy is `block`.

        Raises:
            ChannelClosedError: the channel was closed; the item was not taken.
        """
        while len(self._slots) >= self.capacity and not self.closed:
            if self.on_full == "block":
                await self._wait_for_room()
            elif self.on_full == "drop_oldest":
                self._drop(self._pop()[0], "queue_full")
            else:
                self._drop(item, "queue_full")
                return
        self.put_nowait(item)

    def put_nowait(self, item: T) -> None:
        """Add an item. The caller has made sure that there is room.

        Raises:
            ChannelClosedError: the channel was closed; the item was not taken.
        """
        if self.closed:
            raise ChannelClosedError(self.name)
        now_s = time.monotonic()
        self._slots.append((item, now_s))
        if self._full_since is None and len(self._slots) >= self.capacity:
            self._full_since = now_s
        if self.on_change is not None:
            self.on_change()
        if self._readers:
            _wake(self._readers)

    async def take(self) -> T:
        """Remove the oldest item that is young enough; wait for one.

        Raises:
            ChannelClosedError: the channel is closed and empty.
        """
        while True:
            if self._ageing is not None:
                self.expire()
            if self._slots:
                return self.take_nowait()
            if self.closed:
                raise ChannelClosedError(self.name)
            await _park(self._readers)

    def take_nowait(self) -> T:
        """Remove the oldest item. The caller has made sure that there is one."""
        item, entered_s = self._pop()
        self.last_wait_s = time.monotonic() - entered_s
        return item

    def oldest_wait_s(self, now_s: float) -> float:
        """How long the oldest item has waited here; 0 when there is none."""
        return now_s - self._slots[0][1] if self._slots else 0.0

    def expire(self) -> None:
        """Drop items that have become too old."""
        if self._ageing is None:
            return
        horizon_s = time.monotonic() - self._ageing.max_age_s
        while self._slots and self._ageing.born_s(self._slots[0][0]) < horizon_s:
            self._drop(self._pop()[0], "max_age")

    def __aiter__(self) -> Channel[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.take()
        except ChannelClosedError:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Refuse new items and let readers drain what is left. Safe to call twice."""
        self.closed = True
        for waiters in (self._readers, self._writers, self._watchers):
            while waiters:
                _wake(waiters)
        if self.on_change is not None:
            self.on_change()

    async def wait_closed(self) -> None:
        """Wait for `close`."""
        while not self.closed:
            await _park(self._watchers)

    def abort(self) -> None:
        """Close, and drop what is left."""
        self.close()
        while self._slots:
            self._drop(self._pop()[0], "stopped")

    def _pop(self) -> tuple[T, float]:
        slot = self._slots.popleft()
        if self._full_since is not None and len(self._slots) < self.capacity:
            self._full_s += time.monotonic() - self._full_since
            self._full_since = None
        if self.on_change is not None:
            self.on_change()
        if self._writers:
            _wake(self._writers)
        return slot

    def _drop(self, item: T, reason: DropReason) -> None:
        if self._on_drop is not None:
            self._on_drop(item, reason)

    async def _wait_for_room(self) -> None:
        ticket = object()
        started_s = self._blocked_since[id(ticket)] = time.monotonic()
        try:
            await _park(self._writers)
        finally:
            del self._blocked_since[id(ticket)]
            self._blocked_s += time.monotonic() - started_s


async def _park(waiters: deque[asyncio.Future[None]]) -> None:
    waiter = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    try:
        await waiter
    except asyncio.CancelledError:
        if waiter in waiters:
            waiters.remove(waiter)
        else:  # woken and cancelled in the same tick: hand the wake-up on
            _wake(waiters)
        raise


def _wake(waiters: deque[asyncio.Future[None]]) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return
