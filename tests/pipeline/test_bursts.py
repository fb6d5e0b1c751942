from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest
from plugins.toys import Ear

from vrseg.pipeline.channel import Channel
from vrseg.pipeline.run import Burst, opened, pump_bursts
from vrseg.pipeline.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BURST = Burst(items=4, duration_s=0.1)  # a busy machine may leave a thread alone for a while


class Doubling:
    """Gives each item twice; its tail is -1."""

    def __init__(self, work_s: float = 0.0) -> None:
        self.began_s: list[float] = []
        self._work_s = work_s

    def open(self) -> None:
        pass

    def process(self, item: int, /) -> Iterable[int]:
        self.began_s.append(time.monotonic())
        time.sleep(self._work_s)
        yield from (item, item)

    def flush(self) -> Iterable[int]:
        return (-1,)

    def close(self) -> None:
        pass


async def pumped(stage: Doubling, items: int) -> list[tuple[int, int]]:
    """Pump so many items that wait already; return each output with how many items the stage had begun by then."""
    inbox: Channel[int] = Channel("in", items)
    for item in range(items):
        inbox.put_nowait(item)
    inbox.close()
    came: list[tuple[int, int]] = []

    async def put(outputs: list[int]) -> None:
        came.extend((output, len(stage.began_s)) for output in outputs)

    async with opened("decode", stage, Ear()) as runner:
        await pump_bursts(inbox, runner, put, BURST)
    return came


def test_a_burst_keeps_order_and_tail() -> None:
    came = asyncio.run(pumped(Doubling(), 10))
    assert [output for output, _ in came] == [item for item in range(10) for _ in (0, 1)] + [-1]


def test_small_work_that_waits_is_done_in_one_visit_to_the_thread() -> None:
    came = asyncio.run(pumped(Doubling(), 2 * BURST.items))
    assert came[0] == (0, BURST.items)


def test_long_work_is_handed_on_as_soon_as_it_is_done() -> None:
    came = asyncio.run(pumped(Doubling(work_s=1.2 * BURST.duration_s), 2 * BURST.items))
    assert [begun for _, begun in came[:-1]] == [1 + item for item in range(2 * BURST.items) for _ in (0, 1)]


def test_what_came_before_a_failure_is_handed_on() -> None:
    class Failing(Doubling):
        def process(self, item: int, /) -> Iterable[int]:
            if item == BURST.items - 1:
                raise ValueError("this one")
            return super().process(item)

    async def main() -> None:
        inbox: Channel[int] = Channel("in", BURST.items)
        for item in range(BURST.items):
            inbox.put_nowait(item)
        came: list[int] = []

        async def put(outputs: list[int]) -> None:
            came.extend(outputs)

        with pytest.raises(ValueError, match="this one"):
            async with opened("decode", Failing(), Ear()) as runner:
                await pump_bursts(inbox, runner, put, BURST)
        assert came == [item for item in range(BURST.items - 1) for _ in (0, 1)]

    asyncio.run(main())


class DoublingTogether(Doubling):
    """Does all that it is given in one go."""

    takes_together = True

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        self.handfuls: list[list[int]] = []
        self._fails_at = fails_at

    def process_together(self, items: Sequence[int], outputs: list[int], /) -> None:
        self.handfuls.append(list(items))
        for item in items:
            if item == self._fails_at:
                raise ValueError("this one")
            outputs += self.process(item)


@pytest.mark.parametrize(("in_one", "can"), [(True, True), (True, False), (False, True)])
def test_a_stage_that_can_is_given_all_at_once_where_nothing_is_in_a_hurry(
    in_one: bool, can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_bursts.BURST", Burst(items=4, duration_s=0.1, in_one=in_one))
    stage = DoublingTogether()
    stage.takes_together = can
    came = asyncio.run(pumped(stage, 8))
    assert [output for output, _ in came] == [item for item in range(8) for _ in (0, 1)] + [-1]
    assert stage.handfuls == ([list(range(4)), list(range(4, 8))] if in_one and can else [])


def test_of_what_is_done_together_each_takes_its_part() -> None:
    class Slow(DoublingTogether):
        def process_together(self, items: Sequence[int], outputs: list[int], /) -> None:
            time.sleep(0.04)
            super().process_together(items, outputs)

    class Watch(Ear):
        def stage_done(self, stage: object, waited_s: float, busy_s: float, **_: object) -> None:
            parts_s.append(busy_s)

    parts_s: list[float] = []

    async def main() -> None:
        inbox = Channel[int]("in", 4)
        for item in range(4):
            inbox.put_nowait(item)
        inbox.close()
        async with opened("decode", Slow(), Watch()) as runner:
            await pump_bursts(inbox, runner, _nowhere, Burst(items=4, duration_s=0.1, in_one=True))

    asyncio.run(main())
    assert len(parts_s) == 4
    assert max(parts_s) - min(parts_s) < 1e-6
    assert sum(parts_s) >= 0.04


def test_what_came_before_a_failure_among_several_is_handed_on() -> None:
    async def main() -> None:
        inbox, came = Channel[int]("in", 4), list[int]()
        for item in range(4):
            inbox.put_nowait(item)

        async def put(outputs: list[int]) -> None:
            came.extend(outputs)

        with pytest.raises(ValueError, match="this one"):
            async with opened("decode", DoublingTogether(fails_at=2), Ear()) as runner:
                await pump_bursts(inbox, runner, put, Burst(items=4, duration_s=0.1, in_one=True))
        assert came == [0, 0, 1, 1]

    asyncio.run(main())


async def _nowhere(_outputs: list[int]) -> None:
    pass


def test_a_cancelled_caller_waits_for_the_thread() -> None:
    async def main() -> None:
        began, ended = threading.Event(), threading.Event()

        def work() -> None:
            began.set()
            time.sleep(0.2)
            ended.set()

        async with Worker("w") as worker:
            task = asyncio.create_task(worker.call(work))
            await asyncio.to_thread(began.wait, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended.is_set()

    asyncio.run(main())
