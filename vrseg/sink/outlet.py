"""Where records go that may take their time: a mailbox that never makes anybody wait, and a thread that empties it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from vrseg.backoff import Backoff
from vrseg.errors import ExhaustedError
from vrseg.sink.detached import DetachedThreads

if TYPE_CHECKING:
    from collections.abc import Callable

    import structlog

Record: TypeAlias = dict[str, Any]
"""An event (see `events.event.as_json`), which has a `kind`, or a frame (see `sink.results.ResultRecords`)."""

# Ten minutes of a camera's frames; a thread that has not run for so long will not run again.
CAPACITY = 20_000
PATIENCE = Backoff()
"""Waits before a delivery that broke begins again."""


class Mailbox:
    """Records on their way to another thread: bounded, the oldest dropped and counted."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.dropped = 0
        self._capacity = capacity
        self._records: deque[Record] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._wake: Callable[[], object] = _nothing

    def put(self, record: Record) -> None:
        """Add a record, from any thread."""
        with self._lock:
            self._records.append(record)
            if len(self._records) > self._capacity:
                self._records.popleft()
                self.dropped += 1
            self._wake()

    def close(self) -> None:
        """Say that no more will come."""
        with self._lock:
            self._closed = True
            self._wake()

    def shut(self) -> None:
        """Drop what is there and all that will come: nobody empties it any more."""
        with self._lock:
            self._capacity = 0
            self.dropped += len(self._records)
            self._records.clear()

    async def take(self) -> list[Record]:
        """Wait for records and take all that are there; none are there when the mailbox is closed and empty."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._wake = partial(loop.call_soon_threadsafe, news.set)
            if self._records or self._closed:
                news.set()
        try:
            await news.wait()
        finally:
            with self._lock:
                self._wake = _nothing
        with self._lock:
            records = list(self._records)
            self._records.clear()
        return records


class Delivery(Protocol):
    """Brings records to where they belong."""

    counts: Counter[str]
    """What became of them: `delivered`, and reasons of what was dropped."""

    @property
    def waiting(self) -> int:
        """Records that are kept until they can be delivered; asked from any thread."""

    async def run(self, mailbox: Mailbox) -> None:
        """Work until the mailbox is closed and what can be delivered is. Never raises for want of a receiver.

        Called again, on the same loop, when it raised all the same.
        """

    def forget(self) -> None:
        """From any thread: at the end, take away what was left with the receiver. Its stream is gone for good."""


class Outlet:
    """A delivery at work on a thread of its own. What it raises is told, and it begins again a little later."""

    def __init__(self, delivery: Delivery, log: structlog.stdlib.BoundLogger, *, name: str, kind: str) -> None:
        self.kind = kind
        """`file`, `mqtt` or `webhook`: a label of metrics."""
        self._delivery = delivery
        self._log = log
        self._mailbox = Mailbox()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin to deliver.

        Raises:
            ExhaustedError: the system has no room for one more thread.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            raise ExhaustedError(
                f"no room for the thread {self._thread.name}: raise the limit of memory or of tasks"
            ) from error

    def put(self, record: Record, /) -> None:
        """Take a record, from any thread, and return at once."""
        self._mailbox.put(record)

    def close(self, *, forget: bool = False) -> None:
        """Say that no more will come; returns at once. `forget`: see `Delivery.forget`."""
        if forget:
            self._delivery.forget()
        self._mailbox.close()
        self._closed.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; tell whether it has come."""
        if self._thread.ident is not None:
            self._thread.join(max(timeout_s, 0.0))
        return not self._thread.is_alive()

    @property
    def delivered(self) -> int:
        """Records that reached the receiver."""
        return self._delivery.counts["delivered"]

    @property
    def dropped(self) -> dict[str, int]:
        """Records that will not, by reason."""
        reasons = dict(self._delivery.counts)  # at one blow: its thread may count new reasons meanwhile
        reasons.pop("delivered", None)
        return reasons | ({"mailbox_full": self._mailbox.dropped} if self._mailbox.dropped else {})

    @property
    def waiting(self) -> int:
        """Records that are kept until they can be delivered."""
        return self._delivery.waiting

    def _work(self) -> None:
        delays_s = PATIENCE.delays_s()
        runner = asyncio.Runner()  # makes its loop when it is first asked for one, which may fail
        with closing(runner):
            while not self._closed.is_set():
                began_s = time.monotonic()
                if self._delivered_all(runner):
                    return
                if time.monotonic() - began_s > PATIENCE.max_s:
                    delays_s = PATIENCE.delays_s()
                self._closed.wait(next(delays_s))
            if not self._delivered_all(runner):
                self._mailbox.shut()

    def _delivered_all(self, runner: asyncio.Runner) -> bool:
        """Let the delivery work; tell whether it came to a good end."""
        try:
            # May fail: else nobody would await what follows. Names are looked up in its executor, which may take long.
            runner.get_loop().set_default_executor(DetachedThreads())
            runner.run(self._delivery.run(self._mailbox))
        except Exception:  # noqa: BLE001 -- a mistake of ours, or no file descriptor left; the stream goes on
            self._log.exception("results are not delivered", outlet=self._thread.name, kind=self.kind, next="try again")
            return False
        return True


def _nothing() -> None:
    pass
