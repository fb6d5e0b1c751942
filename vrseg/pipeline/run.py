"""Run one stage: pull, process, push, on a thread of its own."""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from vrseg.pipeline.worker import Worker, taken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from vrseg.pipeline.channel import Channel
    from vrseg.pipeline.observer import Observer, StageName
    from vrseg.stage import Stage, Together

In = TypeVar("In")
Out = TypeVar("Out")
Middle = TypeVar("Middle")
Out_co = TypeVar("Out_co", covariant=True)
In_contra = TypeVar("In_contra", contravariant=True)
Span: TypeAlias = tuple[float, float]
"""Monotonic times between which somebody worked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Small work that waits is done in one visit to the thread: the way there and back costs as much as the work."""

    items: int
    """At most so many."""
    duration_s: float
    """None is begun after that: it is what a burst may add to the age of its first output."""
    in_one: bool = False
    """Nothing is in a hurry: a stage that is `vrseg.stage.Together` is given all at once."""


@dataclass(frozen=True)  # no slots: Python 3.11 cannot set up a frozen generic that has them
class Visit(Generic[Out]):
    """What has come of a visit to a thread so far."""

    outputs: list[Out] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    """Of the items that were worked on, one each."""


class Inbox(Protocol[Out_co]):
    """Something to take items from: a channel, or the batcher."""

    last_wait_s: float

    def __aiter__(self) -> AsyncIterator[Out_co]: ...


class Runner(Protocol[In_contra, Out]):
    """Works on items, somewhere else than on the event loop."""

    async def process(self, item: In_contra, waited_s: float = 0.0) -> list[Out]:
        """Work on one item that has waited so long."""

    async def flush(self) -> list[Out]:
        """Collect the tail."""


class StageRunner(Generic[In, Out]):
    """An open stage with its thread. `process` and `flush` are timed and told to the observer."""

    def __init__(
        self, name: StageName, stage: Stage[In, Out], worker: Worker, observer: Observer, *, thread: str = ""
    ) -> None:
        """Store what is given; `thread` is what the observer is told instead of the worker's name."""
        self.stage = stage
        self.worker = worker
        self._name: StageName = name
        self._observer = observer
        self._thread = thread or worker.name

    async def process(self, item: In, waited_s: float = 0.0) -> list[Out]:
        """Work on one item that has waited so long."""
        outputs, span = await self.worker.call(_timed, self.stage.process, item)
        self.tell(waited_s, span)
        return outputs

    def tell(self, waited_s: float, span: Span) -> None:
        """Let the observer know of an item that was worked on."""
        began_s, ended_s = span
        # see DeviceTimed; read like this, since a stage may be wrapped
        busy_s = getattr(self.stage, "device_s", ended_s - began_s)
        self._observer.stage_done(self._name, waited_s, busy_s, ended_s=ended_s, thread=self._thread)

    async def process_burst(
        self, items: deque[tuple[In, float]], visit: Visit[Out], duration_s: float = math.inf
    ) -> None:
        """Work on the first of `items`, (item, how long it waited), and begin more for `duration_s`; remove those.

        What comes of it is added to `visit`. Should one fail, what came before it is there.
        """
        work = partial(_timed_burst, self.stage.process, visit=visit, duration_s=duration_s)
        await self._visit(items, visit, work)

    async def process_together(self, items: deque[tuple[In, float]], visit: Visit[Out]) -> None:
        """As `process_burst` of all, by a stage that is `Together`."""
        together: Together[In, Out] = self.stage  # type: ignore[assignment] # the caller has looked
        await self._visit(items, visit, partial(_timed_together, together.process_together, visit=visit))

    async def _visit(
        self, items: deque[tuple[In, float]], visit: Visit[Out], work: Callable[[deque[In]], None]
    ) -> None:
        try:
            await self.worker.call_for_each(deque(item for item, _ in items), work)
        finally:
            for span in visit.spans:
                _, waited_s = items.popleft()
                self.tell(waited_s, span)

    async def flush(self) -> list[Out]:
        """Collect the tail."""
        return await self.worker.call(lambda: list(self.stage.flush()))


