"""Run one stage: pull, process, push, on a thread of its own."""

from __future__ import annotations

import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from vrseg.pipeline.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from vrseg.pipeline.channel import Channel
    from vrseg.pipeline.observer import Observer, StageName
    from vrseg.stage import Stage

In = TypeVar("In")
Out = TypeVar("Out")
Out_co = TypeVar("Out_co", covariant=True)

# Small work that waits is done in one visit to the thread: the way there and back costs as much as the work itself.
# But no longer than this, which is what a burst may add to the age of its first output.
BURST_ITEMS = 4
BURST_S = 0.002


class Inbox(Protocol[Out_co]):
    """Something to take items from: a channel, or the batcher."""

    last_wait_s: float

    def __aiter__(self) -> AsyncIterator[Out_co]: ...


class StageRunner(Generic[In, Out]):
    """An open stage with its thread. `process` and `flush` are timed and told to the observer."""

    def __init__(self, name: StageName, stage: Stage[In, Out], worker: Worker, observer: Observer) -> None:
        self._name: StageName = name
        self._stage = stage
        self._worker = worker
        self._observer = observer

    async def process(self, item: In, waited_s: float = 0.0) -> list[Out]:
        """Work on one item that has waited so long."""
        outputs, busy_s = await self._worker.call(_timed, self._stage.process, item)
        # see DeviceTimed; read like this, since a stage may be wrapped
        busy_s = getattr(self._stage, "device_s", busy_s)
        self._observer.stage_done(self._name, waited_s, busy_s, thread=self._worker.name)
        return outputs

    async def process_burst(self, items: deque[tuple[In, float]], outputs: list[Out]) -> None:
        """Work on the first of `items`, (item, how long it waited), and on more while `BURST_S` lasts; remove those.

        What comes out is added to `outputs`: should one fail, what came before it is there.
        """
        waiting = [item for item, _ in items]
        for busy_s in await self._worker.call(_timed_burst, self._stage.process, waiting, outputs):
            _, waited_s = items.popleft()
            self._observer.stage_done(self._name, waited_s, busy_s, thread=self._worker.name)

    async def flush(self) -> list[Out]:
        """Collect the tail."""
        return await self._worker.call(lambda: list(self._stage.flush()))


@asynccontextmanager
async def opened(
    name: StageName,
    stage: Stage[In, Out],
    observer: Observer,
    *,
    thread: str = "",
    niceness: int = 0,
    patience_s: float | None = None,
    inbox: Channel[In] | None = None,
    outbox: Channel[Out] | None = None,
) -> AsyncIterator[StageRunner[In, Out]]:
    """Open `stage` on a new thread; close it, whatever happens. `patience_s`: see `Worker`."""
    async with (
        Worker(thread or name, niceness=niceness, patience_s=patience_s) as worker,
        opened_on(worker, name, stage, observer, inbox=inbox, outbox=outbox),
    ):
        yield StageRunner(name, stage, worker, observer)


@asynccontextmanager
async def opened_on(
    worker: Worker,
    name: StageName,
    stage: Stage[In, Out],
    observer: Observer,
    *,
    inbox: Channel[Any] | None = None,
    outbox: Channel[Any] | None = None,
) -> AsyncIterator[None]:
    """Open `stage` on a thread; close it there, whatever happens. Errors get the names of both as a note.

    `inbox` is the queue that fills up when this stage is slow, also where a stage between takes from it.
    """
    observer.worker_started(name, inbox, outbox)
    try:
        await worker.call(stage.open)
        yield
    except Exception as error:
        error.add_note(f"in stage {name} ({worker.name})")
        raise
    finally:
        try:
            await worker.end(stage.close)
        finally:
            observer.worker_ended(name, inbox, outbox)


async def pump(inbox: Inbox[In], runner: StageRunner[In, Out], put: Callable[[Out], Awaitable[None]]) -> None:
    """Feed everything that comes to the stage, and its results to `put`, tail included."""
    async for item in inbox:
        for output in await runner.process(item, inbox.last_wait_s):
            await put(output)
    for output in await runner.flush():
        await put(output)


async def pump_bursts(
    inbox: Channel[In], runner: StageRunner[In, Out], put: Callable[[list[Out]], Awaitable[None]]
) -> None:
    """Like `pump`, with what waits handed over in bursts, and what comes of each as one list, empty ones too."""
    items: deque[tuple[In, float]] = deque()
    async for item in inbox:
        items.append((item, inbox.last_wait_s))
        while len(inbox) and len(items) < BURST_ITEMS:
            items.append((inbox.take_nowait(), inbox.last_wait_s))
        while items:
            await _hand_on(runner, items, put)
    await put(await runner.flush())


async def _hand_on(
    runner: StageRunner[In, Out], items: deque[tuple[In, float]], put: Callable[[list[Out]], Awaitable[None]]
) -> None:
    outputs: list[Out] = []
    try:
        await runner.process_burst(items, outputs)
    except Exception:
        await put(outputs)
        raise
    await put(outputs)


def _timed(work: Callable[[In], Iterable[Out]], item: In) -> tuple[list[Out], float]:
    started_s = time.monotonic()
    outputs = list(work(item))
    return outputs, time.monotonic() - started_s


def _timed_burst(work: Callable[[In], Iterable[Out]], items: list[In], outputs: list[Out]) -> list[float]:
    busy_s: list[float] = []
    for item in items:
        if sum(busy_s) >= BURST_S:
            break
        more, one_s = _timed(work, item)
        outputs += more
        busy_s.append(one_s)
    return busy_s
