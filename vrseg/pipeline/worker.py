"""One named thread, called from the event loop."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from vrseg.errors import ExhaustedError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Worker:
    """A thread that runs what it is given, in order. It ends with its `async with` block.

    Not an executor: codecs, CUDA contexts and file handles belong to one thread for life, and one that FFmpeg holds in
    a silent socket must not keep the process from ending, so the thread is a daemon.

    Args:
        name: of the thread.
        niceness: how much lower its priority is.
        patience_s: how long it is waited for once its work is wanted no more: by cancelled callers, and at the end.
            Then nobody waits again, and it is left to itself with what it holds. None: for ever.
    """

    def __init__(self, name: str, *, niceness: int = 0, patience_s: float | None = None) -> None:
        self.name = name
        self._niceness = niceness
        self._patience_s = patience_s
        self._given_up = False
        self._broken_off = False
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    async def __aenter__(self) -> Self:
        """Start the thread.

        Raises:
            ExhaustedError: the system has no room for one more.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            raise ExhaustedError(
                f"no room for the thread {self.name}: raise the limit of memory or of tasks"
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs.put(None)

    async def call(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` on the thread. A cancelled caller waits while the patience lasts: the thread may hold frames."""
        job = self.submit(work, *args, **kwargs)
        try:
            return await job
        except asyncio.CancelledError:
            await self._in_time(self.submit(_nothing))  # jobs end in order: after this one, `work` is done
            raise

    async def call_for_each(self, items: deque[T], work: Callable[[deque[T]], None]) -> None:
        """As `call`, for work on `taken(items)`. A cancelled caller takes back those that are left.

        Once that has happened, or such work has failed, none is begun any more: items would be left out.
        """
        job = self.submit(self._work_on, items, work)
        try:
            await job
        except asyncio.CancelledError:
            self._broken_off = True
            items.clear()
            await self._in_time(self.submit(_nothing))
            raise

    async def end(self, work: Callable[[], None]) -> None:
        """Run the last `work`. A thread that does not come to it in time does it when it can; nobody waits for that."""
        job = self.submit(work)
        try:
            in_time = await self._in_time(job)
        except asyncio.CancelledError:
            await self._in_time(job)
            raise
        if in_time:
            job.result()

    async def _in_time(self, job: asyncio.Future[Any]) -> bool:
        done, _ = await asyncio.wait([job], timeout=0 if self._given_up else self._patience_s)
        if not done:
            self._given_up = True
            job.cancel()  # the thread may still do it; nobody asks what came of it
        return bool(done)

    def submit(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue `work`; the future is of the running loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()

        self._jobs.put(partial(_run, loop, future, partial(work, *args, **kwargs)))
        return future

    def _work_on(self, items: deque[T], work: Callable[[deque[T]], None]) -> None:
        if self._broken_off:
            return
        try:
            work(items)
        except BaseException:
            self._broken_off = True
            raise

    def _work(self) -> None:
        if self._niceness:
            # For this thread and those that its libraries start: Linux keeps it for each thread on its own. Only ever
            # lower than what the process was started with, since raising needs a privilege.
            thread = threading.get_native_id()
            lower = min(os.getpriority(os.PRIO_PROCESS, thread) + self._niceness, 19)
            os.setpriority(os.PRIO_PROCESS, thread, lower)
        while (job := self._jobs.get()) is not None:
            job()
            del job  # it holds what was worked on, while the next is waited for


def taken(items: deque[T]) -> Iterator[T]:
    """Take one item after the other, while another thread may take back those that are left."""
    with suppress(IndexError):
        while True:
            yield items.popleft()


def _nothing() -> None:
    pass


def _run(loop: asyncio.AbstractEventLoop, future: asyncio.Future[R], work: Callable[[], R]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 -- it is raised again where the caller waits
        _tell(loop, future, _fail, error)
    else:
        _tell(loop, future, _succeed, result)
    finally:
        # Error, traceback, this frame and the future would keep each other; and with them a demuxer or decoder of many
        # megabytes, which to Python's collector look too small to be worth a round.
        del future


def _tell(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    settle: Callable[[asyncio.Future[Any], Any], None],
    value: object,
) -> None:
    if not loop.is_closed():  # an abandoned read may outlast the loop
        loop.call_soon_threadsafe(settle, future, value)


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