class InOneVisit(Generic[In, Middle, Out]):
    """Two open stages of one thread, one after the other in one visit. A `Runner`.

    For stages that only ask a device to work: the way to a thread and back costs more than that.
    """

    def __init__(self, first: StageRunner[In, Middle], second: StageRunner[Middle, Out]) -> None:
        self._first = first
        self._second = second

    async def process(self, item: In, waited_s: float = 0.0) -> list[Out]:
        """Work on one item that has waited so long."""
        first, second = self._first, self._second
        outputs, span, spans = await first.worker.call(_timed_both, first.stage.process, second.stage.process, item)
        first.tell(waited_s, span)
        for span in spans:
            second.tell(0.0, span)
        return outputs

    async def flush(self) -> list[Out]:
        """Collect the tail."""
        outputs = [output for middle in await self._first.flush() for output in await self._second.process(middle)]
        return outputs + await self._second.flush()


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


async def pump(inbox: Inbox[In], runner: Runner[In, Out], put: Callable[[Out], Awaitable[None]]) -> None:
    """Feed everything that comes to the stage, and its results to `put`, tail included."""
    async for item in inbox:
        await _put_all(await runner.process(item, inbox.last_wait_s), put)
        del item  # nothing is held while the next is waited for: it may be what somebody else waits for
    await _put_all(await runner.flush(), put)


async def _put_all(outputs: list[Out], put: Callable[[Out], Awaitable[None]]) -> None:
    for output in outputs:
        await put(output)


async def pump_bursts(
    inbox: Channel[In], runner: StageRunner[In, Out], put: Callable[[list[Out]], Awaitable[None]], burst: Burst
) -> None:
    """Like `pump`, with what waits handed over in bursts, and what comes of each as one list, empty ones too."""
    items: deque[tuple[In, float]] = deque()
    async for item in inbox:
        items.append((item, inbox.last_wait_s))
        while len(inbox) and len(items) < burst.items:
            items.append((inbox.take_nowait(), inbox.last_wait_s))
        while items:
            await _hand_on(runner, items, put, burst)
    await put(await runner.flush())


async def _hand_on(
    runner: StageRunner[In, Out],
    items: deque[tuple[In, float]],
    put: Callable[[list[Out]], Awaitable[None]],
    burst: Burst,
) -> None:
    visit: Visit[Out] = Visit()
    try:
        if burst.in_one and getattr(runner.stage, "takes_together", False):
            await runner.process_together(items, visit)
        else:
            await runner.process_burst(items, visit, burst.duration_s)
    except Exception:
        await put(visit.outputs)
        raise
    await put(visit.outputs)


def _timed(work: Callable[[In], Iterable[Out]], item: In) -> tuple[list[Out], Span]:
    began_s = time.monotonic()
    outputs = list(work(item))
    return outputs, (began_s, time.monotonic())


def _timed_both(
    first: Callable[[In], Iterable[Middle]], second: Callable[[Middle], Iterable[Out]], item: In
) -> tuple[list[Out], Span, list[Span]]:
    middles, span = _timed(first, item)
    outputs: list[Out] = []
    spans: list[Span] = []
    for middle in middles:
        more, one = _timed(second, middle)
        outputs += more
        spans.append(one)
    return outputs, span, spans


def _timed_burst(
    work: Callable[[In], Iterable[Out]], items: deque[In], *, visit: Visit[Out], duration_s: float
) -> None:
    for item in taken(items):
        more, span = _timed(work, item)
        visit.outputs.extend(more)
        visit.spans.append(span)
        if span[1] - visit.spans[0][0] >= duration_s:
            return


def _timed_together(work: Callable[[list[In], list[Out]], None], items: deque[In], *, visit: Visit[Out]) -> None:
    """Of what was done together, each item is said to have taken an equal part."""
    mine = list(taken(items))
    began_s = time.monotonic()
    work(mine, visit.outputs)
    part_s = (time.monotonic() - began_s) / max(1, len(mine))
    visit.spans.extend((began_s + number * part_s, began_s + (number + 1) * part_s) for number in range(len(mine)))
